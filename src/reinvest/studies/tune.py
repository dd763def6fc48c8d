"""`tune`: every arm tuned with the same budget over its own space, the winners run again with fresh seeds and judged."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.chain import Methods
from ..core.errors import unknown
from ..core.names import resolve
from ..evaluation.compare import Listener
from ..evaluation.estimate import probe
from ..evaluation.execute import machine_for, stop_workers, threads_of
from ..evaluation.outcome import Verdict
from ..evaluation.result import write_result
from ..evaluation.settings import direction
from ..evaluation.timing import steps_of
from ..loop.session import build_task
from ..loop.train import full_id
from .sequence_judge import Metric
from .tune_final import compare_winners, refusals_of, winners_of
from .tune_plan import TuningPlan, recipes_of
from .tune_result import claim_text, tuning_result
from .tune_trials import budgets, trials_there, try_all, tuned

__all__ = ["TuneListener", "Tuning", "estimate_tuning", "tune"]


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
    """What a tuning tells while it runs, besides what its comparison tells: tried(there, in all, in the store before)."""

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

    Selection reads validation only. Arms whose budgets differ by more than 10 % in trials or device-seconds get no verdict,
    and their winners are not run. Runs that the store holds are not repeated, so an interrupted tuning is continued by the
    same call. workers, threads, device, rounds: as in `compare`; reproduce: the command to print.

    Raises InvalidValue without Optuna, and what the arms' chains raise for methods that exclude each other, before any run.
    """
    listener = listener or TuneListener()
    begun = time.perf_counter()
    plan = plan.resolved(functools.partial(full_id, store))
    metric = metric_of(plan)
    machine = machine_for(plan.study, workers, threads, device)
    for recipe in recipes_of(plan.study).values():
        Methods(*recipe.build_methods())
    kept = trials_there(plan, store, metric)
    try:
        with threads_of(machine):
            trials = try_all(plan, store, machine, metric, listener.tried)
            winners, budget = winners_of(plan, trials, metric), budgets(trials)
            final = compare_winners(
                plan,
                store,
                machine,
                metric,
                winners=winners,
                budget=budget,
                refused=refusals_of(plan, trials, winners, budget, metric),
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
    result = tuning_result(plan, metric, trials, winners, budget, final, cost=cost, reproduce=reproduce)
    return Tuning(final.verdicts, result)


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


def estimate_tuning(
    plan: TuningPlan, store: Any, *, workers: int | None = None, threads: int | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """What a tuning would cost: {"trials", "found", "runs" (of the winners), "hours", "trial_seconds" (by arm), "equal"
    (whether these lie within the tolerance), "seconds_per_step", "workers", "threads"}.

    A dozen trial steps price each arm before it is tuned; values that make steps dearer are not foreseen.
    """
    from ..evaluation.refusals import TUNING

    plan = plan.resolved(functools.partial(full_id, store))
    machine = machine_for(plan.study, workers, threads, device)
    metric = metric_of(plan)
    per_step, trial_seconds, whole = {}, {}, 0.0
    for arm, recipe in recipes_of(plan.study).items():
        trial = plan.recipe(arm)
        with store.lending():
            per_step[arm] = probe(trial, machine)[0]
        trial_seconds[arm] = plan.trials * plan.studies * per_step[arm] * steps_of(trial)
        final = sum(steps_of(tuned(recipe, None, d)) for d in plan.study.durations)
        whole += trial_seconds[arm] + plan.studies * plan.seeds * per_step[arm] * final
    return {
        "trials": plan.trials * plan.studies * len(per_step),
        "found": trials_there(plan, store, metric),
        "runs": plan.studies * plan.seeds * len(plan.study.durations) * len(per_step),
        "hours": whole / machine.workers / 3600,
        "trial_seconds": trial_seconds,
        "equal": max(trial_seconds.values()) <= TUNING * min(trial_seconds.values()),
        "seconds_per_step": per_step,
        "workers": machine.workers,
        "threads": machine.threads,
    }
