"""Nearest series: reference values of warping, bounds, and the same answers as comparing every pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.dynamics import neighbours
from reinvest.dynamics.neighbours import dtw, euclidean, lower_bound, nearest

seeds = st.integers(0, 2**31)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def written_out(a: Tensor, b: Tensor, band: int) -> float:
    """The textbook recursion for one pair."""
    n = len(a)
    table = np.full((n + 1, n + 1), math.inf)
    table[0, 0] = 0.0
    for i in range(1, n + 1):
        for j in range(max(1, i - band), min(n, i + band) + 1):
            cost = float(a[i - 1] - b[j - 1]) ** 2
            table[i, j] = cost + min(table[i - 1, j], table[i, j - 1], table[i - 1, j - 1])
    return math.sqrt(table[n, n])


# ---- warping -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 9), st.integers(0, 8))
def test_warping_is_the_textbook_recursion(seed: int, length: int, band: int) -> None:
    band = min(band, length - 1)
    a, b = draw(seed, 3, length), draw(seed + 1, 4, length)
    expected = torch.tensor([[written_out(x, y, band) for y in b] for x in a])
    torch.testing.assert_close(dtw(a, b, band), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 12))
def test_order_of_bound_warping_and_euclid(seed: int, length: int) -> None:
    a, b = draw(seed, 5, length), draw(seed + 1, 6, length)
    before = euclidean(a, b)
    torch.testing.assert_close(dtw(a, b, 0), before, rtol=1e-5, atol=1e-5)
    for band in range(length):
        warped = dtw(a, b, band)
        assert bool((warped <= before + 1e-5).all())
        assert bool((lower_bound(a, b, band) <= warped + 1e-5).all())
        before = warped


def test_equal_series_have_no_distance_and_shifted_ones_warp_onto_each_other() -> None:
    a = torch.tensor([[0.0, 0.0, 1.0, 2.0, 0.0]])
    shifted = torch.tensor([[0.0, 1.0, 2.0, 0.0, 0.0]])
    assert float(dtw(a, a, 2)) == 0.0
    assert float(dtw(a, shifted, 1)) == 0.0 and float(dtw(a, shifted, 0)) > 2.0


# ---- nearest -----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 20), st.booleans())
def test_euclidean_neighbours_are_scikit_learns(seed: int, k: int, tight: bool) -> None:
    monkey = draw(seed, 40, 6) * (1e-2 if tight else 1.0) + (5.0 if tight else 0.0)
    references = draw(seed + 1, 30, 6) * (1e-2 if tight else 1.0) + (5.0 if tight else 0.0)
    found = nearest(monkey, references, k)
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references.double().numpy())
    distance, index = model.kneighbors(monkey.double().numpy())
    np.testing.assert_allclose(found.distance.numpy(), distance, rtol=1e-5, atol=1e-7)
    assert (found.index.numpy() == index).mean() > 0.99  # ties of float32 may change places


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(0, 5), st.integers(1, 7))
def test_pruned_warping_finds_what_comparing_all_pairs_finds(seed: int, band: int, k: int) -> None:
    series, references = draw(seed, 12, 6).cumsum(1), draw(seed + 1, 15, 6).cumsum(1)
    every = dtw(series, references, band)
    found = nearest(series, references, k, "dtw", band=band)
    torch.testing.assert_close(found.distance, every.sort(1).values[:, :k], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(every.gather(1, found.index), found.distance, rtol=1e-5, atol=1e-6)


def test_a_prefilter_of_all_references_is_exact_and_of_few_never_nearer() -> None:
    series, references = draw(0, 20, 8).cumsum(1), draw(1, 25, 8).cumsum(1)
    exact = nearest(series, references, 3, "dtw", band=2)
    every = nearest(series, references, 3, "dtw", band=2, among=25)
    few = nearest(series, references, 3, "dtw", band=2, among=4)
    assert torch.equal(every.index, exact.index)
    assert bool((few.distance >= exact.distance - 1e-6).all())


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    series, references = draw(0, 23, 5), draw(1, 11, 5)
    whole = [nearest(series, references, 4), nearest(series, references, 4, "dtw", band=1), dtw(series, references, 2)]
    bound = lower_bound(series, references, 1)
    monkeypatch.setattr(neighbours, "BLOCK", 30)
    monkeypatch.setattr(neighbours, "WARPED", 7)
    monkeypatch.setattr(neighbours, "BOUNDED", 25)
    assert torch.equal(lower_bound(series, references, 1), bound)
    monkeypatch.setattr(neighbours, "CHECKED", 4)
    parts = [nearest(series, references, 4), nearest(series, references, 4, "dtw", band=1), dtw(series, references, 2)]
    for one, other in zip(whole[:2], parts[:2], strict=True):
        assert torch.equal(one.index, other.index) and torch.allclose(one.distance, other.distance)
    assert torch.equal(whole[2], parts[2])


def test_equal_references_come_in_the_order_of_their_numbers() -> None:
    references = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    assert nearest(torch.ones(1, 2), references, 3).index.tolist() == [[0, 2, 3]]
    assert nearest(torch.ones(1, 2), references, 3, "dtw", band=1).index.tolist() == [[0, 2, 3]]


def test_no_series_have_no_neighbours() -> None:
    found = nearest(torch.zeros(0, 4), torch.zeros(3, 4), 2)
    assert found.distance.shape == found.index.shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 4), 1), "equally many epochs"),
        ((torch.full((2, 3), math.nan), torch.zeros(2, 3), 1), "got NaN in 2 of 2"),
        ((torch.zeros(2, 3), torch.tensor([[0.0, 1.0, math.inf]]), 1), "got infinity in 1 of 1"),
        ((torch.zeros(2, 3), torch.zeros(2, 3), 3), r"k is a whole number from 1 to 2 \(the references\), got 3"),
        ((torch.zeros(2, 3), torch.zeros(2, 3), 0), "k is a whole number"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: tuple[Tensor, Tensor, int], rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        nearest(*arguments)


def test_bands_and_metrics_are_checked() -> None:
    a = torch.zeros(2, 3)
    with pytest.raises(InvalidValue, match="from 0 to 2, got 3"):
        nearest(a, a, 1, "dtw", band=3)
    with pytest.raises(InvalidValue, match="among is a whole number from 1 to 2"):
        nearest(a, a, 1, "dtw", band=1, among=5)
    with pytest.raises(UnknownName, match="euclidean"):
        nearest(a, a, 1, "cosine")
