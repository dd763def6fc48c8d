"""Trials: trained once and found again, continued where they stopped, diverged ones counted, budgets added up."""

from __future__ import annotations

import pytest
from test_tune_plan import changed

import reinvest as ri
from reinvest.evaluation.execute import Machine
from reinvest.studies import tune_trials
from reinvest.studies.sequence_judge import Metric
from reinvest.studies.tune_plan import TuningPlan
from reinvest.studies.tune_trials import (
    Trial,
    counted_qualities,
    trials_found,
    try_all,
    tuned,
    winner_of,
)

pytest.importorskip("optuna", reason="tuning needs optuna: pip install 'reinvest[tune]'")

ACCURACY = Metric("accuracy", True)
LOSS = Metric("loss", False)


def plan_of(**changes):
    small = {"task": {"name": "digits", "train_examples": 100}, "model": {"name": "mlp", "hidden": [4]}}
    return TuningPlan.from_dict(
        changed(**{"baseline": {**small, "batch_size": 50}, "duration": "2st", "trials": 4, **changes})
    )


def trial(quality, arm="a", study=1, number=1):
    status = "diverged" if quality is None else "finished"
    return Trial(arm, study, number, {"optimizer.lr": 0.1}, 0, "r", status, quality, 8, 8, 1.0, 0.0, {})


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A store with all trials of a plan by TPE, them, and how often anything was trained."""
    store = ri.Store(tmp_path_factory.mktemp("tried") / "runs")
    seen = []
    plan = plan_of(sampler="tpe")
    return store, plan, try_all(plan, store, Machine(), ACCURACY, lambda *told: seen.append(told)), seen


def test_every_arm_and_study_has_its_trials(tried):
    store, _, trials, seen = tried
    assert [(t.arm, t.study, t.number) for t in trials] == [
        (a, 1, n) for a in ("baseline", "smooth") for n in range(1, 5)
    ]
    assert len(store.runs()) == 8 and all(t.quality is not None and t.own_seconds > 0 for t in trials)
    assert {(t.steps, t.done, t.once) for t in trials} == {(2, 2, 0.0)}
    assert seen == [(k, 8, False) for k in range(1, 9)]
    assert {t.seed for t in trials} == {run.seed for run in store.runs()} and len({t.seed for t in trials}) == 8
    for one in trials:
        config = store.get(one.run).config
        assert config["optimizer"]["lr"] == one.values["optimizer.lr"] and config["duration"] == "2st"
        if one.arm == "smooth":
            assert config["methods"][0]["alpha"] == one.values["methods.LabelSmoothing.alpha"]
        assert one.quality == store.get(one.run).quality("accuracy", "validation")


def test_they_are_found_and_not_trained_again(tried):
    store, plan, trials, _ = tried
    seen = []
    assert try_all(plan, store, Machine(), ACCURACY, lambda *told: seen.append(told)) == trials
    assert len(store.runs()) == 8
    assert seen == [(2 * k, 8, True) for k in range(1, 5)]
    assert len(trials_found(plan, store, ACCURACY)) == 8


def test_an_interrupted_tuning_is_continued_with_the_same_proposals(tried, tmp_path, monkeypatch):
    _, plan, trials, _ = tried
    store = ri.Store(tmp_path / "runs")
    seen = []

    def stop(*told):
        seen.append(told)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_all(plan, store, Machine(), ACCURACY, stop)
    assert len(store.runs()) == 5
    assert len(trials_found(plan, store, ACCURACY)) == 5
    again = try_all(plan, store, Machine(), ACCURACY)
    assert len(store.runs()) == 8
    assert [(t.values, t.seed, t.quality) for t in again] == [(t.values, t.seed, t.quality) for t in trials]


def test_more_trials_keep_those_that_were_made(tried):
    store, _, trials, _ = tried
    more = try_all(plan_of(sampler="tpe", trials=5), store, Machine(), ACCURACY)
    assert [t for t in more if t.number <= 4] == trials
    assert len(store.runs()) == 10


def test_studies_are_independent(tried, tmp_path):
    plan = plan_of(studies=3, trials=2, seeds=1)
    found = try_all(plan, ri.Store(tmp_path / "runs"), Machine(), ACCURACY)
    assert len({t.run for t in found}) == len({t.seed for t in found}) == 12
    assert len({t.values["optimizer.lr"] for t in found}) == 12


def test_a_trial_that_diverges_is_a_trial(tmp_path):
    space = {"optimizer.lr": {"low": 1e18, "high": 1e30, "log": True}}
    plan = plan_of(spaces={"baseline": space, "smooth": plan_dict_space()}, trials=2, duration="20st")
    found = try_all(plan, ri.Store(tmp_path / "runs"), Machine(), ACCURACY)
    assert [(t.status, t.quality) for t in found[:2]] == [("diverged", None)] * 2
    assert winner_of(found[:2], ACCURACY) is None and winner_of(found[2:], ACCURACY) is not None
    assert all(t.steps == 20 and t.done < 20 for t in found[:2])
    # Found again, although they did not finish.
    assert len(trials_found(plan, ri.Store(tmp_path / "runs"), ACCURACY)) == 4


def plan_dict_space():
    return {"optimizer.lr": {"low": 0.05, "high": 1.0, "log": True}}


def test_the_winner_is_the_best_on_validation_and_the_first_of_equals():
    trials = [trial(q, number=k) for k, q in enumerate([0.5, None, 0.9, 0.9, 0.1], 1)]
    assert winner_of(trials, ACCURACY).number == 3
    assert winner_of(trials, LOSS).number == 5
    assert winner_of([trial(None)], ACCURACY) is None


def test_a_diverged_trial_has_the_worst_quality_of_all_arms():
    trials = [trial(0.5), trial(None, number=2), trial(0.2, arm="b"), trial(0.7, arm="b", study=2)]
    assert counted_qualities(trials, ACCURACY) == {("a", 1): [0.5, 0.2], ("b", 1): [0.2], ("b", 2): [0.7]}
    assert counted_qualities(trials, LOSS) == {("a", 1): [0.5, 0.7], ("b", 1): [0.2], ("b", 2): [0.7]}
    assert counted_qualities([trial(None)], ACCURACY) == {}


def test_a_winner_is_its_values_at_another_duration():
    recipe = plan_of().recipe("baseline")
    made = tuned(recipe, trial(0.5), "8ep")
    assert (made.duration, made.optimizer["lr"]) == ("8ep", 0.1)
    assert made.model == recipe.model


def test_the_sampler_is_told_of_losses_with_their_sign(monkeypatch):
    told = []

    class Recording(tune_trials.Asker):
        def tell(self, score):
            told.append(score)
            super().tell(score)

    monkeypatch.setattr(tune_trials, "Asker", Recording)

    class Run:
        seed, id, status, seconds, steps, facts, cost, training = 1, "r", "finished", 1.0, 2, {}, {}, {"total_steps": 2}

        def quality(self, metric, split):
            assert (metric, split) == ("loss", "validation")
            return 0.25

    walk = tune_trials.Walk(plan_of(), "baseline", 1, LOSS)
    walk.ask()
    assert walk.tell(Run()).quality == 0.25
    assert told == [-0.25]
