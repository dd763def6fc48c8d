"""Run the jobs of a study that the store lacks, in this process or in a few worker processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import InvalidValue, LoopError, ReinvestError, StoreError
from ..core.protocols import IDENTITY_VARIABLE
from ..core.recipe import Recipe, branch_of
from ..loop.branches import lost
from ..loop.session import run_identity
from .links import USABLE, link
from .plan import Job, found
from .study import Arm, Study

STORE_VARIABLE = "REINVEST_STORE"


@dataclass(frozen=True)
class Machine:
    """Where runs execute: worker processes, torch threads in each, and the device."""

    workers: int = 1
    threads: int = 1
    device: str = "cpu"


def machine_for(study: Study, workers: int | None, threads: int | None, device: str) -> Machine:
    """Where the runs of a study execute."""
    return machine_of(study.all_arms().values(), workers, threads, device)


def machine_of(arms: Iterable[Arm], workers: int | None, threads: int | None, device: str) -> Machine:
    """Where these arms execute; one at a time if any is not a recipe, as such runs are their own clock."""
    import torch

    cores = os.cpu_count() or 1
    count = (cores if device == "cpu" else 1) if workers is None else workers
    if count < 1:
        raise InvalidValue(f"workers is 1 or more, got {workers}; leave it out for one per core")
    if threads is not None and threads < 1:
        raise InvalidValue(f"threads is 1 or more, got {threads}; leave it out for one per worker")
    # One thread each, however many workers: runs of an earlier call with other workers must stay comparable.
    if not all(isinstance(arm, Recipe) for arm in arms):
        count = 1
    return Machine(count, threads or (1 if device == "cpu" else torch.get_num_threads()), device)


@contextlib.contextmanager
def threads_of(machine: Machine) -> Iterator[None]:
    """This process computes with as many threads as the workers do, so that all facts agree."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prepare(threads: int) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _follow_parent() -> None:
    """A worker whose parent was killed saves its run and goes, so that the run is free for whoever continues it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Workers started in here never see Ctrl-C (a blocked signal is inherited): their parent decides when they stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def train_in_worker(
    recipe: dict[str, Any], seed: int, root: str, device: str, trunk: dict[str, Any] | None = None
) -> str:
    """Train a recipe in a worker process; the id of its run in the store at `root`. trunk: of the run it begins in."""
    from ..core.names import load

    try:
        store = load("reinvest.store:Store")(root)
        begin = None if trunk is None else Recipe.from_dict(trunk)
        run = _train(Recipe.from_dict(recipe), seed, store, device, begin)
    except KeyboardInterrupt:
        # The state is saved. A worker that lived on would take the next run from its queue.
        os._exit(130)
    return str(run.id)


def _train(recipe: Recipe, seed: int, store: Any, device: str, trunk: Recipe | None) -> Any:
    """The run of a recipe, and before it that of the trunk where the store does not have it."""
    from ..loop.train import train

    root = None if trunk is None else _train(trunk, seed, store, device, None)
    if root is not None and lost(recipe, root):
        # No state was kept to begin at. The trunk answers for this run as well.
        link(run_identity(recipe, seed, (branch_of(root.identity),)), root.id, store)
        return root
    return train(recipe, seed, store, device=device, evaluations=1, progress=False, trunk=root)


def run_one(job: Job, store: Any, machine: Machine) -> Any:
    """Execute one job in this process and return its run."""
    if isinstance(job.what, Recipe):
        return _train(job.what, job.seed, store, machine.device, job.trunk)
    if isinstance(job.what, str):
        return _command(job, store, machine)
    before = os.environ.get(IDENTITY_VARIABLE)
    os.environ[IDENTITY_VARIABLE] = job.identity
    try:
        run = job.what(job.duration, job.seed, store)
    finally:
        if before is None:
            os.environ.pop(IDENTITY_VARIABLE, None)
        else:
            os.environ[IDENTITY_VARIABLE] = before
    if not hasattr(run, "quality"):
        raise LoopError(
            f"an arm's callable returns its Run, got {run!r} from {job.arm!r}; return the run of store.record(...) or ri.train(...)"
        )
    return _kept(job, run, store)


def _kept(job: Job, run: Any, store: Any) -> Any:
    """The run, linked to the job if it has an identity of its own, so that a repetition finds it."""
    known = found(job, store)
    if known is None or known.id != run.id:
        link(job.identity, run.id, store)
    kept = found(job, store)
    if kept is None or kept.id != run.id:
        raise LoopError(
            f"an arm's callable leaves a finished run in the study's store, got run {run.id} of {job.arm!r} with status "
            f"{run.status!r} that is not in {store.path}; record it with the store that the callable is given"
        )
    return kept


def _command(job: Job, store: Any, machine: Machine) -> Any:
    text = str(job.what).replace("{duration}", job.duration).replace("{seed}", str(job.seed))
    words = shlex.split(text)
    if words and words[0] in ("python", "python3"):
        words[0] = sys.executable
    environment = {**os.environ, IDENTITY_VARIABLE: job.identity, STORE_VARIABLE: str(store.path)}
    # Torch reads these when it starts: the command computes with as many threads as recipes do.
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(machine.threads))
    before = {run.id for run in _ended(store, job.seed)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise LoopError(
            f"an arm's command ends with exit code 0, got {done.returncode} from '{text}' ({tail}); run it by hand to see why"
        )
    run = found(job, store)
    if run is not None:
        return run
    fresh = [run for run in _ended(store, job.seed) if run.id not in before]
    if not fresh:
        raise LoopError(
            f"an arm's command leaves a recorded run in the store, got none from '{text}'; "
            f"record it with ri.Store(os.environ['{STORE_VARIABLE}']).record(...)"
        )
    if len(fresh) > 1:
        raise LoopError(
            f"an arm's command leaves one run with its seed, got {len(fresh)} from '{text}' "
            f"({', '.join(r.id for r in fresh)}); give the seed to the run that counts only"
        )
    return _kept(job, fresh[0], store)


def _ended(store: Any, seed: int) -> list[Any]:
    """The store's finished and diverged runs with this seed."""
    return [run for run in store.runs() if run.seed == seed and run.status in USABLE]


