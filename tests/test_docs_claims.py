"""The claims folder: plans that load, baselines as tuned, results that are those of their plan, and a page that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from page_writers import writer_of
from reinvest.evaluation.study import load_study
from reinvest.methods._catalog import catalog

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "claims"
PLANS = sorted(p for p in FOLDER.glob("*.yaml") if not p.stem.startswith("baseline"))
RESULTS = [p.with_suffix(".json") for p in PLANS if p.with_suffix(".json").exists()]


@pytest.fixture(scope="module")
def writer() -> Any:
    """The module that writes the page."""
    return writer_of("claims_table")


def test_the_page_and_the_picture_are_up_to_date(writer: Any) -> None:
    found = list(writer.claims())
    assert (FOLDER / "README.md").read_text(encoding="utf8") == writer.page(found), (
        "run python -m benchmarks.claims_table"
    )
    assert (ROOT / "docs" / "images" / "claims.svg").read_text(encoding="utf8") == writer.drawing(found)


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_a_plan_is_a_study_of_the_method_whose_file_has_its_name(path: Path) -> None:
    study = load_study(path)
    assert len(study.durations) >= 4 and study.seeds >= 5
    plan = yaml.safe_load(path.read_text(encoding="utf8"))
    methods = {next(iter(m)) for arm in plan["arms"].values() for m in arm["methods"]}
    modules = {catalog[name].__module__.rpartition(".")[2] for name in methods}
    assert len(modules) == 1 and path.stem.startswith(modules.pop())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("baseline*.json")), ids=lambda p: p.stem)
def test_a_tuned_baseline_is_the_best_of_its_grid(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf8"))
    assert result["plan"] == yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf8"))
    lower = result["plan"]["metric"] == "nll"
    best = sorted(result["points"], key=lambda p: p["mean"], reverse=not lower)[0]
    assert result["chosen"] == best["settings"]
    users = [p for p in PLANS if f"tuned: {path.stem}.yaml" in p.read_text(encoding="utf8")]
    for user in users:
        optimizer = yaml.safe_load(user.read_text(encoding="utf8"))["baseline"]["optimizer"]
        assert {k: optimizer[k] for k in best["settings"]} == best["settings"], user.stem


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_result_is_that_of_its_plan_in_full(path: Path) -> None:
    plan = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf8"))
    result = json.loads(path.read_text(encoding="utf8"))
    assert result["title"] == plan["title"]
    assert set(result["arms"]) == {"baseline", *plan["arms"]}
    for arm in result["arms"].values():
        cells = {(p["duration"], p["seed"]) for p in arm["points"]}
        assert len(cells) == len(arm["points"]) == len(plan["durations"]) * plan["seeds"]
        assert {p["duration"] for p in arm["points"]} == set(plan["durations"])


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_card_says_what_was_found(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf8"))
    for arm in result["arms"].values():
        if arm["verdict"] is not None:
            card = catalog[arm["recipe"]["methods"][-1]["name"]].card
            speedup = arm["verdict"]["speedup"]
            assert arm["verdict"]["verdict"] in card.found
            assert speedup is None or f"{speedup:#.3g}" in card.found, f"{speedup:#.3g}"
