"""Prices of trials: which configurations are timed, what a step of any other costs, and that prices are measured once."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tune_plan import changed

import reinvest as ri
from reinvest.core.errors import InvalidValue
from reinvest.evaluation.execute import Machine
from reinvest.evaluation.timing import ArmTiming, Block
from reinvest.studies import tune_prices
from reinvest.studies.tune import TuneListener, tune
from reinvest.studies.tune_plan import TuningPlan
from reinvest.studies.tune_prices import Price, Prices, changes_work, keep_prices, measure, prices_kept, to_time
from reinvest.studies.tune_space import Choices, Range

pytest.importorskip("optuna", reason="tuning needs optuna: pip install 'reinvest[tune]'")

RATE = {"low": 0.05, "high": 0.8, "log": True}
SPACES = {
    "baseline": {"optimizer.lr": RATE, "batch_size": {"low": 8, "high": 128, "log": True}},
    "smooth": {"optimizer.lr": RATE, "methods.LabelSmoothing.alpha": [0.1, 0.2, 0.3]},
}


SMALL = {"task": {"name": "digits", "train_examples": 100}, "model": {"name": "mlp", "hidden": [4]}}


def plan_of(**changes):
    return TuningPlan.from_dict(
        changed(**{"baseline": {**SMALL, "batch_size": 50}, "duration": "4ep", "spaces": SPACES, **changes})
    )


def work(recipe):
    """Seconds of a step in a made-up world: a power of the batch size, times what a method's argument costs."""
    alpha = recipe.methods[0]["alpha"] if recipe.methods else None
    return 1e-3 * recipe.batch_size**0.5 * {None: 1.0, 0.1: 1.2, 0.2: 1.5, 0.3: 1.1}[alpha]


class Timer:
    """A timing block of that world."""

    def __call__(self, recipes, baseline, *, rounds, device, on_round):
        on_round(rounds)
        base = work(recipes[baseline])
        arms = {}
        for name, recipe in recipes.items():
            each = work(recipe)
            arms[name] = ArmTiming({}, each, math.log(each / base), 0.0 if name == baseline else 1e-6, 9.0)
        return Block(rounds, "cpu", 1.0, arms, ["made up"])


class Nowhere:
    """A store that lends nothing."""

    def lending(self):
        return contextlib.nullcontext()


@pytest.fixture
def timer(monkeypatch):
    made = Timer()
    monkeypatch.setattr(tune_prices, "timing_block", made)
    return made


def test_what_changes_the_work_of_a_step_is_what_is_not_a_number_of_the_optimizer_or_of_the_schedule():
    log, line = Range(0.1, 1.0, log=True), Range(0.0, 1.0)
    assert not changes_work("optimizer.lr", log) and not changes_work("optimizer.weight_decay", line)
    assert not changes_work("optimizer.momentum", Choices((0.8, 0.9)))
    # Without momentum there is no buffer to update.
    assert changes_work("optimizer.momentum", Choices((0, 0.9))) and changes_work(
        "optimizer.nesterov", Choices((True, False))
    )
    assert changes_work("optimizer.name", Choices(("sgd", "adamw")))
    assert not changes_work("schedule.name", Choices(("cosine", "linear"))) and not changes_work(
        "schedule.warmup", line
    )
    for path in ("batch_size", "model.width", "methods.LabelSmoothing.alpha"):
        assert changes_work(path, line) and changes_work(path, Choices((1, 2)))
    assert changes_work("precision", Choices(("fp32", "bf16")))


def test_timed_are_the_middle_of_an_arm_and_each_level_of_what_changes_its_work():
    found = to_time(plan_of())
    assert [(row.arm, row.path, row.value) for row in found.values()] == [
        ("baseline", None, None),
        ("baseline", "batch_size", 8),
        ("baseline", "batch_size", 128),
        ("smooth", None, None),
        ("smooth", "methods.LabelSmoothing.alpha", 0.2),
        ("smooth", "methods.LabelSmoothing.alpha", 0.3),
    ]
    assert [row.recipe.batch_size for row in found.values()][:3] == [32, 8, 128]
    assert all(row.recipe.optimizer["lr"] == pytest.approx(0.2) for row in found.values())
    assert [row.recipe.methods[0]["alpha"] for row in found.values() if row.arm == "smooth"] == [0.1, 0.2, 0.3]
    assert {row.recipe.duration for row in found.values()} == {"4ep"}
    assert next(iter(found)) == "baseline"


