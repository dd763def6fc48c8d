"""Chains: one sequence of one arm at one duration, trained run by run, each made from those before it.

Chains share what they can: a run is found by its identity, so the first run of a sequence is trained once and belongs
to every arm.
"""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.errors import ReinvestError, StoreError
from ..core.recipe import Recipe
from ..evaluation.execute import Machine, Stopped, shielded, stop_workers, train_in_worker, worker_pool
from ..evaluation.links import USABLE
from ..evaluation.plan import Job
from ..loop.session import run_identity
from .policies import POLICIES, apply, parsed, scaled
from .sequence_plan import SequencePlan, seed_of

Trainer = Callable[[Recipe, int, Any], Any]
"""(recipe, seed, store) -> Run."""


class Chain:
    """The runs of one sequence of an arm at a duration, as far as they are there."""

    def __init__(
        self,
        plan: SequencePlan,
        arm: str,
        duration: str,
        number: int,
        policies: Sequence[Any],
        pool: Sequence[Any] = (),
    ) -> None:
        self.plan, self.arm, self.duration, self.number = plan, arm, duration, number
        self.policies, self.pool = list(policies), list(pool)
        self.runs: list[Any] = []
        self._next: Job | None = None
        self._recipes: dict[int, Recipe] = {}

    @property
    def lost(self) -> bool:
        """Whether a run diverged; nothing follows it."""
        return bool(self.runs) and self.runs[-1].status != "finished"

    @property
    def complete(self) -> bool:
        """Whether all runs are there and finished."""
        return len(self.runs) == self.plan.length and not self.lost

    def next(self) -> Job | None:
        """The next run to train, None at the end (or after a run that diverged)."""
        position = len(self.runs)
        if position == self.plan.length or self.lost:
            return None
        if self._next is None:
            recipe = self.recipe(position)
            seed = seed_of(self.number, position, self.duration)
            self._next = Job(self.arm, recipe.duration, self.number, seed, recipe, run_identity(recipe, seed))
        return self._next

    def recipe(self, position: int) -> Recipe:
        """The recipe at a position whose earlier runs are there."""
        if position not in self._recipes:
            past = [*self.pool, *self.runs[:position]]
            plain = self.plan.recipe(position, self.duration)
            self._recipes[position] = apply(self.policies[position], plain, past)
        return self._recipes[position]

    def add(self, run: Any) -> None:
        """The next run is there."""
        self.runs.append(run)
        self._next = None

    def advance(self, store: Any) -> None:
        """Take the runs that the store holds."""
        while (job := self.next()) is not None and (run := found(job, store)) is not None:
            self.add(run)


def found(job: Job, store: Any) -> Any:
    """The finished (or diverged) run of a job, or None."""
    return store.find(job.identity, status=USABLE)


def chains_of(plan: SequencePlan, policies: Mapping[str, Sequence[Any]], pool: Sequence[Any] = ()) -> list[Chain]:
    """All chains: sequence by sequence, durations from long to short, so that no worker is left with a long run."""
    return [
        Chain(plan, arm, duration, number, policies[arm], pool)
        for number in plan.numbers
        for duration in reversed(plan.durations)
        for arm in plan.arms
    ]


def slots(plan: SequencePlan, chain: Chain) -> list[tuple[Any, ...]]:
    """What tells the runs of a chain from those of others before there are any: equal slots are one run."""
    out: list[tuple[Any, ...]] = []
    history: list[str] = []
    for k, policy in enumerate(chain.policies):
        name, options = parsed(policy)
        text = json.dumps({**options, "reuse": name, "fallback": None}, sort_keys=True)
        history.append(text)
        alone = POLICIES[name].needs == "nothing" and name != "advise"
        out.append((chain.number, chain.duration, k, text if alone else tuple(history)))
    return out


