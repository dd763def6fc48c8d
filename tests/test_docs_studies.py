"""docs/data_diet.md and docs/one_run.md are what their stored studies say now, and these have every run of their plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from page_writers import writer_of
from reinvest.core.names import catalogue
from reinvest.core.yaml_numbers import load
from reinvest.studies.tune_plan import TuningPlan

ROOT = Path(__file__).parents[1]


def stored(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf8"))


@pytest.mark.parametrize("name", ["data_diet", "one_run"])
def test_the_page_is_up_to_date_and_the_plan_is_the_one_that_was_run(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf8")
    assert page == writer_of(f"{name}_table").page(), f"run python -m benchmarks.{name}_table"
    plan = yaml.safe_load((ROOT / "benchmarks" / "plans" / f"{name}.yaml").read_text(encoding="utf8"))
    assert stored(name)["plan"] == plan


def test_the_data_diet_has_every_run() -> None:
    result = stored("data_diet")
    plan = result["plan"]
    assert set(result["conditions"]) == set(plan["conditions"])
    for condition in result["conditions"].values():
        arms = condition["comparison"]["arms"]
        assert set(arms) == {"random half", *plan["arms"]}
        assert all(len(arm["points"]) == plan["seeds"] * len(plan["durations"]) for arm in arms.values())
        assert [len(runs) for runs in condition["references"].values()] == [1, 2]


def test_the_second_data_diet_has_every_run_and_shares_the_baseline_s() -> None:
    first, second = (stored(name)["conditions"]["every fifth label wrong"] for name in ("data_diet", "data_diet_2"))
    plan = yaml.safe_load((ROOT / "benchmarks" / "plans" / "data_diet_2.yaml").read_text(encoding="utf8"))
    assert stored("data_diet_2")["plan"] == plan
    arms = second["comparison"]["arms"]
    assert set(arms) == {"random half", *plan["arms"]}
    assert all(len(arm["points"]) == plan["seeds"] * len(plan["durations"]) for arm in arms.values())
    runs = [{p["run"] for p in one["comparison"]["arms"]["random half"]["points"]} for one in (first, second)]
    assert runs[0] == runs[1]


def test_the_tuned_claims_are_told_as_they_were_found() -> None:
    result, page = stored("tuning_cifar10"), (ROOT / "docs" / "tuning.md").read_text(encoding="utf8")
    assert writer_of("tuned_claims").page_table() in page, (
        "put the table of benchmarks.tuned_claims into docs/tuning.md"
    )
    plan = load((ROOT / "benchmarks" / "plans" / "tuning_cifar10.yaml").read_text(encoding="utf8"))
    assert TuningPlan.from_dict(load(result["reproduce"]["plan"])) == TuningPlan.from_dict(plan)
    trials = plan["trials"] * plan["studies"]
    assert all(sum(t["arm"] == name for t in result["tried"]) == trials for name in result["arms"])
    for arm in result["comparison"]["arms"].values():
        assert len(arm["points"]) == plan["seeds"] * len(plan["durations"]) * plan["studies"]
    extra = [arm["budget"]["own_clock"] / arm["budget"]["seconds"] - 1 for arm in result["arms"].values()]
    assert f"{100 * min(extra):.0f} to {100 * max(extra):.0f} % more than their budgets" in " ".join(page.split())
    assert {
        w["values"]["methods.ProgressiveResizing.start"] for w in result["arms"]["progressive resizing"]["winners"]
    } == {0.75}
    assert f"{result['cost']['seconds'] / 60:.0f} minutes" in " ".join(page.split())


def figure(verdict: dict[str, Any]) -> str:
    """As cards tell it."""
    shown = ["open" if verdict[k] is None else f"{verdict[k]:#.3g}" for k in ("speedup", "low", "high")]
    return f"{verdict['verdict']} ({'at most ' + shown[2] if verdict['speedup'] is None else shown[0]})"


def test_cards_tell_what_was_found() -> None:
    clean, wrong = stored("data_diet")["conditions"].values()
    (told,) = stored("data_diet_2")["conditions"].values()
    tables = [{n: a["verdict"] for n, a in one["comparison"]["arms"].items()} for one in (clean, wrong, told)]
    cards = {
        "Subset": [(0, "hardest half"), (1, "hardest half"), (0, "easiest half"), (1, "easiest half")],
        "PrioritizedTraining": [(0, "prioritised"), (1, "prioritised"), (2, "prioritised, share told")],
        "ReducibleLossSelection": [(0, "reducible"), (1, "reducible")],
        "LabelCorrection": [(2, "label correction, share told")],
    }
    for name, arms in cards.items():
        said = catalogue("method")[name].card.found
        assert all(figure(tables[k][arm]) in said for k, arm in arms), (
            name,
            [figure(tables[k][arm]) for k, arm in arms],
        )


def test_one_run_has_every_run() -> None:
    result = stored("one_run")
    study = result["plan"]["study"]
    assert list(result["kinds"]) == result["plan"]["kinds"]
    for own in result["kinds"].values():
        assert set(own["accuracy"]) == {"baseline", *study["arms"]}
        assert all(len(values) == study["seeds"] for by in own["accuracy"].values() for values in by.values())
