"""The comparison of the winners: run again with fresh seeds, timed side by side, judged on test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.hardware import comparable
from ..evaluation.blocks import Timing, timed
from ..evaluation.compare import Listener
from ..evaluation.describe import describe
from ..evaluation.execute import Machine, execute, threads_of
from ..evaluation.judge import STUDIES, verdict
from ..evaluation.outcome import Verdict
from ..evaluation.plan import Job, found
from ..evaluation.timing import Block, run_seconds
from ..loop.session import run_identity
from .sequence_cost import counts_of
from .sequence_judge import Metric
from .tune_budget import unequal
from .tune_plan import TuningPlan, final_seed, recipes_of
from .tune_trials import Trial, tuned, winner_of

Winners = Mapping[tuple[str, int], Trial]
"""(arm, study) -> the trial that won it; arms without one in some study are left out."""


@dataclass(frozen=True)
class Final:
    """points: of every run of the winners; verdicts: by arm, in the plan's order; block: the timing block, None where no
    arm was run; jobs, kept: runs of the comparison, and those of them that were in the store."""

    points: Sequence[dict[str, Any]]
    verdicts: dict[str, Verdict]
    block: Block | None
    jobs: int
    kept: int


def winners_of(plan: TuningPlan, trials: Sequence[Trial], metric: Metric) -> dict[tuple[str, int], Trial]:
    """The winner of each study of each arm, as far as any of its trials finished."""
    found_ones = {}
    for arm in recipes_of(plan.study):
        for study in range(1, plan.studies + 1):
            best = winner_of([t for t in trials if (t.arm, t.study) == (arm, study)], metric)
            if best is not None:
                found_ones[arm, study] = best
    return found_ones


def refusals_of(
    plan: TuningPlan, trials: Sequence[Trial], winners: Winners, budget: Mapping[str, Any]
) -> dict[str, str]:
    """{arm: why it cannot be judged}, known before the comparison runs: a study without a winner, or unequal budgets."""
    reasons = {}
    for arm in plan.study.arms:
        lost = [(a, s) for a in (plan.baseline, arm) for s in range(1, plan.studies + 1) if (a, s) not in winners]
        if lost:
            where = f" in study {lost[0][1]}" if plan.studies > 1 else ""
            reasons[arm] = (
                f"a tuned arm needs a trial that finished, all {plan.trials} trials of {lost[0][0]!r}{where} diverged: "
                "change its space."
            )
        elif reason := unequal(plan, {name: float(own["seconds"]) for name, own in budget.items()}, arm):
            reasons[arm] = f"{reason}."
        elif reason := _unlike([t.facts for t in trials if t.arm in (plan.baseline, arm)]):
            reasons[arm] = reason
    return reasons


def compare_winners(
    plan: TuningPlan,
    store: Any,
    machine: Machine,
    metric: Metric,
    *,
    winners: Winners,
    budget: Mapping[str, Any],
    refused: Mapping[str, str],
    rounds: int = 10,
    listener: Listener | None = None,
) -> Final:
    """Run the winners of all arms that are not refused at the plan's durations, time them, and judge them on test."""
    listener = listener or Listener()
    judged = [arm for arm in plan.study.arms if arm not in refused]
    arms = [plan.baseline, *judged] if judged else []
    jobs = jobs_of(plan, winners, arms)
    todo = [job for job in jobs if found(job, store) is None]
    if jobs:
        listener.planned(list(jobs), todo)
    execute(todo, store, machine, on_done=listener.done)
    runs = {job: found(job, store) for job in jobs}
    block = _timed(plan, winners, arms, store, machine, rounds, listener.timing) if arms else None
    points = [_point(plan, job, study, runs[job], metric, block) for job, study in jobs.items()]
    verdicts = {arm: Verdict(arm, plan.baseline, "not comparable", reasons=(why,)) for arm, why in refused.items()}
    for arm in judged:
        facts = [runs[job].facts for job in jobs if job.arm in (plan.baseline, arm)]
        lost = lost_studies(plan, points, (plan.baseline, arm))
        if reason := lost or _unlike([winners[plan.baseline, 1].facts, *facts]):
            verdicts[arm] = Verdict(arm, plan.baseline, "not comparable", reasons=(reason,))
    rest = [arm for arm in judged if arm not in verdicts]
    if rest and block is not None:
        verdicts |= verdict(
            points,
            plan.baseline,
            arms=rest,
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            test_examples=metric.test_examples,
            timing={arm: shared_error(plan, block, arm) for arm in rest},
            tuning=budget,
        )
    return Final(points, {arm: verdicts[arm] for arm in plan.study.arms}, block, len(jobs), len(jobs) - len(todo))


