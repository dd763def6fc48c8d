"""The pilot of a study: its own first replicates of the baseline, from which the noise of seeds is learned."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import InvalidValue
from ..core.recipe import Recipe
from ..loop.train import full_id
from .course import Course
from .estimate import hours_by_arm, prices
from .execute import machine_for
from .plan import Job, distinct, found, plan
from .study import MIN_SEEDS, Study

LEAST = 2
"""Finished runs at every duration from which noise is learned."""
ENOUGH = 3


def sized(study: Study, seeds: int) -> Study:
    """The same study with another number of seeds (>= 3), all judged once."""
    return replace(study, seeds=seeds, looks=None, spending="")


def pilot_jobs(study: Study, seeds: int) -> list[Job]:
    """The jobs of a pilot of `seeds` seeds. Raises InvalidValue for fewer than 2."""
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < LEAST:
        raise InvalidValue(f"a pilot has {LEAST} seeds or more, got {seeds!r}; write --pilot {ENOUGH}")
    jobs = plan(sized(study, max(seeds, MIN_SEEDS)))
    return [job for job in jobs if job.arm == study.baseline_name and job.replicate < seeds]


def pilot_cost(
    study: Study,
    store: Any,
    seeds: int,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """{"runs", "hours"} of a pilot that the store lacks; no hours (0) for a baseline that is no recipe."""
    study = study.resolved(functools.partial(full_id, store))
    machine = machine_for(study, workers, threads, device)
    todo = [job for job in pilot_jobs(study, seeds) if found(job, store) is None]
    hours = 0.0
    if todo and isinstance(study.baseline, Recipe):
        (price,) = prices({study.baseline_name: study.baseline}, study.durations, store, machine).values()
        seconds = {(study.baseline_name, d): price.seconds(d) for d in study.durations}
        hours = sum(hours_by_arm(study, todo, seconds, machine).values())
    return {"runs": distinct(todo), "hours": hours}


def train_pilot(
    study: Study,
    store: Any,
    seeds: int,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    planned: Callable[[Sequence[Job], Sequence[Job]], None] | None = None,
    on_done: Callable[[Job], None] | None = None,
) -> int:
    """Train the study's own first `seeds` replicates of the baseline; returns how many runs the store lacked.

    Raises InvalidValue for fewer than 2 seeds.
    """
    study = study.resolved(functools.partial(full_id, store))
    jobs = pilot_jobs(study, seeds)
    course = Course(jobs, store, machine_for(study, workers, threads, device), on_done=on_done)
    if planned is not None:
        planned(course.jobs, course.todo)
    course.train(seeds)
    return len(course.todo)
