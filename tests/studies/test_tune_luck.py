"""Tuning luck: fresh seeds of one winner do not see it, independent tunings do; and the page says what the result says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from page_writers import writer_of

ROOT = Path(__file__).parents[2]
ROWS = [json.loads(line) for line in (ROOT / "benchmarks/results/tuning_luck.jsonl").read_text("utf8").splitlines()]
NOMINAL = 0.025
FALSE_BETTER = 0.03


@pytest.fixture(scope="module")
def luck() -> Any:
    """benchmarks/tuning_luck.py."""
    return writer_of("tuning_luck")


def test_at_equal_budgets_one_tuning_calls_a_null_method_better_far_too_often(luck: Any) -> None:
    row = luck.simulate(luck.Setting("recipe", (5, 5)), 120)
    assert row["claims_printed"] == ["recipe"]
    assert row["better_low"] > 4 * NOMINAL


def test_with_the_study_as_the_unit_the_rate_is_kept(luck: Any) -> None:
    row = luck.simulate(luck.Setting("method", (5, 5), studies=3, seeds=1), 200)
    assert row["claims_printed"] == ["method"]
    assert row["better_low"] <= FALSE_BETTER


def test_unequal_budgets_that_were_declared_are_refused(luck: Any) -> None:
    assert luck.simulate(luck.Setting("recipe", (1, 20)), 3)["not comparable"] == 1.0


def test_the_winner_is_the_best_on_validation_of_as_many_as_were_tried(luck: Any) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    mean = {k: np.mean([luck.winner(k, 1.0, rng) for _ in range(4000)]) / luck.SPREAD for k in (1, 5, 20)}
    # Configurations make up half of the variance of a validation score: the winner has 1/sqrt(2) of the best of k normals.
    for k, normal in ((1, 0.0), (5, 1.163), (20, 1.867)):
        assert mean[k] == pytest.approx(normal / np.sqrt(2), abs=5 / np.sqrt(4000))
    assert luck.winner(5, 0.0, rng) == 0.0


def test_bounds_are_exact(luck: Any) -> None:
    from scipy.stats import binomtest

    for hits, reps in ((0, 10), (3, 10), (10, 10)):
        exact = binomtest(hits, reps).proportion_ci(0.98, method="exact")
        assert luck.bounds(hits, reps) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_the_stored_result_has_every_setting_and_shows_what_the_page_says(luck: Any) -> None:
    rows = ROWS[:-1]
    assert len(rows) == len(luck.SETTINGS) and ROWS[-1]["claim"] == "summary"
    for row, setting in zip(rows, luck.SETTINGS, strict=True):
        told = (row["claim"], tuple(row["trials"]), row["studies"], row["seeds"], row["speedup"], row["config_spread"])
        assert told == (
            setting.claim, setting.trials, setting.studies, setting.seeds, setting.speedup, setting.configs,
        )  # fmt: skip
        assert row["reps"] == 2000
        if row["speedup"] == 1.0 and row["declared"] and row["claim"] == "recipe" and row["config_spread"]:
            equal = row["trials"][0] == row["trials"][1]
            assert row["better_low"] > 4 * NOMINAL if equal else row["not comparable"] == 1.0
        elif row["speedup"] == 1.0 and row["declared"]:
            assert row["better_low"] <= NOMINAL and row["better_high"] < 1.3 * NOMINAL
    page = (ROOT / "docs" / "tuning.md").read_text(encoding="utf8")
    assert luck.table(ROWS) in page, "put the table of benchmarks.tuning_luck into docs/tuning.md"


def test_the_example_of_the_page_is_a_plan() -> None:
    import yaml

    from reinvest.core import yaml_numbers
    from reinvest.studies.tune_plan import TuningPlan, load_plan

    page = (ROOT / "docs" / "tuning.md").read_text(encoding="utf8")
    shown = TuningPlan.from_dict(yaml_numbers.load(page.split("```yaml\n")[1].split("```")[0]))
    kept = load_plan(ROOT / "examples" / "tuning.yaml")
    assert (shown.trials, shown.studies, shown.trial_durations) == (kept.trials, kept.studies, kept.trial_durations)
    assert yaml.safe_load(yaml.safe_dump(kept.to_dict())) == kept.to_dict()
