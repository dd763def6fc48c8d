"""`estimate_tuning`: what a tuning would cost and whether its budgets will be equal, before anything is paid."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.clock import BINS
from ..evaluation.estimate import probe
from ..evaluation.execute import Machine, machine_for
from ..evaluation.plan import found
from ..evaluation.refusals import TUNING
from ..evaluation.timing import MIN_ROUNDS, steps_of
from ..loop.train import full_id
from .tune import metric_of
from .tune_budget import foreseen, unequal, unforeseen
from .tune_final import jobs_of, winners_of
from .tune_plan import TuningPlan, recipes_of
from .tune_prices import Price, Prices, measure, once_of, prices_kept, to_time
from .tune_trials import Trial, trials_found, tuned

PASSES = 3
"""How often a quick look takes a dozen steps of every configuration, in turn."""
UNSURE = 1.05
"""How far a ratio of such a look may be off: a few dozen steps scatter by some per cent even on a quiet machine."""
QUICK = 30.0
"""Seconds up to which the timing block is not too long to be waited for, only to be told what a tuning would cost."""


def estimate_tuning(
    plan: TuningPlan,
    store: Any,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    pricing: Callable[[int, int], None] = lambda turn, rounds: None,
) -> dict[str, Any]:
    """What a tuning would cost; trains nothing. pricing(round, rounds): called while steps are timed side by side.

    {"trials", "found" (in the store), "runs" (of the winners), "runs_found" (None until all trials are there), "hours" (of
    training what is missing), "priced" ("store": timed side by side when the tuning began, "block": so now, "look": where
    that takes longer than half a minute, from a few dozen steps), "equal" (whether budgets lie within the tolerance),
    "warnings" (sentences), "workers", "threads", "arms"}; by arm "trials", "found", "runs", "runs_found", "duration",
    "trial_seconds" (device time of its trials), "seconds_per_step", and "own_step" (seconds of a step by the own clocks of
    its trials in the store, None without any), on which hours rest.
    """
    plan = plan.resolved(functools.partial(full_id, store))
    machine = machine_for(plan.study, workers, threads, device)
    metric = metric_of(plan)
    prices, priced = _prices(plan, store, machine, pricing)
    budget = foreseen(plan, prices)
    trials = trials_found(plan, store, metric)
    runs_found = _runs_found(plan, store, trials, winners_of(plan, trials, metric))
    arms, seconds = {}, 0.0
    for arm in plan.spaces:
        arms[arm] = row = _arm(plan, arm, trials, runs_found.get(arm))
        row |= {"trial_seconds": budget[arm], "seconds_per_step": prices.middle(arm)}
        seconds += _left(plan, arm, row)
    known = [a["runs_found"] for a in arms.values() if a["runs_found"] is not None]
    return {
        "trials": sum(a["trials"] for a in arms.values()),
        "found": len(trials),
        "runs": sum(a["runs"] for a in arms.values()),
        "runs_found": sum(known) if known else None,
        "hours": seconds / machine.workers / 3600,
        "priced": priced,
        "equal": not any(unequal(plan, budget, arm) for arm in plan.study.arms),
        "warnings": [
            *(w for arm in plan.study.arms if (w := _warning(plan, budget, arm, priced))),
            *unforeseen(plan, prices),
        ],
        "arms": arms,
        "workers": machine.workers,
        "threads": machine.threads,
    }


def _prices(plan: TuningPlan, store: Any, machine: Machine, on_round: Callable[[int, int], None]) -> tuple[Prices, str]:
    """The prices, and how they were found."""
    if (kept := prices_kept(plan, store, machine)) is not None:
        return kept, "store"
    look = _look(plan, store, machine)
    # In every round each tenth of a run is stepped through four times; one round warms up, and the baseline counts twice.
    each = [row.seconds_per_step for row in look.rows]
    if (MIN_ROUNDS + 1) * 4 * BINS * (sum(each) + look.middle(plan.baseline)) > QUICK:
        return look, "look"
    return measure(plan, store, machine, on_round=on_round), "block"


def _look(plan: TuningPlan, store: Any, machine: Machine) -> Prices:
    """Prices from a few dozen steps of every configuration, taken in turns: good to some per cent."""
    listed = to_time(plan)
    taken: dict[str, list[float]] = {name: [] for name in listed}
    with store.lending():
        for turn in range(PASSES):
            for name in list(listed)[:: 1 if turn % 2 == 0 else -1]:
                taken[name].append(probe(listed[name].recipe, machine)[0])
        once = {row.arm: once_of(row.recipe, machine) for row in listed.values() if row.path is None}
    base = taken[plan.baseline]
    level = statistics.median(base)
    rows = []
    for name, row in listed.items():
        # Within a pass, so that a machine that changes between them meets all configurations.
        ratio = statistics.median(own / other for own, other in zip(taken[name], base, strict=True))
        rows.append(Price(row.arm, row.path, row.value, level * ratio, ratio))
    return Prices(plan.spaces, rows, once)


def _runs_found(
    plan: TuningPlan, store: Any, trials: Sequence[Trial], winners: Mapping[tuple[str, int], Trial]
) -> dict[str, int]:
    """{arm: how many runs of its winners the store holds}; nobody knows the winners before all trials are there."""
    if len(trials) < plan.trials * plan.studies * len(plan.spaces):
        return {}
    arms = [arm for arm in plan.spaces if all((arm, s) in winners for s in range(1, plan.studies + 1))]
    counts = dict.fromkeys(arms, 0)
    for job in jobs_of(plan, winners, arms):
        counts[job.arm] += found(job, store) is not None
    return counts


def _arm(plan: TuningPlan, arm: str, trials: Sequence[Trial], runs_found: int | None) -> dict[str, Any]:
    own = [t for t in trials if t.arm == arm]
    steps = [t.own_seconds / t.done for t in own if t.done and t.own_seconds > 0.0]
    return {
        "trials": plan.trials * plan.studies,
        "found": len(own),
        "runs": plan.studies * plan.seeds * len(plan.study.durations),
        "runs_found": runs_found,
        "duration": plan.trial_durations[arm],
        "own_step": statistics.median(steps) if steps else None,
    }


def _left(plan: TuningPlan, arm: str, row: Mapping[str, Any]) -> float:
    """Seconds of training what is missing of an arm: trials, and its winners' runs."""
    recipe = recipes_of(plan.study)[arm]
    mean = statistics.fmean(steps_of(tuned(recipe, None, d)) for d in plan.study.durations)
    # The share of its trials that is missing, in steps of an ordinary trial: batch sizes may differ from trial to trial.
    trials = (1.0 - row["found"] / row["trials"]) * row["trial_seconds"] / row["seconds_per_step"]
    return float(
        (row["own_step"] or row["seconds_per_step"]) * (trials + (row["runs"] - (row["runs_found"] or 0)) * mean)
    )


def _warning(plan: TuningPlan, budget: Mapping[str, float], arm: str, priced: str) -> str:
    """What is to be feared of an arm's budget, "" if nothing."""
    ratio = budget[arm] / budget[plan.baseline]
    if priced == "look" and abs(abs(math.log(ratio)) - math.log(TUNING)) < math.log(UNSURE):
        return (
            f"trials of {arm!r} seem to take {ratio:.2f} times the device time of the baseline's, close to the 10 % by which "
            "budgets may differ; steps are timed side by side before the first trial, and a plan beyond is refused then"
        )
    return unequal(plan, budget, arm)
