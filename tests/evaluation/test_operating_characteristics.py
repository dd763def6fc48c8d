"""False verdicts, coverage and power by simulation, against the limits and figures of the specification.

A test fails only if the exact 99 % binomial bound of its rate lies beyond the limit. Every setting has its own fixed
seed; the larger simulation is benchmarks/operating_characteristics.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import simulated_points as sim
from scipy.stats import beta

from reinvest.evaluation import verdict

FALSE_BETTER = 0.03
COVERAGE = 0.94
# Figures of the table are themselves simulated and rounded.
TABLE_ERROR = 0.03


def at_least(hits: int, reps: int) -> float:
    """Exact lower 99 % bound of a rate."""
    return 0.0 if hits == 0 else float(beta.ppf(0.01, hits, reps - hits + 1))


def at_most(hits: int, reps: int) -> float:
    """Exact upper 99 % bound of a rate."""
    return 1.0 if hits == reps else float(beta.ppf(0.99, hits + 1, reps - hits))


@dataclass
class Rates:
    reps: int
    better: int = 0
    worse: int = 0
    mixed: int = 0
    equivalent: int = 0
    covered: int = 0


def simulate(
    draw: Callable[[np.random.Generator], list[dict]], reps: int, seed: int, truth: float = 1.0, **options
) -> Rates:
    rng = np.random.default_rng(seed)
    rates = Rates(reps)
    for _ in range(reps):
        v = verdict(draw(rng), "a", **options)["b"]
        if v.verdict in ("better", "worse", "mixed", "equivalent"):
            setattr(rates, v.verdict, getattr(rates, v.verdict) + 1)
        rates.covered += v.low <= truth <= v.high
    return rates


def assert_null(rates: Rates, coverage: float = COVERAGE) -> None:
    assert at_least(rates.better, rates.reps) <= FALSE_BETTER, rates
    assert at_least(rates.better + rates.worse, rates.reps) <= 2 * FALSE_BETTER, rates
    assert at_least(rates.mixed, rates.reps) <= 0.0012, rates
    assert at_most(rates.covered, rates.reps) >= coverage, rates


IRREGULAR = 0.004 * np.array([0.4, 3.0, 1.0, 0.6, 2.0]), 0.004 * np.array([2.0, 0.5, 3.0, 0.4, 1.0])
NULL = {
    "3 seeds": (sim.standard, sim.standard, {"n": 3}),
    "10 seeds": (sim.standard, sim.standard, {"n": 10}),
    "heavy tails": (sim.standard, sim.standard, {"n": 3, "noise": sim.heavy}),
    "outliers": (sim.standard, sim.standard, {"n": 5, "noise": sim.outliers}),
    "skewed": (sim.standard, sim.standard, {"n": 3, "noise": sim.skewed}),
    "noisier method": (sim.standard, sim.standard, {"n": 5, "method_sd": 0.012}),
    "irregular cells": (sim.standard, sim.standard, {"n": 3, "sd": IRREGULAR[0], "method_sd": IRREGULAR[1]}),
    "saturating": (sim.saturating, sim.saturating, {"n": 3}),
    "flat": (sim.flat, sim.flat, {"n": 5}),
    "the baseline over-trains": (
        sim.overtrained(sim.standard, 0.02, 960.0),
        sim.overtrained(sim.standard, 0.0, 960.0),
        {"n": 3},
    ),
}


@pytest.mark.parametrize("name", NULL)
def test_null(name: str) -> None:
    base, method, noise = NULL[name]
    assert_null(simulate(lambda rng: sim.two_arms(base, method, rng, **noise), 400, seed=11))


POWER = [
    (1.05, 10, sim.standard, {}, 0.68),
    (1.1, 3, sim.standard, {}, 0.59),
    (1.1, 5, sim.standard, {}, 0.88),
    (1.1, 5, sim.standard, {"sd": 0.008}, 0.32),
    (1.1, 5, sim.standard, {"k": 6}, 0.73),
    (1.1, 5, sim.standard, {"noise": sim.heavy}, 0.90),
    (1.2, 3, sim.standard, {}, 0.98),
    (1.2, 3, sim.saturating, {}, 0.70),
]


@pytest.mark.parametrize(("speedup", "n", "curve", "noise", "figure"), POWER)
def test_power_table(speedup: float, n: int, curve: sim.Curve, noise: dict, figure: float) -> None:
    rates = simulate(lambda rng: sim.two_arms(curve, sim.faster(curve, speedup), rng, n=n, **noise), 250, 12, speedup)
    assert at_most(rates.better, rates.reps) >= figure - TABLE_ERROR, rates
    assert at_least(rates.better, rates.reps) <= figure + TABLE_ERROR, rates
    assert at_least(rates.worse, rates.reps) <= 0.003, rates
    assert at_most(rates.covered, rates.reps) >= COVERAGE, rates


def test_quality_gains_and_flat_baselines() -> None:
    for curve, factor, n, sd, figure in (
        (sim.standard, 0.95, 3, 0.004, 0.76),
        (sim.flat, 0.90, 3, 0.004, 0.63),
    ):
        rates = simulate(
            lambda rng, c=curve, f=factor, n=n, sd=sd: sim.two_arms(c, sim.lifted(c, f), rng, n=n, sd=sd),
            250,
            13,
        )
        assert (
            at_most(rates.better, 250) >= figure - TABLE_ERROR and at_least(rates.better, 250) <= figure + TABLE_ERROR
        )


def test_a_crossing_is_not_called_better() -> None:
    method = sim.crossing(sim.standard, 1.2, 1 / 1.2, sim.durations(5))
    for n, mixed in ((3, 0.034), (10, 0.54)):
        rates = simulate(lambda rng, n=n: sim.two_arms(sim.standard, method, rng, n=n), 250, 14)
        assert at_least(rates.better, 250) <= FALSE_BETTER and at_least(rates.worse, 250) <= FALSE_BETTER
        assert at_most(rates.mixed, 250) >= mixed - TABLE_ERROR and at_least(rates.mixed, 250) <= mixed + TABLE_ERROR


def test_equivalent_where_noise_is_small() -> None:
    rates = simulate(lambda rng: sim.two_arms(sim.standard, sim.standard, rng, n=5, sd=0.001), 250, 15)
    assert (
        at_most(rates.equivalent, 250) >= 0.69 - TABLE_ERROR and at_least(rates.equivalent, 250) <= 0.69 + TABLE_ERROR
    )
    apart = simulate(lambda rng: sim.two_arms(sim.standard, sim.faster(sim.standard, 1.1), rng, n=5, sd=0.001), 100, 15)
    assert apart.equivalent == 0


@pytest.mark.parametrize(
    ("mode", "pairs"), [("pairs", "duration"), ("pairs", None), ("arm", None), ("all", "duration")]
)
def test_correlated_seeds(mode: str, pairs: str | None) -> None:
    for n in (3, 5):
        rates = simulate(
            lambda rng, n=n: sim.correlated(sim.standard, sim.standard, rng, n=n, rho=0.6, mode=mode),
            300,
            16,
            pairs=pairs,
        )
        assert_null(rates)


def test_pairing_pays_where_seeds_correlate() -> None:
    fast = sim.faster(sim.standard, 1.1)
    rates = [
        simulate(
            lambda rng: sim.correlated(sim.standard, fast, rng, n=3, rho=0.9, mode="pairs"),
            150,
            17,
            1.1,
            pairs=pairs,
        )
        for pairs in ("duration", None)
    ]
    assert at_most(rates[0].better, 150) >= 0.97
    assert at_least(rates[1].better, 150) <= 0.72 + TABLE_ERROR


def test_the_timing_blocks_shared_error_must_be_added() -> None:
    """One error of the method's whole clock: ignoring it breaks the verdict, adding its variance once repairs it."""
    sd = 0.04

    def draw(rng: np.random.Generator) -> list[dict]:
        shift = float(np.exp(sd * rng.standard_normal()))
        rows = sim.two_arms(sim.standard, sim.standard, rng, n=5)
        return [{**row, "seconds": row["seconds"] * shift} if row["arm"] == "b" else row for row in rows]

    ignored = simulate(draw, 300, 18)
    added = simulate(draw, 300, 18, timing={"b": {"log_ratio_variance": sd**2, "df": 9}})
    assert_null(added)
    assert at_least(ignored.better, 300) > FALSE_BETTER and at_most(ignored.covered, 300) < 0.90
