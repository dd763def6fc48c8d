"""`reinvest gate`: a baseline recorded, the answer in the exit code, refusals with a code of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import Call

RECIPE = """
task: {name: digits, train_examples: 400}
model: {name: mlp, hidden: [8]}
duration: 96st
batch_size: 50
optimizer: {name: sgd, lr: 0.1}
"""
RECORD = ("gate", "--record", "recipe.yaml", "--out", "baseline.json", "--seeds", "3", "--workers", "1")


@pytest.fixture
def recorded(call: Call) -> Call:
    Path("recipe.yaml").write_text(RECIPE)
    said = call(*RECORD, "--json")
    assert said.code == 0 and said.data["durations"] == ["12st", "24st", "48st", "96st"]
    return call


def test_an_unchanged_recipe_passes_with_a_page_and_a_worse_one_fails(recorded: Call) -> None:
    said = recorded("gate", "baseline.json", "recipe.yaml", "--out", "gate.html", "--json")
    assert said.code == 0 == said.data["exit_code"]
    assert said.data["verdict"] == "not regressed"
    assert "<html" in Path("gate.html").read_text(encoding="utf8")
    assert json.loads(Path("gate.json").read_text(encoding="utf8"))["kind"] == "gate"
    Path("worse.yaml").write_text(RECIPE.replace("0.1", "0.005"))
    said = recorded("gate", "baseline.json", "worse.yaml", "--rounds", "10", "--workers", "1")
    assert said.code == 1
    assert "REGRESSED" in said.out and "optimizer lr: 0.1 -> 0.005" in said.out
    assert "{" not in said.out and "times the baseline's" in said.out


def test_refusals_have_a_code_that_is_no_answer(recorded: Call) -> None:
    Path("bare.yaml").write_text("task: digits")
    for words, expected in (
        (("baseline.json",), "got baseline.json alone; write reinvest gate BASELINE.json RECIPE.yaml"),
        (("a.json", "b.yaml", "c.yaml"), "got a.json b.yaml c.yaml; write reinvest gate BASELINE.json RECIPE.yaml"),
        (
            ("none.json", "recipe.yaml"),
            "does not exist; record one with reinvest gate --record RECIPE.yaml --out none.json",
        ),
        (("baseline.json", "none.yaml"), "got 'none.yaml', which does not exist; check the path"),
        (("baseline.json", "."), "got '.', which is a folder; name the file in it"),
        (("baseline.json", "recipe.yaml", "--seeds", "7"), "as many seeds as the baseline has"),
        (("baseline.json", "recipe.yaml", "--margin", "-1"), "share of 0 or more"),
        (("--record", "recipe.yaml", "--seeds", "0"), "at least 3 seeds"),
        (("baseline.json", "recipe.yaml", "--nonsense"), "unknown option"),
        (("baseline.json", "recipe.yaml", "--out", "gate.pdf"), "an HTML file"),
        (("--record", "recipe.yaml", "--out", "baseline.yaml"), "a JSON file"),
        (
            ("baseline.json", "recipe.yaml", "--out", "./baseline.html"),
            "figures go to baseline.json, which is the baseline",
        ),
        (("--record", "a.yaml", "b.yaml"), "got a.yaml b.yaml; write reinvest gate --record RECIPE.yaml"),
        (("recipe.yaml", "recipe.yaml"), "got recipe.yaml, which is none"),
        (("bare.yaml", "baseline.json"), "which look swapped; write reinvest gate baseline.json bare.yaml"),
        (("recipe.yaml", "none.json"), "which look swapped; write reinvest gate none.json recipe.yaml"),
        (
            ("baseline.json", "baseline.json"),
            "got the baseline baseline.json in its place; write reinvest gate BASELINE.json",
        ),
        (("--record", "baseline.json"), "got the baseline baseline.json in its place; write reinvest gate --record"),
        (("baseline.json", "bare.yaml"), "a recipe names its model, got only task; add 'model: ...'"),
    ):
        said = recorded("gate", *words)
        assert said.code == 4, words
        assert expected in said.sentence
        assert json.loads(Path("baseline.json").read_text(encoding="utf8"))["kind"] == "gate baseline"
        assert "--model" not in said.sentence and not Path("elsewhere").exists()


def test_a_fault_in_the_program_is_not_taken_for_a_regression(recorded: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reinvest.studies.gate_baseline.read_baseline", lambda path: 1 / 0)
    assert recorded("gate", "baseline.json", "recipe.yaml").code == 5


def test_the_help_lists_the_exit_codes(call: Call) -> None:
    said = call("gate", "--help")
    assert all(f"  {code} " in said.out for code in range(5))


def test_a_store_that_is_not_there_is_said_to_be_made(recorded: Call) -> None:
    said = recorded("gate", "baseline.json", "recipe.yaml", "--store", "fresh", "--json")
    assert said.code == 0 and said.data["store"] == {"folder": "fresh", "made": True}
    assert said.err.splitlines()[:2] == [
        "no store in fresh yet: the folder is made, and every run is trained and kept there",
        "12 runs, 0 of them in the store already",
    ]
    said = recorded("gate", "baseline.json", "recipe.yaml", "--store", "fresh", "--json")
    assert said.data["store"]["made"] is False and "no store" not in said.err
    Path("batches.yaml").write_text(RECIPE.replace("400", "300"))
    said = recorded("gate", "baseline.json", "batches.yaml", "--store", "unmade")
    assert said.code == 4 and "other data than those of its baseline" in said.sentence and not Path("unmade").exists()


def test_recording_says_what_to_write_next(call: Call) -> None:
    Path("recipe.yaml").write_text(RECIPE)
    said = call(*RECORD)
    assert said.code == 0 and "no store in runs yet" in said.err
    assert "reinvest gate baseline.json recipe.yaml" in said.out


def test_a_change_of_methods_is_told_in_words(recorded: Call) -> None:
    Path("more.yaml").write_text(RECIPE + "methods: [{name: LabelSmoothing, alpha: 0.2}]\n")
    said = recorded("gate", "baseline.json", "more.yaml", "--rounds", "10", "--workers", "1")
    assert "methods: none -> LabelSmoothing (alpha 0.2)" in said.out and "{" not in said.out
