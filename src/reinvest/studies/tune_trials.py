"""Trials: proposals are asked for in rounds over all arms and studies, trained where the store lacks them, and told."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.recipe import Recipe
from ..evaluation.describe import describe
from ..evaluation.execute import Machine, execute
from ..evaluation.plan import Job, found
from ..loop.session import run_identity
from .sequence_judge import Metric
from .tune_ask import Asker
from .tune_plan import TuningPlan, recipes_of, sampler_seed, trial_seed
from .tune_space import applied, space_to_dict


@dataclass(frozen=True)
class Trial:
    """One configuration, trained once.

    study, number: from 1. values: what was tuned, by path. quality: on validation, None for a run that diverged. steps: that
    it was given, and done: that it made. own_seconds: by the run's own clock. once: seconds that its methods cost beyond
    steps. facts: of the machine.
    """

    arm: str
    study: int
    number: int
    values: Mapping[str, Any]
    seed: int
    run: str
    status: str
    quality: float | None
    steps: int
    done: int
    own_seconds: float
    once: float
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the facts."""
        return {
            "arm": self.arm,
            "study": self.study,
            "trial": self.number,
            "values": dict(self.values),
            "seed": self.seed,
            "run": self.run,
            "status": self.status,
            "quality": self.quality,
            "steps": self.steps,
            "own_clock": self.own_seconds,
        }


class Walk:
    """One study of one arm on its way: the next job, and what came of it."""

    def __init__(self, plan: TuningPlan, arm: str, study: int, metric: Metric) -> None:
        recipe = plan.recipe(arm)
        self.text = what_is_tuned(recipe, space_to_dict(plan.spaces[arm]))
        self._asker = Asker(plan.spaces[arm], plan.sampler, sampler_seed(self.text, study))
        self._recipe, self._arm, self._study, self._metric = recipe, arm, study, metric
        self._values: dict[str, Any] = {}
        self._number = 0

    def ask(self) -> Job:
        """The next trial as a job of its recipe."""
        self._number += 1
        self._values = self._asker.ask()
        recipe = applied(self._recipe, self._values)
        seed = trial_seed(self.text, self._study, self._number)
        return Job(self._arm, recipe.duration, self._number, seed, recipe, run_identity(recipe, seed))

    def tell(self, run: Any) -> Trial:
        """The trial that the run of the last job is, after the sampler has been told of it."""
        quality = quality_of(run, self._metric.name)
        self._asker.tell(-math.inf if quality is None else self._metric.sign * quality)
        return Trial(
            arm=self._arm,
            study=self._study,
            number=self._number,
            values=self._values,
            seed=run.seed,
            run=run.id,
            status=run.status,
            quality=quality,
            steps=int(run.training["total_steps"]),
            done=int(run.steps),
            own_seconds=0.0 if run.seconds is None else float(run.seconds),
            once=float(run.cost.get("one_off_seconds") or 0.0),
            facts=run.facts,
        )


def what_is_tuned(recipe: Recipe, space: Mapping[str, Any]) -> str:
    """An arm and its space as text: what the seeds of its proposals and trials are made from."""
    return json.dumps([describe(recipe), recipe.duration, space], sort_keys=True)


def quality_of(run: Any, metric: str) -> float | None:
    """A trial's last validation quality, or None where it diverged or was not finite."""
    if run.status != "finished":
        return None
    value = float(run.quality(metric, "validation"))
    return value if math.isfinite(value) else None


def try_all(
    plan: TuningPlan,
    store: Any,
    machine: Machine,
    metric: Metric,
    on_trial: Callable[[int, int, bool], None] = lambda done, total, kept: None,
) -> list[Trial]:
    """All trials of a plan, round by round: one of every arm and study, then the next of each.

    Trials that the store holds are not repeated. on_trial: called with (trials there, trials in all, whether the last
    one was in the store). So that drift of the machine meets all arms alike, their order turns with the round.
    """
    walks = [Walk(plan, arm, study, metric) for study in range(1, plan.studies + 1) for arm in recipes_of(plan.study)]
    total = plan.trials * len(walks)
    trials: list[Trial] = []
    for number in range(plan.trials):
        order = walks if number % 2 == 0 else walks[::-1]
        jobs = {walk: walk.ask() for walk in order}
        todo = [job for job in jobs.values() if found(job, store) is None]
        there = len(trials) + len(jobs) - len(todo)
        if there > len(trials):
            on_trial(there, total, True)
        execute(todo, store, machine, on_done=_counter(on_trial, there, total))
        # Told in the order of the walks, whichever run ended first: the next proposals must not depend on that.
        trials += [walk.tell(found(jobs[walk], store)) for walk in walks]
    return sorted(trials, key=lambda t: (list(recipes_of(plan.study)).index(t.arm), t.study, t.number))


def _counter(on_trial: Callable[[int, int, bool], None], there: int, total: int) -> Callable[[Job], None]:
    """What tells of every trial that ends from now on."""
    counted = itertools.count(there + 1)
    return lambda job: on_trial(next(counted), total, False)


def trials_found(plan: TuningPlan, store: Any, metric: Metric) -> list[Trial]:
    """The trials of a plan that the store holds, as far as they can be foreseen: answers decide what TPE asks next."""
    there = []
    for study in range(1, plan.studies + 1):
        for arm in recipes_of(plan.study):
            walk = Walk(plan, arm, study, metric)
            for _ in range(plan.trials):
                run = found(walk.ask(), store)
                if run is None:
                    break
                there.append(walk.tell(run))
    return there


def winner_of(trials: Sequence[Trial], metric: Metric) -> Trial | None:
    """The trial with the best validation quality, the first of equal ones; None if every one diverged."""
    known = [t for t in trials if t.quality is not None]
    return max(known, key=lambda t: metric.sign * (t.quality or 0.0), default=None)


def counted_qualities(trials: Sequence[Trial], metric: Metric) -> dict[tuple[str, int], list[float]]:
    """{(arm, study): qualities of its trials}, one that diverged counted as the worst of all arms; {} if all diverged."""
    known = [t.quality for t in trials if t.quality is not None]
    if not known:
        return {}
    worst = min(known, key=lambda q: metric.sign * q)
    out: dict[tuple[str, int], list[float]] = {}
    for trial in trials:
        out.setdefault((trial.arm, trial.study), []).append(worst if trial.quality is None else trial.quality)
    return out


def tuned(recipe: Recipe, trial: Trial | None, duration: str) -> Recipe:
    """The recipe with a trial's values (None: its own), as long as `duration`."""
    return replace(applied(recipe, {} if trial is None else trial.values), duration=duration)
