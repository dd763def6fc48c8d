"""`estimate`: what a study would cost, before it runs."""

from __future__ import annotations

import functools
import statistics
from dataclasses import replace
from typing import Any

from ..core.recipe import Recipe
from ..loop.train import full_id
from .execute import Machine, machine_for, threads_of
from .plan import found, plan
from .study import Study
from .timing import steps_of

STEPS_PER_PROBE = 12


def estimate(
    study: Study, store: Any, *, workers: int | None = None, threads: int | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """What a study would cost: {"runs", "found", "hours", "hours_by_arm", "disk_bytes", "workers", "threads", "seconds_per_step"}.

    A dozen trial steps of every recipe arm price its steps; hours count the training of the missing runs on `workers`
    processes, each arm's share of them by name. Left out of the hours: evaluation, the timing block, and arms that are commands or callables.
    """
    study = study.resolved(functools.partial(full_id, store))
    machine = machine_for(study, workers, threads, device)
    jobs = plan(study)
    todo = [job for job in jobs if found(job, store) is None]
    per_step: dict[str, float] = {}
    seconds: dict[str, float] = {}
    disk = 0.0
    for name, arm in study.all_arms().items():
        if not isinstance(arm, Recipe):
            continue
        with store.lending():
            per_step[name], size, rows, classes, per_epoch = probe(replace(arm, duration=study.durations[0]), machine)
        steps = {d: steps_of(replace(arm, duration=d)) for d in study.durations}
        seconds[name] = 0.0
        for job in todo:
            if job.arm == name:
                seconds[name] += steps[job.duration] * per_step[name]
                disk += size + rows * (classes + 8 * -(-steps[job.duration] // per_epoch))
    return {
        "runs": len(jobs),
        "found": len(jobs) - len(todo),
        "hours": sum(seconds.values()) / machine.workers / 3600,
        "hours_by_arm": {name: value / machine.workers / 3600 for name, value in seconds.items()},
        "disk_bytes": int(disk),
        "workers": machine.workers,
        "threads": machine.threads,
        "seconds_per_step": per_step,
    }


def probe(recipe: Recipe, machine: Machine) -> tuple[float, int, int, int, int]:
    """(seconds per step, bytes of the weights, training examples, classes, steps per epoch) from trial steps.

    They lie all over the recipe's run. Call where the runs that it re-uses are found (`store.lending()`).
    """
    from ..loop.session import Session
    from ..loop.trial import trial_seconds

    session = Session(recipe, 0, machine.device, steps=max(STEPS_PER_PROBE, steps_of(recipe)))
    with threads_of(machine):
        taken = trial_seconds(session, STEPS_PER_PROBE)
    size = sum(t.numel() * t.element_size() for t in session.model.state_dict().values())
    rows = int(getattr(session.loader(0, 0), "examples", 0))
    return statistics.median(taken), size, rows, session.task.classes, session.steps_per_epoch
