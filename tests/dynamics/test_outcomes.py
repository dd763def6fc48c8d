"""Outcome distributions: counts by hand, closed forms, and the unbiased split of variance by simulation."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinvest.core.errors import InvalidValue
from reinvest.dynamics.outcomes import (
    agreeing,
    arbitrary_share,
    by_group,
    churn,
    majority_credit,
    pairwise_churn,
    sd_interval,
    self_consistency,
    variance_split,
)


def test_identical_runs_have_no_churn() -> None:
    same = torch.tensor([[0, 1, 2]] * 4)
    assert churn(same) == 0.0
    assert self_consistency(same).tolist() == [1.0, 1.0, 1.0]
    assert arbitrary_share(same) == 0.0
    split = variance_split(same == torch.tensor([0, 1, 1]))
    assert (split.observed, split.sampling, split.between) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 1), (5, 5), (9, 1), (3, 0)])
def test_two_classes_follow_the_closed_form(a: int, b: int) -> None:
    votes = torch.tensor([[0]] * a + [[1]] * b)
    runs = a + b
    assert float(self_consistency(votes)) == pytest.approx(1 - 2 * a * b / (runs * (runs - 1)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6))
def test_agreement_and_churn_count_the_same_pairs(seed: int, runs: int) -> None:
    table = torch.randint(0, 3, (runs, 11), generator=torch.Generator().manual_seed(seed))
    pairs = list(itertools.combinations(range(runs), 2))
    by_hand = sum(float((table[i] != table[j]).double().mean()) for i, j in pairs) / len(pairs)
    assert churn(table) == pytest.approx(by_hand)
    assert float(self_consistency(table).mean()) == pytest.approx(1 - by_hand)
    matrix = pairwise_churn(table)
    assert torch.equal(matrix, matrix.T) and float(matrix.diagonal().sum()) == 0.0


def test_arbitrary_examples_are_counted_below_the_threshold() -> None:
    table = torch.tensor([[0, 0], [0, 1], [0, 0], [0, 1]])
    assert arbitrary_share(table, below=0.5) == 0.5
    assert arbitrary_share(table, below=0.3) == 0.0
    with pytest.raises(InvalidValue, match=r"in \(0, 1\], got 0"):
        arbitrary_share(table, below=0)


def simulated(shift: float, seed: int, runs: int = 12, size: int = 400) -> tuple[float, float]:
    """(estimate, true variance) of independent errors plus a shift of each run's own."""
    generator = torch.Generator().manual_seed(seed)
    p = 0.3 + 0.6 * torch.rand(size, generator=generator)
    moved = p + shift * torch.randn(runs, 1, generator=generator)
    correct = torch.rand(runs, size, generator=generator) < moved
    return variance_split(correct).between, shift**2


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_the_split_is_unbiased(shift: float) -> None:
    found = torch.tensor([simulated(shift, seed)[0] for seed in range(1500)], dtype=torch.float64)
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean()) - shift**2) < 4 * error
    assert error < 1e-5  # so that a missing factor R / (R - 1), worth 4e-5, would be seen


def test_each_run_knows_how_many_say_the_same() -> None:
    table = torch.tensor([[0, 1, 2], [0, 2, 2], [0, 1, 0]])
    assert agreeing(table).tolist() == [[3, 2, 2], [3, 1, 2], [3, 2, 1]]


def test_the_vote_counts_ties_as_drawing_lots_would() -> None:
    table = torch.tensor([[0, 0, 0, 0, 3], [0, 0, 1, 1, 2], [1, 1, 2, 2, 1], [1, 2, 3, 2, 0]])
    # Two and two; two of four; all different; two and two without the label; four different.
    labels = torch.tensor([1, 0, 3, 0, 1])
    assert majority_credit(table, labels).tolist() == [0.5, 1.0, 0.25, 0.0, 0.25]
    same = torch.tensor([[4, 1]] * 3)
    assert majority_credit(same, torch.tensor([4, 0])).tolist() == [1.0, 0.0]
    with pytest.raises(InvalidValue, match="one each an example"):
        majority_credit(table, labels[:2])


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.1])
def test_the_interval_of_the_spread_misses_the_truth_as_often_as_it_says(shift: float) -> None:
    generator = torch.Generator().manual_seed(3)
    tries, above, below = 1000, 0, 0
    for _ in range(tries):
        p = 0.3 + 0.4 * torch.rand(300, generator=generator)
        moved = p + shift * torch.randn(6, 1, generator=generator)
        low, high = sd_interval(torch.rand(6, 300, generator=generator) < moved)
        assert low <= high
        above, below = above + (low > shift), below + (high < shift)
    error = 4 * (0.025 * 0.975 / tries) ** 0.5
    assert abs(above / tries - 0.025) < error
    # A spread smaller than luck allows counts as luck, so that small ones are held more often than 95 times in 100.
    assert below / tries < 0.025 + error
    if shift == 0.1:
        assert below / tries > 0.025 - error


def test_the_interval_is_a_point_for_equal_runs_only() -> None:
    assert sd_interval(torch.tensor([[1, 0, 1]] * 3)) == (0.0, 0.0)
    # Equal accuracies on unlike examples prove nothing.
    low, high = sd_interval(torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1]]))
    assert low == 0.0 and high > 1.0
    with pytest.raises(InvalidValue, match=r"between 0 and 1, got 1"):
        sd_interval(torch.ones(2, 3), level=1)


def test_groups_have_their_own_means() -> None:
    found = by_group(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([3, 3, 7]))
    assert found == {3: 0.75, 7: 0.0}
    with pytest.raises(InvalidValue, match="one each an example"):
        by_group(torch.ones(3), torch.zeros(2, dtype=torch.int64))


def test_one_run_is_no_distribution() -> None:
    for function in (churn, self_consistency, variance_split):
        with pytest.raises(InvalidValue, match="at least 2 runs"):
            function(torch.zeros(1, 5, dtype=torch.int64))
