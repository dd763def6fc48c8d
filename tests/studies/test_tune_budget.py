"""Budgets: steps times what a step costs side by side, whatever the machine did meanwhile; foreseen before any trial."""

from __future__ import annotations

import pytest
from test_tune_plan import changed

from reinvest.core.duration import Duration
from reinvest.evaluation.timing import steps_of
from reinvest.studies.tune_budget import budgets, equal_durations, foreseen, seconds_text, unequal, unforeseen
from reinvest.studies.tune_plan import TuningPlan
from reinvest.studies.tune_prices import Price, Prices
from reinvest.studies.tune_trials import Trial

pytest.importorskip("optuna", reason="tuning needs optuna: pip install 'reinvest[tune]'")

SMALL = {"task": {"name": "digits", "train_examples": 100}, "model": {"name": "mlp", "hidden": [4]}, "batch_size": 50}


def plan_of(**changes):
    return TuningPlan.from_dict(changed(**{"baseline": SMALL, "duration": "8st", "trials": 4, **changes}))


def prices_of(plan, steps, once=None):
    """Prices with a middle configuration of each arm: {arm: seconds of a step}."""
    rows = [Price(arm, None, None, each, each / steps["baseline"]) for arm, each in steps.items()]
    return Prices({arm: {} for arm in plan.spaces}, rows, once or dict.fromkeys(steps, 0.0))


def trial(arm, quality=0.5, steps=8, done=8, own=1.0, once=0.0):
    status = "diverged" if quality is None else "finished"
    return Trial(arm, 1, 1, {}, 0, "r", status, quality, steps, done, own, once, {})


def test_a_budget_is_steps_times_price_and_the_runs_own_clocks_are_only_told():
    prices = prices_of(plan_of(), {"baseline": 0.5, "smooth": 0.25})
    trials = [trial("baseline", own=7.0), trial("baseline", own=1000.0), trial("smooth", steps=16, done=16)]
    found = budgets(trials, prices)
    assert found["baseline"] == {"trials": 2, "diverged": 0, "seconds": 8.0, "spent": 8.0, "own_clock": 1007.0}
    assert found["smooth"] == {"trials": 1, "diverged": 0, "seconds": 4.0, "spent": 4.0, "own_clock": 1.0}


def test_a_trial_that_diverged_is_charged_the_steps_that_were_set_aside():
    prices = prices_of(plan_of(), {"baseline": 0.5, "smooth": 0.25})
    found = budgets([trial("baseline"), trial("baseline", None, done=2)], prices)["baseline"]
    assert (found["diverged"], found["seconds"], found["spent"]) == (1, 8.0, 5.0)


def test_what_methods_cost_once_is_charged_to_every_trial():
    prices = prices_of(plan_of(), {"baseline": 0.5, "smooth": 0.25})
    assert budgets([trial("smooth", once=3.0), trial("smooth", once=2.0)], prices)["smooth"]["seconds"] == 9.0


def test_budgets_are_foreseen_before_any_trial():
    plan = plan_of(studies=3, seeds=1, duration={"baseline": "8st", "smooth": "6st"})
    found = foreseen(plan, prices_of(plan, {"baseline": 0.5, "smooth": 0.25}, {"baseline": 0.0, "smooth": 2.0}))
    assert found == pytest.approx({"baseline": 12 * 8 * 0.5, "smooth": 12 * (6 * 0.25 + 2.0)})


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_where_the_batch_size_is_tuned_steps_are_those_of_the_proposals(sampler):
    from reinvest.studies.tune_ask import Asker
    from reinvest.studies.tune_plan import sampler_seed
    from reinvest.studies.tune_space import space_to_dict
    from reinvest.studies.tune_trials import what_is_tuned

    spaces = {"baseline": {"batch_size": [10, 20, 50]}, "smooth": {"methods.LabelSmoothing.alpha": [0.1, 0.2]}}
    plan = plan_of(spaces=spaces, duration="2ep", trials=8, sampler=sampler)
    text = what_is_tuned(plan.recipe("baseline"), space_to_dict(plan.spaces["baseline"]))
    # TPE's own proposals depend on answers that nobody has yet: those of a quasi-random search stand for them.
    asker, steps = Asker(plan.spaces["baseline"], "qmc", sampler_seed(text, 1)), 0
    for _ in range(8):
        steps += steps_of(plan.recipe("baseline").with_(batch_size=asker.ask()["batch_size"]))
        asker.tell(0.0)
    assert foreseen(plan, prices_of(plan, {"baseline": 0.5, "smooth": 0.5}))["baseline"] == pytest.approx(0.5 * steps)


