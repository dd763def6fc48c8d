"""Best-of-k curves against enumeration: the mean of the best of every subset of k trials, never beyond what was tried."""

from __future__ import annotations

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinvest.core.errors import InvalidValue
from reinvest.studies.tune_curves import best_of, expectation_curve

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9)


def enumerated(values: list[float], k: int, best=max) -> float:
    """The mean over all subsets of k values of the best in each."""
    return statistics.fmean(best(subset) for subset in itertools.combinations(values, k))


@given(values=VALUES, k=st.integers(1, 9))
def test_it_is_the_mean_over_every_subset(values, k):
    if k > len(values):
        return
    assert best_of(values, k) == pytest.approx(enumerated(values, k), rel=1e-12, abs=1e-9)
    lowest = best_of(values, k, higher_is_better=False)
    assert lowest == pytest.approx(enumerated(values, k, best=min), rel=1e-12, abs=1e-9)


@given(values=VALUES)
def test_the_ends_are_the_mean_and_the_best(values):
    assert best_of(values, 1) == pytest.approx(statistics.fmean(values), rel=1e-12, abs=1e-9)
    assert best_of(values, len(values)) == max(values)
    assert best_of(values, len(values), higher_is_better=False) == min(values)


@given(values=VALUES)
def test_more_trials_are_never_worse_and_order_does_not_matter(values):
    whole = [best_of(values, k) for k in range(1, len(values) + 1)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(whole))
    assert [best_of(values[::-1], k) for k in range(1, len(values) + 1)] == whole


def test_a_case_by_hand():
    # Of 1, 2 and 4: the best of two is 2 once (1, 2) and 4 twice.
    assert best_of([4.0, 1.0, 2.0], 2) == pytest.approx(10 / 3)


def test_it_is_unbiased():
    # Enumerated: every ordered draw of 4 trials from three equally likely values, against the true best of two.
    pool = [0.0, 1.0, 5.0]
    draws = list(itertools.product(pool, repeat=4))
    truth = statistics.fmean(max(pair) for pair in itertools.product(pool, repeat=2))
    assert statistics.fmean(best_of(list(draw), 2) for draw in draws) == pytest.approx(truth, rel=1e-12)


def test_by_default_the_curve_ends_at_half_of_the_trials():
    values = [0.1, 0.5, 0.3, 0.9, 0.2, 0.4, 0.6]
    assert [k for k, _ in expectation_curve([values])] == [1, 2, 3]
    assert [k for k, _ in expectation_curve([values], most=7)] == list(range(1, 8))
    assert expectation_curve([[0.5]]) == [(1, 0.5)]


def test_independent_studies_are_averaged_with_their_own_trials():
    one, other = [0.0, 1.0, 2.0, 3.0], [4.0, 4.0, 4.0, 8.0]
    curve = expectation_curve([one, other])
    assert [k for k, _ in curve] == [1, 2]
    assert [v for _, v in curve] == pytest.approx([(enumerated(one, k) + enumerated(other, k)) / 2 for k in (1, 2)])


@pytest.mark.parametrize("k", [0, 4, -1])
def test_nothing_is_said_beyond_what_was_tried(k):
    with pytest.raises(InvalidValue, match=f"from 1 to the 3 that were made, got {k}"):
        best_of([1.0, 2.0, 3.0], k)


def test_a_curve_beyond_the_trials_is_refused():
    with pytest.raises(InvalidValue, match="from 1 to the 2 that were made, got 3"):
        expectation_curve([[1.0, 2.0], [1.0, 2.0, 3.0]], most=3)
