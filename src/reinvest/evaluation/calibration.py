"""Whether the machine kept still while arms were timed: a fixed piece of work, other programs, rounds that moved.

Ratios formed inside a round cancel a machine that is evenly slower. They do not cancel one that changes within a round,
or that slows one kind of work more than another (caches, memory, clock rates), so what the machine did is measured
beside the arms, said, and mended where it can be.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MOVED = 0.10
"""A round is measured again where its control lies further than this (in log time) from the middle of the rounds.

On machines that do nothing else the control of a round scatters by 1-3 %, so that chance moves none of them; where it
moves by a tenth, something else has begun to run, and how much that costs differs from arm to arm.
"""
EXTRA = 1.0
"""Rounds measured again at most, as a share of the rounds that were asked for: a block takes at most twice its time.

A machine that is disturbed in more than half of the rounds is not mended by more of them, only by less company.
"""
BUSY_OTHERS = 0.5
"""Cores taken by other programs from which on a machine is called busy: half a core is beyond what an idle system does."""
LEAST_SHARE = 0.95
"""Share of a core that a busy loop gets on a machine that is not overbooked; the rest is a few interruptions."""
BRIEF, LONG = 15, 60
"""Repetitions of the calibration between two rounds (some milliseconds), and before and after the whole block."""
WINDOW = 0.2
"""Seconds for which the machine is looked at before a block; /proc counts in hundredths."""


class Calibration:
    """The same work at any time on a machine: a matrix product and a memory copy, less than a millisecond each.

    device: where; the work is larger on a GPU, so that its start does not decide.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        cuda = self._device.type == "cuda"
        size, numbers = (2048, 1 << 24) if cuda else (256, 1 << 20)
        self._matrix = torch.full((size, size), 1.0 / size, device=self._device)
        self._from = torch.ones(numbers, device=self._device)
        self._to = torch.empty_like(self._from)

    def seconds(self, repetitions: int = BRIEF) -> dict[str, float]:
        """Median seconds of the work by each clock: {"cpu": ..., "wall": ...}."""
        taken = [self._once() for _ in range(repetitions)]
        return {clock: statistics.median(t[clock] for t in taken) for clock in ("cpu", "wall")}

    def _once(self) -> dict[str, float]:
        synchronise(self._device)
        wall, cpu = time.perf_counter(), time.process_time()
        torch.mm(self._matrix, self._matrix)
        self._to.copy_(self._from)
        synchronise(self._device)
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Company:
    """Who else computes: cores taken by other programs and the load average (None where the system does not say), and
    the share of its core that a busy loop got (1: all of it)."""

    others: float | None
    load: float | None
    share: float
    cores: int

    @property
    def sentence(self) -> str:
        """What disturbs and what to do, or "" on a quiet machine."""
        found = []
        if self.others is not None and self.others > BUSY_OTHERS:
            found.append(f"other programs take {self.others:.1f} of {self.cores} cores")
        if self.share < LEAST_SHARE:
            found.append(f"a busy loop gets {self.share:.0%} of a core")
        if not found:
            return ""
        return (
            f"the machine was not quiet before the timing: {' and '.join(found)}; end them, or measure again when they are "
            "done (reinvest compare --time-again; finished runs are kept)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"others": self.others, "load": self.load, "share": self.share, "cores": self.cores}


class Watch:
    """CPU time of other programs from now on, on a system with /proc/stat."""

    def __init__(self) -> None:
        self._busy, self._own, self._wall = busy_seconds(), time.process_time(), time.perf_counter()

    def others(self) -> float | None:
        """Cores that other programs took on average since the beginning; None where the system does not say."""
        busy = busy_seconds()
        wall = time.perf_counter() - self._wall
        if busy is None or self._busy is None or wall <= 0.0:
            return None
        return max(0.0, (busy - self._busy) - (time.process_time() - self._own)) / wall


def busy_seconds(file: str = "/proc/stat") -> float | None:
    """CPU seconds that all programs took since the machine started, None where the system does not say."""
    try:
        words = Path(file).read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _waiting, *interrupts = (int(w) for w in words[1:9])
        return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None


def company(seconds: float = WINDOW) -> Company:
    """Look at the machine for a moment, computing in a busy loop."""
    watch = Watch()
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        pass
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Company(watch.others(), load, min(1.0, share), os.cpu_count() or 1)


def moves(controls: Sequence[Sequence[float]]) -> list[float]:
    """By how much (in log time) the machine was slower in each round than in the middle one.

    controls: series of seconds a round, each of work that is the same in all rounds. A round's value is the median of
    what the series say, so that a short disturbance of one of them alone removes no round: rounds in which only the
    baseline is slow must stay as often as rounds in which only another arm is.
    """
    logs = [[math.log(v) for v in series] for series in controls]
    from_middle = [[v - statistics.median(series) for v in series] for series in logs]
    return [statistics.median(values) for values in zip(*from_middle, strict=True)]


def trend(moved: Sequence[float]) -> float:
    """Change (in log time) from the first round to the last: Theil's slope times the number of steps between them.

    Theil 1950, Indagationes Mathematicae 12: the median of the slopes of all pairs, which one wild round in four leaves
    as it is. moved: at least 2 rounds.
    """
    n = len(moved)
    slopes = [(moved[b] - moved[a]) / (b - a) for a in range(n) for b in range(a + 1, n)]
    return statistics.median(slopes) * (n - 1)


def steady(moved: Sequence[float], rounds: int) -> list[int]:
    """The rounds that the result is made of: those within MOVED, or all if less than half of `rounds` (or 4) are."""
    kept = [r for r, value in enumerate(moved) if abs(value) <= MOVED]
    return kept if len(kept) >= max(4, math.ceil(rounds / 2)) else list(range(len(moved)))


def disturbances(moved: Sequence[float], rounds: int, drift: float) -> list[str]:
    """What measuring again could not mend, as flags of a verdict.

    rounds: how many were asked for; drift: change of the calibration (in log time) from before to after the block.
    """
    still = sum(abs(value) > MOVED for value in moved)
    flags = []
    if len(moved) - still < rounds:
        kept = len(steady(moved, rounds))
        flags.append(
            f"timing disturbed: in {still} of {len(moved)} rounds the baseline and the calibration moved by more than "
            f"{MOVED:.0%}, and the ratio is that of {'the other ' if kept < len(moved) else 'all '}{kept}"
        )
    if abs(drift) > MOVED:
        flags.append(
            f"timing disturbed: the machine itself changed, its calibration took {abs(math.expm1(drift)):.0%} "
            f"{'more' if drift > 0 else 'less'} time after the block than before"
        )
    return flags


def facts_of(
    marks: Mapping[str, Sequence[float]], moved: Sequence[float], kept: int, before: Company, during: float | None
) -> dict[str, Any]:
    """The block's facts as plain values.

    marks: {"ends": seconds before and after, "rounds": seconds between the rounds}; moved: of all measured rounds; kept:
    rounds in the result; during: cores that other programs took meanwhile.
    """
    first, last = marks["ends"]
    return {
        "calibration_before": first,
        "calibration_after": last,
        "calibration_drift": last / first - 1,
        "calibration_spread": statistics.stdev([math.log(v) for v in marks["rounds"]]),
        "control_trend": math.expm1(trend(moved)),
        "limit": MOVED,
        "rounds_measured": len(moved),
        "rounds_moved": sum(abs(value) > MOVED for value in moved),
        "rounds_kept": kept,
        "before": before.to_dict(),
        "others_during": during,
    }
