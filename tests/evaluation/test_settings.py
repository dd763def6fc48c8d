"""Differences of quality are told in one unit: points of an accuracy, the metric's own elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import simulated_points as sim

from reinvest.evaluation import verdict
from reinvest.evaluation.settings import difference_text


@pytest.mark.parametrize(
    ("metric", "value", "plain", "signed"),
    [
        ("accuracy", 0.0152, "1.52 points", "+1.52 points"),
        ("val/acc", -0.00004, "-0.00 points", "-0.00 points"),
        ("loss", 0.0152, "0.0152", "+0.0152"),
        ("perplexity", -12.34, "-12.3", "-12.3"),
    ],
)
def test_a_difference_has_the_unit_of_its_metric(metric: str, value: float, plain: str, signed: str) -> None:
    assert difference_text(metric, value) == plain and difference_text(metric, value, plus=True) == signed


@pytest.mark.parametrize(("metric", "word"), [("accuracy", "points"), ("test_acc", "points"), ("f1", "")])
def test_what_over_training_lost_is_told_in_it(metric: str, word: str) -> None:
    times, curve = sim.durations(5), sim.overtrained(sim.standard, 0.02, 960.0)
    points = [p for a in "ab" for p in sim.arm_points(a, curve, times, 5, 0.001, np.random.default_rng(ord(a)))]
    (flag,) = [f for f in verdict(points, "a", metric=metric)["b"].flags if f.startswith("b: quality falls")]
    lost = float(flag.split(" by ")[1].split()[0])
    assert f"falls by {lost:.2f} points from" in flag if word else "points" not in flag
    assert lost == pytest.approx(2.0 if word else 0.02, rel=0.5)
    assert "e+" not in flag


@pytest.mark.parametrize(
    ("metric", "told", "guessed"),
    [
        ("accuracy", None, False),
        ("loss", None, False),
        ("bce", True, False),
        ("bce", False, False),
        ("bce", None, True),
    ],
)
def test_a_direction_that_nobody_told_is_a_flag(metric: str, told: bool | None, guessed: bool) -> None:
    times = sim.durations(5)
    points = [p for a in "ab" for p in sim.arm_points(a, sim.standard, times, 5, 0.001, np.random.default_rng(ord(a)))]
    flags = verdict(points, "a", metric=metric, higher_is_better=told)["b"].flags
    assert [f for f in flags if "taken for better" in f] == (
        [
            "higher is taken for better, as the name 'bce' says neither; if smaller is, say so (--lower-is-better, "
            "higher_is_better: false), and the verdict turns round"
        ]
        if guessed
        else []
    )
