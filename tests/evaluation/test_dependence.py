"""Correlated seeds: which cells share randomness, and the variances that follow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import simulated_points as sim

from reinvest.evaluation import verdict
from reinvest.evaluation.cells import Scale, build_arm, trend_variances
from reinvest.evaluation.dependence import pairing_fault, spread_of
from reinvest.evaluation.points import read_points

FAST = sim.faster(sim.standard, 1.1)


def arms_of(rows: list[dict]) -> list:
    points = read_points(rows)
    return [build_arm(name, [p for p in points if p.arm == name], Scale(True)) for name in ("a", "b")]


def correlated(mode: str, n: int = 4, rho: float = 0.6) -> list[dict]:
    return sim.correlated(sim.standard, FAST, np.random.default_rng(2), n=n, rho=rho, mode=mode)


def spread(rows: list[dict], paired: bool):
    arms = arms_of(rows)
    return arms, spread_of(arms, trend_variances(arms), paired=paired)


def test_fresh_seeds_are_independent_and_floored() -> None:
    arms, s = spread(correlated("pairs"), paired=False)
    assert s.mode == "independent seeds" and not s.blocks
    np.testing.assert_allclose(s.variance, np.concatenate(trend_variances(arms)) / 4)
    assert np.isnan(s.correlation)


def test_pairs_by_duration() -> None:
    arms, s = spread(correlated("pairs"), paired=True)
    assert s.mode == "pairs by duration" and len(s.blocks) == 5 and s.block_freedom == (3.0,) * 5
    g = np.random.default_rng(0).standard_normal(10)
    se, df = s.standard_error(g)
    parts = [np.var(g[k] * arms[0].deviations[k] + g[5 + k] * arms[1].deviations[k], ddof=1) / 4 for k in range(5)]
    assert se**2 == pytest.approx(sum(parts))
    assert df == pytest.approx(sum(parts) ** 2 / sum(p * p / 3 for p in parts))
    each = [np.corrcoef(arms[0].deviations[k], arms[1].deviations[k])[0, 1] for k in range(5)]
    assert s.correlation == pytest.approx(float(np.mean(each)), rel=1e-9)
    # With 200 seeds the mean of five correlations lies within 4 of its standard errors of what was simulated.
    many = spread(correlated("pairs", n=200), paired=True)[1].correlation
    assert many == pytest.approx(0.6, abs=4 * (1 - 0.6**2) / math.sqrt(5 * 199))


def test_seeds_repeated_inside_an_arm_make_one_block_per_arm() -> None:
    arms, s = spread(correlated("arm"), paired=False)
    assert s.mode == "one block per arm: seeds repeated inside an arm" and s.block_freedom == (3.0, 3.0)
    g = np.random.default_rng(0).standard_normal(10)
    blocks = []
    for a in (0, 1):
        z = sum(g[5 * a + k] * arms[a].deviations[k] / 4 for k in range(5))
        blocks.append(4 / 3 * np.sum(z * z))
    se, df = s.standard_error(g)
    assert se**2 == pytest.approx(sum(blocks))
    assert df == pytest.approx(sum(blocks) ** 2 / sum(b * b / 3 for b in blocks))


def test_same_seeds_everywhere_are_one_block_only_where_pairs_are_declared() -> None:
    rows = correlated("all")
    arms, s = spread(rows, paired=True)
    assert s.mode.startswith("one block in all") and s.block_freedom == (3.0,)
    g = np.random.default_rng(0).standard_normal(10)
    z = sum(g[5 * a + k] * arms[a].deviations[k] / 4 for a in (0, 1) for k in range(5))
    assert s.standard_error(g)[0] ** 2 == pytest.approx(4 / 3 * np.sum(z * z))
    assert spread(rows, paired=False)[1].mode.startswith("one block per arm")


def test_partly_repeated_seeds_join_only_the_cells_that_share_them() -> None:
    rows = correlated("pairs")
    for row in rows:
        if row["arm"] == "a" and row["duration"] == "3":
            row["seed"] -= 8  # the seeds of duration 1
    _, s = spread(rows, paired=False)
    assert len(s.blocks) == 1 and s.block_freedom == (3.0,)
    assert (s.variance == 0).tolist() == [False, True, False, True, False] + [False] * 5
    # A single shared seed: no more freedom than a cell has, and no less variance than its own on average.
    rows = correlated("pairs")
    for row in rows:
        if row["arm"] == "a" and row["duration"] == "3" and row["seed"] == 12:
            row["seed"] = 4
    arms, s = spread(rows, paired=False)
    assert s.block_freedom == (3.0,)
    one = np.zeros(10)
    one[1] = 1.0
    assert s.standard_error(one)[0] ** 2 == pytest.approx(arms[0].s2[1] / 4)


def test_trunks_are_clusters() -> None:
    rows = correlated("pairs", n=4)
    for row in rows:
        row["trunk"] = row["seed"] % 4
    v = verdict(rows, "a")["b"]
    assert v.pairing == "one block per arm: trunks or studies repeated inside an arm"
    by_seed = verdict([{**row, "seed": row["trunk"], "trunk": None} for row in rows], "a")["b"]
    assert (v.low, v.high) == (by_seed.low, by_seed.high)
    assert v.df <= 6.0


def test_pairs_that_cannot_be_are_compared_unpaired_and_say_so() -> None:
    rows = correlated("pairs")
    rows[-1]["seed"] = 999
    assert "seeds at duration 4 differ" in pairing_fault(*arms_of(rows))
    v, plain = verdict(rows, "a", pairs="duration")["b"], verdict(rows, "a")["b"]
    assert (v.low, v.high, v.pairing) == (plain.low, plain.high, "independent seeds")
    assert any("pairs were declared but the seeds at duration 4 differ" in flag for flag in v.flags)


def test_correlation_of_undeclared_pairs_is_shown_and_not_used() -> None:
    rows = correlated("pairs", rho=0.9)
    plain, paired = verdict(rows, "a")["b"], verdict(rows, "a", pairs="duration")["b"]
    assert plain.pairing == "independent seeds" and plain.correlation == pytest.approx(paired.correlation)
    assert math.log(paired.high / paired.low) < math.log(plain.high / plain.low)
