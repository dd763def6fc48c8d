"""A tuning plan: read from a file and written back, seeds that never meet, and what is refused before anything runs."""

from __future__ import annotations

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.studies.tune_plan import TuningPlan, final_seed, load_plan, trial_seed

PLAN = {
    "title": "smoothing, both tuned",
    "baseline": {"task": "digits", "model": {"name": "mlp", "hidden": [8]}, "batch_size": 50},
    "arms": {"smooth": {"about": "softer targets", "methods": [{"LabelSmoothing": {"alpha": 0.1}}]}},
    "spaces": {
        "baseline": {"optimizer.lr": {"low": 0.05, "high": 1.0, "log": True}},
        "smooth": {"optimizer.lr": {"low": 0.05, "high": 1.0, "log": True}, "methods.LabelSmoothing.alpha": [0.1, 0.2]},
    },
    "trials": 8,
    "duration": "8ep",
}


def changed(**changes):
    values = copy.deepcopy(PLAN)
    values.update(changes)
    return {k: v for k, v in values.items() if v is not None}


def test_what_is_left_out():
    plan = TuningPlan.from_dict(PLAN)
    assert (plan.studies, plan.sampler, plan.study.seeds, plan.claim) == (1, "qmc", 5, "recipe")
    assert plan.study.durations == ("2ep", "4ep", "8ep", "16ep")
    assert plan.trial_durations == {"baseline": "8ep", "smooth": "8ep"}
    assert plan.study.about == {"smooth": "softer targets"}
    assert TuningPlan.from_dict(changed(duration="2st")).study.durations == ("1st", "2st", "4st", "8st")


def test_it_is_read_from_a_file_and_written_back(tmp_path):
    asked = changed(studies=3, seeds=1, sampler="tpe", durations=["1ep", "2ep", "4ep", "8ep"], metric="loss")
    asked["duration"] = {"baseline": "4ep", "smooth": "3ep"}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(asked))
    plan = load_plan(tmp_path / "plan.yaml")
    assert (plan.claim, plan.seeds, plan.sampler, plan.studies) == ("method", 1, "tpe", 3)
    assert plan.trial_durations == {"baseline": "4ep", "smooth": "3ep"}
    again = TuningPlan.from_dict(yaml.safe_load(yaml.safe_dump(plan.to_dict())))
    assert again.to_dict() == plan.to_dict()
    assert again.spaces == plan.spaces and again.study == plan.study


@pytest.mark.parametrize(
    ("changes", "error", "part"),
    [
        ({"spaces": None}, InvalidValue, "add 'spaces:'"),
        ({"trials": None}, InvalidValue, "add 'trials:'"),
        ({"duration": None}, InvalidValue, "add 'duration:'"),
        ({"baseline": None}, InvalidValue, "add 'baseline:'"),
        ({"trails": 3}, UnknownName, "did you mean 'trials'?"),
        ({"spaces": {"baseline": PLAN["spaces"]["baseline"]}}, InvalidValue, "its own space, got none for 'smooth'"),
        ({"spaces": {**PLAN["spaces"], "other": {}}}, UnknownName, "unknown arm in spaces 'other'"),
        ({"spaces": [1]}, InvalidValue, "spaces is a mapping by the name of the arm, got [1]"),
        ({"trials": 1}, InvalidValue, "2 or more, got 1"),
        ({"trials": True}, InvalidValue, "2 or more, got True"),
        ({"studies": 2}, InvalidValue, "1 or at least 3, got 2"),
        ({"studies": 0}, InvalidValue, "1 or at least 3, got 0"),
        ({"seeds": 2}, InvalidValue, "at least 3 seeds, got 2"),
        ({"studies": 3, "seeds": 0}, InvalidValue, "at least 1 seed, got 0"),
        ({"sampler": "grid"}, UnknownName, "qmc, tpe"),
        ({"duration": "30min"}, InvalidValue, "epochs or steps, got '30min'"),
        ({"duration": {"baseline": "4ep"}}, InvalidValue, "for every arm, got none for 'smooth'"),
        ({"duration": {"baseline": "4ep", "smooth": "3ep", "x": "1ep"}}, UnknownName, "'x'"),
        ({"durations": ["1ep", "2ep"]}, InvalidValue, "at least 4 durations"),
        ({"pairs": "duration"}, UnknownName, "'pairs'"),
        ({"tuning": {"baseline": 3}}, UnknownName, "'tuning'"),
        ({"arms": {"own": {"command": "x {duration} {seed}"}}}, InvalidValue, "a tuned arm is a recipe, got a command"),
        (
            {"baseline": {"command": "x {duration} {seed}"}, "arms": {"smooth": PLAN["baseline"]}},
            InvalidValue,
            "a tuned arm is a recipe, got a command",
        ),
    ],
)
def test_a_plan_that_could_not_end_in_a_verdict_is_refused(changes, error, part):
    with pytest.raises(error) as caught:
        TuningPlan.from_dict(changed(**changes))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_plans(tmp_path):
    with pytest.raises(InvalidValue, match="does not exist"):
        load_plan(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(InvalidValue, match="a mapping with baseline, arms"):
        load_plan(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("a: [1\n")
    with pytest.raises(InvalidValue, match="does not parse"):
        load_plan(tmp_path / "b.yaml")


NUMBERS = st.integers(1, 10**6)


@given(
    text=st.text(max_size=20), study=NUMBERS, trial=NUMBERS, replicate=st.integers(0, 10**6), where=st.text(max_size=9)
)
def test_seeds_of_the_comparison_are_never_those_of_a_trial(text, study, trial, replicate, where):
    assert 2**31 <= trial_seed(text, study, trial) < 2**32
    assert 0 <= final_seed(text, study, where, replicate) < 2**31


def test_every_trial_and_every_run_of_the_comparison_has_its_own_seed():
    tried = {trial_seed("a", s, t) for s in range(1, 4) for t in range(1, 9)} | {trial_seed("b", 1, 1)}
    judged = {final_seed("a", s, d, r) for s in range(1, 4) for d in ("1ep", "2ep") for r in range(3)}
    assert (len(tried), len(judged)) == (25, 18)
