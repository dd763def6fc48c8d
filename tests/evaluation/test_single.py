"""One cell against a curve: interval, bounds outside the range, gain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import simulated_points as sim

from reinvest.evaluation import verdict


def rows_of(factor: float, seconds: float, seed: int = 1, sd: float = 0.002, n: int = 5) -> list[dict]:
    """A baseline and one method cell at `seconds` with the baseline's error at factor * seconds."""
    rng = np.random.default_rng(seed)
    rows = sim.arm_points("a", sim.standard, sim.durations(5), n, sd, rng)
    return rows + sim.arm_points("b", sim.faster(sim.standard, factor), np.array([seconds]), n, sd, rng, first_seed=900)


def test_faster_cell() -> None:
    v = verdict(rows_of(1.4, 200.0), "a")["b"]
    assert v.verdict == "better" and v.low < 1.4 < v.high and v.low < v.speedup < v.high
    assert v.gain_low > 0 and v.gain == pytest.approx(sim.standard(200.0) - sim.standard(280.0), abs=0.004)
    assert v.windows == () and "one duration" in v.flags[0]


def test_slower_and_equal_cells() -> None:
    assert verdict(rows_of(0.7, 300.0), "a")["b"].verdict == "worse"
    equal = verdict(rows_of(1.0, 200.0, sd=0.004), "a")["b"]
    assert equal.verdict == "inconclusive" and equal.low < 1 < equal.high and equal.smallest_effect > 1.02
    assert verdict(rows_of(1.0, 200.0, sd=0.0002), "a")["b"].verdict == "equivalent"


def test_beyond_the_best_quality_is_a_bound() -> None:
    v = verdict(rows_of(20.0, 500.0), "a")["b"]
    assert v.verdict == "better" and math.isnan(v.speedup) and v.high == math.inf
    assert v.low == pytest.approx(960.0 / 500.0)
    worst = verdict(rows_of(0.05, 500.0), "a")["b"]
    assert worst.verdict == "worse" and worst.low == 0.0 and worst.high == pytest.approx(60.0 / 500.0)


def test_a_cell_outside_the_measured_times_gives_bounds_of_the_gain() -> None:
    early = verdict(rows_of(6.0, 30.0), "a")["b"]
    assert early.verdict == "better" and early.low < 6.0 < early.high
    assert math.isnan(early.gain) and early.gain_high == math.inf and 0.05 < early.gain_low < 0.097
    late = verdict(rows_of(0.2, 2000.0), "a")["b"]
    assert late.verdict == "worse" and late.low < 0.2 < late.high
    assert math.isnan(late.gain) and late.gain_low == -math.inf
    # Below the worst measured quality before the first measured time, nothing can be said.
    unknown = verdict(rows_of(1.0, 20.0), "a")["b"]
    assert unknown.verdict == "inconclusive" and unknown.low == 0.0 and unknown.high > 1.0


def test_a_flat_baseline_gives_a_wide_interval() -> None:
    rng = np.random.default_rng(0)
    rows = sim.arm_points("a", sim.flat, sim.durations(5), 5, 0.004, rng)
    rows += sim.arm_points("b", sim.flat, np.array([200.0]), 5, 0.004, rng, first_seed=900)
    v = verdict(rows, "a")["b"]
    assert v.verdict == "inconclusive" and v.low == 0.0 and v.high == math.inf


def test_time_rescaled_leaves_everything() -> None:
    rows = rows_of(1.2, 333.0)
    one, two = (
        verdict(rows, "a")["b"],
        verdict([{**r, "seconds": 7.7 * r["seconds"]} for r in rows], "a")["b"],
    )
    assert [two.speedup, two.low, two.high, two.gain] == pytest.approx([one.speedup, one.low, one.high, one.gain])


def test_timing_error_widens() -> None:
    rows = rows_of(1.2, 200.0)
    wide = verdict(rows, "a", timing={"b": {"log_ratio_variance": 0.01, "df": 9}})["b"]
    plain = verdict(rows, "a")["b"]
    assert wide.low < plain.low and wide.high > plain.high


def test_coverage_and_false_calls() -> None:
    reps, wrong, outside = 300, 0, 0
    for seed in range(reps):
        v = verdict(rows_of(1.0, 200.0, seed=seed, sd=0.004, n=3), "a")["b"]
        wrong += v.verdict == "better"
        outside += not v.low <= 1.0 <= v.high
    assert wrong <= 19 and outside <= 30  # exact 99 % binomial bounds at .03 and .06
