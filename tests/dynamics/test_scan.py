"""One pass over all tables: the scores of `dynamics.scores`, whatever the gaps, types, places and blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reinvest.core.errors import InvalidValue, StoreError, UnknownName
from reinvest.dynamics import scan as module
from reinvest.dynamics import scores
from reinvest.dynamics.scan import SCORES, scan
from reinvest.dynamics.trajectories import Trajectories

NAN = math.nan


def made(
    seed: int,
    rows: int,
    epochs: int,
    gaps: float = 0.0,
    *,
    classes: int = 3,
    kind: str = "predicted",
    half: bool = True,
) -> Trajectories:
    """Random tables: losses over many orders of magnitude, answers that stay for some epochs, one pattern of gaps."""
    g = torch.Generator().manual_seed(seed)
    loss = torch.randn(rows, epochs, generator=g).mul(3).exp().clamp(max=6e4)
    margin = torch.randn(rows, epochs, generator=g) * 5
    labels = torch.randint(-1, classes, (rows,), generator=g)
    said = torch.randint(0, classes, (rows, epochs), generator=g)
    stays = torch.rand(rows, epochs, generator=g) < 0.7
    for e in range(1, epochs):
        said[:, e] = torch.where(stays[:, e], said[:, e - 1], said[:, e])
    away = torch.rand(rows, epochs, generator=g) < gaps * torch.rand(rows, 1, generator=g).round()
    away |= (torch.rand(rows, 1, generator=g) < 0.1) & (gaps > 0)
    more: dict[str, Tensor] = {"predicted": said.to(torch.uint8).masked_fill(away, 255), "labels": labels}
    right = (said == labels.unsqueeze(1)).float()
    if kind == "int8":
        more = {"correct": right.to(torch.int8).masked_fill(away, -1)}
    elif kind == "share":
        share = torch.rand(rows, epochs, generator=g).masked_fill(away, NAN)
        more = {"correct": share.half()}
    dtype = torch.float16 if half else torch.float32
    loss, margin = (t.masked_fill(away, NAN).to(dtype) for t in (loss, margin))
    return Trajectories(loss, margin=margin, **more)


def whole(t: Trajectories) -> dict[str, Tensor]:
    """The same by the functions for whole tables."""
    ids = torch.arange(t.examples)
    loss, right, margin = (t.rows(ids, what).T for what in ("loss", "correct", "margin"))
    return {
        "mean_loss": scores.mean_loss(loss),
        "last_loss": scores.last_loss(loss),
        "first_loss": scores.last_loss(loss.flip(0)),
        "forgetting_events": scores.forgetting_events(right),
        "first_learned": scores.first_learned(right),
        "learned_for_good": scores.first_learned(right, for_good=True),
        "area_under_margin": scores.area_under_margin(margin),
    }


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert tuple(found) == tuple(expected) == SCORES
    for name, values in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name].view(torch.int32), values.view(torch.int32)) or torch.equal(
            found[name].nan_to_num(-1.0, posinf=-2.0), values.nan_to_num(-1.0, posinf=-2.0)
        ), name


# ---- equal to the functions for whole tables ---------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 40),
    st.one_of(st.integers(1, 12), st.sampled_from([63, 64, 65, 90, 128, 130])),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from(["predicted", "int8", "share"]),
    st.integers(1, 3),
)
def test_one_pass_is_bit_for_bit_the_functions_on_whole_tables(
    seed: int, rows: int, epochs: int, gaps: float, kind: str, classes: int
) -> None:
    t = made(seed, rows, epochs, gaps, kind=kind, classes=classes)
    same(scan(t), whole(t))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 90))
def test_means_of_float32_differ_by_a_rounding_at_most(seed: int, rows: int, epochs: int) -> None:
    t = made(seed, rows, epochs, 0.1, half=False)
    found, expected = scan(t), whole(t)
    for name in ("mean_loss", "area_under_margin"):
        torch.testing.assert_close(found[name], expected[name], rtol=2.0**-23, atol=2.0**-40, equal_nan=True)
    same(found | {k: expected[k] for k in ("mean_loss", "area_under_margin")}, expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.sampled_from(["predicted", "int8"]))
def test_scores_lie_at_the_ids_where_tables_hold_only_some_of_them(seed: int, rows: int, kind: str) -> None:
    g = torch.Generator().manual_seed(seed)
    small = made(seed, rows, 9, 0.3, kind=kind)
    ids = torch.randperm(3 * rows, generator=g)[:rows]
    places = torch.full((3 * rows,), -1, dtype=torch.int32)
    places[ids] = torch.arange(rows, dtype=torch.int32)
    labels = None
    if small.labels is not None:
        labels = torch.full((3 * rows,), 1)
        labels[ids] = small.labels
    t = Trajectories(small.loss, small.correct, small.predicted, small.margin, labels=labels, places=places)
    found = scan(t)
    same(found, whole(t))
    assert bool(found["mean_loss"][places < 0].isnan().all())
    same({k: v[ids] for k, v in found.items()}, scan(small))


@pytest.mark.parametrize("block", [1, 9, 10, 64, 10**6])
def test_blocks_change_nothing_and_progress_reaches_the_end(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    t = made(0, 23, 9, 0.2)
    expected = scan(t)
    monkeypatch.setattr(module, "BLOCK", block)
    steps: list[tuple[int, int]] = []
    same(scan(t, progress=lambda done, total: steps.append((done, total))), expected)
    assert steps[-1] == (69, 69) and [d for d, _ in steps] == sorted({d for d, _ in steps})  # three tables


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    t, before = made(1, 90, 9, 0.2), torch.get_num_threads()
    expected = scan(t)
    monkeypatch.setattr(module, "BLOCK", 20)
    try:
        torch.set_num_threads(3)
        same(scan(t), expected)
    finally:
        torch.set_num_threads(before)


def test_tables_of_before_are_read_along_their_epochs() -> None:
    t = made(3, 20, 7, 0.2)
    assert t.predicted is not None and t.margin is not None
    turned = [table.T.contiguous().T for table in (t.loss, t.predicted, t.margin)]
    old = Trajectories(turned[0], predicted=turned[1], margin=turned[2], labels=t.labels)
    same(scan(old), scan(t))


def test_bits_are_counted_without_numpy_2_too(monkeypatch: pytest.MonkeyPatch) -> None:
    t = made(5, 50, 90)
    expected = scan(t)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    same(scan(t), expected)


# ---- by hand -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "events", "first", "for_good"),
    [
        ([1, 1, 1], 0, 0, 0),
        ([0, 1, 0], 1, 1, math.inf),
        ([1, 0, 1, 0, 1], 2, 0, 4),
        ([0, 0, 0], math.inf, math.inf, math.inf),
        ([1, -1, 0, 1], 1, 0, 3),
        ([-1, -1], NAN, NAN, NAN),
        ([1] * 63 + [0, 1] + [0] * 62 + [0, 0, 1], 2, 0, 129),
        ([0] * 64 + [1] * 64 + [0], 1, 64, math.inf),
    ],
)
def test_counts_by_hand(seen: list[int], events: float, first: float, for_good: float) -> None:
    found = scan(Trajectories(torch.zeros(1, len(seen)), torch.tensor([seen], dtype=torch.int8)))
    assert "area_under_margin" not in found
    got = [float(found[name]) for name in ("forgetting_events", "first_learned", "learned_for_good")]
    assert got == pytest.approx([events, first, for_good], nan_ok=True)


def test_classes_beyond_a_byte_are_never_right_and_nothing_is_known_without_a_label() -> None:
    said = torch.tensor([[254, 254], [0, 0], [44, 44], [254, 254]], dtype=torch.uint8)
    t = Trajectories(torch.zeros(4, 2), predicted=said, labels=torch.tensor([254, -1, 300, 255]))
    found = scan(t)
    assert found["first_learned"].nan_to_num(-1.0, posinf=math.inf).tolist() == [0.0, -1.0, math.inf, math.inf]
    expected = whole(Trajectories(t.loss, predicted=said, labels=t.labels, margin=t.loss))
    same(scan(Trajectories(t.loss, predicted=said, labels=t.labels, margin=t.loss)), expected)


def test_no_examples_have_no_scores() -> None:
    found = scan(Trajectories(torch.zeros(0, 4)))
    assert set(found) == {"mean_loss", "last_loss", "first_loss"} and all(len(v) == 0 for v in found.values())


# ---- refused -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_scored_is_refused() -> None:
    t = Trajectories(torch.zeros(2, 3))
    with pytest.raises(UnknownName, match="mean_loss"):
        scan(t, ["median_loss"])
    with pytest.raises(StoreError, match="area_under_margin is read off margins, got trajectories without; train with"):
        scan(t, ["area_under_margin"])
    with pytest.raises(StoreError, match="forgetting_events is read off whether an answer was right"):
        scan(t, ["forgetting_events"])
    with pytest.raises(InvalidValue, match="a list of names, got 'mean_loss'"):
        scan(t, "mean_loss")
    with pytest.raises(InvalidValue, match="a list of names, got \\[\\]"):
        scan(t, [])
    with pytest.raises(InvalidValue, match="at least one epoch"):
        scan(Trajectories(torch.zeros(2, 0)))
    with pytest.raises(InvalidValue, match="correctness is from 0 to 1"):
        scan(Trajectories(torch.zeros(1, 2), torch.tensor([[0.5, 1.5]])))
