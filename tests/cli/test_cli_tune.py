"""`reinvest tune`, and `reinvest report` of its result, as a user types them."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from calling import Call

from reinvest.cli.main import main
from reinvest.evaluation import blocks
from reinvest.evaluation.timing import ArmTiming, Block
from reinvest.store import Store
from reinvest.studies import tune_estimate, tune_prices

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


def block(recipes: dict[str, Any], baseline: str, *, on_round: Any, dearer: float = 1.0, **rest: Any) -> Block:
    """A timing block in no time, in which a step with a method takes `dearer` times as long."""
    on_round(0)
    each = {name: 0.001 * (dearer if recipe.methods else 1.0) for name, recipe in recipes.items()}
    arms = {
        n: ArmTiming({}, s, math.log(s / each[baseline]), 0.0 if n == baseline else 1e-6, 9.0) for n, s in each.items()
    }
    return Block(10, "cpu", 0.0, arms, ["made up"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are made up: this machine's own differ by more than budgets may."""
    for module in (blocks, tune_prices):
        monkeypatch.setattr(module, "timing_block", block)
    monkeypatch.setattr(tune_estimate, "probe", lambda recipe, machine: (0.001, 0, 0, 0, 0))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the tuning has been run, and what it told meanwhile."""
    folder = tmp_path_factory.mktemp("tuned")
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(told):
        for module in (blocks, tune_prices):
            patch.setattr(module, "timing_block", block)
        patch.chdir(folder)
        Path("plan.yaml").write_text(PLAN)
        assert main(["tune", "plan.yaml", "--workers", "1"]) == 0
    return folder, told.getvalue()


def test_a_dry_run_names_spaces_budgets_and_hours_and_trains_nothing(call: Call) -> None:
    Path("plan.yaml").write_text(PLAN)
    said = call("tune", "plan.yaml", "--workers", "1", "--dry-run")
    assert said.code == 0
    assert "4 trials: 2 of each arm; in the store: 0" in said.out
    assert "then 24 runs of the winners: 12 of each arm (3 fresh seeds x 4 durations)" in said.out
    assert "of training with 1 worker for what is missing, by trial steps of each arm" in said.out
    assert "2 trials of 8st" in said.out
    assert "optimizer.lr: on a log scale 0.05 to 1" in said.out
    assert "methods.LabelSmoothing.alpha: 0.05, 0.1" in said.out
    assert "within the 10 % that are allowed (timed side by side)" in said.out
    assert not Path("runs/runs").exists()
    Path("plan.yaml").write_text(PLAN.replace("seeds: 3", "seeds: 1\nstudies: 3"))
    said = call("tune", "plan.yaml", "--workers", "1", "--dry-run")
    assert "12 trials: 6 of each arm (2 in each of 3 studies)" in said.out
    assert "12 of each arm (1 fresh seed x 4 durations x 3 studies)" in said.out


def test_a_dry_run_warns_of_what_tuning_will_refuse(call: Call) -> None:
    Path("plan.yaml").write_text(PLAN.replace("duration: 8st", "duration: {baseline: 8st, smooth: 80st}"))
    said = call("tune", "plan.yaml", "--workers", "1", "--dry-run")
    assert said.code == 0 and "warning: tuning budgets may differ by at most 10 %" in said.out
    assert "duration: {baseline: 8st, smooth: 8st}" in said.out
    refused = call("tune", "plan.yaml", "--workers", "1")
    assert refused.code == 2 and "duration: {baseline: 8st, smooth: 8st}" in refused.err
    assert not Path("runs/runs").exists()


def test_progress_is_told_once(done: tuple[Path, str]) -> None:
    lines = done[1].splitlines()
    assert lines[:2] == [
        "timing a step of each arm side by side: trials are charged by it",
        "4 trials, 0 of them in the store already",
    ]
    assert lines[2:] == ["24 runs, 0 of them in the store already", "timing the arms side by side"]


def test_what_is_in_the_store_is_told_before(
    done: tuple[Path, str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done[0])
    said = call("tune", "plan.yaml", "--workers", "1", "--dry-run")
    assert "in the store: 4" in said.out and "in the store: 24" in said.out
    assert "nothing is missing: only the winners' steps are timed" in said.out
    assert "within the 10 % that are allowed (timed side by side)" in said.out
    Path("more.yaml").write_text(PLAN.replace("seeds: 3", "seeds: 4"))
    more = call("tune", "more.yaml", "--workers", "1", "--dry-run")
    assert "in the store: 24" in more.out and "for what is missing, by trials in the store" in more.out


def test_the_page_the_figures_and_the_claim(
    done: tuple[Path, str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done[0])
    assert Path("plan.html").stat().st_size > 10**6
    said = call("tune", "plan.yaml", "--workers", "1", "--json")
    kept = json.loads(Path(said.data["result"]).read_text())
    assert said.code == 0 and said.data["claim"] == "recipe"
    assert kept["reproduce"]["command"] == "reinvest tune plan.yaml --store runs"
    assert said.data["arms"]["smooth"]["verdict"]["verdict"] != "not comparable"
    spent = {name: arm["budget"]["seconds"] for name, arm in said.data["arms"].items()}
    assert spent == pytest.approx({"baseline": 0.016, "smooth": 0.016})
    assert said.data["claim_text"].startswith("claim: recipe")
    assert said.data["cost"]["runs"] == said.data["cost"]["found"] == 28
    again = call("report", "plan.json", "--out", "again.html")
    assert again.code == 0
    assert "smoothing, both tuned" in again.out and "claim: recipe" in again.out
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
