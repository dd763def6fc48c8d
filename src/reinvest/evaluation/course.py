"""A study under way: which whole replicates are trained, and what that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from .execute import Machine, Stopped, execute, stop_workers, threads_of
from .plan import Job, distinct, found


class Course:
    """Trains what the store lacks of a study's jobs, up to some number of whole replicates at a time."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Any,
        machine: Machine,
        *,
        max_hours: float | None = None,
        on_done: Callable[[Job], None] | None = None,
    ) -> None:
        self.jobs, self.todo = list(jobs), [job for job in jobs if found(job, store) is None]
        self._store, self._machine, self._max_hours, self._on_done = store, machine, max_hours, on_done
        self._begun, self._slowest, self._reached = time.perf_counter(), 0.0, 0

    def train(self, whole: int) -> int:
        """Train the replicates up to `whole` of them; returns how many there are: fewer if the hours were over before."""
        jobs = [job for job in self.todo if self._reached <= job.replicate < whole]
        begun = time.perf_counter()
        left = None if self._max_hours is None else self._max_hours * 3600 - (begun - self._begun)
        try:
            with threads_of(self._machine):
                count = execute(
                    jobs, self._store, self._machine, max_seconds=left, slowest=self._slowest, on_done=self._on_done
                )
        except Stopped as stopped:
            return stopped.replicates
        finally:
            stop_workers()
        self._reached = whole
        self._slowest = max(self._slowest, (time.perf_counter() - begun) / max(count, 1))
        return whole

    def runs(self, whole: int) -> dict[Job, Any]:
        """The runs of the first `whole` replicates by job (None: not there)."""
        return {job: found(job, self._store) for job in self.jobs if job.replicate < whole}

    def cost(self, whole: int) -> dict[str, Any]:
        """What the first `whole` replicates took: runs, those of them that were there before, the points that they stand
        for (more than runs where one run stands for several durations), and seconds in all."""
        mine, fresh = ([job for job in some if job.replicate < whole] for some in (self.jobs, self.todo))
        runs = distinct(mine)
        return {
            "runs": runs,
            "found": runs - distinct(fresh),
            "points": len(mine),
            "seconds": time.perf_counter() - self._begun,
        }
