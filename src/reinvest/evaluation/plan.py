"""Which runs a study needs, with which seeds, in which order, and which of them the store already has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..core.recipe import Recipe, branch_of
from ..core.streams import key
from ..loop.session import run_identity
from . import onerun
from .describe import describe
from .links import USABLE, linked
from .study import Arm, Study

__all__ = ["Job", "describe", "distinct", "found", "plan", "seed_of"]


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a study: arm, duration, replicate number, seed, what to run, and the identity of its run."""

    arm: str
    duration: str
    replicate: int
    seed: int
    what: Arm
    identity: str
    trunk: Recipe | None = None
    """The recipe of the run in whose middle this one begins."""
    share: float = 1.0
    """The share of the run at which its quality is read: below 1 where one run stands for several durations."""


def seed_of(study: Study, name: str, duration: str, replicate: int) -> int:
    """A seed in [0, 2^31) that no other run of the study has (with pairs="duration": no other duration or replicate)."""
    text = "" if study.pairs == "duration" else describe(study.all_arms()[name])
    return key(replicate, f"study seed {text} {duration}") >> 33


def plan(study: Study) -> list[Job]:
    """All runs, replicate by replicate; inside one, durations from short to long with the arms in turn, forth and back.

    So wherever a study is stopped after a whole replicate, every arm has had the same number of runs.
    """
    jobs: list[Job] = []
    arms = list(study.all_arms().items())
    for replicate in range(study.seeds):
        for k, duration in enumerate(study.durations):
            order = arms if (replicate + k) % 2 == 0 else arms[::-1]
            jobs.extend(_job(study, name, arm, duration, replicate) for name, arm in order)
    return jobs


def _of_one_run(study: Study, name: str, arm: Recipe, duration: str, replicate: int) -> Job:
    """A job of a study whose replicates have one run an arm for all durations: they share their seed."""
    seed = seed_of(study, name, study.curve, replicate)
    if study.curve == "cyclic":
        recipe = onerun.cyclic(arm, study.durations)
        share = onerun.ends(recipe)[list(study.durations).index(duration)]
        return Job(name, duration, replicate, seed, recipe, run_identity(recipe, seed), share=share)
    trunk = onerun.trunk(arm, study.durations)
    identity = run_identity(trunk, seed)
    if duration == study.durations[-1]:
        return Job(name, duration, replicate, seed, trunk, identity)
    recipe = onerun.branch(arm, duration, study.durations)
    return Job(name, duration, replicate, seed, recipe, run_identity(recipe, seed, (branch_of(identity),)), trunk=trunk)


def _job(study: Study, name: str, arm: Arm, duration: str, replicate: int) -> Job:
    if study.curve != onerun.SEPARATE and isinstance(arm, Recipe):
        return _of_one_run(study, name, arm, duration, replicate)
    seed = seed_of(study, name, duration, replicate)
    if isinstance(arm, Recipe):
        recipe = replace(arm, duration=duration)
        return Job(name, duration, replicate, seed, recipe, run_identity(recipe, seed))
    token = hashlib.sha256(json.dumps([describe(arm), duration, seed]).encode()).hexdigest()[:32]
    return Job(name, duration, replicate, seed, arm, token)


def distinct(jobs: Iterable[Job]) -> int:
    """How many runs these jobs are: one may stand for several durations."""
    return len({job.identity for job in jobs})


def found(job: Job, store: Any) -> Any:
    """The job's finished (or diverged) run in the store, or None: the one linked to it, else the one of its identity."""
    run = linked(job.identity, store)
    return store.find(job.identity, status=USABLE) if run is None else run
