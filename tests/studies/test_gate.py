"""A gate end to end on digits: a copy passes, a worse learning rate and a method that sleeps are found, refusals are refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

import reinvest as ri
from reinvest.core.errors import CorruptFile, InvalidValue, NotComparable, UnknownName
from reinvest.core.method import Card, Method
from reinvest.evaluation.compare import Listener
from reinvest.evaluation.result import write_result
from reinvest.studies.gate import record_baseline, run_gate
from reinvest.studies.gate_baseline import read_baseline

DURATIONS = ["16st", "32st", "64st", "128st"]
RECIPE = ri.Recipe(
    task="digits",
    model={"name": "mlp", "hidden": [16]},
    batch_size=64,
    optimizer={"name": "sgd", "lr": 0.1},
    duration="128st",
)
MACHINE: dict[str, Any] = {"workers": 1, "threads": 1}


class Sleeper(Method):
    """Waits two milliseconds in every step."""

    card = Card("sleep", "none: a test", 2020, "none", "weights", "2 ms", "everything", ("any",))

    def weights(self, context: Any) -> None:
        time.sleep(0.002)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    store = ri.Store(tmp_path_factory.mktemp("gate") / "runs")
    baseline = record_baseline(RECIPE, store=store, durations=DURATIONS, seeds=4, **MACHINE)
    file = write_result(baseline, tmp_path_factory.mktemp("gate") / "baseline.json")
    return store, read_baseline(file)


def elsewhere(tmp_path: Any) -> ri.Store:
    return ri.Store(tmp_path / "ci")


def test_a_baseline_holds_what_a_gate_needs(kept: tuple[Any, dict[str, Any]]) -> None:
    _, baseline = kept
    assert baseline["durations"] == DURATIONS and len(baseline["points"]) == 16
    assert baseline["task"]["metric"] == "accuracy" and baseline["task"]["fingerprint"]
    seeds = [p["seed"] for p in baseline["points"]]
    assert len(set(seeds)) == 16, "every cell has seeds of its own"
    assert baseline["seconds_per_step"] > 0 and baseline["facts"]["hardware"]["threads"] == 1
    assert "/" not in json.dumps(baseline["recipe"])


def test_the_same_recipe_passes_without_doubt_even_where_the_store_is_empty(
    kept: tuple[Any, dict[str, Any]], tmp_path: Any
) -> None:
    done = run_gate(kept[1], RECIPE, store=elsewhere(tmp_path), **MACHINE)
    assert done.verdict == "not regressed"
    assert [p.ratio for p in done.parts] == [1.0, 1.0]
    assert done.result["timing"] is None and "by definition" in " ".join(done.result["notes"])
    json.dumps(done.result, allow_nan=False)


def test_runs_of_the_store_are_not_repeated(kept: tuple[Any, dict[str, Any]]) -> None:
    store, baseline = kept
    counts: list[int] = []
    run_gate(baseline, RECIPE, store=store, listener=Listener(planned=lambda jobs, todo: counts.append(len(todo))))
    assert counts == [0]


def test_a_worse_learning_rate_is_a_regression_in_steps(kept: tuple[Any, dict[str, Any]], tmp_path: Any) -> None:
    worse = RECIPE.with_(optimizer={"name": "sgd", "lr": 0.02})
    done = run_gate(kept[1], worse, store=elsewhere(tmp_path), rounds=10, **MACHINE)
    assert done.verdict == "regressed"
    assert done.parts[0].verdict == "regressed" and done.parts[0].low > 1.2
    assert done.result["changed"]["optimizer"][1]["lr"] == 0.02
    assert done.result["timing"]["rounds"] == 10
    assert all(arm["predicted"] is None for arm in done.result["arms"].values())
    assert any(note.startswith("timing: ") for note in done.result["notes"])


def test_a_method_that_sleeps_is_a_regression_in_time_alone(
    kept: tuple[Any, dict[str, Any]], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping = RECIPE.with_(methods=[{"name": f"{__name__}:Sleeper"}])
    done = run_gate(kept[1], sleeping, store=elsewhere(tmp_path), rounds=10, **MACHINE)
    steps, seconds = done.parts
    assert steps.verdict == "not regressed" and steps.ratio == 1.0
    assert seconds.verdict == "regressed" and seconds.low > 1.5
    assert done.verdict == "regressed"


def test_other_hardware_and_changed_code_are_said(kept: tuple[Any, dict[str, Any]]) -> None:
    store, baseline = kept
    facts = {**baseline["facts"], "hardware": {**baseline["facts"]["hardware"], "device": "another"}}
    notes = " ".join(run_gate({**baseline, "facts": facts, "code": "0"}, RECIPE, store=store).result["notes"])
    assert "recorded elsewhere" in notes and "'another'" in notes and "stored points" in notes
    assert "have changed since" in notes and "shown, not judged" not in notes
    notes = " ".join(run_gate({**baseline, "code": "0"}, RECIPE, store=store, remake=True).result["notes"])
    assert "shown, not judged" in notes


def test_made_again_the_baseline_takes_the_code_as_it_is_now(kept: tuple[Any, dict[str, Any]]) -> None:
    store, baseline = kept
    spoilt = {**baseline, "points": [{**p, "quality": 0.999} for p in baseline["points"]]}
    assert run_gate(spoilt, RECIPE, store=store).verdict in ("regressed", "not comparable")
    assert run_gate(spoilt, RECIPE, store=store, remake=True).verdict == "not regressed"


def test_fewer_seeds_and_durations_take_part_of_the_baseline(kept: tuple[Any, dict[str, Any]]) -> None:
    store, baseline = kept
    done = run_gate(baseline, RECIPE, store=store, seeds=3)
    assert done.verdict == "not regressed" and len(done.result["arms"]["baseline"]["points"]) == 12


def test_what_cannot_be_gated_is_refused(kept: tuple[Any, dict[str, Any]], tmp_path: Any) -> None:
    store, baseline = kept
    with pytest.raises(NotComparable, match="got other data than those of its baseline"):
        run_gate(baseline, RECIPE.with_(task={"name": "digits", "train_examples": 100}), store=store)
    with pytest.raises(InvalidValue, match="3 to as many seeds"):
        run_gate(baseline, RECIPE, store=store, seeds=9)
    with pytest.raises(UnknownName, match="duration of the baseline"):
        run_gate(baseline, RECIPE, store=store, durations=["16st", "32st", "64st", "129st"])
    with pytest.raises(InvalidValue, match="share of 0 or more"):
        run_gate(baseline, RECIPE, store=store, margin=-0.1)
    with pytest.raises(InvalidValue, match="at least 3 seeds"):
        record_baseline(RECIPE, store=store, durations=DURATIONS, seeds=2)
    wild = RECIPE.with_(optimizer={"name": "sgd", "lr": 1e9})
    with pytest.raises(InvalidValue, match=r"at most 1 run in 5 that diverged, got 12 of 12; "):
        record_baseline(wild, store=store, durations=DURATIONS, seeds=3, **MACHINE)


def without(baseline: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    return {**{k: v for k, v in baseline.items() if k not in names}, **more}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: {}, "is a file that reinvest gate --record wrote, got b.json, which is none"),
        (lambda b: {"kind": "gate", "schema": 1, "points": [1]}, "got b.json, which is the result of a gate"),
        (lambda b: without(b, "task", "code"), "got b.json without task, code"),
        (lambda b: without(b, points={"a": 1}), "got b.json without points that can be read"),
        (lambda b: without(b, points=[without(b["points"][0], "quality")]), "without points that can be read"),
        (lambda b: without(b, points=[{**b["points"][0], "steps": "many"}]), "without points that can be read"),
        (lambda b: without(b, task={"name": "digits"}), "without a task that can be read"),
        (lambda b: without(b, durations=[16]), "without durations that can be read"),
        (lambda b: without(b, seeds="4"), "without seeds that can be read"),
        (lambda b: without(b, recipe=None), "without a recipe that can be read"),
        (lambda b: without(b, facts=[]), "without facts that can be read"),
        (lambda b: without(b, seeds_per_step=0, seconds_per_step="x"), "without seconds_per_step that can be read"),
    ],
)
def test_a_file_that_is_no_baseline_says_what_to_do(
    kept: tuple[Any, dict[str, Any]], tmp_path: Any, change: Any, said: str
) -> None:
    file = tmp_path / "b.json"
    file.write_text(json.dumps(change(kept[1])))
    with pytest.raises(CorruptFile) as refused:
        read_baseline(file)
    assert said in str(refused.value) and "reinvest gate --record RECIPE.yaml --out b.json" in str(refused.value)
    with pytest.raises(CorruptFile, match=r"b\.json, which is none"):
        file.write_text("task: digits\n")
        read_baseline(file)


def test_a_baseline_that_is_not_there_says_how_to_record_it(tmp_path: Any) -> None:
    with pytest.raises(InvalidValue, match=r"does not exist; .*--record RECIPE.yaml --out none.json"):
        read_baseline(tmp_path / "none.json")


def untrained(jobs: Any, todo: Any) -> None:
    pytest.fail("nothing is trained for what is refused")


def test_a_baseline_that_mostly_diverged_is_refused_before_anything_is_trained(
    kept: tuple[Any, dict[str, Any]], tmp_path: Any
) -> None:
    baseline = kept[1]
    lost = {"status": "diverged", "quality": None}
    broken = {**baseline, "points": [{**p, **lost} if k % 5 else p for k, p in enumerate(baseline["points"])]}
    for recipe in (RECIPE, RECIPE.with_(batch_size=32)):
        with pytest.raises(InvalidValue, match=r"at most 1 run in 5 that diverged, got 12 of 16; .*trains to its end"):
            run_gate(broken, recipe, store=elsewhere(tmp_path), listener=Listener(planned=untrained), **MACHINE)
    assert run_gate(broken, RECIPE, store=kept[0], remake=True).verdict == "not regressed", "made again they end"
    few = {**baseline, "points": [{**p, **lost} if k in (3, 6) else p for k, p in enumerate(baseline["points"])]}
    assert run_gate(few, RECIPE, store=kept[0]).verdict in ("undecided", "not regressed")


def test_a_baseline_without_the_runs_to_pair_with_is_refused_before_anything_is_trained(
    kept: tuple[Any, dict[str, Any]], tmp_path: Any
) -> None:
    baseline = kept[1]
    other = {**baseline, "points": [{**p, "seed": p["seed"] + 1} for p in baseline["points"]]}
    where = elsewhere(tmp_path)
    with pytest.raises(
        CorruptFile, match=r"a run of every seed at every duration, got 16 of 16 missing; record it again"
    ):
        run_gate(other, RECIPE, store=where, listener=Listener(planned=untrained), **MACHINE)
    with pytest.raises(CorruptFile, match="got 1 of 16 missing"):
        run_gate({**baseline, "points": baseline["points"][1:]}, RECIPE, store=where, **MACHINE)


def test_another_version_of_torch_is_said_with_what_to_do(kept: tuple[Any, dict[str, Any]]) -> None:
    store, baseline = kept
    old = {**baseline, "facts": {**baseline["facts"], "software": {**baseline["facts"]["software"], "torch": "2.1.0"}}}
    (note, *_) = run_gate(old, RECIPE, store=store).result["notes"]
    assert "torch 2.1 then, 2.13 now" in note and "--remake" in note
    (note, *_) = run_gate(old, RECIPE, store=store, remake=True).result["notes"]
    assert "made again here" in note and "--remake" not in note
    machine = {**baseline["facts"]["hardware"], "device": "Abacus", "threads": 9}
    both = {**baseline, "facts": {**baseline["facts"], "hardware": machine}}
    (note, *_) = run_gate(both, RECIPE, store=store).result["notes"]
    assert "device 'Abacus' then" in note and "threads 9 then, 1 now" in note and "--remake" not in note


def test_a_baseline_whose_recipe_can_no_longer_be_built_is_refused_before_anything_is_trained(
    kept: tuple[Any, dict[str, Any]], tmp_path: Any
) -> None:
    for model in ({"name": "mlpp"}, {"name": "no_such_module:net"}):
        old = {**kept[1], "recipe": {**kept[1]["recipe"], "model": model}}
        with pytest.raises(
            NotComparable, match=r"recipe cannot be built any more \(.*\); keep what it names, or record"
        ):
            run_gate(old, RECIPE, store=elsewhere(tmp_path), listener=Listener(planned=untrained), **MACHINE)


def test_a_gain_is_told_with_how_to_keep_it(kept: tuple[Any, dict[str, Any]]) -> None:
    store, _ = kept
    slow = RECIPE.with_(optimizer={"name": "sgd", "lr": 0.02})
    baseline = record_baseline(slow, store=store, durations=DURATIONS, seeds=4, **MACHINE)
    done = run_gate(baseline, RECIPE, store=store, rounds=10, **MACHINE)
    assert done.verdict == "not regressed" and done.parts[0].high < 1.0
    assert "record the baseline anew" in done.result["notes"][-1]
    same = run_gate(baseline, slow, store=store, **MACHINE)
    assert same.verdict == "not regressed" and "anew" not in " ".join(same.result["notes"])