def jobs_of(plan: TuningPlan, winners: Winners, arms: Sequence[str]) -> dict[Job, int]:
    """Every run of the comparison with its study: winners at all durations, each with a seed that no trial had."""
    recipes = recipes_of(plan.study)
    jobs = {}
    for replicate in range(plan.seeds):
        for study in range(1, plan.studies + 1):
            for k, duration in enumerate(plan.study.durations):
                for arm in arms if (replicate + study + k) % 2 else arms[::-1]:
                    recipe = tuned(recipes[arm], winners[arm, study], duration)
                    seed = final_seed(describe(recipe), study, duration, replicate)
                    number = replicate * plan.studies + study - 1
                    jobs[Job(arm, duration, number, seed, recipe, run_identity(recipe, seed))] = study
    return jobs


def lost_studies(plan: TuningPlan, points: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> str:
    """Why too few tunings are left to be the unit of the test, "" if enough are or the claim is about recipes.

    Without them seeds would become the unit, and a verdict on several winners thrown together is about nothing.
    """
    for arm in arms if plan.claim == "method" else ():
        for duration in plan.study.durations:
            left = {p["study"] for p in points if (p["arm"], p["duration"], p["status"]) == (arm, duration, "finished")}
            if len(left) < STUDIES:
                return (
                    f"a claim about a method needs finished runs of at least {STUDIES} tunings at every duration, arm "
                    f"{arm!r} at {duration} has {len(left)}: train more stably, or add studies."
                )
    return ""


def timed_name(plan: TuningPlan, arm: str, study: int) -> str:
    """What a winner is called in the timing block."""
    return f"{arm}, study {study}" if plan.studies > 1 else arm


def shared_error(plan: TuningPlan, block: Block, arm: str) -> dict[str, float]:
    """Error of an arm's seconds against the baseline's, as the timing block knows it; shared by all runs of the arm.

    Every winner is timed against the baseline's of the first study. The standard error of a mean is at most the mean of
    its parts' standard errors, whatever binds them; the fewest degrees of freedom count.
    """
    error, freedom = 0.0, math.inf
    for name in (plan.baseline, arm):
        for study in range(1, plan.studies + 1):
            timing = block.arms[timed_name(plan, name, study)]
            if timing.log_ratio_variance > 0.0:
                error += math.sqrt(timing.log_ratio_variance) / plan.studies
                freedom = min(freedom, timing.df)
    return {"log_ratio_variance": error * error, "df": freedom if math.isfinite(freedom) else 1.0}


def _timed(
    plan: TuningPlan,
    winners: Winners,
    arms: Sequence[str],
    store: Any,
    machine: Machine,
    rounds: int,
    on_round: Callable[[int, int], None],
) -> Block:
    """One block over the winners of all arms and studies, so that drift of the machine meets all of them."""
    recipes, middle = recipes_of(plan.study), plan.study.durations[len(plan.study.durations) // 2]
    listed = {
        timed_name(plan, arm, study): tuned(recipes[arm], winners[arm, study], middle)
        for study in range(1, plan.studies + 1)
        for arm in arms
    }
    with store.lending(), threads_of(machine):
        return timed(
            listed,
            timed_name(plan, plan.baseline, 1),
            Timing(rounds),
            machine.device,
            store,
            lambda turn: on_round(turn, rounds),
        )


def _point(plan: TuningPlan, job: Job, study: int, run: Any, metric: Metric, block: Block | None) -> dict[str, Any]:
    finished = run.status == "finished"
    seconds = math.nan if run.seconds is None else float(run.seconds)
    if block is not None and finished:
        once = float(run.cost.get("one_off_seconds") or 0.0)
        seconds = run_seconds(block.arms[timed_name(plan, job.arm, study)], counts_of(run)) + once
    return {
        "arm": job.arm,
        "duration": job.duration,
        "seed": job.seed,
        "study": str(study) if plan.claim == "method" else None,
        "steps": run.steps,
        "seconds": seconds,
        "quality": run.quality(metric.name, "test") if finished else math.nan,
        "status": run.status,
        "run": run.id,
    }


def _unlike(facts: Sequence[Mapping[str, Any]]) -> str:
    """Why seconds under these facts cannot be compared; "" if they can."""
    for other in facts[1:]:
        fits, reason = comparable(dict(facts[0]), dict(other))
        if not fits:
            return reason
    return ""
