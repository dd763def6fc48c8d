"""Whether the runs of an arm went at one pace: seconds a step of points that came without a timing block.

Run-to-run noise of the seconds is part of a verdict's interval (step 1 of its definition). Runs from other machines, or of
a machine that was busy, are no such noise: they move a whole cell, and often a whole arm. So they are told, as evidence
about the timing, and nothing is judged otherwise.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence

from .outcome import ratio_text
from .points import Point

__all__ = ["LIMIT", "pace_flags"]

LIMIT = 1.25
"""A run is flagged where its seconds a step are more than this many times those of the arm's middle run, or fewer than the
inverse: one of three runs that is so far off moves its cell by 7 % of time, more than the margin of equivalence."""
WORDS = {"ep": "seconds an epoch", "st": "seconds a step"}
"""What a time over a duration is, by the unit of the label."""
FEWEST = 3
"""Runs of an arm from which it has a middle one."""


def pace_flags(points: Sequence[Point], names: Iterable[str]) -> list[str]:
    """A sentence for each of these arms whose runs differ by more than `LIMIT` from their middle one."""
    found = []
    for name in names:
        mine = [p for p in points if p.arm == name and p.finished and math.isfinite(p.seconds) and p.seconds > 0.0]
        word, paces = _paces(mine)
        if len(paces) < FEWEST:
            continue
        furthest = max(range(len(paces)), key=lambda k: abs(math.log(paces[k])))
        if abs(math.log(paces[furthest])) > math.log(LIMIT):
            point = mine[furthest]
            found.append(
                f"{name}: {word} differ between runs, {ratio_text(paces[furthest])} times the middle one at (duration "
                f"{point.duration}, seed {point.seed}), as on other machines, on a busy one, or with start-up in the seconds"
            )
    return found


def _paces(points: Sequence[Point]) -> tuple[str, list[float]]:
    """What is compared, in words, and that of every point over the middle one's."""
    if all(p.steps for p in points):
        return "seconds a step", _over_middle([p.seconds / (p.steps or 1.0) for p in points])
    lengths = [re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", p.duration.lower()) for p in points]
    units = {match[2] if match else None for match in lengths}
    amounts = [_amount(match[1]) if match else 0.0 for match in lengths]
    if len(units) == 1 and None not in units and all(amount > 0.0 for amount in amounts):
        unit = next(iter(units))
        paces = [p.seconds / amount for p, amount in zip(points, amounts, strict=True)]
        return WORDS.get(str(unit), "seconds over the duration"), _over_middle(paces)
    middle = {d: statistics.median(p.seconds for p in points if p.duration == d) for d in {p.duration for p in points}}
    return "seconds of one duration", [p.seconds / middle[p.duration] for p in points]


def _over_middle(paces: Sequence[float]) -> list[float]:
    middle = statistics.median(paces) if paces else 1.0
    return [pace / middle for pace in paces]


def _amount(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
