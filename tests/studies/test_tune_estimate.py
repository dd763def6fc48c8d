"""What a tuning would cost: told before anything is paid, exact for what the store holds, and with what is to be feared."""

from __future__ import annotations

import pytest
from test_tune_plan import changed

import reinvest as ri
from reinvest.evaluation import blocks
from reinvest.evaluation.execute import Machine
from reinvest.evaluation.timing import ArmTiming, Block
from reinvest.studies import tune_estimate, tune_prices
from reinvest.studies.tune import tune
from reinvest.studies.tune_estimate import estimate_tuning
from reinvest.studies.tune_plan import TuningPlan
from reinvest.studies.tune_prices import keep_prices, measure

pytest.importorskip("optuna", reason="tuning needs optuna: pip install 'reinvest[tune]'")

SMALL = {"task": {"name": "digits", "train_examples": 100}, "model": {"name": "mlp", "hidden": [4]}, "batch_size": 50}
SHORT = {"studies": 3, "seeds": 2, "trials": 2, "duration": "8st", "durations": ["1st", "2st", "4st", "8st"]}


def plan_of(**changes):
    return TuningPlan.from_dict(changed(baseline=SMALL, **{**SHORT, **changes}))


@pytest.fixture(autouse=True)
def worlds(monkeypatch):
    """A step of the second arm takes `worlds["ratio"]` times 0.01 s, by the block and by a look."""
    world = {"ratio": 1.0}

    def each(recipe):
        return 0.01 * (world["ratio"] if recipe.methods else 1.0)

    def block(recipes, baseline, *, rounds, on_round, **_):
        arms = {name: ArmTiming({}, each(recipe), 0.0, 1e-6, 9.0) for name, recipe in recipes.items()}
        on_round(rounds)
        return Block(rounds, "cpu", 0.0, arms, [])

    for module in (blocks, tune_prices):
        monkeypatch.setattr(module, "timing_block", block)
    monkeypatch.setattr(tune_estimate, "probe", lambda recipe, machine: (each(recipe), 0, 0, 0, 0))
    return world


def test_all_that_will_be_run_is_counted_by_arm(tmp_path):
    cost = estimate_tuning(plan_of(), ri.Store(tmp_path / "runs"), workers=2)
    assert (cost["trials"], cost["found"], cost["runs"], cost["runs_found"]) == (12, 0, 48, None)
    for arm in cost["arms"].values():
        assert (arm["trials"], arm["found"], arm["runs"], arm["runs_found"]) == (6, 0, 24, None)
        assert arm["trial_seconds"] == pytest.approx(6 * 8 * 0.01)
        assert (arm["duration"], arm["own_step"]) == ("8st", None)
    # 6 trials of 8 steps and 24 runs of 15/4 steps of each arm, two at a time.
    assert cost["hours"] == pytest.approx(2 * 0.01 * (48 + 90) / 2 / 3600)
    assert (cost["priced"], cost["equal"], cost["warnings"]) == ("block", True, [])
    assert not (tmp_path / "runs" / "tuned").exists()
    assert ri.Store(tmp_path / "runs").runs() == []


def test_what_the_store_holds_is_told_and_not_paid_again(tmp_path):
    store = ri.Store(tmp_path / "runs")
    tune(plan_of(), store, workers=1)
    cost = estimate_tuning(plan_of(), store, workers=1)
    assert (cost["found"], cost["runs_found"], cost["hours"], cost["priced"]) == (12, 48, 0.0, "store")
    more = estimate_tuning(plan_of(seeds=3), store, workers=1)
    assert (more["runs"], more["runs_found"], more["arms"]["smooth"]["runs_found"]) == (72, 48, 24)
    own = {name: arm["own_step"] for name, arm in more["arms"].items()}
    assert more["hours"] == pytest.approx(sum(12 * 15 / 4 * step for step in own.values()) / 3600)
    # More trials: other winners may win, so nobody knows which of their runs are there.
    longer = estimate_tuning(plan_of(trials=3), store, workers=1)
    assert (longer["found"], longer["runs_found"]) == (12, None)


def test_what_will_be_refused_is_said_before(tmp_path, worlds):
    worlds["ratio"] = 1.3
    cost = estimate_tuning(plan_of(), ri.Store(tmp_path / "runs"), workers=1)
    (warning,) = cost["warnings"]
    assert cost["equal"] is False and "duration: {baseline: 8st, smooth: 6st}" in warning
    mended = estimate_tuning(plan_of(duration={"baseline": "8st", "smooth": "6st"}), ri.Store(tmp_path / "runs"))
    assert (mended["equal"], mended["warnings"]) == (True, [])


def test_steps_are_timed_side_by_side_where_that_is_quick(tmp_path, worlds):
    worlds["ratio"] = 1.13
    told = []
    cost = estimate_tuning(plan_of(), ri.Store(tmp_path / "runs"), pricing=lambda *seen: told.append(seen))
    assert cost["priced"] == "block" and told == [(10, 10)]
    (warning,) = cost["warnings"]
    assert "got 0.480 s of device time for 'baseline' and 0.542 s for 'smooth'" in warning


@pytest.mark.parametrize("ratio", [1.07, 1.13])
def test_a_look_does_not_decide_what_lies_close_to_the_limit(tmp_path, worlds, ratio, monkeypatch):
    worlds["ratio"] = ratio
    # 440 steps of each arm's middle, of the second arm's other choice, and of the baseline again.
    monkeypatch.setattr(tune_estimate, "QUICK", 440 * 0.01 * (2 + 2 * ratio) - 0.01)
    store = ri.Store(tmp_path / "runs")
    (warning,) = estimate_tuning(plan_of(), store, workers=1)["warnings"]
    assert f"seem to take {ratio:.2f} times" in warning and "before the first trial" in warning
    keep_prices(measure(plan_of(), store, Machine()), plan_of(), store, Machine())
    cost = estimate_tuning(plan_of(), store, workers=1)
    assert cost["priced"] == "store" and cost["equal"] == (ratio < 1.1) == (not cost["warnings"])


def test_on_this_machine_a_look_prices_every_arm(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(tune_estimate, "QUICK", 0.0)
    cost = estimate_tuning(plan_of(), ri.Store(tmp_path / "runs"), workers=1)
    assert cost["priced"] == "look"
    assert all(arm["seconds_per_step"] > 0 for arm in cost["arms"].values()) and cost["hours"] > 0
