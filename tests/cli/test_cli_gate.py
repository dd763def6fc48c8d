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
    assert "REGRESSED" in said.out and "optimizer" in said.out


def test_refusals_have_a_code_that_is_no_answer(recorded: Call) -> None:
    for words, expected in (
        (("baseline.json",), "BASELINE.json RECIPE.yaml"),
        (("none.json", "recipe.yaml"), "check the path"),
        (("baseline.json", "recipe.yaml", "--seeds", "7"), "as many seeds as the baseline has"),
        (("baseline.json", "recipe.yaml", "--margin", "-1"), "share of 0 or more"),
        (("--record", "recipe.yaml", "--seeds", "0"), "at least 3 seeds"),
        (("baseline.json", "recipe.yaml", "--nonsense"), "unknown option"),
        (("baseline.json", "recipe.yaml", "--out", "gate.pdf"), "an HTML file"),
        (("--record", "recipe.yaml", "--out", "baseline.yaml"), "a JSON file"),
        (("--record", "a.yaml", "b.yaml"), "takes RECIPE.yaml"),
        (("recipe.yaml", "recipe.yaml"), "has kind 'gate baseline'"),
    ):
        said = recorded("gate", *words)
        assert said.code == 4, words
        assert expected in said.sentence


def test_a_fault_in_the_program_is_not_taken_for_a_regression(recorded: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reinvest.studies.gate.read_baseline", lambda path: 1 / 0)
    assert recorded("gate", "baseline.json", "recipe.yaml").code == 5


def test_the_help_lists_the_exit_codes(call: Call) -> None:
    said = call("gate", "--help")
    assert all(f"  {code} " in said.out for code in range(5))
