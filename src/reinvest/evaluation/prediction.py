"""A whole curve guessed from one cell of a method: drawn dashed, labelled as predicted, never part of a verdict.

Two hypotheses about the rest of the curve: the method shifts the baseline's clock by a constant speed-up, or it lifts
its quality by a constant amount on the fitted scale. Only times at which the baseline was measured are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import InvalidValue
from .curves import Array, arm_curves
from .drawing import drawable_arm
from .outcome import plain
from .settings import direction


@dataclass(frozen=True)
class Prediction:
    """Predicted curve of a method: seconds [size], quality under the shift and the lift hypothesis [size].

    shift is NaN at times whose shifted time the baseline never measured; duration: the cell it was predicted from;
    speedup: the shift used, NaN if the cell's quality lies outside the baseline's range.
    """

    arm: str
    duration: str
    seconds: Array
    shift: Array
    lift: Array
    speedup: float

    def to_dict(self) -> dict[str, Any]:
        """{"seconds", "shift", "lift"}: lists of plain numbers, None where nothing is predicted."""
        return {name: [plain(v) for v in getattr(self, name)] for name in ("seconds", "shift", "lift")}


def predict(
    points: Any,
    *,
    baseline: str,
    arm: str,
    duration: str | None = None,
    metric: str = "accuracy",
    higher_is_better: bool | None = None,
    size: int = 101,
    test_examples: int | None = None,
) -> Prediction | None:
    """Predict the curve of `arm` from one of its cells and the baseline's mean curve.

    duration: label of the cell (default: the arm's shortest, so that the longer ones can contradict it); size >= 2;
    higher_is_better: left out, by the metric's name.
    Returns None if the cell lies outside the baseline's times and qualities or the baseline has fewer than 2 durations.

    Raises InvalidValue for unreadable points or an unknown duration, UnknownName for an unknown arm.
    """
    if size < 2:
        raise InvalidValue(f"size must be at least 2, received {size}: use 101.")
    higher = direction(metric, higher_is_better)
    base, _, scale = drawable_arm(points, baseline, higher_is_better=higher, test_examples=test_examples)
    method, _, _ = drawable_arm(points, arm, higher_is_better=higher, test_examples=test_examples)
    if base is None or method is None or not base.has_curve:
        return None
    label = method.labels[0] if duration is None else str(duration)
    if label not in method.labels:
        raise InvalidValue(
            f"duration must be one of the arm's usable cells ({', '.join(method.labels)}), received {label!r}: "
            "choose one of them."
        )
    k = method.labels.index(label)
    x_m, y_m = float(method.x[k]), float(method.y[k])
    curves = arm_curves(base.x, base.y, np.full(len(base.x), 1e-4))
    grid = np.linspace(base.x[0], base.x[-1], size)
    shift = _crossing(grid, curves.value(grid, "envelope"), y_m) - x_m
    inside = base.x[0] <= x_m <= base.x[-1]
    if math.isnan(shift) and not inside:
        return None
    clock = grid + shift
    shifted = np.where((clock >= base.x[0]) & (clock <= base.x[-1]), curves.value(clock, "envelope"), math.nan)
    gain = y_m - float(curves.value(np.array(x_m), "envelope")) if inside else math.nan
    return Prediction(
        arm=str(arm),
        duration=label,
        seconds=np.exp(grid),
        shift=scale.quality(shifted),
        lift=scale.quality(curves.value(grid, "envelope") + gain),
        speedup=math.exp(shift),
    )


def _crossing(x: Array, y: Array, level: float) -> float:
    """First position where the rising curve reaches the level; NaN if it never does or starts above it."""
    reached = np.flatnonzero(y >= level)
    if not len(reached) or y[0] > level:
        return math.nan
    j = int(reached[0])
    if j == 0:
        return float(x[0])
    part = (level - y[j - 1]) / (y[j] - y[j - 1])
    return float(x[j - 1] + part * (x[j] - x[j - 1]))
