"""Statistics of sequences, by simulation with the error stated: verdicts with a shared first run, and drift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fake_runs import curve, plan_of
from scipy import stats

from reinvest.studies.sequence_judge import Metric, at_durations, drift_of, flags_of, slope, to_target, verdicts_of
from reinvest.studies.sequence_plan import SequencePlan
from reinvest.studies.sequence_points import stratified, t_interval

ACCURACY = Metric("accuracy", True, 360)
PLAN = plan_of(positions=5)
STEPS = [40, 80, 160, 320]


def rows_with(
    plan: SequencePlan,
    rng: np.random.Generator,
    *,
    noise: float,
    drift: float = 0.0,
    gain: float = 0.0,
    shared: float = 0.0,
) -> list[dict[str, Any]]:
    """Runs of both arms: the first is one run; followers gain `gain`, and `drift` more with each hand-over."""
    rows = []
    for duration in plan.durations:
        for number in plan.numbers:
            first, common = rng.standard_normal(), rng.standard_normal(plan.length)
            for arm in plan.arms:
                own = rng.standard_normal(plan.length)
                for k in range(plan.length):
                    z = first if k == 0 else math.sqrt(shared) * common[k] + math.sqrt(1 - shared) * own[k]
                    lift = gain + drift * (k - 1) if arm != "scratch" and k else 0.0
                    quality = curve(int(duration[:-2])) + lift + noise * z
                    rows.append(
                        {"arm": arm, "duration": duration, "sequence": number, "position": k + 1, "quality": quality}
                    )
    return rows


def points_with(plan: SequencePlan, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[Any, list[float]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["duration"], row["sequence"]), []).append(row["quality"])
    return [
        {"arm": a, "duration": d, "seed": f"{n} at {d}", "sequence": n, "steps": 5 * int(d[:-2]),
         "seconds": 0.05 * int(d[:-2]), "quality": sum(q) / len(q), "status": "finished"}
        for (a, d, n), q in found.items()
    ]  # fmt: skip


def test_equal_arms_with_a_shared_first_run_are_rarely_told_apart() -> None:
    """The 5 % two-sided rate: of 200 studies 10 are expected, more than 19 have a probability of 0.3 %."""
    assert stats.binom.sf(19, 200, 0.05) < 0.004
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(200):
        rows = rows_with(PLAN, rng, noise=0.008)
        found = verdicts_of(PLAN, points_with(PLAN, rows), ACCURACY, {}, own_clock=True)["records"]
        assert found.pairing == "pairs by duration"
        wrong += found.verdict in ("better", "worse", "mixed")
    assert wrong <= 19


def test_no_drift_is_shown_falsely_at_its_rate_and_a_true_one_is_found() -> None:
    """Without drift "falls" and "rises" have 2.5 % each: of 1,000 more than 44 have a probability of 0.02 %.

    A fall of 0.003 a run at noise 0.005 (slope error 0.0016 over 20 chains of 4 followers) is found in most studies.
    """
    assert stats.binom.sf(44, 1000, 0.025) < 0.0003
    rng = np.random.default_rng(5)
    words = [
        drift_of(PLAN, rows_with(PLAN, rng, noise=0.005, gain=0.01), "records", ACCURACY)["verdict"]
        for _ in range(1000)
    ]
    assert words.count("falls") <= 44
    assert words.count("rises") <= 44
    assert words.count("falls") + words.count("rises") >= 15
    for drift, word in ((-0.003, "falls"), (0.003, "rises")):
        found = [
            drift_of(PLAN, rows_with(PLAN, rng, noise=0.005, drift=drift), "records", ACCURACY) for _ in range(100)
        ]
        assert sum(f["verdict"] == word for f in found) >= 75
        assert sum(f["low"] < drift < f["high"] for f in found) >= 88
        assert np.mean([f["slope"] for f in found]) == pytest.approx(drift, abs=0.0006)


def test_the_jump_to_the_first_follower_is_no_drift() -> None:
    rows = rows_with(PLAN, np.random.default_rng(0), noise=1e-9, gain=-0.1)
    found = drift_of(PLAN, rows, "records", ACCURACY)
    assert found["slope"] == pytest.approx(0.0, abs=1e-8)
    assert found["chains"] == 20
    losses = drift_of(
        PLAN, rows_with(PLAN, np.random.default_rng(0), noise=1e-4, drift=0.01), "records", Metric("loss", False)
    )
    assert losses["verdict"] == "falls"
    assert losses["slope"] == pytest.approx(-0.01, abs=1e-3)


def test_one_follower_is_too_short_for_drift() -> None:
    plan = plan_of(positions=2)
    rows = rows_with(plan, np.random.default_rng(0), noise=0.01)
    found = drift_of(plan, rows, "records", ACCURACY)
    assert found["verdict"] == "too short"
    assert math.isnan(found["slope"])


def test_slopes_and_intervals_in_closed_form() -> None:
    assert slope([1.0, 3.0, 5.0, 7.0]) == pytest.approx(2.0)
    assert slope([4.0, 1.0]) == pytest.approx(-3.0)
    assert math.isnan(slope([1.0]))
    values = [0.1, 0.4, 0.2, 0.7, 0.3]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx((np.mean(values), *expected))
    assert stratified([values]) == pytest.approx(t_interval(values))
    assert t_interval([1.0])[1:] == (-math.inf, math.inf)
    assert stratified([[1.0], []]) == (1.0, -math.inf, math.inf)
    assert stratified([[1.0, 1.0], [3.0, 3.0]]) == (2.0, 2.0, 2.0)
    # Two groups of equal variance and size: the variance of the mean of means is half of one group's.
    pair = stratified([values, [v + 5 for v in values]])
    half = stats.t.ppf(0.975, 8) * stats.sem(values) / math.sqrt(2)
    assert pair == pytest.approx((np.mean(values) + 2.5, np.mean(values) + 2.5 - half, np.mean(values) + 2.5 + half))


def test_targets_are_crossed_straight_in_log_cost() -> None:
    cells = [(10.0, 0.5), (20.0, 0.7), (40.0, 0.9)]
    assert to_target(cells, 0.8, True) == pytest.approx(20 * math.sqrt(2))
    assert to_target(cells, 0.4, True) == 10.0
    assert to_target(cells, 0.95, True) is None
    assert to_target([(c, 1 - q) for c, q in cells], 0.2, False) == pytest.approx(20 * math.sqrt(2))
    assert to_target([], 0.5, True) is None


def test_paired_differences_take_what_sequences_share_out() -> None:
    rows = rows_with(PLAN, np.random.default_rng(3), noise=0.05, gain=0.01, shared=1.0)
    for row in at_durations(PLAN, points_with(PLAN, rows), ACCURACY):
        assert row["gain"] == pytest.approx(0.008)
        assert row["gain_high"] - row["gain_low"] < 1e-12
        assert row["sequences"] == 5


def test_timing_errors_widen_the_interval() -> None:
    rows = rows_with(PLAN, np.random.default_rng(2), noise=0.003, gain=0.01)
    points = points_with(PLAN, rows)
    widths = []
    for variance in (1e-8, 0.01):
        found = verdicts_of(PLAN, points, ACCURACY, {"records": {"log_ratio_variance": variance, "df": 9.0}})["records"]
        widths.append(math.log(found.high / found.low))
    assert widths[1] > 1.5 * widths[0]


def test_flags_say_what_a_study_is_to_be_read_with() -> None:
    assert [f.split(":")[0] for f in flags_of(PLAN, 5, None, False)] == ["tuning not declared"]
    short = plan_of(durations=["40st"], sequences=4)
    found = flags_of(short, 3, 1.5, True)
    assert [f.split(":")[0].split(" ")[0] for f in found] == ["an", "no", "stopped", "seconds"]
