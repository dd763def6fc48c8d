"""Mean curves with bands, and the table of cells."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import simulated_points as sim
from scipy.interpolate import PchipInterpolator

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.evaluation import mean_curve

ROWS = sim.two_arms(sim.standard, sim.standard, np.random.default_rng(0), n=5)


def test_curve_goes_through_the_cell_means_inside_its_band() -> None:
    curve = mean_curve(ROWS, "a", test_examples=2000)
    assert curve.seconds[0] == pytest.approx(60.0) and curve.seconds[-1] == pytest.approx(960.0)
    assert len(curve.seconds) == 101 and (curve.low < curve.quality).all() and (curve.quality < curve.high).all()
    assert np.interp(240.0, curve.seconds, curve.quality) == pytest.approx(curve.cells[2].quality, abs=1e-4)
    cell = curve.cells[2]
    own = [r["quality"] for r in ROWS if r["arm"] == "a" and r["duration"] == "2"]
    assert (cell.duration, cell.n, cell.seconds) == ("2", 5, pytest.approx(240.0))
    assert cell.quality == pytest.approx(np.mean(own)) and cell.sd == pytest.approx(np.std(own, ddof=1))
    assert cell.binomial_floor == pytest.approx(math.sqrt(cell.quality * (1 - cell.quality) / 2000))
    x = np.log([c.seconds for c in curve.cells])
    y = -np.log([1 - c.quality for c in curve.cells])
    slope = float(PchipInterpolator(x, y)(x[2], 1)) * (1 - cell.quality)
    assert cell.sd_time == pytest.approx(cell.sd / slope, rel=1e-9)


def test_band_covers_the_truth() -> None:
    reps, covered = 300, 0
    for seed in range(reps):
        rows = sim.arm_points("a", sim.standard, sim.durations(5), 3, 0.004, np.random.default_rng(seed))
        curve = mean_curve(rows, "a", size=9)
        truth = 1.0 - sim.standard(curve.seconds)
        covered += bool(curve.low[4] <= truth[4] <= curve.high[4])
    assert covered >= 272  # exact 99 % binomial bound at .94


def test_losses_and_plain_values() -> None:
    losses = [{**r, "quality": 1 - r["quality"]} for r in ROWS]
    curve = mean_curve(losses, "b", metric="loss", higher_is_better=False)
    assert curve.quality[0] > curve.quality[-1] and (curve.low <= curve.quality).all()
    text = json.dumps([curve.to_dict(), [cell.to_dict() for cell in curve.cells]], allow_nan=False)
    assert '"binomial_floor": null' in text


def test_what_cannot_be_known_is_nan_and_nothing_is_refused() -> None:
    single = [r for r in ROWS if r["seed"] % 5 == 0]
    curve = mean_curve(single, "a")
    assert np.isnan(curve.low).all() and not np.isnan(curve.quality).any() and math.isnan(curve.cells[0].sd)
    one = mean_curve([r for r in ROWS if r["duration"] == "1"], "a")
    assert len(one.seconds) == 0 and len(one.cells) == 1 and math.isnan(one.cells[0].sd_time)
    broken = mean_curve([{**r, "status": "failed"} for r in ROWS], "a")
    assert broken.cells == () and broken.to_dict() == {"seconds": [], "quality": [], "low": [], "high": []}
    constant = mean_curve([{**r, "quality": 0.5} for r in ROWS], "a")
    assert np.allclose(constant.quality, 0.5) and math.isnan(constant.cells[0].sd_time)


def test_bad_values_raise() -> None:
    with pytest.raises(UnknownName):
        mean_curve(ROWS, "c")
    with pytest.raises(InvalidValue, match="level"):
        mean_curve(ROWS, "a", level=1.5)
