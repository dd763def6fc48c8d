"""Curves predicted from one cell."""

from __future__ import annotations

import json

import numpy as np
import pytest
import simulated_points as sim

from reinvest.core.errors import InvalidValue
from reinvest.evaluation import predict


def rows_of(method: sim.Curve, seconds: float) -> list[dict]:
    rng = np.random.default_rng(0)
    rows = sim.arm_points("a", sim.standard, sim.durations(6), 3, 1e-5, rng)
    return rows + sim.arm_points("b", method, np.array([seconds]), 3, 1e-5, rng, first_seed=100)


def test_shift_hypothesis_recovers_a_shift() -> None:
    p = predict(rows_of(sim.faster(sim.standard, 1.5), 240.0), baseline="a", arm="b")
    assert p is not None and p.speedup == pytest.approx(1.5, rel=0.01)
    known = ~np.isnan(p.shift)
    assert known.any() and not known.all()  # only where the shifted time was measured
    truth = 1 - sim.standard(1.5 * p.seconds)
    assert np.abs(p.shift - truth)[known].max() < 0.003
    assert p.seconds.min() >= 59.9 and p.seconds.max() <= 1921.0


def test_lift_hypothesis_recovers_a_lift() -> None:
    p = predict(rows_of(sim.lifted(sim.standard, 0.9), 240.0), baseline="a", arm="b")
    assert p is not None
    assert np.abs(p.lift - (1 - 0.9 * sim.standard(p.seconds))).max() < 0.003
    json.dumps(p.to_dict(), allow_nan=False)


def test_nothing_is_predicted_without_ground() -> None:
    assert predict(rows_of(sim.faster(sim.standard, 500.0), 5.0), baseline="a", arm="b") is None
    above = predict(rows_of(sim.lifted(sim.standard, 0.1), 240.0), baseline="a", arm="b")
    assert above is not None and np.isnan(above.speedup) and np.isnan(above.shift).all()


def test_the_cell_can_be_chosen() -> None:
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.3), np.random.default_rng(0), n=3, sd=1e-4)
    assert predict(rows, baseline="a", arm="b").duration == "0"
    assert predict(rows, baseline="a", arm="b", duration="2").duration == "2"
    with pytest.raises(InvalidValue, match="received '9'"):
        predict(rows, baseline="a", arm="b", duration="9")
