"""Sudden rises of a training signal (loss, gradient norm): where they begin, how high they go, when they are over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InvalidValue

__all__ = ["Spike", "find_spikes", "robust_z"]

CONSISTENT = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
LEAST_SPREAD = 1e-3
"""Smallest spread that counts, relative to the level: a signal that hardly moves has no spike of a thousandth."""


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


def robust_z(values: Tensor, window: int = 100) -> Tensor:
    """How far each value lies above those before it: (value - median) / (1.4826 MAD), float64 [T].

    values: float [T], one a step. Median and median absolute deviation are those of the last `window` (from 8 up) finite
    values before the step, spikes included: both stay sound while less than half of them are. NaN for the first 8 steps;
    infinite for a value that is not finite. Raises InvalidValue for another shape or window.
    """
    series = _checked(values, window)
    found = torch.full((len(series),), math.nan, dtype=torch.float64)
    for t in range(8, len(series)):
        past = series[max(0, t - window) : t]
        past = past[past.isfinite()]
        if not bool(series[t].isfinite()):
            found[t] = math.inf
        elif len(past) >= 8:
            level = past.quantile(0.5)
            spread = CONSISTENT * (past - level).abs().quantile(0.5)
            found[t] = (series[t] - level) / torch.maximum(spread, LEAST_SPREAD * level.abs()).clamp(min=1e-300)
    return found


def find_spikes(values: Tensor, threshold: float = 6.0, *, window: int = 100, apart: int = 10) -> list[Spike]:
    """The spikes of a signal float [T], in order.

    threshold: robust z above which a step is part of a spike, above 0; of normal noise 6 passes about one step in 10^7
    with a long window. apart: steps below the threshold that end a spike, from 1 up; fewer join two rises. window: see
    `robust_z`. Raises InvalidValue for values outside these ranges.
    """
    if not isinstance(threshold, (int, float)) or not threshold > 0:
        raise InvalidValue(f"a threshold is a robust z above 0, got {threshold!r}; 6 is usual")
    if not isinstance(apart, int) or isinstance(apart, bool) or apart < 1:
        raise InvalidValue(f"apart is a whole number of steps from 1 up, got {apart!r}; 10 is usual")
    z = robust_z(values, window)
    high = (z > threshold).nonzero()[:, 0].tolist()
    groups: list[list[int]] = []
    for step in high:
        if groups and step - groups[-1][-1] <= apart:
            groups[-1].append(step)
        else:
            groups.append([step])
    return [_spike(values.double(), z, group) for group in groups]


def _spike(values: Tensor, z: Tensor, steps: list[int]) -> Spike:
    height = values[steps].nan_to_num(math.inf)
    peak = steps[int(height.argmax())]
    return Spike(steps[0], peak, steps[-1], float(values[peak]), float(z[peak]))


def _checked(values: Tensor, window: int) -> Tensor:
    if not isinstance(values, Tensor) or values.ndim != 1:
        got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InvalidValue(f"a signal is one number a step [T], got {got}; pass for example the losses of the steps")
    if not isinstance(window, int) or isinstance(window, bool) or window < 8:
        raise InvalidValue(f"a window is a whole number of steps from 8 up, got {window!r}; 100 is usual")
    return values.double()
