"""A study that could not end in a verdict is refused before anything runs; a study survives its own file."""

from __future__ import annotations

from typing import Any

import pytest

import reinvest as ri
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.evaluation.study import load_study

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
