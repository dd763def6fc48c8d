"""docs/published.md: every figure in it follows from the files in docs/data, whose verdicts are as told."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reinvest.evaluation.judge import verdict
from reinvest.evaluation.points import read_csv

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "published.md").read_text(encoding="utf8")


@pytest.fixture(scope="module")
def ends() -> dict[str, Any]:
    found: dict[str, Any] = defaultdict(lambda: {"loss": [], "seconds": [], "steps": set()})
    with (DOCS / "data" / "nanogpt_optimization.csv").open() as file:
        for row in csv.DictReader(file):
            found[row["arm"]]["loss"].append(float(row["quality"]))
            found[row["arm"]]["seconds"].append(float(row["seconds"]))
            found[row["arm"]]["steps"].add(int(row["steps"]))
    return dict(found)


def test_nothing_is_comparable_for_the_reasons_told() -> None:
    rows = read_csv(DOCS / "data" / "nanogpt_optimization.csv")
    judged = verdict(rows, "tuned-muon", metric="val_loss")
    assert len(rows) == 127 and len(judged) == 9
    assert {v.verdict for v in judged.values()} == {"not comparable"}
    for said, count in (("at least 4 durations", 9), ("same software", 6), ("same hardware", 2)):
        assert sum(said in " ".join(v.reasons) for v in judged.values()) == count
        assert f"{count} of 9" in TEXT


def test_the_ends_are_as_told(ends: dict[str, Any]) -> None:
    base = ends["tuned-muon"]["loss"]
    assert "| tuned-muon (baseline) | 3250 | 10 | 3.2787 | |" in TEXT and f"{np.mean(base):.4f}" == "3.2787"
    for arm in ("normuon-uw-floor", "muonh-tuned-aux"):
        loss = ends[arm]["loss"]
        interval = stats.ttest_ind(base, loss, equal_var=False).confidence_interval()
        gain = f"{np.mean(base) - np.mean(loss):.4f} ({interval.low:.4f} to {interval.high:.4f})"
        assert f"| {arm} | 3250 | {len(loss)} | {np.mean(loss):.4f} | {gain} |" in TEXT
        assert ends[arm]["steps"] == {3250}
    slow = ends["normuonh"]["seconds"]
    assert f"took {min(slow):.0f} to {max(slow):.0f} seconds, a factor of {max(slow) / min(slow):.2f}" in " ".join(
        TEXT.split()
    )
    steps = [step for entry in ends.values() for step in entry["steps"]]
    assert (min(steps), max(steps)) == (2850, 3325) and max(steps) / min(steps) < max(slow) / min(slow)
    soft = ends["contra-soft-muon"]
    assert soft["steps"] == {3040} and f"{3040 / 3250:.3f}" in TEXT and f"{np.mean(soft['loss']):.4f}" in TEXT
    assert (
        f"{np.median(soft['seconds']):.0f} seconds against {np.median(ends['tuned-muon']['seconds']):.0f}"
        in " ".join(TEXT.split())
    )
    assert ends["contra-muon"]["steps"] == {3225} and f"{3225 / 3250:.3f}" in TEXT


def test_the_shortcut_says_what_is_told_and_the_ends_contradict_it(ends: dict[str, Any]) -> None:
    judged = verdict(read_csv(DOCS / "data" / "nanogpt_inside_runs.csv"), "tuned-muon", metric="val_loss")
    for arm, digits in (("normuon-uw-floor", 3), ("contra-muon", 3), ("contra-soft-muon", 2)):
        v = judged[arm]
        told = f"{v.verdict}: {v.speedup:.{digits}f} times as fast, {v.low:.{digits}f} to {v.high:.{digits}f}"
        assert f"| {arm} | {told} |" in TEXT
    assert np.mean(ends["normuon-uw-floor"]["loss"]) < np.mean(ends["tuned-muon"]["loss"])


def test_the_cost_of_a_comparable_design_is_as_told() -> None:
    steps = 5 * (1100 + 1600 + 2300 + 3250)
    assert f"{steps:,}\nsteps" in TEXT and f"{10 * 3250:,}" in TEXT
    assert steps / (10 * 3250) == pytest.approx(1.27, abs=0.005)
