"""Training seconds, and nothing else: from asking for a batch to the end of the step that used it.

Evaluation, logging and checkpoints lie outside those intervals. Step cost changes inside a run (resizing, a method
that acts on every k-th step), so the charge is a sum over strata (kind of step x tenth of the run) of
count x median seconds. Methods declare the kind (`Method.kind`); where the mean of an undeclared stratum is far above
its median, because some steps regularly do more, the mean is charged, or the work of those steps would be free. The
first steps count like the others of their stratum; what they took beyond that is warm-up and told apart.
"""

from __future__ import annotations

import statistics
import time
from array import array
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

WARMUP_STEPS = 3
BINS = 10
_RARE = (
    0.02  # the slowest 2 % of a stratum may be the machine's doing and are left out before mean and median are compared
)


def typical_seconds(samples: list[float]) -> float:
    """Seconds per step of one stratum: the median, or the mean without the slowest 2 % if that exceeds it by a tenth."""
    ordered = sorted(samples)
    middle = statistics.median(ordered)
    kept = ordered[: max(1, len(ordered) - int(len(ordered) * _RARE))]
    mean = statistics.fmean(kept)
    return mean if len(ordered) >= 10 and mean > 1.1 * middle else middle


class StepClock:
    """Collects the seconds of every step by stratum; on a CUDA device by its events, elsewhere by the wall clock."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._cuda = device is not None and device.type == "cuda"
        self._strata: dict[tuple[str, int], array[float]] = {}
        self._warmup: list[tuple[tuple[str, int], float]] = []
        self._events: list[tuple[tuple[str, int], Any, Any]] = []
        self._begun: Any = None
        self._count = 0

    def start(self) -> None:
        """A batch has been asked for."""
        if self._cuda:
            self._begun = self._event()
        else:
            self._begun = time.perf_counter()

    def stop(self, kind: Hashable, progress: float) -> None:
        """The step that began at `start` has ended; progress in [0, 1] is that of its beginning."""
        if self._begun is None:
            return
        stratum = ("" if kind is None else str(kind), min(BINS - 1, int(progress * BINS)))
        if self._cuda:
            self._events.append((stratum, self._begun, self._event()))
            if len(self._events) >= 512:
                self._resolve()
        else:
            self._add(stratum, time.perf_counter() - self._begun)
        self._begun = None

    def _event(self) -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        # Of the model's device: the current one may be another, and idle.
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _resolve(self) -> None:
        for stratum, begun, ended in self._events:
            ended.synchronize()
            self._add(stratum, begun.elapsed_time(ended) / 1000)
        self._events.clear()

    def _add(self, stratum: tuple[str, int], seconds: float) -> None:
        self._count += 1
        if self._count <= WARMUP_STEPS:
            self._warmup.append((stratum, seconds))
            return
        samples = self._strata.get(stratum)
        if samples is None:
            samples = self._strata[stratum] = array("d")
        samples.append(seconds)

    def read(self) -> dict[str, Any]:
        """Plain values: seconds charged, seconds of the first steps beyond their usual cost, wall seconds, strata."""
        if self._events:
            self._resolve()
        rows: list[dict[str, Any]] = []
        charged = wall = warmup = 0.0
        for stratum in sorted({*self._strata, *(s for s, _ in self._warmup)}):
            first = [seconds for s, seconds in self._warmup if s == stratum]
            samples = self._strata.get(stratum, array("d"))
            each = typical_seconds(list(samples) or self._of_kind(stratum[0]) or first)
            charged += each * (len(samples) + len(first))
            wall += sum(samples) + sum(first)
            warmup += sum(max(0.0, seconds - each) for seconds in first)
            kind, tenth = stratum
            rows.append({"kind": kind, "tenth": tenth, "steps": len(samples) + len(first), "seconds_per_step": each})
        return {
            "seconds": charged,
            "warmup_seconds": warmup,
            "wall_seconds": wall,
            "steps": self._count,
            "strata": rows,
        }

    def _of_kind(self, kind: str) -> list[float]:
        """Seconds of all steps of a kind after the warm-up, for a tenth that has none but warm-up steps."""
        return [seconds for (k, _), samples in self._strata.items() if k == kind for seconds in samples]

    def state_dict(self) -> dict[str, Any]:
        """Everything collected, as plain values."""
        if self._events:
            self._resolve()
        strata = [[kind, tenth, list(samples)] for (kind, tenth), samples in self._strata.items()]
        return {"strata": strata, "warmup": [[*s, seconds] for s, seconds in self._warmup], "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._strata = {(kind, tenth): array("d", samples) for kind, tenth, samples in state["strata"]}
        self._warmup = [((kind, tenth), seconds) for kind, tenth, seconds in state["warmup"]]
        self._count = state["count"]
