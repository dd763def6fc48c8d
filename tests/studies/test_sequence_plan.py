"""Plans: positions written out, seeds, settings, and everything that cannot be a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_runs import PLAN, plan_of

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.studies.sequence_plan import SequencePlan, load_plan, merged, seed_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "sequence.yaml"


def test_seeds_differ_for_every_run_and_are_stable() -> None:
    seeds = {seed_of(s, p, d) for s in range(20) for p in range(10) for d in ("1ep", "2ep", "4ep", "8ep")}
    assert len(seeds) == 800
    assert all(0 <= s < 2**31 for s in seeds)
    # Runs in stores are found by these.
    assert seed_of(0, 0, "1ep") == 1560493788


def test_positions_are_a_number_or_a_list_of_changes() -> None:
    assert plan_of().length == 3
    plan = plan_of(
        positions=[
            {},
            {"optimizer": {"lr": 0.05}, "methods": [{"LabelSmoothing": {"alpha": 0.1}}]},
            {"model": {"hidden": [16]}},
        ]
    )
    base, second, third = (plan.recipe(k, "40st") for k in range(3))
    assert second.optimizer == {**base.optimizer, "lr": 0.05}
    assert [m["name"] for m in second.methods] == ["LabelSmoothing"]
    assert (third.model["hidden"], third.optimizer) == ([16], base.optimizer)
    assert plan.setting == "no new data"
    other = merged(base, {"model": "convnet"})
    assert other.model == {"name": "convnet"}


def test_data_and_classes_that_arrive_are_written_out() -> None:
    amounts = [100, 200, 400]
    plan = plan_of(positions=None, grow={"train_examples": amounts}, keep=0.5)
    assert plan.setting == "new data"
    tasks = [plan.recipe(k, "40st").task for k in range(3)]
    assert [t["train_examples"] for t in tasks] == amounts
    # Half of what was there before stays: 50 of 100, then 100 of 200.
    assert [t["train_start"] for t in tasks] == [0, 50, 100]
    whole = plan_of(positions=3, grow={"train_examples": amounts}, keep=1)
    assert [whole.recipe(k, "40st").task["train_start"] for k in range(3)] == [0, 0, 0]
    fresh = plan_of(positions=None, grow={"train_examples": amounts}, keep=0)
    assert [fresh.recipe(k, "40st").task["train_start"] for k in range(3)] == [0, 100, 200]
    classes = plan_of(positions=[{}, {"optimizer": {"lr": 0.2}}], classes=[4, 10])
    assert classes.setting == "new classes"
    assert [classes.recipe(k, "40st").task["first_classes"] for k in range(2)] == [4, 10]
    assert classes.recipe(1, "40st").optimizer["lr"] == 0.2


def test_a_plan_comes_back_from_its_own_values() -> None:
    for plan in (
        plan_of(),
        plan_of(
            positions=None,
            grow={"train_examples": [100, 200]},
            keep=0.5,
            target=0.8,
            sequences={"count": 3, "first": 9},
        ),
        plan_of(teachers={"pool": ["a" * 16], "cost": "charged"}),
        load_plan(EXAMPLE),
    ):
        text = yaml.safe_dump(plan.to_dict(), sort_keys=False)
        assert SequencePlan.from_dict(yaml.safe_load(text)) == plan
    assert list(plan_of(sequences={"count": 4, "first": 7}).numbers) == [7, 8, 9, 10]
    assert plan_of(durations=["320st", "40st", "160st", "80st"]).durations == ("40st", "80st", "160st", "320st")
    assert plan_of(arms={"records": "records", "plain": "scratch"}).baseline == "plain"


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"arms": {"records": "records"}}, InvalidValue, "add the arm 'scratch"),
        ({"arms": {"scratch": "scratch"}}, InvalidValue, "an arm besides"),
        ({"arms": {"scratch": "scratch", "a": "records", "b": {"reuse": "records"}}}, InvalidValue, "arms must differ"),
        ({"arms": {"scratch": "scratch", "a": "recrods"}}, UnknownName, "did you mean 'records'"),
        ({"arms": {"scratch": "scratch", "a": {"reuse": "records", "weight": 2}}}, InvalidValue, "weight is a share"),
        ({"arms": ["records"]}, InvalidValue, "arms is a mapping"),
        ({"positions": 1}, InvalidValue, "at least 2 positions"),
        ({"positions": [{}, 3]}, InvalidValue, "a position is a mapping"),
        ({"positions": [{}, {"duration": "3ep"}]}, InvalidValue, "duration of the point"),
        ({"positions": [{}, {"modle": "mlp"}]}, UnknownName, "did you mean 'model'"),
        ({"positions": [{}, {"task": "mnist"}]}, InvalidValue, "one task and one test set"),
        ({"positions": 2, "grow": {"train_examples": [10, 20, 30]}}, InvalidValue, "equally long"),
        ({"positions": None, "grow": {"train_examples": 7}}, InvalidValue, "a list with one value per position"),
        ({"positions": None, "grow": {"train_examples": [30, 20]}, "keep": 1}, InvalidValue, "rising numbers"),
        ({"positions": None, "grow": {"train_examples": [20, 30]}, "keep": 1.5}, InvalidValue, "from 0 to 1"),
        ({"keep": 0.5}, InvalidValue, "without grow"),
        (
            {"grow": [200, 400, 600]},
            InvalidValue,
            r"^grow is a mapping .*, got \[200, 400, 600\]; write grow: {train_ex",
        ),
        ({"grow": 200}, InvalidValue, "^grow is a mapping .*, got 200; "),
        ({"arms": {"scratch": "scratch", "a": {"reuse": "advise", "evidence": 5}}}, InvalidValue, "folder.*got 5; "),
        ({"arms": {"scratch": "scratch", "a": {"reuse": "advise", "evidence": ""}}}, InvalidValue, "folder.*got ''; "),
        ({"arms": {"scratch": "scratch", "a": {"reuse": "advise", "folder": "x"}}}, UnknownName, "evidence"),
        ({"durations": []}, InvalidValue, "durations of a sequence"),
        ({"durations": ["1ep", "20st"]}, InvalidValue, "durations of a sequence"),
        ({"durations": ["1ep", "1.0ep"]}, InvalidValue, "durations of a sequence"),
        ({"durations": ["1min", "2min"]}, InvalidValue, "durations of a sequence"),
        ({"durations": "4ep"}, InvalidValue, r"^durations of a sequence are a list, got '4ep'; write \[4ep\], or 4 "),
        ({"durations": 4}, InvalidValue, r"^durations of a sequence are a list, got 4; write "),
        ({"sequences": 2}, InvalidValue, "at least 3 of them"),
        ({"sequences": "five"}, InvalidValue, "sequences is a number"),
        ({"sequences": {"number": 5}}, UnknownName, "count"),
        ({"setting": "new data"}, InvalidValue, "with no new data"),
        ({"setting": "old data"}, UnknownName, "no new data"),
        ({"target": "high"}, InvalidValue, "target is a quality"),
        ({"teachers": {"pool": []}}, InvalidValue, "a pool is a list"),
        ({"teachers": {"pool": ["a"], "cost": "free"}}, UnknownName, "sunk"),
        ({"teachers": {"pol": ["a"]}}, UnknownName, "pool"),
        ({"sedes": 5}, UnknownName, "field of a sequence study"),
        ({"base": None}, InvalidValue, "add 'base:'"),
        ({"base": "digits"}, InvalidValue, "base is a mapping"),
    ],
    ids=str,
)
def test_what_cannot_be_a_plan_is_refused_with_the_remedy(
    changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        plan_of(**changes)


def test_advice_takes_the_place_of_what_cannot_apply() -> None:
    advised = {"reuse": "warm start", "fallback": {"reuse": "advise", "evidence": "studies"}}
    assert plan_of(arms={"scratch": "scratch", "warm": advised}).arms["warm"] == advised


def test_files_that_are_no_plan_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    for text, said in (("", "is a mapping"), ("a: [", "does not parse"), ("- 1", "is a mapping")):
        file.write_text(text)
        with pytest.raises(InvalidValue, match=said):
            load_plan(file)
    with pytest.raises(InvalidValue, match="does not exist"):
        load_plan(tmp_path / "absent.yaml")
    file.write_text(yaml.safe_dump(PLAN))
    assert load_plan(file) == plan_of()