def jobs_of(plan: SequencePlan, chains: Sequence[Chain], store: Any) -> tuple[list[Job], list[Job]]:
    """(all runs of the study, those that are still to be trained), each once. Takes what the store holds.

    Recipes of runs that follow others are not known yet: a job says which position it is in place of its seed.
    """
    every: dict[tuple[Any, ...], Job] = {}
    there = set()
    for chain in chains:
        chain.advance(store)
        for k, slot in enumerate(slots(plan, chain)):
            every.setdefault(slot, Job(chain.arm, _length(plan, chain, k), chain.number, k, plan.base, ""))
            if k < len(chain.runs) or chain.lost:
                there.add(slot)
    return list(every.values()), [job for slot, job in every.items() if slot not in there]


def _length(plan: SequencePlan, chain: Chain, position: int) -> str:
    share = parsed(chain.policies[position])[1].get("length", 1.0)
    return scaled(chain.duration, share) if position or plan.pool else chain.duration


def execute(
    chains: Sequence[Chain],
    store: Any,
    machine: Machine,
    *,
    train: Trainer | None = None,
    max_seconds: float | None = None,
    on_done: Callable[[Job], None] = lambda job: None,
) -> int:
    """Train what the store lacks, sequence by sequence; returns how many sequences are complete.

    max_seconds: no sequence is begun that, at the pace of those before, would not end in time (Stopped). train: instead
    of the package's own, in this process. KeyboardInterrupt after Ctrl-C, with finished runs kept and others saved.
    """
    begun = time.monotonic()
    slowest = 0.0
    numbers = list(dict.fromkeys(chain.number for chain in chains))
    for done, number in enumerate(numbers):
        now = time.monotonic()
        own = [chain for chain in chains if chain.number == number]
        busy = any(chain.next() is not None for chain in own)
        if busy and max_seconds is not None and now - begun + slowest > max_seconds:
            raise Stopped(done)
        if train is None and machine.workers > 1:
            _in_workers(own, store, machine, on_done)
        else:
            _here(own, store, train or _own_trainer(machine), on_done)
        if busy:
            slowest = max(slowest, time.monotonic() - now)
    return len(numbers)


def _own_trainer(machine: Machine) -> Trainer:
    def trainer(recipe: Recipe, seed: int, store: Any) -> Any:
        from ..loop.train import train

        return train(recipe, seed, store, device=machine.device, evaluations=1, progress=False)

    return trainer


def _here(chains: Sequence[Chain], store: Any, train: Trainer, on_done: Callable[[Job], None]) -> None:
    for chain in chains:
        chain.advance(store)
        while (job := chain.next()) is not None:
            assert isinstance(job.what, Recipe)
            chain.add(train(job.what, job.seed, store))
            on_done(job)
            chain.advance(store)


def _in_workers(chains: Sequence[Chain], store: Any, machine: Machine, on_done: Callable[[Job], None]) -> None:
    """Each chain in order, as many of them at a time as there are workers; chains that wait for one run share it."""
    waiting: dict[str, list[Chain]] = {}
    running: dict[concurrent.futures.Future[str], Job] = {}

    def submit(chain: Chain) -> None:
        chain.advance(store)
        job = chain.next()
        if job is None:
            return
        if job.identity in waiting:
            waiting[job.identity].append(chain)
            return
        waiting[job.identity] = [chain]
        assert isinstance(job.what, Recipe)
        with shielded():
            future = worker_pool(machine).submit(
                train_in_worker, job.what.to_dict(), job.seed, str(store.path), machine.device
            )
        running[future] = job

    try:
        for chain in chains:
            submit(chain)
        while running:
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                _finished(future, job)
                on_done(job)
                for chain in waiting.pop(job.identity):
                    submit(chain)
    except (KeyboardInterrupt, ReinvestError):
        stop_workers()
        raise


def _finished(future: concurrent.futures.Future[str], job: Job) -> None:
    try:
        future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise StoreError(
            f"a worker process ended while training {job.arm!r} (out of memory, or killed); "
            "run again with --workers 1: finished runs are kept"
        ) from None
