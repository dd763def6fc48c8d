"""Statistics of runs: exact cases by hand, and behaviour by simulation with the Monte Carlo error stated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reinvest.core.errors import InvalidValue
from reinvest.dynamics.outcomes import agreement_curve, churn, self_consistency, variance_split
from reinvest.evaluation.variance import (
    binomial_floor,
    by_source,
    predicted_sd,
    probability_better,
    runs_needed,
    summarise,
)

FINITE = st.floats(-1e3, 1e3).map(lambda v: round(v, 4))


def at_most(count: int, of: int, share: float) -> bool:
    """Whether a count is no proof, at 99 %, that its probability lies above `share`."""
    return bool(stats.binomtest(count, of, share, alternative="greater").pvalue > 0.01)


# ---- exact ---------------------------------------------------------------------------------------------------------


def test_the_summary_of_three_runs_by_hand() -> None:
    found = summarise([1.0, 2.0, 6.0], diverged=2)
    assert (found.n, found.diverged, found.mean, found.smallest, found.largest) == (3, 2, 3.0, 1.0, 6.0)
    assert found.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    half = 4.302652729911275 * found.sd / math.sqrt(3)  # Student's 97.5 % point of two degrees of freedom
    assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))
    assert found.bca is None


def test_the_bootstrap_interval_comes_with_ten_runs_is_fixed_and_lies_inside_the_values() -> None:
    values = [0.0, 0.1, 0.1, 0.2, 0.25, 0.3, 0.3, 0.4, 0.9, 3.0]
    first, again = summarise(values).bca, summarise(values).bca
    assert first is not None and first == again
    assert min(values) < first[0] < summarise(values).mean < first[1] < max(values)
    # A long tail to the right shows in it, and not in the t interval.
    assert first[1] - summarise(values).mean > summarise(values).mean - first[0]
    assert summarise([0.5] * 12).bca == (0.5, 0.5)


@given(st.lists(FINITE, min_size=2, max_size=9), st.floats(-5, 5), st.floats(0.1, 9))
def test_a_summary_moves_with_its_values(values: list[float], shift: float, scale: float) -> None:
    plain, moved = summarise(values), summarise([shift + scale * v for v in values])
    for name in ("mean", "low", "high", "smallest", "largest"):
        assert getattr(moved, name) == pytest.approx(shift + scale * getattr(plain, name), abs=1e-6, rel=1e-6)
    assert moved.sd == pytest.approx(scale * plain.sd, abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf], ["a", "b"], [[1.0, 2.0], [1.0, 3.0]]])
def test_what_is_no_sample_is_refused(values: Any) -> None:
    with pytest.raises(InvalidValue, match=r"a spread is that of 2 finite values or more, got .*; "):
        summarise(values)


def test_the_floor_and_the_predicted_spread() -> None:
    assert binomial_floor(0.9, 100) == pytest.approx(0.03)
    # 6 % error on ten thousand examples: 0.17 points (Jordan, 2304.01910).
    assert predicted_sd(0.06, 10_000) == pytest.approx(0.0017320508)
    assert round(100 * predicted_sd(0.06, 10_000), 2) == 0.17
    assert binomial_floor(1.0, 50) == predicted_sd(0.0, 50) == 0.0
    for make, value, size in ((binomial_floor, 1.2, 10), (predicted_sd, -0.1, 10), (predicted_sd, 0.1, 0)):
        with pytest.raises(InvalidValue, match=r", got .*; "):
            make(value, size)


def test_a_hand_made_u_statistic() -> None:
    # Pairs: 1 > (0), 1 = (1), 1 < (5); 4 > (0), 4 > (1), 4 < (5): U = 1 + .5 + 2 = 3.5 of 6.
    found = probability_better([1.0, 4.0], [0.0, 1.0, 5.0])
    assert found.probability == pytest.approx(3.5 / 6)
    assert 0 < found.low < found.probability < found.high < 1


def test_an_arm_against_itself_is_a_coin_flip() -> None:
    values = [0.3, 0.1, 0.2, 0.2]
    found = probability_better(values, values)
    assert found.probability == 0.5 and found.low == pytest.approx(1 - found.high)


def test_a_clean_win_is_not_certain() -> None:
    found = probability_better([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    assert found.probability == 1.0 and found.high == 1.0 and 0.2 < found.low < 0.8
    more = probability_better([3.0 + k for k in range(30)], [-float(k) for k in range(30)])
    assert more.low > 0.9


@given(st.lists(FINITE, min_size=2, max_size=8), st.lists(FINITE, min_size=2, max_size=8))
def test_the_other_way_round_is_the_complement(a: list[float], b: list[float]) -> None:
    one, other = probability_better(a, b), probability_better(b, a)
    assert one.probability == pytest.approx(1 - other.probability)
    assert one.low == pytest.approx(1 - other.high, abs=1e-6)
    assert one.low <= one.probability <= one.high
    assert one.probability == pytest.approx(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))


def test_noethers_number_of_pairs() -> None:
    assert runs_needed() == 29
    assert runs_needed(gamma=0.75, alpha=0.05, power=0.95) == 29
    assert runs_needed(gamma=0.6) > runs_needed(gamma=0.7) > runs_needed(gamma=0.9)
    for bad in ({"gamma": 0.5}, {"gamma": 1.1}, {"alpha": 0.0}, {"power": 1.0}):
        with pytest.raises(InvalidValue, match=r", got .*; "):
            runs_needed(**bad)


def test_identical_runs_agree_on_everything() -> None:
    said = torch.tensor([[0, 1, 2, 1]]).expand(5, 4)
    assert churn(said) == 0.0 and bool((self_consistency(said) == 1).all())
    assert agreement_curve(said) == [(1.0, 1.0)]


def test_the_curve_of_agreement_by_hand() -> None:
    # Votes 3:0, 3:0, 2:1 and 1:1:1 of three runs: chances 1, 1, 1/3 and 0.
    said = torch.tensor([[0, 1, 0, 0], [0, 1, 0, 1], [0, 1, 1, 2]])
    assert agreement_curve(said) == [(0.0, 0.25), (pytest.approx(1 / 3), 0.5), (1.0, 1.0)]


def test_the_table_of_sources_by_hand() -> None:
    table = by_source({"init": [0.0, 2.0], "order": [0.0, 1.0, 2.0]}, whole=[0.0, 2.0, 4.0], none=[1.0, 1.0])
    init, order = table.parts
    assert (init.source, init.variance, init.runs) == ("init", 2.0, 2)
    assert (table.whole.variance, table.none.variance) == (4.0, 0.0)
    assert init.share == 0.5 and order.share == 0.25 and table.unexplained == 0.25
    low, high = stats.chi2.ppf([0.975, 0.025], 2)
    assert (order.sd_low, order.sd_high) == (pytest.approx(math.sqrt(2 / low)), pytest.approx(math.sqrt(2 / high)))
    low, high = stats.f.ppf([0.975, 0.025], 2, 2)
    assert (order.share_low, order.share_high) == (pytest.approx(0.25 / low), pytest.approx(0.25 / high))


def test_what_the_machine_adds_is_counted_once() -> None:
    # Of 4.0 the machine makes 1.0 by itself; the source that shows 3.0 adds 2.0; so 1.0 is not explained.
    table = by_source({"init": [0.0, math.sqrt(6)]}, whole=[0.0, math.sqrt(8)], none=[0.0, math.sqrt(2)])
    assert table.parts[0].variance == pytest.approx(3.0) and table.none.share == pytest.approx(0.25)
    assert table.unexplained == pytest.approx(0.25)


def test_equal_values_have_no_spread_though_their_mean_rounds() -> None:
    values = [0.7938718662952646] * 20
    assert summarise(values).sd == 0.0 and by_source({}, whole=[0.0, 1.0], none=values).none.variance == 0.0


def test_no_spread_at_all_has_no_shares() -> None:
    table = by_source({"init": [1.0, 1.0]}, whole=[1.0, 1.0], none=[1.0, 1.0])
    assert table.whole.sd == 0.0 and table.parts[0].share is None and table.unexplained is None


# ---- behaviour, by simulation --------------------------------------------------------------------------------------

SIMULATIONS = 2_000


def test_the_interval_of_the_mean_covers_as_it_says() -> None:
    """2,000 simulations: the standard error at 95 % is 0.5 %."""
    draw = np.random.default_rng(11)
    hit = sum(
        found.low <= 1.0 <= found.high
        for found in (summarise(draw.normal(1.0, 2.0, 5).tolist()) for _ in range(SIMULATIONS))
    )
    assert at_most(SIMULATIONS - hit, SIMULATIONS, 0.07) and at_most(hit, SIMULATIONS, 0.97)


@pytest.mark.parametrize(("shift", "sizes"), [(0.0, (5, 5)), (0.95, (5, 10)), (1.8, (10, 10))])
def test_the_interval_of_the_probability_covers_at_least_nearly_as_it_says(
    shift: float, sizes: tuple[int, int]
) -> None:
    """A Wilson-like interval is approximate: at most 8 % misses (2,000 simulations, standard error 0.6 %)."""
    draw = np.random.default_rng(12)
    truth = float(stats.norm.cdf(shift / math.sqrt(2)))
    hit = 0
    for _ in range(SIMULATIONS):
        found = probability_better(draw.normal(shift, 1, sizes[0]).tolist(), draw.normal(0, 1, sizes[1]).tolist())
        hit += found.low <= truth <= found.high
    assert at_most(SIMULATIONS - hit, SIMULATIONS, 0.08)


def test_independent_errors_leave_no_variance_between_the_runs() -> None:
    """The mean of 300 estimates lies within 3.3 standard errors of 0 (99.9 %)."""
    draw = torch.Generator().manual_seed(13)
    hard = torch.rand(500, generator=draw) ** 3
    found = [variance_split(torch.rand(8, 500, generator=draw) > hard).between for _ in range(300)]
    assert abs(np.mean(found)) < 3.3 * np.std(found, ddof=1) / math.sqrt(300)


def test_a_shift_planted_in_each_run_is_found_again() -> None:
    draw, planted = torch.Generator().manual_seed(14), 0.02
    hard = 0.2 + 0.4 * torch.rand(800, generator=draw)
    found = []
    for _ in range(300):
        shift = planted * torch.randn(8, 1, generator=draw)
        found.append(variance_split(torch.rand(8, 800, generator=draw) > hard + shift).between)
    assert abs(np.mean(found) - planted**2) < 3.3 * np.std(found, ddof=1) / math.sqrt(300)
    assert np.mean(found) > 5 * np.std(found, ddof=1) / math.sqrt(300)


def test_shares_of_sources_cover_what_was_planted() -> None:
    """Independent sources of variances 4, 1 and 0.25 over 2,000 simulations of 10 runs each."""
    draw, hit, left = np.random.default_rng(15), 0, 0
    for _ in range(SIMULATIONS // 4):
        whole = draw.normal(0, math.sqrt(5.25), 10)
        table = by_source(
            {"init": draw.normal(0, 2.0, 10), "order": draw.normal(0, 1.0, 10)},
            whole=whole,
            none=draw.normal(0, 0.5, 10),
        )
        init = table.parts[0]
        assert init.share_low is not None and init.share_high is not None
        hit += init.share_low <= 4 / 5.25 <= init.share_high
        assert table.unexplained_low is not None and table.unexplained_high is not None
        # 4 + 1 - 0.25 + 0 are explained: each source was measured with the machine's own part in it.
        left += table.unexplained_low <= (5.25 - 0.25 - 3.75 - 0.75) / 5.25 <= table.unexplained_high
    total = SIMULATIONS // 4
    assert at_most(total - hit, total, 0.05) and at_most(total - left, total, 0.05)
