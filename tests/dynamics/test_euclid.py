"""Exact search among references: the indices of comparing every pair in double precision, whatever leaves out work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reinvest.dynamics import euclid
from reinvest.dynamics.euclid import References
from reinvest.dynamics.neighbours import nearest

SMALL = {"CHUNK": 40, "LEAF": 9, "PART": 5, "HOT": 30, "PRODUCTS": 200, "SEEDS": 3, "TOPS": 4, "PAIRS": 7}


def every_pair(series: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squares of float32 from double precision, and indices; equal squares in the order of their indices."""
    a, b = series.float().double(), references.float().double()
    squares = (a.unsqueeze(1) - b).square().sum(2).float()
    found, index = squares.sort(dim=1, stable=True)
    return found[:, :k].sqrt(), index[:, :k]


def table(kind: str, seed: int, rows: int, epochs: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, epochs, generator=g)
    if kind == "clumps":  # far apart, tight inside: where a product over all of it cannot tell neighbours apart
        centres = 50 * torch.randn(4, epochs, generator=torch.Generator().manual_seed(7))
        return centres[torch.randint(0, 4, (rows,), generator=g)] + 1e-3 * noise
    if kind == "far":
        return 3000 + 0.01 * noise
    if kind == "few values":  # many equal distances
        return torch.randint(0, 3, (rows, epochs), generator=g).float()
    if kind == "losses":
        return (torch.rand(rows, 1, generator=g) * 3 + 0.5 * noise - torch.arange(epochs) / epochs).exp().half()
    return noise


KINDS = ["normal", "clumps", "far", "few values", "losses"]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(KINDS),
    st.integers(1, 90),
    st.integers(1, 70),
    st.integers(1, 12),
    st.floats(0, 1),
    st.booleans(),
)
def test_answers_are_those_of_comparing_every_pair(
    seed: int, kind: str, rows: int, count: int, epochs: int, share: float, small: bool
) -> None:
    series, references = table(kind, seed, rows, epochs), table(kind, seed + 1, count, epochs)
    references[:1] = series[-1]  # a distance of 0
    k = 1 + round(share * (count - 1))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items() if small else ():
            patch.setattr(euclid, name, value)
        found = nearest(series, references, k)
    distance, index = every_pair(series, references, k)
    assert torch.equal(found.index, index)
    torch.testing.assert_close(found.distance, distance, rtol=5e-5, atol=0)


def test_references_are_left_out_where_series_lie_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SMALL, "CHUNK": 300, "SEEDS": 60, "EVEN": 1}.items():
        monkeypatch.setattr(euclid, name, value)
    seen: list[tuple[int, int]] = []
    smallest = euclid._smallest
    monkeypatch.setattr(
        euclid,
        "_smallest",
        lambda near, *rest: seen.append(near.shape) or smallest(near, *rest),  # type: ignore[func-returns-value]
    )
    references = table("clumps", 1, 200, 6)
    nearest(table("clumps", 0, 300, 6), references, 5)
    pairs = sum(rows * columns for rows, columns in seen)
    assert sum(rows for rows, _ in seen) == 300
    assert pairs < 0.45 * 300 * 200, "a quarter of the references is near enough to each clump"


def test_more_references_than_are_compared_at_once() -> None:
    series, references = table("normal", 0, 3, 4), table("normal", 1, 5000, 4)
    found = nearest(series, references, 7)
    assert torch.equal(found.index, every_pair(series, references, 7)[1])


def test_references_can_be_asked_again_and_series_may_lie_along_their_epochs() -> None:
    references = References(table("normal", 1, 40, 6))
    series = table("normal", 0, 30, 6)
    first, again = references.nearest(series, 5), references.nearest(series.T.contiguous().T, 5)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_threads_change_nothing_and_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setattr(euclid, name, value)
    series, references = table("losses", 0, 200, 9), table("losses", 1, 60, 9)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = nearest(series, references, 8)
        torch.set_num_threads(3)
        three = nearest(series, references, 8)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one.index, three.index) and torch.equal(one.distance, three.distance)


def test_keys_order_as_distances_do() -> None:
    squares = np.array([0.0, 1e-38, 1e-3, 1.0, 7e4, np.inf], np.float32)
    keys = squares.view(np.int32).astype(np.int64) << 32
    assert bool((np.diff(keys) > 0).all()) and keys[-1] == euclid.NONE
    assert np.array_equal(euclid._squares(keys), squares)
