"""Sudden rises of a training signal (loss, gradient norm): where they begin, how high they go, when they are over."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InvalidValue

__all__ = [
    "APART",
    "FIRST",
    "LEAST",
    "THRESHOLD",
    "WINDOW",
    "Spike",
    "find_spikes",
    "group_steps",
    "robust_z",
    "seen_z",
    "spike_z",
]

THRESHOLD, WINDOW, APART = 6.0, 100, 10
"""Usual robust z, steps that a step is compared with, and steps below the threshold that end a spike."""
FIRST = 8
"""Finite values before a step without which it has no z."""
RECENT = 10
"""Steps whose median tells the level right now."""
LEAST = 30
"""Finite values before a step of training without which no spike is told: of fewer the spread is too uncertain."""
CONSISTENT = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
LEAST_SPREAD = 1e-3
"""Smallest spread that counts, relative to the level: a signal that hardly moves has no spike of a thousandth."""
_BLOCK = 8192


@dataclass(frozen=True)
class Spike:
    """Steps `start` to `end` (both included) of a signal beyond the threshold; `peak` is the step of the highest value.

    z: the robust z of the peak, infinite for a value that is not finite.
    """

    start: int
    peak: int
    end: int
    value: float
    z: float


def robust_z(values: Tensor, window: int = WINDOW, *, start: int = 0) -> Tensor:
    """How far each value lies above those before it: (value - median) / (1.4826 MAD), float64 [T].

    values: float [T], one a step. Median and median absolute deviation are those of the last `window` (from 8 up) steps
    before it, as far as they are finite, spikes included: both stay sound while less than half of them are. NaN for the
    first 8 steps, and where fewer than 8 finite values came before; infinite for a value that is not finite. start: the
    first step that is asked about, those before it are NaN. Raises InvalidValue for another shape or window.
    """
    series = _checked(values, window)
    found = torch.full_like(series, math.nan)
    finite = series.isfinite()
    # Row t of the windows holds the values before step t, with gaps where there are none.
    filled = torch.cat([series.new_full((window,), math.nan), series.where(finite, math.nan)])
    windows = filled.unfold(0, window, 1)
    for begin in range(max(FIRST, start), len(series), _BLOCK):
        rows = slice(begin, min(begin + _BLOCK, len(series)))
        past = windows[rows]
        level = past.nanquantile(0.5, dim=1)
        spread = CONSISTENT * (past - level.unsqueeze(1)).abs().nanquantile(0.5, dim=1)
        z = (series[rows] - level) / torch.maximum(spread, LEAST_SPREAD * level.abs()).clamp(min=1e-300)
        z = z.where(past.isfinite().sum(1) >= FIRST, math.nan)
        found[rows] = z.where(finite[rows], math.inf)
    return found


def spike_z(values: Tensor, window: int = WINDOW, least: int = LEAST, *, start: int = 0) -> Tensor:
    """How sudden a rise is, float64 [T]: the robust z of a signal, or of its ratio to the last steps if that is smaller.

    The losses of small batches near the end of training, and gradient norms, vary by factors: an ordinary hard batch has many
    times the median loss and a robust z far above 6. So the logarithm of value over median of the last 10 steps has to be
    unusual too; a descent, however steep, does not blur it. Where the step or one of those before it is not positive, the
    signal itself counts. values, window, start: as for `robust_z`. least: finite values before a step (no more than the window
    holds) without which it has no z.
    """
    series = _checked(values, window)
    finite = series.isfinite()
    z, ratios = robust_z(series, window, start=start), robust_z(_over_recent(series), window, start=start)
    negative = finite & (series <= 0)
    plain = negative | ratios.isnan() | (_counts(negative, window + RECENT) > 0)
    z = z.where(plain, torch.minimum(z, ratios))
    return z.where(_counts(finite, window) >= min(least, window), math.nan)


def seen_z(
    values: Tensor, seen: Tensor, window: int = WINDOW, *, score: Callable[..., Tensor] = spike_z, start: int = 0
) -> Tensor:
    """The z of a signal that has a value in some steps only: `score` of these steps put together, NaN for the others.

    seen: bool [T], the steps that have one, finite or not. score: `spike_z` or `robust_z`; values, window, start: as for
    these, where a window has so many steps that were seen.
    """
    rows = seen.nonzero()[:, 0]
    found = torch.full(values.shape, math.nan, dtype=torch.float64, device=values.device)
    found[rows] = score(values[rows], window, start=int(seen[:start].sum()))
    return found


def _over_recent(series: Tensor) -> Tensor:
    """Logarithm of each value over the median of the `RECENT` ones before it; NaN where half of these are missing."""
    logs = series.log().where(series.isfinite() & (series > 0), math.nan)
    before = torch.cat([logs.new_full((RECENT,), math.nan), logs]).unfold(0, RECENT, 1)[: len(logs)]
    level = before.nanquantile(0.5, dim=1) if len(logs) else logs
    return (logs - level).where(before.isfinite().sum(1) >= RECENT // 2, math.nan)


def _counts(mask: Tensor, window: int) -> Tensor:
    """How many of the `window` entries before each one are True, int64 [T]."""
    sums = torch.cat([mask.new_zeros(1, dtype=torch.int64), mask.cumsum(0)])
    now = torch.arange(len(mask), device=mask.device)
    return sums[now] - sums[(now - window).clamp(min=0)]


def find_spikes(
    values: Tensor, threshold: float = THRESHOLD, *, window: int = WINDOW, apart: int = APART, z: Tensor | None = None
) -> list[Spike]:
    """The spikes of a signal float [T], in order.

    threshold: robust z above which a step is part of a spike, above 0; of normal noise 6 passes about one step in 10^7
    with a long window. apart: steps below the threshold that end a spike, from 1 up; fewer join two rises. window: see
    `robust_z`. z: float [T] to go by in its place. Raises InvalidValue for values outside these ranges.
    """
    if not isinstance(threshold, (int, float)) or not threshold > 0:
        raise InvalidValue(f"a threshold is a robust z above 0, got {threshold!r}; 6 is usual")
    z = robust_z(values, window) if z is None else z
    high = (z > threshold).nonzero()[:, 0].tolist()
    return [_spike(values.double(), z, group) for group in group_steps(high, apart)]


def group_steps(steps: Sequence[int], apart: int = APART) -> list[list[int]]:
    """Ascending steps in groups: those at most `apart` (from 1 up) after the one before belong together."""
    if not isinstance(apart, int) or isinstance(apart, bool) or apart < 1:
        raise InvalidValue(f"apart is a whole number of steps from 1 up, got {apart!r}; 10 is usual")
    groups: list[list[int]] = []
    for step in steps:
        if groups and step - groups[-1][-1] <= apart:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def spike_steps(sudden: Tensor, high: Tensor, apart: int = APART) -> list[list[int]]:
    """Steps of each spike: from one that is `sudden` on for as long as one in `apart` is at least `high` (bool [T])."""
    groups = group_steps((sudden | high).nonzero()[:, 0].tolist(), apart)
    begun = ([step for step in group if sudden[step]] for group in groups)
    return [[s for s in group if s >= first[0]] for group, first in zip(groups, begun, strict=True) if first]


def _spike(values: Tensor, z: Tensor, steps: list[int]) -> Spike:
    height = values[steps].nan_to_num(math.inf)
    peak = steps[int(height.argmax())]
    return Spike(steps[0], peak, steps[-1], float(values[peak]), float(z[peak]))


def _checked(values: Tensor, window: int) -> Tensor:
    if not isinstance(values, Tensor) or values.ndim != 1:
        got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InvalidValue(f"a signal is one number a step [T], got {got}; pass for example the losses of the steps")
    if not isinstance(window, int) or isinstance(window, bool) or window < FIRST:
        raise InvalidValue(f"a window is a whole number of steps from 8 up, got {window!r}; 100 is usual")
    return values.double()