def test_what_an_adaptive_sampler_may_make_of_a_budget_is_said_before_it_is_paid():
    size = {"batch_size": [10, 50]}
    rate = {"optimizer.lr": {"low": 0.05, "high": 1.0, "log": True}}

    def plan(sampler, baseline):
        spaces = {"baseline": baseline, "smooth": rate}
        return plan_of(spaces=spaces, duration="2ep", trials=8, sampler=sampler)

    # Five times the steps with the smaller batch, at the same price.
    prices = prices_of(plan("tpe", size), {"baseline": 0.5, "smooth": 0.5})
    (said,) = unforeseen(plan("tpe", size), prices)
    assert said == (
        "TPE follows what it finds, and a trial of 'baseline' takes 2.00 s to 10.0 s of device time, depending on batch_size: "
        "budgets may turn out to differ by more than 10 % after they were paid; sampler: qmc makes them known before"
    )
    assert unforeseen(plan("qmc", size), prices) == []
    assert unforeseen(plan("tpe", rate), prices) == []


def test_unequal_device_time_is_one_sentence_that_says_which_durations_are_equal():
    plan = plan_of(duration={"baseline": "10ep", "smooth": "10ep"})
    assert unequal(plan, {"baseline": 100.0, "smooth": 110.0}, "smooth") == ""
    said = unequal(plan, {"baseline": 100.0, "smooth": 125.4321}, "smooth")
    assert said == (
        "tuning budgets may differ by at most 10 %, got 100 s of device time for 'baseline' and 125 s for 'smooth', steps x "
        "seconds per step timed side by side; give the dearer arm shorter trials, for example "
        "duration: {baseline: 10ep, smooth: 7.97ep}"
    )
    # The dearer one may be the baseline.
    assert "{baseline: 5ep, smooth: 10ep}" in unequal(plan, {"baseline": 200.0, "smooth": 100.0}, "smooth")


def test_durations_that_would_be_equal():
    arms = {"smooth": {"methods": ["LabelSmoothing"]}, "soft": {"methods": [{"LabelSmoothing": {"alpha": 0.3}}]}}
    rate = {"optimizer.lr": {"low": 0.05, "high": 1.0, "log": True}}
    plan = plan_of(arms=arms, spaces=dict.fromkeys(("baseline", "smooth", "soft"), rate), duration="90st")
    assert equal_durations(plan, {"baseline": 10.0, "smooth": 10.9, "soft": 30.0}) == {
        "baseline": "90st", "smooth": "90st", "soft": "30st",
    }  # fmt: skip
    for name, text in equal_durations(plan, {"baseline": 7.0, "smooth": 3.0, "soft": 5.0}).items():
        share = Duration.parse(text).amount / 90 * {"baseline": 7.0, "smooth": 3.0, "soft": 5.0}[name]
        assert share == pytest.approx(3.0, rel=0.03)


def test_seconds_have_three_digits_and_the_unit_that_reads_best():
    assert [seconds_text(s) for s in (0.05633, 1.0, 12.34567, 594.4, 600.0, 14000.0, 14400.0, 3.6e7)] == [
        "0.0563 s", "1.00 s", "12.3 s", "594 s", "10.0 min", "233 min", "4.00 h", "10,000 h",
    ]  # fmt: skip
