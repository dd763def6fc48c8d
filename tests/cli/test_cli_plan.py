"""`reinvest plan`: from an empty store over a pilot to seeds, hours and money, and a study with looks that ends early."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from calling import Call

from reinvest.cli.main import main
from reinvest.core.hardware import facts
from reinvest.store import Store

STUDY: dict[str, Any] = {
    "title": "Small",
    "baseline": {
        "task": "digits",
        "model": {"name": "mlp", "hidden": [16]},
        "batch_size": 64,
        "optimizer": {"name": "sgd", "lr": 0.05},
    },
    "arms": {"slow": {"optimizer": {"name": "sgd", "lr": 0.005}}},
    "durations": ["8st", "16st", "32st", "64st"],
    "seeds": 4,
}


def write(**changes: Any) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))


def test_without_runs_costs_are_told_and_the_remedy(call: Call) -> None:
    write()
    said = call("plan", "study.yaml", "--workers", "1")
    assert said.code == 3
    assert "add --pilot 3" in said.out and "32 runs are lacking" in said.out
    assert not Path("runs").exists()


@pytest.fixture(scope="module")
def piloted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with study.yaml, the store of its pilot, plan.html and plan.json."""
    folder = tmp_path_factory.mktemp("piloted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write()
        words = ["plan", "study.yaml", "--pilot", "3", "--workers", "1", "--price", "2 USD", "--out", "plan.html"]
        assert main(words) == 0
    return folder


def test_a_pilot_is_trained_and_planned_from(piloted: Path) -> None:
    result = json.loads((piloted / "plan.json").read_text())
    assert result["kind"] == "plan" and result["reproduce"]["command"].startswith(
        "reinvest plan study.yaml --store runs"
    )
    assert result["noise"]["arm"] == "baseline" and result["noise"]["runs"] == 3
    assert (result["cost"]["runs"], result["cost"]["found"]) == (32, 12)
    assert len(Store(piloted / "runs").runs()) == 12
    assert [e["effect"] for e in result["effects"]] == [1.05, 1.1, 1.2, 1.3]
    assert 0.0 < result["planned"]["money"] == pytest.approx(2.0 * result["planned"]["hours"])
    assert (result["price"], result["currency"]) == (2.0, "USD")
    assert "--price '2 USD'" in result["reproduce"]["command"]
    # One clock: runs of a duration differ in quality alone, and durations are as far apart as their steps.
    seconds = [cell["seconds"] for cell in result["noise"]["cells"]]
    assert [b / a for a, b in itertools.pairwise(seconds)] == pytest.approx([2.0] * 3)
    assert (piloted / "plan.html").stat().st_size > 10**6


def test_the_same_plan_again_trains_nothing_and_is_one_object(call: Call, piloted: Path) -> None:
    words = ("plan", str(piloted / "study.yaml"), "--store", str(piloted / "runs"), "--workers", "1")
    data = call(*words, "--pilot", "3", "--effect", "1.5", "--json").data
    assert data["cost"]["found"] == 12 and [e["effect"] for e in data["effects"]] == [1.5]
    text = call(*words, "--effect", "1.5").out
    assert "in units of time" in text and "With 4 seeds the study finds" in text


def test_runs_of_the_recipe_with_other_seeds_count_too(call: Call, piloted: Path) -> None:
    recipe = {**STUDY["baseline"], "duration": "8st"}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    store = str(piloted / "runs")
    assert call("train", "recipe.yaml", "--seed", "77", "--store", store).code == 0
    data = call("plan", str(piloted / "study.yaml"), "--store", store, "--workers", "1", "--json").data
    assert [cell["n"] for cell in data["noise"]["cells"]] == [4, 3, 3, 3]
    assert data["noise"]["runs"] == 3 and data["cost"]["found"] == 12


def test_prices_are_those_of_compare(call: Call, piloted: Path) -> None:
    device = facts()["hardware"]["device"]
    Path("prices.yaml").write_text(yaml.safe_dump({"currency": "CHF", "per_hour": {device: 2.0}}))
    words = ("plan", str(piloted / "study.yaml"), "--store", str(piloted / "runs"), "--workers", "1")
    data = call(*words, "--prices", "prices.yaml", "--json").data
    assert (data["price"], data["currency"]) == (2.0, "CHF")
    assert data["planned"]["money"] == pytest.approx(2.0 * data["planned"]["hours"]) and data["planned"]["money"] < 0.01
    text = call(*words, "--prices", "prices.yaml").out
    assert " CHF" in text and " 0.00 CHF" not in text and "EUR" not in text
    assert data["reproduce"]["command"].endswith("--prices prices.yaml")


def test_the_page_is_drawn_again_from_its_result(call: Call, piloted: Path) -> None:
    said = call("report", str(piloted / "plan.json"), "--out", "again.html", "--json")
    assert said.code == 0 and said.data["kind"] == "plan"
    assert Path("again.html").read_text() == (piloted / "plan.html").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--effect", "0.9"], "an effect is a speed-up above 1, got 0.9"),
        (["--effect", "much"], "--effect is a speed-up above 1, or several with commas, got 'much'"),
        (["--price", "0 EUR"], "a price is above 0, got 0"),
        (["--price", "2.5"], "a price is an amount and its currency, got '2.5'; write --price '2.5 EUR'"),
        (["--price", "EUR"], "a price is an amount and its currency, got 'EUR'"),
        (["--price", "nan EUR"], "a price is above 0, got nan"),
        (["--price", "2 EUR", "--prices", "p.yaml"], "--price or --prices, got both"),
        (["--prices", "p.yaml"], "a machine with"),
        (["--pilot", "1"], "a pilot has 2 seeds or more, got 1; write --pilot 3"),
        (["--out", "plan.pdf"], "an HTML file"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_runs(call: Call, words: list[str], expected: str) -> None:
    write()
    Path("p.yaml").write_text("currency: CHF\nper_hour: {Some device: 2}\n")
    said = call("plan", "study.yaml", *words)
    assert said.code == 2
    assert expected in said.sentence
    assert not Path("runs").exists()


def test_a_long_pilot_is_asked_about_first(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    monkeypatch.setattr("reinvest.cli.plan.asks", lambda yes, out: not yes)
    monkeypatch.setattr("reinvest.evaluation.pilot.pilot_cost", lambda *words, **more: {"runs": 12, "hours": 2.0})
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    said = call("plan", "study.yaml", "--pilot", "3", "--workers", "1")
    assert said.code == 0 and said.out == ""
    assert "12 runs, about 2.0 hours; go on? [y/N]" in said.err and "nothing was run" in said.err
    assert not Path("runs").exists()


def test_a_study_with_looks_ends_early_and_says_so(call: Call, piloted: Path) -> None:
    write(looks=[3, 4], spending="pocock")
    said = call("compare", "study.yaml", "--store", str(piloted / "runs"), "--workers", "1", "--json")
    assert said.code == 0
    verdict = said.data["verdicts"]["slow"]
    assert verdict["verdict"] == "worse"
    assert any("the study ended at 3 of 4 seeds" in flag for flag in verdict["flags"])
    assert "look 1 of 2, at 3 seeds: slow worse" in said.err
    assert said.data["cost"]["runs"] == 24
    assert "the study ended at 3 of 4 seeds" in Path("study.html").read_text()
