"""What is drawn and tabulated of one arm: the mean curve with a pointwise band, and its cells.

Drawing is lenient where judging is strict: unfinished or unusable rows are left out, and what cannot be known from
the rest (a spread from one seed) is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import InvalidValue, unknown
from .cells import Arm, Scale, build_arm, trend_variances
from .curves import Array, arm_curves
from .dependence import spread_of
from .outcome import plain
from .points import HUGE, Point, arm_names, by_duration, read_points
from .settings import direction, is_accuracy

NOWHERE = np.zeros(0)
FLAT = 0.02


@dataclass(frozen=True)
class Cell:
    """One cell: duration, runs n, geometric mean seconds, mean quality and its seed sd (metric units), sd_time the sd
    in units of log time (sd / slope of the arm's curve), binomial_floor the sd that a finite test set alone causes.
    NaN where not known."""

    duration: str
    n: int
    seconds: float
    quality: float
    sd: float
    sd_time: float
    binomial_floor: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None where not known."""
        numbers = {
            name: plain(getattr(self, name)) for name in ("seconds", "quality", "sd", "sd_time", "binomial_floor")
        }
        return {"duration": self.duration, "n": self.n, **numbers}


@dataclass(frozen=True)
class MeanCurve:
    """Mean curve of one arm: seconds, quality, low, high [size] (low and high NaN where a cell has one seed; all empty
    without two durations that differ in time), and its cells in order of time."""

    arm: str
    seconds: Array
    quality: Array
    low: Array
    high: Array
    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        """{"seconds", "quality", "low", "high"}: lists of plain numbers, None where not known."""
        return {name: [plain(v) for v in getattr(self, name)] for name in ("seconds", "quality", "low", "high")}


def mean_curve(
    points: Any,
    arm: str,
    *,
    metric: str = "accuracy",
    higher_is_better: bool | None = None,
    level: float = 0.95,
    size: int = 101,
    test_examples: int | None = None,
) -> MeanCurve:
    """Mean curve of one arm with a pointwise band, on `size` equal steps of log time inside its measured range.

    points: as for `verdict`; higher_is_better: left out, by the metric's name; level: of the band, in (0, 1); size >= 2; test_examples: size of the test set.
    The band ignores the other arms and holds at each time alone, not for the whole curve at once.

    Raises InvalidValue for unreadable points or settings, UnknownName for an unknown arm.
    """
    if not 0.0 < level < 1.0 or size < 2:
        raise InvalidValue(
            f"level must lie in (0, 1) and size be at least 2, received {level} and {size}: use 0.95 and 101."
        )
    built, variances, scale = drawable_arm(
        points, arm, higher_is_better=direction(metric, higher_is_better), test_examples=test_examples
    )
    if built is None:
        return MeanCurve(str(arm), NOWHERE, NOWHERE, NOWHERE, NOWHERE, ())
    test = test_examples if is_accuracy(metric) else None
    if not built.has_curve:
        return MeanCurve(
            str(arm),
            NOWHERE,
            NOWHERE,
            NOWHERE,
            NOWHERE,
            _cells(built, np.full(len(built.x), math.nan), test, scale),
        )
    step = np.sqrt(variances / built.n) if variances is not None else np.full(len(built.x), 1e-4)
    curves = arm_curves(built.x, built.y, step)
    x = np.linspace(built.x[0], built.x[-1], size)
    y = curves.value(x)
    half = np.full(size, math.nan)
    if variances is not None:
        from scipy.special import stdtrit

        spread = spread_of([built], [variances], paired=False)
        se, df = spread.standard_error(curves.gradient(x))
        half = se * stdtrit(np.minimum(df, 1e6), 0.5 * (1.0 + level))
    ends = scale.quality(y - half), scale.quality(y + half)
    slopes = np.maximum(0.0, curves.slope(built.x, "raw"))
    return MeanCurve(
        arm=str(arm),
        seconds=np.exp(x),
        quality=scale.quality(y),
        low=np.minimum(*ends),
        high=np.maximum(*ends),
        cells=_cells(built, slopes, test, scale),
    )


def drawable_arm(
    points: Any, arm: str, *, higher_is_better: bool, test_examples: int | None
) -> tuple[Arm | None, Array | None, Scale]:
    """The cells of one arm from what is usable of its rows, their floored variances [K], and the scale.

    The arm is None if no cell is usable, the variances are None if a cell has a single seed or none varies.
    """
    rows = read_points(points)
    known = arm_names(rows)
    if str(arm) not in known:
        raise unknown("arm", arm, known)
    scale = Scale(higher_is_better)
    usable = _usable([p for p in rows if p.arm == str(arm)], scale, test_examples)
    if not usable:
        return None, None, scale
    built = build_arm(str(arm), usable, scale, test_examples=test_examples)
    if built.n.min() < 2 or not (built.s2 > 0.0).any():
        return built, None, scale
    return built, trend_variances([built])[0] if built.has_curve else built.s2, scale


def _usable(points: Sequence[Point], scale: Scale, test_examples: int | None) -> list[Point]:
    """Finished rows with finite numbers, in cells that have a place on the fitted scale."""
    good = [p for p in points if p.finished and abs(p.quality) < HUGE and math.isfinite(p.seconds) and p.seconds > 0.0]
    kept = []
    for group in by_duration(good).values():
        error = float(scale.error(np.array([p.quality for p in group])).mean())
        if error > 0.0 or (error == 0.0 and scale.higher_is_better and test_examples is not None):
            kept += group
    return kept


def _cells(arm: Arm, slopes: Array, test_examples: int | None, scale: Scale) -> tuple[Cell, ...]:
    """slopes: [K] of the fitted curve at the cells, NaN where unknown."""
    cells = []
    # Where the curve hardly rises, noise in units of time is a number without meaning.
    least = FLAT * float(np.nanmean(slopes)) if np.isfinite(slopes).any() else math.nan
    for k, label in enumerate(arm.labels):
        quality, sd = float(arm.quality[k]), float(arm.sd[k]) if arm.n[k] > 1 else math.nan
        error = math.exp(-float(arm.y[k]))
        slope = float(slopes[k]) * error
        binomial = math.nan
        if test_examples is not None and scale.higher_is_better and 0.0 <= quality <= 1.0:
            binomial = math.sqrt(quality * (1.0 - quality) / test_examples)
        cells.append(
            Cell(
                duration=label,
                n=int(arm.n[k]),
                seconds=math.exp(float(arm.x[k])),
                quality=quality,
                sd=sd,
                sd_time=sd / slope if slope > 0.0 and slopes[k] > least else math.nan,
                binomial_floor=binomial,
            )
        )
    return tuple(cells)
