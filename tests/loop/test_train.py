"""`train`: a recipe and a seed become a finished run, the same bits every time, and nothing is lost on the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import reinvest as ri
from reinvest.core.errors import Conflict, ReinvestError, RunBusy, UnknownName
from reinvest.core.recipe import Recipe
from reinvest.loop.evaluate import evaluate
from reinvest.loop.session import Session, run_identity
from reinvest.loop.train import NotKeptWarning, calibrate, train
from reinvest.store import Run, Store
from toy_loops import same_bits

STEPS = 24  # 1,078 training digits in batches of 128, three epochs


def splits(run: Run, split: str) -> list[dict[str, Any]]:
    return [entry for entry in run.curve if entry["split"] == split]


def measured(run: Run) -> list[dict[str, Any]]:
    """The curve without what the machine decides."""
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in run.curve]


def test_the_run_is_stored_finished_and_whole(recipe: Recipe, store: Store) -> None:
    run = train(recipe, seed=3, store=store)
    assert isinstance(run, Run) and run.status == "finished" and store.get(run.id).id == run.id
    assert run.seed == 3 and run.task == "digits" and run.steps == STEPS and run.parents == []
    assert Recipe.from_dict(run.config) == recipe
    assert 0.3 < run.quality("accuracy") <= 1.0
    assert run.seconds and 0 < run.seconds < 30
    assert run.cost["seconds"] == run.seconds and {"warmup_seconds", "wall_seconds"} <= set(run.cost)
    assert run.facts["hardware"]["threads"] == 1 and run.facts["hardware"]["precision"] == "fp32"
    assert not store.verify()


def test_the_test_split_is_read_once_and_last_and_validation_on_the_way(recipe: Recipe, store: Store) -> None:
    run = train(recipe, store=store, evaluations=4)
    (test,) = splits(run, "test")
    validation = splits(run, "validation")
    assert test["step"] == STEPS and run.curve[-1] == test
    assert len(validation) == 4 and validation[-1]["step"] == STEPS
    steps = [entry["step"] for entry in validation]
    assert steps == sorted(set(steps))
    assert all(0 <= entry["accuracy"] <= 1 and entry["loss"] > 0 for entry in [test, *validation])


@pytest.mark.parametrize("evaluations", [1, 100])
def test_any_number_of_evaluations(recipe: Recipe, store: Store, evaluations: int) -> None:
    validation = splits(train(recipe, store=store, evaluations=evaluations), "validation")
    assert len(validation) == min(evaluations, STEPS)


def test_evaluations_change_nothing(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    dropped = recipe.with_(model="convnet", duration="5st")
    few = train(dropped, store=store, evaluations=1)
    many = train(dropped, store=Store(tmp_path / "other"), evaluations=5)
    assert same_bits(few.weights(), many.weights())


def test_seconds_in_the_curve_end_at_the_cost(recipe: Recipe, store: Store) -> None:
    run = train(recipe, store=store)
    seconds = [entry["seconds"] for entry in run.curve]
    assert (
        seconds[0] > 0
        and seconds[-1] == pytest.approx(run.seconds, rel=1e-6)
        and max(seconds) == pytest.approx(run.seconds, rel=0.5)
    )


@pytest.mark.parametrize(
    "change", [{}, {"model": "convnet", "duration": "4st"}, {"optimizer": {"name": "adamw", "lr": 0.01}}]
)
def test_one_seed_one_result(recipe: Recipe, store: Store, tmp_path: Path, change: dict[str, Any]) -> None:
    recipe = recipe.with_(**change)
    torch.manual_seed(1)
    one = train(recipe, seed=5, store=store)
    torch.manual_seed(2)
    two = train(recipe, seed=5, store=Store(tmp_path / "other"))
    assert same_bits(one.weights(), two.weights()) and measured(one) == measured(two)
    assert one.identity == two.identity
    assert not same_bits(one.weights(), train(recipe, seed=6, store=store).weights())


def test_the_global_generator_is_left_alone(recipe: Recipe, store: Store) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    train(recipe.with_(ri.Mixup(), ri.Cutout(), model="convnet", duration="3st"), store=store)
    assert torch.equal(before, torch.get_rng_state())


def test_finished_work_is_never_done_twice(recipe: Recipe, store: Store) -> None:
    one = train(recipe, store=store)
    assert train(recipe, store=store).id == one.id
    assert train(Recipe.from_dict(recipe.to_dict()), store=store).id == one.id
    assert train(recipe, seed=1, store=store).id != one.id
    assert train(recipe.with_(batch_size=64), store=store).id != one.id
    assert len(store.runs()) == 3


def test_parents_are_lineage_and_identity(recipe: Recipe, store: Store) -> None:
    past = train(recipe, store=store)
    child = train(recipe, store=store, parents=[past])
    assert child.parents == [past.id] and child.identity != past.identity
    assert train(recipe, store=store, parents=[past.id]).id == child.id


@pytest.mark.parametrize(("precision", "bits"), [("bf16", 2), ("fp16", 2)])
def test_half_precision_on_the_cpu(recipe: Recipe, store: Store, precision: str, bits: int) -> None:
    run = train(recipe.with_(precision=precision), store=store)
    assert run.status == "finished" and run.quality("accuracy") > 0.3
    assert all(t.dtype == torch.float32 for t in run.weights().values() if t.is_floating_point())
    assert run.facts["hardware"]["precision"] == precision
    assert not same_bits(run.weights(), train(recipe, store=store).weights())


@pytest.mark.parametrize("lr", [1e12, 1e30])
def test_divergence_ends_the_run_and_keeps_it(recipe: Recipe, store: Store, lr: float) -> None:
    recipe = recipe.with_(optimizer={"name": "sgd", "lr": lr, "momentum": 0.9}, duration="30ep")
    run = train(recipe, store=store)
    assert run.status == "diverged" and run.id in [r.id for r in store.runs()]
    assert run.steps is not None and run.steps < 30 * 8
    assert run.facts["divergence"]["step"] <= run.steps and not splits(run, "test")
    assert train(recipe, store=store).id == run.id  # it is a result, not a failure to be repeated


def test_schedules_follow_the_duration(recipe: Recipe, store: Store) -> None:
    for duration, steps in (("3ep", 24), ("10st", 10)):
        session = Session(recipe.with_(duration=duration, schedule="linear"), 0)
        rates = []
        with session.attached():
            for _, batch in zip(range(3), session.methods.batches(session.loader(0, 0)), strict=False):
                session.step(batch)
                rates.append(session.optimizer.param_groups[0]["lr"])
        assert rates == pytest.approx([0.1 * (1 - (i + 1.5) / steps) for i in range(3)])


def test_minutes_are_turned_into_steps_once(recipe: Recipe, store: Store) -> None:
    run = train(recipe.with_(duration="0.002min"), store=store)
    assert run.status == "finished" and run.steps is not None and 5 <= run.steps <= 5000
    assert run.seconds is not None and 0.02 < run.seconds < 1.0


def test_calibration_leaves_nothing_behind(recipe: Recipe, users: Path) -> None:
    before = torch.get_rng_state()
    steps = calibrate(recipe.with_("EMA", duration="0.05min", model="stopper:dropout_net"), 0)
    assert steps > 10 and torch.equal(before, torch.get_rng_state())


def test_records_are_kept_unless_declined(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    kept = train(recipe, store=store)
    assert kept.records() is not None
    without = train(recipe, store=Store(tmp_path / "other"), records=False)
    with pytest.raises(ReinvestError):
        without.records()
    assert same_bits(kept.weights(), without.weights())


def test_a_prefix_names_the_same_run_as_the_whole_id(recipe: Recipe, store: Store) -> None:
    past = train(recipe, store=store)
    child = train(recipe.with_(ri.WarmStart(past.id)), 1, store)
    assert train(recipe.with_(ri.WarmStart(past.id[:8])), 1, store).id == child.id
    taught = train(recipe.with_(ri.Distill([past.id[:8]], source="records")), 2, store, parents=[past.id[:6]])
    assert taught.parents == [past.id] and taught.reuse == [{"run": past.id, "how": "records"}]
    assert taught.config["methods"][0]["teacher"] == [past.id]
    assert train(recipe.with_(ri.Distill([past], source="records")), 2, store).id == taught.id
    assert len(store.runs()) == 3


def test_a_run_that_is_not_there_is_refused_by_the_store(recipe: Recipe, store: Store) -> None:
    train(recipe, store=store)
    for wrong in ("nobody", "beefbeef"):
        with pytest.raises(UnknownName, match=f"no run '{wrong}' among the 1 of"):
            train(recipe.with_(ri.WarmStart(wrong)), 1, store)
    assert len(store.runs()) == 1


def test_a_run_is_found_although_its_parent_is_gone(recipe: Recipe, store: Store) -> None:
    past = train(recipe, store=store)
    child = train(recipe.with_(ri.WarmStart(past)), 1, store)
    shutil.rmtree(past.path)
    store.rebuild()
    assert train(recipe.with_(ri.WarmStart(past)), 1, store).id == child.id


def test_records_that_the_stored_run_lacks_are_missed_aloud(recipe: Recipe, store: Store) -> None:
    bare = train(recipe, store=store, records=False)
    assert train(recipe, store=store).id == bare.id, "nobody asked for records"
    for asked in (True, {"views": 2}):
        with pytest.warns(NotKeptWarning, match=rf"run '{bare.id}', which has no records, .*--where id={bare.id}"):
            assert train(recipe, store=store, records=asked).id == bare.id
    means = train(recipe, 1, store)
    assert train(recipe, 1, store, records=True).id == train(recipe, 1, store, records=False).id == means.id
    with pytest.warns(NotKeptWarning, match="no rows of single epochs"):
        assert train(recipe, 1, store, records={"views": 2}).id == means.id
    rows = train(recipe, 2, store, records={"views": 2})
    with pytest.warns(NotKeptWarning, match="rows of its last 2 epochs only"):
        assert train(recipe, 2, store, records={"views": 3}).id == rows.id
    whole = train(recipe, 3, store, records={"views": 9})
    for asked in (True, False, None, {"views": 1}, {"views": 9}):
        assert train(recipe, 3, store, records=asked).id == whole.id


def test_a_chain_that_is_refused_leaves_no_run_behind(recipe: Recipe, store: Store) -> None:
    with pytest.raises(Conflict, match="LAWA"):
        train(recipe.with_(ri.EMA(), ri.LAWA()), store=store)
    assert not store.runs()


def test_methods_take_part(recipe: Recipe, store: Store) -> None:
    plain = train(recipe, store=store).weights()
    for method in (ri.LabelSmoothing(0.3), ri.GradientClipping(norm=0.01), ri.EMA(half_life="5st"), ri.SAM(rho=0.1)):
        run = train(recipe.with_(method), store=store)
        assert run.status == "finished" and run.steps == STEPS and not same_bits(run.weights(), plain)
        assert run.training["methods"] == [method.spec()]


def test_an_average_is_what_is_evaluated_and_saved(recipe: Recipe, store: Store) -> None:
    run = train(recipe.with_(ri.EMA(half_life="5st")), store=store)
    session = Session(recipe, 0)
    session.model.load_state_dict(run.weights())
    told = evaluate(session.model, session.task, "test")
    assert told["accuracy"] == pytest.approx(run.quality("accuracy"), abs=1e-6)
    assert told["loss"] == pytest.approx(run.quality("loss"), abs=1e-5)


def test_one_process_a_run(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    with store.record("held", task="digits", identity=run_identity(recipe, 0)), pytest.raises(RunBusy):
        train(recipe, store=Store(tmp_path / "runs"))


def test_bad_requests_are_refused_before_anything_is_stored(recipe: Recipe, store: Store) -> None:
    for bad in ({"seed": 1.5}, {"evaluations": 0}, {"evaluations": -1}, {"device": "tpu"}, {"device": "cuda:99"}):
        with pytest.raises(ReinvestError):
            train(recipe, **({"store": store} | bad))
    with pytest.raises(ReinvestError):
        train("digits", store=store)  # type: ignore[arg-type]
    with pytest.raises(ReinvestError):
        train(recipe, store=store, parents=["nobody"])
    assert not [r for r in store.runs() if r.status in ("running", "finished")]


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 8, 13, 24])
def test_ctrl_c_keeps_the_state_and_the_next_call_goes_on(
    store: Store, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    recipe = Recipe(task="digits", model="stopper:dropout_net", duration="3ep", methods=["stopper:Stopper"])
    whole = train(recipe, store=Store(tmp_path / "whole"))
    monkeypatch.setenv("STOPPER", f"interrupt {step}")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, store=store)
    (stopped,) = store.runs()
    assert stopped.status == "interrupted"
    monkeypatch.delenv("STOPPER")
    run = train(recipe, store=store)
    assert run.id == stopped.id and run.status == "finished" and len(store.runs()) == 1
    assert same_bits(run.weights(), whole.weights()) and measured(run) == measured(whole)
    assert run.steps == whole.steps == STEPS


def test_a_run_whose_steps_are_all_skipped_ends_as_diverged(store: Store) -> None:
    for precision in ("fp32", "fp16"):
        recipe = Recipe(
            task="digits",
            model="mlp",
            duration="20st",
            batch_size=32,
            optimizer={"name": "sgd", "lr": 1e25},
            precision=precision,
            methods=[ri.SAM(0.05)],
        )
        assert train(recipe, 0, store).status == "diverged"


def test_calibrating_minutes_is_no_part_of_the_run(store: Store) -> None:
    run = train(Recipe(task="digits", model="mlp", duration="0.002min", batch_size=32), 0, store)
    assert run.steps == run.training["total_steps"]


def test_code_that_changed_since_it_was_imported_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "edited_models.py"
    text = "from torch import nn\ndef net(input_shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = Recipe(task="digits", model="edited_models:net", duration="2st", batch_size=32)
    first = train(recipe, 0, store)
    file.write_text(text + "# edited\n")
    with pytest.raises(ReinvestError, match="start a new process"):
        train(recipe, 0, store)
    file.write_text(text)
    assert train(recipe, 0, store).id == first.id


@pytest.mark.parametrize(
    "name", ["lbfgs", "sparseadam", {"name": "sgd", "lr": -1}, {"name": "sgd", "lr": 0.1, "nesterov": True}]
)
def test_an_optimizer_that_cannot_step_is_refused_with_the_recipe(name: object) -> None:
    with pytest.raises(ReinvestError, match="one step on dense gradients"):
        Recipe(task="digits", model="mlp", optimizer=name)