class Stopped(Exception):
    """The study was stopped at a fair point: all finished replicates are in the store."""

    def __init__(self, replicates: int) -> None:
        super().__init__(replicates)
        self.replicates = replicates


def execute(
    jobs: Sequence[Job],
    store: Any,
    machine: Machine,
    *,
    max_seconds: float | None = None,
    slowest: float = 0.0,
    on_done: Callable[[Job], None] | None = None,
) -> int:
    """Run the jobs replicate by replicate; returns how many replicates are complete.

    max_seconds: no replicate is begun that, at the pace of the ones before, would not end in time, so that all arms
    always have equally many seeds; slowest: seconds of the slowest replicate before these. Raises what a job raises; KeyboardInterrupt after Ctrl-C, with finished runs kept.
    """
    begun = time.monotonic()
    for replicate in sorted({job.replicate for job in jobs}):
        now = time.monotonic()
        if max_seconds is not None and (now - begun + slowest > max_seconds):
            raise Stopped(replicate)
        _batch([job for job in jobs if job.replicate == replicate], store, machine, on_done)
        slowest = max(slowest, time.monotonic() - now)
    return len({job.replicate for job in jobs})


_pool: concurrent.futures.ProcessPoolExecutor | None = None


def _batch(jobs: Sequence[Job], store: Any, machine: Machine, on_done: Callable[[Job], None] | None) -> None:
    parallel = [job for job in jobs if isinstance(job.what, Recipe)] if machine.workers > 1 else []
    alone = [job for job in jobs if job not in parallel]
    # Trunks first: what begins in the middle of them waits.
    for wave in (False, True):
        if some := [job for job in parallel if (job.trunk is not None) is wave]:
            _in_workers(some, store, machine, on_done)
    for job in alone:
        run_one(job, store, machine)
        if on_done is not None:
            on_done(job)


def _in_workers(jobs: Sequence[Job], store: Any, machine: Machine, on_done: Callable[[Job], None] | None) -> None:
    pool = worker_pool(machine)
    # One run may stand for several jobs.
    same: dict[str, list[Job]] = {}
    for job in jobs:
        same.setdefault(job.identity, []).append(job)
    # The longest first, so that no worker is left alone with a long run at the end.
    ordered = sorted(
        (own[0] for own in same.values()),
        key=lambda job: -float("".join(c for c in job.duration if c.isdigit() or c == ".")),
    )
    with shielded():
        futures = {
            pool.submit(
                train_in_worker,
                job.what.to_dict(),
                job.seed,
                str(store.path),
                machine.device,
                None if job.trunk is None else job.trunk.to_dict(),
            ): job
            for job in ordered
            if isinstance(job.what, Recipe)
        }
    try:
        for future in concurrent.futures.as_completed(futures):
            try:
                future.result()
            except concurrent.futures.process.BrokenProcessPool:
                raise StoreError(
                    f"a worker process ended while training {futures[future].arm!r} (out of memory, or killed); "
                    "run again with --workers 1: finished runs are kept"
                ) from None
            if on_done is not None:
                for job in same[futures[future].identity]:
                    on_done(job)
    except (KeyboardInterrupt, ReinvestError):
        stop_workers()
        raise


def worker_pool(machine: Machine) -> concurrent.futures.ProcessPoolExecutor:
    """The worker processes, started on first use and kept until `stop_workers`."""
    global _pool
    if _pool is None:
        _pool = concurrent.futures.ProcessPoolExecutor(
            machine.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare,
            initargs=(machine.threads,),
        )
    return _pool


def stop_workers() -> None:
    """End the worker processes; runs under way save their state first."""
    global _pool
    if _pool is not None:
        pool, _pool = _pool, None
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
