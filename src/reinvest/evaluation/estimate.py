"""`estimate`: what a study would cost, before it runs."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.hardware import comparable, facts
from ..core.recipe import Recipe
from ..loop.train import full_id
from .execute import Machine, machine_for, threads_of
from .onerun import share_of_separate
from .plan import Job, found, plan
from .study import Arm, Study
from .timing import steps_of, trimmed_mean

STEPS_PER_PROBE = 12
WARMUP = 2


@dataclass(frozen=True)
class Price:
    """What the runs of one recipe arm cost: seconds per step, {duration: steps}, and what a run keeps on disk.

    size: bytes of the weights; rows: training examples; classes; per_epoch: steps per epoch.
    """

    per_step: float
    steps: Mapping[str, int]
    size: int
    rows: int
    classes: int
    per_epoch: int

    def seconds(self, duration: str) -> float:
        """Of one run."""
        return self.steps[duration] * self.per_step

    def disk(self, duration: str) -> float:
        """Bytes of one run."""
        return self.size + self.rows * (self.classes + 8 * -(-self.steps[duration] // self.per_epoch))


def prices(arms: Mapping[str, Arm], durations: Sequence[str], store: Any, machine: Machine) -> dict[str, Price]:
    """The prices of those arms that are recipes, from a dozen trial steps of each."""
    found_prices = {}
    for name, arm in arms.items():
        if isinstance(arm, Recipe):
            with store.lending():
                per_step, size, rows, classes, per_epoch = probe(replace(arm, duration=durations[0]), machine)
            steps = {d: steps_of(replace(arm, duration=d)) for d in durations}
            found_prices[name] = Price(per_step, steps, size, rows, classes, per_epoch)
    return found_prices


def paced(priced: Mapping[str, Price], held: Mapping[Job, Any], machine: Machine) -> tuple[dict[str, Price], bool]:
    """The prices at the pace of runs that are there (held, by job) and were made as here, and whether there are any.

    Trial steps alone, of a cold process on a machine that does nothing else, may be off by half or twice; arms without
    runs are off as those with runs are.
    """
    measured = {}
    ended = [(job, run) for job, run in held.items() if job.arm in priced and run.seconds and run.steps]
    timed = [(job.arm, job.what.precision, run) for job, run in ended if isinstance(job.what, Recipe)]
    with threads_of(machine):
        here = {precision: facts(machine.device, precision) for precision in {p for _, p, _ in timed}}
    for name in priced:
        mine = [(precision, run) for arm, precision, run in timed if arm == name]
        runs = {run.id: run for precision, run in mine if comparable(run.facts, here[precision])[0]}
        if runs:
            measured[name] = sum(run.seconds for run in runs.values()) / sum(run.steps for run in runs.values())
    if not measured:
        return dict(priced), False
    off = statistics.median(measured[name] / priced[name].per_step for name in measured)
    return {n: replace(p, per_step=measured.get(n, off * p.per_step)) for n, p in priced.items()}, True


def hours_by_arm(
    study: Study, todo: Iterable[Job], seconds: Mapping[tuple[str, str], float], machine: Machine
) -> dict[str, float]:
    """Hours that training these jobs of a study takes on the machine's workers, each arm's share of them by name.

    seconds: of one separate run, by (arm, duration); arms that it does not hold are left out.
    """
    each = share_of_separate(study.curve, study.durations) / machine.workers / 3600
    hours = {name: 0.0 for name in study.all_arms() if (name, study.durations[0]) in seconds}
    for job in todo:
        if job.arm in hours:
            hours[job.arm] += each * seconds[job.arm, job.duration]
    return hours


def estimate(
    study: Study, store: Any, *, workers: int | None = None, threads: int | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """What a study would cost: {"runs", "found", "points", "hours", "hours_by_arm", "disk_bytes", "workers", "threads", "seconds_per_step"}.

    A dozen trial steps of every recipe arm price its steps, and runs that are there correct that (`paced`); hours count the training of the missing runs on `workers`
    processes, each arm's share of them by name. Left out of the hours: evaluation, the timing block, and arms that are commands or callables.
    """
    study = study.resolved(functools.partial(full_id, store))
    machine = machine_for(study, workers, threads, device)
    jobs = plan(study)
    held = {job: run for job in jobs if (run := found(job, store)) is not None}
    todo = [job for job in jobs if job not in held]
    priced, _ = paced(prices(study.all_arms(), study.durations, store, machine), held, machine)
    seconds = {(name, d): price.seconds(d) for name, price in priced.items() for d in study.durations}
    hours = hours_by_arm(study, todo, seconds, machine)
    # Of the jobs that one run stands for, the last is the whole of it.
    runs, lacking = ({job.identity: job for job in some} for some in (jobs, todo))
    return {
        "runs": len(runs),
        "found": len(runs) - len(lacking),
        "points": len(jobs),
        "hours": sum(hours.values()),
        "hours_by_arm": hours,
        "disk_bytes": int(sum(priced[job.arm].disk(job.duration) for job in lacking.values() if job.arm in priced)),
        "workers": machine.workers,
        "threads": machine.threads,
        "seconds_per_step": {name: price.per_step for name, price in priced.items()},
    }


def probe(recipe: Recipe, machine: Machine) -> tuple[float, int, int, int, int]:
    """(seconds per step, bytes of the weights, training examples, classes, steps per epoch) from trial steps.

    They lie all over the recipe's run. Call where the runs that it re-uses are found (`store.lending()`).
    """
    from ..loop.session import Session
    from ..loop.trial import trial_seconds

    session = Session(recipe, 0, machine.device, steps=max(STEPS_PER_PROBE, steps_of(recipe)))
    with threads_of(machine):
        taken = trial_seconds(session, STEPS_PER_PROBE, WARMUP)
    size = sum(t.numel() * t.element_size() for t in session.model.state_dict().values())
    rows = int(getattr(session.loader(0, 0), "examples", 0))
    # No median: where the cost of a step changes along the run, half of the steps may be the cheap ones.
    return trimmed_mean(taken)[0], size, rows, session.task.classes, session.steps_per_epoch
