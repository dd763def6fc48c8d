"""Progressive resizing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.methods.augment.progressive_resizing import (
    ProgressiveResizing,
    crop_images,
    image_sizes,
    pixel_cost,
    relative_size,
    resize_images,
)
from reinvest.testing import Setup

STEPS = [k / 2000 for k in range(2001)]


def test_size_table_is_exact():
    assert image_sizes((32, 32), 0.5, 4) == [(16, 16), (20, 20), (24, 24), (24, 24), (28, 28), (32, 32)]
    sides = [a for a, _ in image_sizes((224, 224), 0.5, 32)]
    assert sides == [128, 128, 160, 192, 192, 224]
    assert image_sizes((8, 8), 0.5, 4) == [(4, 4), (4, 4), (4, 4), (8, 8), (8, 8), (8, 8)]
    assert image_sizes((30, 30), 0.5, 4)[-1] == (30, 30), "the last size is the full one, multiple or not"
    assert image_sizes((3, 3), 0.1, 4) == [(3, 3)] * 6


def test_both_sides_are_resized_in_proportion():
    assert image_sizes((32, 64), 0.5, 4)[0] == (16, 32)
    assert image_sizes((64, 32), 0.5, 4)[0] == (32, 16)


@pytest.mark.parametrize(("full", "multiple"), [(32, 4), (224, 4), (224, 32), (96, 1)])
def test_sizes_grow_from_start_to_full_in_at_most_six(full, multiple):
    method = ProgressiveResizing(0.5, 0.5, finetune=0.2, multiple=multiple)
    sides = [method.size(p, (full, full))[0] for p in STEPS]
    assert sides == sorted(sides) and len(set(sides)) <= 6
    assert all(s == sides[0] == image_sizes((full, full), 0.5, multiple)[0][0] for s in sides[:1000])
    assert all(s == full for s, p in zip(sides, STEPS, strict=True) if p >= 0.8)


@pytest.mark.parametrize(
    ("start", "delay", "finetune"), [(0.5, 0.5, 0.2), (0.25, 0.0, 0.0), (0.7, 0.3, 0.7), (1, 0.5, 0.2)]
)
def test_pixel_cost_is_the_closed_form(start, delay, finetune):
    numeric = sum(relative_size(p, start, delay, finetune) ** 2 for p in STEPS) / len(STEPS)
    assert numeric == pytest.approx(pixel_cost(start, delay, finetune), abs=1e-3)
    method = ProgressiveResizing(start, delay, finetune=finetune, multiple=1)
    stages = sum((method.size(p, (224, 224))[0] / 224) ** 2 for p in STEPS) / len(STEPS)
    assert stages == pytest.approx(pixel_cost(start, delay, finetune), abs=0.02)


def test_the_defaults_halve_the_pixels():
    assert pixel_cost() == pytest.approx(0.5 * 0.25 + 0.3 * 7 / 12 + 0.2) == 0.5


def test_fine_patterns_turn_grey_instead_of_aliasing():
    stripes = torch.zeros(1, 1, 32, 32)
    stripes[..., ::2] = 1.0
    nearest = F.interpolate(stripes, size=(16, 16), mode="nearest")
    assert float(nearest.std()) == 0.0 and float(nearest.mean()) in (0.0, 1.0), (
        "what nearest neighbours would make of it"
    )
    for size in (16, 20, 24):
        found = resize_images(stripes, (size, size))
        assert float(found.mean()) == pytest.approx(0.5, abs=0.02)
    assert float((resize_images(stripes, (16, 16))[..., 1:-1] - 0.5).abs().max()) < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pictures_are_resized_on_a_cpu_too(dtype):
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = resize_images(x, (4, 6))
    assert found.dtype == dtype and torch.equal(found, resize_images(x.float(), (4, 6)).to(dtype))
    method = ProgressiveResizing()
    assert method.augment(Batch(x, None, None, (x,)), context_at(0)).inputs.dtype == dtype


def test_resizing_keeps_constants_and_means():
    assert torch.allclose(resize_images(torch.full((2, 3, 32, 32), 0.7), (20, 20)), torch.tensor(0.7))
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    for size in (16, 20, 28):
        assert float(resize_images(ramp, (size, size)).mean()) == pytest.approx(15.5, abs=1e-3)
    x = torch.ones(1, 1, 8, 8)
    assert resize_images(x, (8, 8)) is x


def context_at(step, total=100):
    setup = Setup()
    model = setup.model()
    chain = Methods()
    stack = chain.attach(model, setup.optimizer(model), duration=f"{total}st", data=[0], seed=0)
    with stack:
        context = chain.context
    context.step, context.epoch = step, 0
    return context


def test_crops_are_windows_of_the_picture_and_may_be_full():
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(5, 3, 8, 8)
    method = ProgressiveResizing(0.5, 0.5, finetune=0.2, multiple=2, mode="crop")
    origins = set()
    for step in range(100):
        found = method.augment(Batch(x, None, None, (x,)), context_at(step)).inputs
        side = found.shape[-1]
        assert found.shape == (5, 3, side, side) and method.kind(context_at(step)) == (side, side)
        first = int(found[0, 0, 0, 0])
        top, left = divmod(first, 8)
        assert torch.equal(found, crop_images(x, (side, side), (top, left)))
        origins.add((side, top, left))
    assert len({o for o in origins if o[0] == 4}) > 10, "windows are drawn afresh"
    assert {o for o in origins if o[0] == 8} == {(8, 0, 0)}
    assert torch.equal(crop_images(x, (8, 8), (0, 0)), x)
    with pytest.raises(InvalidValue, match="inside the picture"):
        crop_images(x, (6, 6), (3, 0))


def test_kinds_are_the_sizes_of_the_run():
    x = torch.zeros(2, 1, 32, 32)
    method = ProgressiveResizing()
    assert method.kind(context_at(0)) is None
    kinds = []
    for step in range(100):
        shape = method.augment(Batch(x, None, None, (x,)), context_at(step)).inputs.shape
        kinds.append(method.kind(context_at(step)))
        assert kinds[-1] == tuple(shape[-2:])
    assert [k for k, _ in itertools.groupby(kinds)] == [(16, 16), (20, 20), (24, 24), (28, 28), (32, 32)]


def test_a_multiple_with_which_nothing_would_shrink_is_refused():
    small, large = torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 64, 64)
    assert image_sizes((32, 32), 0.5, 32) == [(32, 32)] * 6
    for progress in (0, 90):
        with pytest.raises(
            InvalidValue, match=r"got \[32, 32\] for 0.5 of \[32, 32\] .* take a smaller multiple or start"
        ):
            ProgressiveResizing(multiple=32).augment(Batch(small, None, None, (small,)), context_at(progress))
    wide = torch.zeros(2, 1, 32, 64)
    method = ProgressiveResizing(multiple=32)
    assert method.augment(Batch(wide, None, None, (wide,)), context_at(0)).inputs.shape == (2, 1, 32, 32)
    method = ProgressiveResizing(multiple=32)
    assert method.augment(Batch(large, None, None, (large,)), context_at(0)).inputs.shape == (2, 1, 32, 32)
    assert method.augment(Batch(small, None, None, (small,)), context_at(1)).inputs is small, "now and then a small one"


def test_dense_targets_are_refused():
    x = torch.zeros(2, 1, 8, 8)
    with pytest.raises(InvalidValue, match="dense targets"):
        ProgressiveResizing().augment(Batch(x, torch.zeros(2, 8, 8), None, (x,)), context_at(0))