@pytest.fixture(scope="module")
def product():
    """A plan in which the work is a product of powers and of what choices cost, and its prices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_prices, "timing_block", Timer())
        size = {"batch_size": {"low": 8, "high": 128, "log": True}}
        plan = plan_of(spaces={**SPACES, "smooth": {**SPACES["smooth"], **size}})
        yield plan, measure(plan, Nowhere(), Machine())


@settings(deadline=None)
@given(size=st.integers(8, 128), rate=st.floats(0.05, 0.8), alpha=st.sampled_from([0.1, 0.2, 0.3]))
def test_a_step_costs_what_it_costs_wherever_the_work_is_a_product_of_powers(product, size, rate, alpha):
    plan, prices = product
    values = {"optimizer.lr": rate, "batch_size": size, "methods.LabelSmoothing.alpha": alpha}
    whole = work(plan.recipe("smooth").with_(batch_size=size, methods=[{"LabelSmoothing": {"alpha": alpha}}]))
    assert prices.step("smooth", values) == pytest.approx(whole)


def test_prices_are_kept_for_the_arms_and_the_machine_that_they_are_of(timer, tmp_path, monkeypatch):
    store, plan = ri.Store(tmp_path / "runs"), plan_of()
    assert prices_kept(plan, store, Machine()) is None
    told = []
    found = measure(plan, store, Machine(), on_round=lambda *seen: told.append(seen))
    assert told == [(10, 10)] and prices_kept(plan, store, Machine()) is None
    keep_prices(found, plan, store, Machine())
    assert prices_kept(plan, store, Machine()).to_dict() == found.to_dict()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    # More trials of the same arms cost the same; longer ones, other arms or another machine are measured anew.
    assert prices_kept(plan_of(trials=20, studies=3), store, Machine()) is not None
    assert prices_kept(plan_of(duration="5ep"), store, Machine()) is None
    assert prices_kept(plan_of(spaces={**SPACES, "smooth": {"optimizer.lr": RATE}}), store, Machine()) is None
    assert prices_kept(plan, store, Machine(threads=7)) is None
    # The text of a recipe does not tell what is in the file of one's own model.
    monkeypatch.setattr(tune_prices, "sources_of", lambda recipe: "edited")
    assert prices_kept(plan, store, Machine()) is None


def test_a_damaged_file_counts_as_none(timer, tmp_path):
    store, plan = ri.Store(tmp_path / "runs"), plan_of()
    keep_prices(measure(plan, store, Machine()), plan, store, Machine())
    (file,) = (store.path / "tuned").iterdir()
    for text in ("{", "[]", '{"steps": [{}]}'):
        file.write_text(text)
        assert prices_kept(plan, store, Machine()) is None


def test_what_a_method_costs_once_is_asked_of_it(timer, monkeypatch):
    from reinvest.methods.targets.label_smoothing import LabelSmoothing

    assert measure(plan_of(), Nowhere(), Machine()).once == {"baseline": 0.0, "smooth": 0.0}
    monkeypatch.setattr(LabelSmoothing, "one_off", lambda self: 2.5)
    assert measure(plan_of(), Nowhere(), Machine()).once == {"baseline": 0.0, "smooth": 2.5}


def test_a_tuning_that_grows_is_checked_with_the_prices_that_are_kept(tmp_path):
    def stop(*told):
        raise KeyboardInterrupt

    def grown(trials):
        spaces = {"baseline": {"optimizer.lr": RATE}, "smooth": {"batch_size": [25, 50]}}
        return plan_of(baseline={**SMALL, "batch_size": 35}, duration="8st", spaces=spaces, trials=trials)

    store, machine, listener = ri.Store(tmp_path / "runs"), Machine(1, 1, "cpu"), TuneListener(trying=stop)
    step = {(None, None): 0.01, ("batch_size", 50): 0.02}
    rows = [Price(t.arm, t.path, t.value, step[t.path, t.value], 1.0) for t in to_time(grown(2)).values()]
    rows = [replace(row, seconds_per_step=0.015) if row.arm == "baseline" else row for row in rows]
    keep_prices(Prices(grown(2).spaces, rows, {"baseline": 0.0, "smooth": 0.0}), grown(2), store, machine)
    # One trial of each size costs what two of the baseline do; of three trials two have the same size.
    with pytest.raises(KeyboardInterrupt):
        tune(grown(2), store, workers=1, threads=1, listener=listener)
    with pytest.raises(InvalidValue, match="tuning budgets may differ by at most 10 %") as caught:
        tune(grown(3), store, workers=1, threads=1, listener=listener)
    # Prices that are kept do not change with the machine's company.
    assert "quieter" not in str(caught.value)
