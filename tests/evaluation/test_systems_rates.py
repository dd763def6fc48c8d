"""Systems-only verdicts keep their error and have their power, small; the stored figures and the page are the benchmark's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from page_writers import writer_of

ROOT = Path(__file__).parents[2]
STORED = ROOT / "benchmarks" / "results" / "systems_rates.jsonl"
ROWS = {row["setting"]: row for row in map(json.loads, STORED.read_text(encoding="utf8").splitlines())}
ALPHA = 0.05
RATES = ("says_faster", "called_same", "says_differs", "speed_interval_holds")


@pytest.fixture(scope="module")
def rates() -> Any:
    """benchmarks/systems_rates.py."""
    return writer_of("systems_rates")


def test_an_arm_of_the_given_cost_is_as_good_as_the_baseline_that_much_earlier(rates: Any) -> None:
    """The planted truth: after (1 + margin)^cost times the steps the arm is where the baseline was."""
    steps = np.array([60.0, 200.0, 900.0])
    for cost in (0.0, 0.5, 1.0, 2.0):
        method = rates.method_of({"cost": cost, "curve": rates.sim.standard})
        assert method(steps * 1.05**cost) == pytest.approx(rates.sim.standard(steps), rel=1e-12)
    late = rates.method_of({"cost": 1.0, "curve": rates.sim.standard, "where": (0.0, 0.6)})
    assert late(np.array([60.0])) == pytest.approx(rates.sim.standard(np.array([60.0])), rel=1e-4)
    assert late(np.array([945.0])) == pytest.approx(rates.sim.standard(np.array([900.0])), rel=1e-4)


def test_simulated_blocks_hold_the_planted_speed_at_their_level(rates: Any) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        low, high = rates.timed(1.2, rates.QUIET, rng).interval(ALPHA)
        held += low <= 1 / 1.2 <= high
    assert binomtest(held, 2000, 1 - ALPHA, alternative="less").pvalue > 0.01, held


@pytest.mark.parametrize("name", ["costs 1 margin, 10 seeds", "costs 1 margin, half the noise, in long runs only"])
def test_at_the_margin_hardly_any_is_called_the_same(rates: Any, name: str) -> None:
    assert rates.simulate(name, 100)["called_same"]["at_least"] <= ALPHA


def test_a_small_simulation_agrees_with_the_stored_one(rates: Any) -> None:
    for name in ("same maths, 1.2 times faster, 5 seeds", "costs 0.5 margin, 10 seeds"):
        small, stored = rates.simulate(name, 60), ROWS[name]
        for figure in ("says_faster", "called_same", "says_differs"):
            hits = round(60 * small[figure]["rate"])
            ends = [stored[figure]["at_least"], stored[figure]["at_most"]]
            nearest = min(max(hits / 60, ends[0]), ends[1])
            assert binomtest(hits, 60, nearest).pvalue > 0.01, (name, figure, hits, stored[figure])


def test_every_setting_is_stored_and_keeps_its_level(rates: Any) -> None:
    assert list(ROWS) == list(rates.SETTINGS)
    for name, row in ROWS.items():
        assert row["reps"] == 1000 and sum(row["outcomes"].values()) == row["reps"]
        for figure in RATES:
            found = row[figure]
            assert found["at_least"] <= found["rate"] <= found["at_most"]
            assert found["error"] == pytest.approx(np.sqrt(found["rate"] * (1 - found["rate"]) / 1000), abs=1e-4)
        if abs(row["cost"]) >= 1.0:
            assert row["called_same"]["at_least"] <= ALPHA, name
        if row["factor"] == 1.0:
            assert row["says_faster"]["at_least"] <= ALPHA / 2, name
        if row["cost"] == 0.0:
            assert row["says_differs"]["at_least"] <= ALPHA, name


def test_the_page_shows_the_stored_figures(rates: Any) -> None:
    page = (ROOT / "docs" / "timing.md").read_text(encoding="utf8")
    for table in rates.tables(list(ROWS.values())):
        assert table in page, "put what benchmarks/systems_rates.py --table prints into docs/timing.md"
