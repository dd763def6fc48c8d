"""`tune`: every arm tuned with the same budget over its own space, the winners run again with fresh seeds and judged."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.chain import Methods
from ..core.errors import InvalidValue, unknown
from ..core.names import resolve
from ..evaluation.compare import Listener
from ..evaluation.execute import Machine, machine_for, stop_workers, threads_of
from ..evaluation.outcome import Verdict
from ..evaluation.result import write_result
from ..evaluation.settings import direction
from ..loop.session import build_task
from ..loop.train import full_id
from .sequence_judge import Metric
from .tune_budget import budgets, foreseen, unequal, unforeseen
from .tune_final import compare_winners, refusals_of, winners_of
from .tune_plan import TuningPlan, recipes_of
from .tune_prices import Prices, keep_prices, measure, prices_kept
from .tune_result import claim_text, tuning_result
from .tune_trials import trials_found, try_all

__all__ = ["TuneListener", "Tuning", "metric_of", "tune"]


@dataclass(frozen=True)
class Tuning:
    """The outcome: `verdicts` by arm, and `result`, every figure as plain values."""

    verdicts: dict[str, Verdict]
    result: dict[str, Any]

    def __repr__(self) -> str:
        lines = [f"{arm}: {v.verdict}. {v.sentence}" for arm, v in self.verdicts.items()]
        return "\n".join([*lines, claim_text(self.result)])

    def report(self, path: str | Path) -> Path:
        """Write the page (one HTML file) to `path` and its JSON twin beside it; returns the HTML's path."""
        target = Path(path)
        write_result(self.result, target.with_suffix(".json"))
        written: Path = resolve("report", "tuning")(self.result, target)
        return written


@dataclass(frozen=True)
class TuneListener(Listener):
    """What a tuning tells while it runs, besides what its comparison tells: pricing(round, rounds) of the timing block before
    the trials, warned(what is to be feared of the budgets), trying(trials in all, in the store already), and tried(there, in
    all, in the store before)."""

    pricing: Callable[[int, int], None] = lambda turn, rounds: None
    warned: Callable[[str], None] = lambda sentence: None
    trying: Callable[[int, int], None] = lambda total, there: None
    tried: Callable[[int, int, bool], None] = lambda done, total, kept: None


def tune(
    plan: TuningPlan,
    store: Any,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    rounds: int = 10,
    listener: TuneListener | None = None,
    reproduce: str = "",
) -> Tuning:
    """Tune every arm of a plan with the same budget, run the winners again with fresh seeds, and judge them on test.

    Selection reads validation only. Steps of trials are priced side by side before the first of them. Runs that the store
    holds are not repeated, so an interrupted tuning is continued by the same call. workers, threads, device, rounds: as in
    `compare`; reproduce: the command to print.

    Raises InvalidValue without Optuna and for arms whose device-seconds will differ by more than 10 %, and what the arms'
    chains raise for methods that exclude each other, all before any run. Arms whose budgets turn out to be unequal all the
    same get no verdict, and their winners are not run.
    """
    listener = listener or TuneListener()
    begun = time.perf_counter()
    plan = plan.resolved(functools.partial(full_id, store))
    metric = metric_of(plan)
    machine = machine_for(plan.study, workers, threads, device)
    for recipe in recipes_of(plan.study).values():
        Methods(*recipe.build_methods())
    kept = len(trials_found(plan, store, metric))
    try:
        with threads_of(machine):
            total = plan.trials * plan.studies * len(plan.spaces)
            prices = _prices(plan, store, machine, rounds, listener, paid=kept == total)
            listener.trying(total, kept)
            trials = try_all(plan, store, machine, metric, listener.tried)
            winners, budget = winners_of(plan, trials, metric), budgets(trials, prices)
            final = compare_winners(
                plan,
                store,
                machine,
                metric,
                winners=winners,
                budget=budget,
                refused=refusals_of(plan, trials, winners, budget),
                rounds=rounds,
                listener=listener,
            )
    finally:
        stop_workers()
    cost = {
        "runs": len(trials) + final.jobs,
        "found": kept + final.kept,
        "seconds": time.perf_counter() - begun,
        "trial_seconds": sum(b["spent"] for b in budget.values()),
    }
    result = tuning_result(plan, metric, trials, winners, budget, prices, final, cost=cost, reproduce=reproduce)
    return Tuning(final.verdicts, result)


def _prices(
    plan: TuningPlan, store: Any, machine: Machine, rounds: int, listener: TuneListener, *, paid: bool
) -> Prices:
    """What steps of trials cost, as measured when the first of them began, or now.

    paid: whether all trials are there. Otherwise a plan that could only end without a verdict is refused, one that keeps
    the prices of a smaller plan too.
    """
    before = prices_kept(plan, store, machine)
    prices = before or measure(plan, store, machine, rounds=rounds, on_round=listener.pricing)
    seconds = foreseen(plan, prices)
    reasons = [reason for arm in plan.study.arms if (reason := unequal(plan, seconds, arm))]
    if reasons and not paid:
        again = before is None and prices.flags
        raise InvalidValue(reasons[0] + (", or try again when the machine is quieter than it was" if again else ""))
    for sentence in () if paid else unforeseen(plan, prices):
        listener.warned(sentence)
    if before is None and not reasons:
        keep_prices(prices, plan, store, machine)
    return prices


def metric_of(plan: TuningPlan) -> Metric:
    """The metric that trials are selected by and arms judged on: the task's own where the plan names none.

    Raises UnknownName for one that training does not log.
    """
    task = build_task(recipes_of(plan.study)[plan.baseline])
    name = plan.study.metric or task.metric
    if name not in (task.metric, "loss"):
        raise unknown(f"metric of task {task.name!r}", name, {task.metric, "loss"})
    declared = plan.study.higher_is_better
    higher = bool(task.higher_is_better) if declared is None and name == task.metric else direction(name, declared)
    return Metric(name, higher, int(task.test_examples) or None)
