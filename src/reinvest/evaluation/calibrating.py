"""How far points of one-run curves lie from those of separate runs: a few separate runs of the baseline tell, once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import InvalidValue
from ..loop.train import full_id
from .course import Course
from .estimate import prices
from .execute import machine_for
from .onerun import LEAST, SEPARATE, deviations, reading
from .plan import Job, found, plan
from .settings import difference_text
from .study import Study

__all__ = ["calibrate", "calibration", "calibration_cost", "told"]

MOST = 20
"""Separate runs of a duration that are looked for in the store."""


def calibrate(
    study: Study,
    store: Any,
    runs: int,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    planned: Callable[[Sequence[Job], Sequence[Job]], None] | None = None,
    on_done: Callable[[Job], None] | None = None,
) -> int:
    """Train separate runs of the baseline at the first and last duration; returns how many the store lacked.

    runs: at each of the two durations, from 2 up; planned: told of all of them and of those to train. Raises InvalidValue
    for fewer, and for a study of separate runs.
    """
    _check(study, runs)
    study = study.resolved(functools.partial(full_id, store))
    course = Course(_jobs(study, runs), store, machine_for(study, workers, threads, device), on_done=on_done)
    if planned is not None:
        planned(course.jobs, course.todo)
    course.train(runs)
    return len(course.todo)


def _check(study: Study, runs: int) -> None:
    if study.curve == SEPARATE:
        raise InvalidValue("separate runs are their own calibration, got curve: separate; leave --calibrate out")
    if runs < LEAST:
        raise InvalidValue(f"a calibration has {LEAST} or more runs a duration, got {runs}; write --calibrate 3")


def calibration_cost(
    study: Study,
    store: Any,
    runs: int,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """What `calibrate` would cost: {"runs", "found", "hours", "seconds_per_step"}, by a dozen trial steps of the baseline.

    Raises InvalidValue as `calibrate` does.
    """
    _check(study, runs)
    study = study.resolved(functools.partial(full_id, store))
    machine = machine_for(study, workers, threads, device)
    jobs = _jobs(study, runs)
    todo = [job for job in jobs if found(job, store) is None]
    baseline = {study.baseline_name: study.baseline}
    (price,) = prices(baseline, study.durations, store, machine).values()
    hours = sum(price.seconds(job.duration) for job in todo) / machine.workers / 3600
    return {"runs": len(jobs), "found": len(jobs) - len(todo), "hours": hours, "seconds_per_step": price.per_step}


def calibration(study: Study, runs: Mapping[Job, Any], store: Any) -> list[dict[str, Any]]:
    """Rows of `onerun.deviations` for the baseline, from separate runs that the store holds; [] for a study of such."""
    if study.curve == SEPARATE:
        return []
    ours: dict[str, list[float]] = {}
    for job, run in runs.items():
        if run is None or job.arm != study.baseline_name:
            continue
        read = reading(run, study.metric, job.share)
        if read["status"] == "finished":
            ours.setdefault(job.duration, []).append(read["quality"])
    separate: dict[str, list[float]] = {}
    for job in _jobs(study, MOST, study.durations):
        run = found(job, store)
        if run is not None and run.status == "finished":
            separate.setdefault(job.duration, []).append(run.quality(study.metric, "test"))
    return deviations(ours, separate)


def told(study: Study, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What every verdict of a study says of how its points were made; [] for separate runs."""
    if study.curve == SEPARATE:
        return []
    said = f"points of one run an arm and replicate ({study.curve}), those of a run counted as belonging together"
    if not rows:
        return [said, "not calibrated against separate runs: reinvest compare STUDY --calibrate 3"]
    off = ", ".join(_off(row, study.metric) for row in rows)
    return [said, f"{study.metric} off that of separate runs of the baseline by {off}"]


def _off(row: Mapping[str, Any], metric: str) -> str:
    """A difference with its interval, of an accuracy in points, as everywhere."""
    mean, low, high = (difference_text(metric, row[name], plus=True) for name in ("difference", "low", "high"))
    return f"{mean} ({low.removesuffix(' points')} to {high.removesuffix(' points')}) at {row['duration']}"


def _jobs(study: Study, runs: int, durations: Sequence[str] | None = None) -> list[Job]:
    """Jobs of separate runs of the baseline, with the seeds that a study of separate runs would have."""
    chosen = durations or (study.durations[0], study.durations[-1])
    plain = replace(study, curve=SEPARATE, seeds=max(runs, study.seeds), looks=None, spending="")
    return [
        job for job in plan(plain) if job.arm == study.baseline_name and job.duration in chosen and job.replicate < runs
    ]
