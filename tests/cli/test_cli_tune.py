"""`reinvest tune`, and `reinvest report` of its result, as a user types them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from calling import Call

from reinvest.cli.main import main
from reinvest.store import Store

pytest.importorskip("optuna", reason="tuning needs optuna: pip install 'reinvest[tune]'")

PLAN = """
title: smoothing, both tuned
baseline:
  task: {name: digits, train_examples: 200}
  model: {name: mlp, hidden: [8]}
  batch_size: 50
arms:
  smooth: {methods: [LabelSmoothing: {}]}
spaces:
  baseline: {optimizer.lr: {low: 0.05, high: 1.0, log: true}}
  smooth: {methods.LabelSmoothing.alpha: [0.05, 0.1]}
trials: 2
duration: 8st
durations: [4st, 8st, 16st, 32st]
seeds: 3
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tuning has been run."""
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("plan.yaml").write_text(PLAN)
        assert main(["tune", "plan.yaml", "--workers", "1"]) in (0, 3)
    return folder


def test_a_dry_run_names_spaces_budgets_and_hours_and_trains_nothing(call: Call) -> None:
    Path("plan.yaml").write_text(PLAN)
    said = call("tune", "plan.yaml", "--workers", "1", "--dry-run")
    assert said.code == 0
    assert "4 trials: 0 in the store; then 24 runs of the winners" in said.out
    assert "2 trials of 8st" in said.out
    assert "optimizer.lr: on a log scale 0.05 to 1" in said.out
    assert "methods.LabelSmoothing.alpha: 0.05, 0.1" in said.out
    assert not Path("runs/runs").exists()
    Path("plan.yaml").write_text(PLAN.replace("duration: 8st", "duration: {baseline: 8st, smooth: 80st}"))
    assert "differ by more than 10 %" in call("tune", "plan.yaml", "--workers", "1", "--dry-run").out


def test_the_page_the_figures_and_the_claim(done: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(done)
    assert Path("plan.html").stat().st_size > 10**6
    said = call("tune", "plan.yaml", "--workers", "1", "--json")
    kept = json.loads(Path(said.data["result"]).read_text())
    assert said.data["claim"] == "recipe"
    assert kept["reproduce"]["command"] == "reinvest tune plan.yaml --store runs"
    judged = said.data["arms"]["smooth"]["verdict"]
    spent = {name: arm["budget"]["seconds"] for name, arm in said.data["arms"].items()}
    # Device time is this machine's own, so budgets may be refused here; then that is what is said, and nothing else is.
    unequal = max(spent.values()) > 1.1 * min(spent.values())
    assert (judged["verdict"] == "not comparable") == unequal == (said.code == 3)
    assert ("tuning budgets may differ" in judged["sentence"]) == unequal
    claim = "no claim" if unequal else "claim: recipe"
    assert said.data["claim_text"].startswith(claim)
    assert said.data["cost"]["runs"] == said.data["cost"]["found"] == (4 if unequal else 28)
    again = call("report", "plan.json", "--out", "again.html")
    assert again.code == 0
    assert "smoothing, both tuned" in again.out and claim in again.out
    assert Path("again.html").exists()


def test_a_killed_tuning_says_that_the_same_command_continues(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plan.yaml").write_text(PLAN)

    def stop(*told: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reinvest.cli.tune._Display.tried", stop)
    said = call("tune", "plan.yaml", "--workers", "1")
    assert said.code == 130
    assert "finished runs are kept, and the same command continues" in said.err
    assert len(Store("runs").runs()) == 1


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("trials: 2", "trials: 1", "2 or more, got 1"),
        ("seeds: 3", "seeds: 2", "at least 3 seeds, got 2"),
        ("seeds: 3", "studies: 2", "1 or at least 3, got 2"),
        ("seeds: 3", "sampler: grid", "qmc, tpe"),
        ("alpha: [0.05, 0.1]", "alpha: [0.05, 7]", "alpha is a number from 0"),
        ("optimizer.lr", "optimizer.momentun", "momentum"),
        ("title:", "titel:", "did you mean 'title'"),
    ],
)
def test_bad_plans_are_one_sentence_and_train_nothing(call: Call, old: str, new: str, part: str) -> None:
    assert old in PLAN
    Path("plan.yaml").write_text(PLAN.replace(old, new))
    said = call("tune", "plan.yaml", "--workers", "1")
    assert said.code == 2
    assert part in said.sentence
    assert not Path("runs/runs").exists()


def test_a_plan_that_is_not_there_and_a_page_that_is_none(call: Call) -> None:
    assert "does not exist" in call("tune", "none.yaml").sentence
    Path("plan.yaml").write_text(PLAN)
    said = call("tune", "plan.yaml", "--out", "page.txt")
    assert said.code == 2 and "write --out report.html" in said.sentence


def test_without_optuna_it_says_what_to_install(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    Path("plan.yaml").write_text(PLAN)
    said = call("tune", "plan.yaml")
    assert said.code == 2
    assert "pip install 'reinvest[tune]'" in said.sentence
