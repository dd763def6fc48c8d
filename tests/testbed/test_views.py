"""Batched crop and flip against one example at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reinvest.testbed.tasks.task import Task
from reinvest.testbed.tasks.views import crop_flip, described, draw_views, scaling, windows


def one_by_one(x, rows, down, right, flipped, pad):
    views = []
    for row, dy, dx, flip in zip(rows.tolist(), down.tolist(), right.tolist(), flipped.tolist(), strict=True):
        picture = F.pad(x[row], (pad,) * 4)[:, dy : dy + x.shape[2], dx : dx + x.shape[3]]
        views.append(picture.flip(-1) if flip else picture)
    return torch.stack(views)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    pad=st.integers(0, 4),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    data=st.integers(0, 2**31),
)
def test_a_batch_equals_its_examples_bit_for_bit(shape, pad, dtype, data):
    g = torch.Generator().manual_seed(data)
    x = torch.randint(256, shape, generator=g).to(dtype)
    rows = torch.randint(shape[0], (11,), generator=g)
    view = draw_views(data, 2, torch.arange(11), pad)
    assert torch.equal(crop_flip(windows(x, pad), rows, *view), one_by_one(x, rows, *view, pad))


def test_a_task_yields_the_drawn_views_normalised():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randint(256, (40, 3, 8, 8), generator=g, dtype=torch.uint8), torch.arange(40) % 4
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    task = Task.from_tensors("t", x, y, augment="crop-flip", pad=2, mean=mean, std=std)
    shift, factor = scaling(x, torch.tensor(mean), torch.tensor(std))
    for ids, got, labels in task.loader("train", 8, seed=7, epoch=3):
        plain = one_by_one(x, ids, *draw_views(7, 3, ids, 2), 2)
        samples = [(picture.float() - shift[0]) * factor[0] for picture in plain]
        assert torch.equal(got, torch.stack(samples))
        assert torch.equal(labels, y[ids])
    for ids, got, _ in task.loader("test", 8, seed=7, epoch=3):
        assert torch.equal(got, (x[ids].float() - shift) * factor)


def test_draws_cover_every_shift_and_both_sides_evenly():
    down, right, flipped = draw_views(0, 0, torch.arange(81 * 2 * 100), 4)
    counts = torch.bincount((down * 9 + right) * 2 + flipped)
    assert len(counts) == 162
    # 162 cells of about 100: chi-squared with 161 degrees of freedom stays under its 99.9 % point.
    assert float(((counts - 100.0) ** 2 / 100).sum()) < 221


def test_the_view_of_an_example_is_its_own():
    ids = torch.arange(100)
    whole = torch.stack([part.to(torch.int64) for part in draw_views(3, 5, ids, 4)])
    some = torch.stack([part.to(torch.int64) for part in draw_views(3, 5, ids[40:60], 4)])
    assert torch.equal(whole[:, 40:60], some)
    for other in (draw_views(3, 6, ids, 4), draw_views(4, 5, ids, 4)):
        assert not torch.equal(whole, torch.stack([part.to(torch.int64) for part in other]))


def test_windows_take_no_more_memory_than_the_padded_set():
    views = windows(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), 4)
    assert views.shape == (5, 9, 9, 3, 8, 8)
    assert views.untyped_storage().nbytes() == 5 * 3 * 16 * 16


@pytest.mark.parametrize(("dtype", "unit"), [(torch.uint8, 255.0), (torch.float32, 1.0)])
def test_scaling_without_mean_and_std_maps_to_the_unit_range(dtype, unit):
    shift, factor = scaling(torch.zeros(1, 2, 3, 3, dtype=dtype), None, None)
    assert shift.shape == factor.shape == (1, 2, 1, 1)
    assert float(shift.sum()) == 0 and torch.allclose(factor, torch.full_like(factor, 1 / unit))


def test_what_a_model_sees_is_told_in_words():
    x = torch.zeros(5, 3, 8, 6, dtype=torch.uint8)
    assert described(x, None, None) == "inputs 3x8x6 of bytes / 255"
    assert described(x.float(), torch.tensor([0.5]), torch.tensor([0.25, 2, 1 / 3]), "cut to squares") == (
        "cut to squares, inputs 3x8x6, mean 0.5, std 0.25 2 0.333333"
    )
