"""Which source varies more: the interval by hand, and how often the rule errs, by simulation with its error stated."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reinvest.core.errors import InvalidValue
from reinvest.evaluation.variance_ratio import COMPARED_FROM, MOST_RUNS, ratios, runs_to_tell, smallest_told

SIMULATIONS = 2_000
FIVE = st.lists(st.integers(-1000, 1000), min_size=5, max_size=9).filter(lambda v: len(set(v)) > 2)


def at_most(count: int, of: int, share: float) -> bool:
    """Whether a count is no proof, at 99 %, that its probability lies above `share`."""
    return bool(stats.binomtest(count, of, share, alternative="greater").pvalue > 0.01)


# ---- exact ---------------------------------------------------------------------------------------------------------


def test_the_interval_of_two_samples_of_ten_by_hand() -> None:
    one = [32.0, 39, 26, 35, 43, 27, 40, 37, 34, 29]
    other = [36.0, 44, 47, 42, 49, 39, 46, 31, 33, 48]
    # Sorted, the means without the two outer values at either end (10 / (2 sqrt(6)) = 2.04): 33.666..., 42.5 less both.
    middle = [sum(sorted(v)[2:-2]) / 6 for v in (one, other)]
    squares = [sum((x - sum(v) / 10) ** 2 for x in v) for v in (one, other)]
    fourth = sum((x - m) ** 4 for v, m in zip((one, other), middle, strict=True) for x in v)
    se = math.sqrt(2 * (20 * fourth / sum(squares) ** 2 - 0.7) / 9)
    (found,) = ratios({"init": one, "order": other})
    assert (found.first, found.second, found.runs, found.larger) == ("order", "init", 10, "")
    ratio = math.sqrt(squares[1] / squares[0])
    assert found.ratio == pytest.approx(ratio)
    assert found.low == pytest.approx(ratio * math.exp(-1.959963985 * se / 2))
    assert found.high == pytest.approx(ratio * math.exp(1.959963985 * se / 2))


def test_more_pairs_have_wider_intervals_that_hold_together() -> None:
    draw = np.random.default_rng(1)
    values = {name: draw.normal(0, sd, 8).tolist() for name, sd in (("init", 1.0), ("order", 2.0), ("methods", 3.0))}
    three = ratios(values)
    assert [{one.first, one.second} for one in three] == [set(pair) for pair in combinations(values, 2)]
    for one in three:
        (alone,) = ratios({name: values[name] for name in (one.first, one.second)})
        assert alone.ratio == one.ratio
        assert one.low is not None and alone.low is not None and one.low < alone.low
        assert one.high is not None and alone.high is not None and one.high > alone.high


@given(FIVE, FIVE, st.integers(-50, 50), st.integers(1, 20))
def test_neither_place_nor_unit_nor_order_of_the_values_matters(
    one: list[int], other: list[int], shift: int, scale: int
) -> None:
    (plain,) = ratios({"a": [float(v) for v in one], "b": [float(v) for v in other]})
    moved = {"a": [float(shift + scale * v) for v in one][::-1], "b": [float(scale * v) for v in other]}
    (again,) = ratios(moved)
    (turned,) = ratios(dict(reversed(moved.items())))
    assert plain.ratio is not None and plain.ratio >= 1
    for found in (again, turned):
        for name in ("ratio", "low", "high"):
            assert getattr(found, name) == pytest.approx(getattr(plain, name), rel=1e-6)
        if plain.ratio > 1.001:
            assert (found.first, found.larger) == (plain.first, plain.larger)


@given(FIVE, FIVE)
def test_a_source_is_larger_only_where_the_interval_says_so(one: list[int], other: list[int]) -> None:
    (found,) = ratios({"a": [float(v) for v in one], "b": [float(v) for v in other]})
    assert found.low is not None and found.ratio is not None and found.high is not None
    assert found.low < found.ratio < found.high
    assert found.larger == (found.first if found.low > 1 else "")
    assert (found.needed is None) == (found.larger != "" or runs_to_tell(found.ratio) is None)


@pytest.mark.parametrize("few", [2, 3, 4])
def test_below_five_runs_nothing_is_called_larger(few: int) -> None:
    assert COMPARED_FROM == 5
    (found,) = ratios({"a": [0.0, 100.0, 50.0, 1000.0][:few], "b": [0.0, 0.001, 0.002, 0.003, 0.004]})
    assert (found.larger, found.low, found.high, found.needed, found.runs) == ("", None, None, None, few)


def test_what_does_not_vary_at_all() -> None:
    varies, still = [0.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 5
    (neither,) = ratios({"a": still, "b": still})
    assert (neither.larger, neither.ratio, neither.low) == ("", None, None)
    (one,) = ratios({"a": still, "b": varies})
    assert (one.first, one.larger, one.ratio, one.high) == ("b", "b", None, None)


def test_equal_counts_of_right_answers_are_no_proof_of_a_small_spread() -> None:
    # Five equal accuracies are no surprise where the other source moves the count by one example or two ...
    still, little = [0.9] * 5, [0.89, 0.90, 0.91, 0.90, 0.92]
    (found,) = ratios({"a": still, "b": little}, step=0.01)
    assert (found.first, found.larger, found.ratio) == ("b", "", None)
    # ... and are where it moves it by hundreds.
    (found,) = ratios({"a": still, "b": [0.1, 0.3, 0.5, 0.7, 0.9]}, step=0.001)
    assert found.larger == "b" and found.low is not None and found.low > 1 and found.high is None


def test_runs_that_would_tell_fall_with_the_ratio_and_rise_with_the_pairs() -> None:
    needed = [runs_to_tell(ratio) for ratio in (1.2, 1.5, 2.0, 3.0)]
    assert None not in needed and needed == sorted(needed, key=lambda n: -(n or 0))
    assert (runs_to_tell(2.0, 10) or 0) > (runs_to_tell(2.0) or 0) >= COMPARED_FROM
    assert runs_to_tell(1.0) is None and runs_to_tell(1.001) is None and (runs_to_tell(1e9) or 0) == COMPARED_FROM
    for runs in (5, 10, 20, 100):
        least = smallest_told(runs)
        # The two are each other's inverse.
        assert (runs_to_tell(1.0001 * least) or 0) <= runs < (runs_to_tell(0.98 * least) or MOST_RUNS + 1)
    for make in (lambda: runs_to_tell(0.5), lambda: smallest_told(4), lambda: ratios({"a": [1.0], "b": [1.0, 2.0]})):
        with pytest.raises(InvalidValue, match=r", got .*; "):
            make()


# ---- behaviour, by simulation --------------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int], np.ndarray]
SHAPES: dict[str, Draw] = {
    "normal": lambda draw, n: draw.normal(size=n),
    "long tails": lambda draw, n: draw.laplace(size=n),
    "counts of right answers": lambda draw, n: draw.binomial(359, 0.96, size=n) / 359,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("runs", [5, 10])
def test_equal_sources_are_called_different_in_at_most_one_study_of_twenty(shape: str, runs: int) -> None:
    """2,000 studies of three equal sources: any pair told apart counts; the standard error at 5 % is 0.5 %."""
    draw, step, wrong = np.random.default_rng(21), 1 / 359 if shape.startswith("counts") else 0.0, 0
    for _ in range(SIMULATIONS):
        values = {name: SHAPES[shape](draw, runs).tolist() for name in ("init", "order", "augment")}
        wrong += any(one.larger for one in ratios(values, step=step))
    assert at_most(wrong, SIMULATIONS, 0.05), wrong / SIMULATIONS


def test_so_few_examples_that_runs_are_often_equal_make_no_difference_either() -> None:
    """Spreads of half a step: 2,000 studies of two equal sources of five runs; standard error 0.5 %."""
    draw, wrong = np.random.default_rng(22), 0
    for _ in range(SIMULATIONS):
        values = {name: (np.round(draw.normal(0, 0.5, 5)) / 50).tolist() for name in ("init", "order")}
        wrong += any(one.larger for one in ratios(values, step=1 / 50))
    assert at_most(wrong, SIMULATIONS, 0.05), wrong / SIMULATIONS


def test_the_interval_holds_a_planted_ratio() -> None:
    """Standard deviations 3 to 1, 10 runs each: misses at most 5 % (2,000 simulations, standard error 0.5 %)."""
    draw, missed = np.random.default_rng(23), 0
    for _ in range(SIMULATIONS):
        (one,) = ratios({"init": draw.normal(0, 3, 10).tolist(), "order": draw.normal(0, 1, 10).tolist()})
        ends = (one.low, one.high) if one.first == "init" else (1 / (one.high or 1), 1 / (one.low or 1))
        missed += not (ends[0] or 0) <= 3 <= (ends[1] or 0)
    assert at_most(missed, SIMULATIONS, 0.05), missed / SIMULATIONS


@pytest.mark.parametrize("ratio", [1.5, 2.0, 3.0])
def test_the_runs_that_would_tell_do_so_in_about_four_studies_of_five(ratio: float) -> None:
    """The formula is an approximation: found in 75 to 90 % of 2,000 studies (standard error 0.9 %)."""
    draw, runs, told = np.random.default_rng(24), runs_to_tell(ratio), 0
    assert runs is not None
    for _ in range(SIMULATIONS):
        (one,) = ratios({"init": draw.normal(0, ratio, runs).tolist(), "order": draw.normal(0, 1, runs).tolist()})
        told += one.larger == "init"
    assert at_most(SIMULATIONS - told, SIMULATIONS, 0.25) and at_most(told, SIMULATIONS, 0.9), told / SIMULATIONS
