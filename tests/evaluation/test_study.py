"""A study that could not end in a verdict is refused before anything runs; a study survives its own file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

import reinvest as ri
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.evaluation.plan import plan
from reinvest.evaluation.study import Study, load_study

BASE = {"task": "digits", "model": "mlp", "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.1}}
DURATIONS = ["2ep", "4ep", "8ep", "16ep"]


def values(**changes: Any) -> dict[str, Any]:
    return {
        "baseline": BASE,
        "arms": {"smooth": {"methods": [{"LabelSmoothing": {"alpha": 0.1}}]}},
        "durations": DURATIONS,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"durations": None}, "durations is a list"),
        ({"durations": "2ep"}, "durations is a list"),
        ({"durations": [None, "2ep", "4ep", "8ep"]}, "a duration is text"),
        ({"seeds": None}, "got None"),
        ({"seeds": "5"}, "got '5'"),
        ({"about": "hello"}, "about is a mapping"),
        ({"tuning": "much"}, "tuning must be a mapping"),
        ({"tuning": {"baseline": "much"}}, "tuning of arm 'baseline'"),
        ({"metric": None}, "metric must be"),
        ({"higher_is_better": "yes"}, "higher_is_better must be"),
        ({"arms": {"same": {}}}, "arms must differ, got the same recipe for 'baseline' and 'same'"),
        ({"arms": {n: {"command": "x {duration} {seed}"} for n in "ab"}}, "the same command for 'a' and 'b'"),
        ({"durations": ["2ep", "4ep", "8ep"]}, "at least 4 durations, got 3"),
        ({"durations": ["2ep", "4ep", "8ep", "8ep"]}, "at least 4 durations, got 3"),
        ({"durations": ["2ep", "4ep", "8ep", "30ep"]}, "factor 3, got 8 and 30"),
        ({"durations": ["2ep", "4ep", "8ep", "16st"]}, "share one unit"),
        ({"durations": ["1min", "2min", "4min", "8min"]}, "got minutes"),
        ({"durations": ["2", "4", "8", "16"]}, "2ep' for epochs"),
        ({"seeds": 2}, "at least 3 seeds per arm and duration, got 2"),
        ({"arms": {}}, "at least one arm"),
        ({"arms": {"baseline": {}}}, "different names"),
        ({"arms": {"x": {"command": "python mine.py --seed {seed}"}}}, "{duration}"),
        ({"arms": {"x": {"task": "mnist"}}}, "one task"),
    ],
)
def test_a_plan_without_a_verdict_is_refused_with_rule_value_and_remedy(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ri.Study.from_dict(values(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def arm(duration: str, seed: int, store: Any) -> Any:
    """A callable arm at the top level of a module."""


class Holder:
    def arm(self, duration: str, seed: int, store: Any) -> Any:
        """A callable arm that is bound to an object."""

    __call__ = arm


def test_callables_that_share_a_name_or_have_none_are_refused() -> None:
    def closure(duration: str, seed: int, store: Any) -> Any:
        """Another closure of this file would have the same source."""

    base = ri.Recipe.from_dict({**BASE, "duration": "2ep"})
    for what in (closure, lambda d, s, t: None, functools.partial(arm), Holder().arm, Holder()):
        with pytest.raises(InvalidValue, match="put it at the top level of a module") as caught:
            ri.Study(baseline=base, arms={"mine": what}, durations=DURATIONS)
        assert "\n" not in str(caught.value)
    assert ri.Study(baseline=base, arms={"mine": arm}, durations=DURATIONS).arms["mine"] is arm
    with pytest.raises(InvalidValue, match="same callable"):
        ri.Study(baseline=arm, arms={"mine": arm}, durations=DURATIONS)


def test_tuning_names_the_arms() -> None:
    with pytest.raises(UnknownName, match="did you mean 'smooth'"):
        ri.Study.from_dict(values(tuning={"smoth": 3}))


def test_a_python_study_that_raises_is_one_sentence_with_its_line(tmp_path: Path) -> None:
    for text, words in (
        ("x = 1\n\ny = x / 0\n", "ZeroDivisionError: division by zero at line 3"),
        ("import json\njson.loads('{')\n", "at line 2"),
        ("x = 1\ny = (\n", "SyntaxError"),
    ):
        file = tmp_path / "raises_study.py"
        file.write_text(text)
        with pytest.raises(InvalidValue) as caught:
            load_study(file)
        assert words in str(caught.value) and "raises_study.py" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_unknown_fields_list_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'durations'.*seeds"):
        ri.Study.from_dict(values(duration=DURATIONS))
    with pytest.raises(UnknownName, match="LabelSmoothing"):
        ri.Study.from_dict(values(arms={"x": {"methods": ["LabelSmothing"]}}))


def test_arms_add_to_the_baselines_methods_or_replace_them() -> None:
    study = ri.Study.from_dict(
        values(
            baseline={**BASE, "methods": ["EMA"]},
            arms={
                "more": {"methods": ["LabelSmoothing"]},
                "other": {"all_methods": ["SAM"]},
                "rate": {"batch_size": 32},
            },
        )
    )
    assert [m["name"] for m in study.arms["more"].methods] == ["EMA", "LabelSmoothing"]
    assert [m["name"] for m in study.arms["other"].methods] == ["SAM"]
    assert [m["name"] for m in study.arms["rate"].methods] == ["EMA"]
    assert study.arms["rate"].batch_size == 32


def test_a_study_written_as_values_is_the_same_study() -> None:
    study = ri.Study.from_dict(
        values(
            baseline={**BASE, "methods": ["EMA"]},
            arms={
                "more": {"about": "a line", "methods": [{"LabelSmoothing": {"alpha": 0.2}}]},
                "other": {"all_methods": []},
                "mine": {"command": "python mine.py --duration {duration} --seed {seed}"},
            },
            seeds=4,
            pairs="duration",
            title="t",
        )
    )
    again = ri.Study.from_dict(study.to_dict())
    assert again == study
    assert again.to_dict() == study.to_dict()


def test_python_and_yaml_files_hold_studies_and_faults_are_one_sentence(tmp_path: Any) -> None:
    import yaml

    good = tmp_path / "s.yaml"
    good.write_text(yaml.safe_dump(values()))
    script = tmp_path / "my_study.py"
    script.write_text(
        "import reinvest as ri\nbase = ri.Recipe(task='digits', model='mlp')\n"
        "study = ri.Study(baseline=base, arms={'s': base.with_(ri.LabelSmoothing(0.1))}, durations=['2ep','4ep','8ep','16ep'])\n"
    )
    assert load_study(good).seeds == 5
    assert list(load_study(script).arms) == ["s"]
    for name, text in (("absent.yaml", None), ("bad.yaml", "a: [1,"), ("list.yaml", "- 1"), ("none.py", "x = 1")):
        file = tmp_path / name
        if text is not None:
            file.write_text(text)
        with pytest.raises(InvalidValue) as caught:
            load_study(file)
        assert "\n" not in str(caught.value)


def test_numbers_in_a_study_file_may_have_an_exponent_without_a_point(tmp_path: Any) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "baseline: {task: digits, model: mlp, optimizer: {name: sgd, lr: 1e-3}}\n"
        "arms: {a: {batch_size: 32}}\ndurations: [2ep, 4ep, 8ep, 16ep]\n"
    )
    assert load_study(file).baseline.optimizer["lr"] == 0.001


def test_declared_looks_come_back_from_the_file_and_change_no_seed() -> None:
    plain = ri.Study.from_dict(values(seeds=8))
    assert "looks" not in plain.to_dict() and "spending" not in plain.to_dict()
    study = ri.Study.from_dict(values(seeds=8, looks=[3, 5, 8], spending="pocock"))
    assert study.looks == (3, 5, 8) and study.spending == "pocock"
    again = study.to_dict()
    assert again["looks"] == [3, 5, 8] and again["spending"] == "pocock"
    assert ri.Study.from_dict(again).to_dict() == again
    assert [(j.seed, j.identity) for j in plan(study)] == [(j.seed, j.identity) for j in plan(plain)]
    assert ri.Study.from_dict(values(seeds=8, looks=[3, 8])).spending == "obrien-fleming"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"looks": [3, 5, 8]},
            "the last look is the end of the study, got looks [3, 5, 8] and seeds 5; write seeds: 8",
        ),
        ({"looks": [2, 5]}, "a look is taken at 3 replicates or more, got [2, 5]"),
        ({"looks": [4, 3, 5]}, "increase, got [4, 3, 5]"),
        ({"looks": 5}, "whole numbers of seeds, at least one, got 5"),
        ({"looks": []}, "got []"),
        ({"spending": "pocock"}, "got spending 'pocock' without looks"),
        ({"looks": [3, 5], "spending": "pocok"}, "did you mean 'pocock'?"),
        ({"looks": [3, 5], "spending": 0.1}, "unknown spending function 0.1"),
    ],
)
def test_looks_that_keep_no_error_rate_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidValue, UnknownName)) as caught:
        ri.Study.from_dict(values(**changes))
    assert words in str(caught.value)


def test_where_the_baseline_is_refused_as_an_arm_the_a_a_way_is_told_and_works() -> None:
    base = ri.Recipe(task="digits", model="mlp", batch_size=256)
    durations = ("4st", "8st", "16st", "32st")
    with pytest.raises(InvalidValue, match=r"A/A study .*\{methods: \[LabelSmoothing: \{alpha: 0\}\]\}$"):
        Study(baseline=base, arms={"again": base}, durations=durations)
    study = Study(baseline=base, arms={"again": base.with_({"LabelSmoothing": {"alpha": 0}})}, durations=durations)
    jobs = plan(study)
    # Runs of its own, with the same weights for the same seed (clause 1 of the methods' contract).
    assert len({job.seed for job in jobs}) == len({job.identity for job in jobs}) == len(jobs) == 40
    with pytest.raises(InvalidValue, match=r"A/A study .* add an option that does nothing"):
        Study(baseline="a {duration} {seed}", arms={"again": "a {duration} {seed}"}, durations=durations)
