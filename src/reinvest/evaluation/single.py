"""One cell of a method against the baseline's curve: speed-up at equal quality, gain at equal time.

Both are the same test: the cell lies above the curve. Outside the baseline's measured range nothing is
extrapolated; the range's ends give bounds.
"""

from __future__ import annotations

import math

import numpy as np

from .cells import Arm, Scale
from .curves import Array, Curves
from .intervals import critical_ratio, scan_interval, scan_zero
from .outcome import Verdict, level_text
from .power import seeds_needed, smallest_effect
from .settings import Settings
from .twocurves import Setting, back_transformed, decomposition, prepare

SIZE = 401
ONE = "one duration: speed-up above 1 and gain above 0 are the same test, and other durations may differ"


def compare_cell(base: Arm, method: Arm, scale: Scale, settings: Settings) -> Verdict:
    """The verdict on a method with exactly one duration (both arms free of faults)."""
    setting = prepare(base, method, settings)
    curve = setting.base_curves
    x_m = float(method.x[0])
    start = float(np.clip(x_m, base.x[0], base.x[-1]))
    grid = np.unique(np.append(np.linspace(base.x[0], base.x[-1], SIZE), start))
    zero = int(np.searchsorted(grid, start))
    timing = None if settings.timing is None else settings.timing.get(method.name)
    # Evidence for the method takes the baseline's envelope: the baseline may always stop earlier.
    forward, forward_se, forward_df = _difference(setting, curve, grid, method, "envelope", timing)
    against, against_se, against_df = _difference(setting, curve, grid, method, "raw", timing)

    def bounds(level: float) -> tuple[float, float]:
        t_for = critical_ratio(forward, forward_se, forward_df, level)
        low, high = scan_interval(grid, zero, t_for, critical_ratio(against, against_se, against_df, level))
        return low - x_m, high - x_m

    low, high = bounds(1.0 - 0.5 * settings.alpha)
    shift = scan_zero(grid, zero, forward) - x_m
    low, high = (low, high) if math.isnan(shift) else (min(low, shift), max(high, shift))
    name, reason = _decide(low, high, bounds(1.0 - settings.alpha), settings)
    ends = tuple(v[zero] for v in (forward, forward_se, forward_df, against, against_se, against_df))
    gain = _gain(np.array(ends), float(curve.value(np.array(start), "envelope")), x_m - start, scale, settings)
    fixed = float(curve.slope(np.array(start))) ** 2 * timing[0] if timing else 0.0
    se, df = float(forward_se[zero]), float(forward_df[zero])
    seeds = int(min(base.n.min(), method.n.min()))
    steps_ratio, seconds_ratio = decomposition(base, method, shift)
    return Verdict(
        arm=method.name,
        baseline=base.name,
        verdict=name,
        speedup=math.exp(shift),
        low=math.exp(low),
        high=math.exp(high),
        gain=gain[0],
        gain_low=gain[1],
        gain_high=gain[2],
        reasons=(reason,),
        steps_ratio=steps_ratio,
        seconds_ratio=seconds_ratio,
        df=min(df, float(against_df[zero])),
        smallest_effect=smallest_effect(se, df, float(curve.slope(np.array(start))), alpha=settings.alpha),
        seeds_needed=seeds_needed(float(forward[zero]), se, df, seeds, alpha=settings.alpha, fixed_variance=fixed),
        flags=(*setting.flags, ONE),
        pairing=setting.spread.mode,
        correlation=setting.spread.correlation,
        level=1.0 - settings.alpha,
        margin=settings.margin,
        p_value=_p_value(ends) if start == x_m else math.nan,
    )


def _difference(
    setting: Setting, curve: Curves, grid: Array, method: Arm, kind: str, timing: tuple[float, float] | None
) -> tuple[Array, Array, Array]:
    """Cell minus curve at every position, its standard error and degrees of freedom: three arrays [S]."""
    gradient = curve.gradient(grid, kind)
    g = np.concatenate([-gradient, np.ones((len(grid), 1))], axis=1)
    steepness = np.maximum(0.0, curve.slope(grid, kind)) ** 2
    # One cell has no slope of its own that would take the noise of its seconds out of its quality.
    extras = [(steepness * float(method.time_variance[0]), max(float(method.n[0]) - 1.0, 1.0))]
    if timing is not None:
        extras.append((steepness * timing[0], timing[1]))
    se, df = setting.spread.standard_error(g, extras)
    return float(method.y[0]) - curve.value(grid, kind), se, df


def _decide(low: float, high: float, narrow: tuple[float, float], settings: Settings) -> tuple[str, str]:
    level = level_text(1.0 - settings.alpha)
    edge = math.log(1.0 + settings.margin)
    if low > 0.0:
        return "better", f"the {level} interval of the speed-up lies above 1"
    if high < 0.0:
        return "worse", f"the {level} interval of the speed-up lies below 1"
    if -edge < narrow[0] and narrow[1] < edge:
        return "equivalent", f"the interval of the speed-up lies within {100 * settings.margin:.3g} % of 1"
    return "inconclusive", f"the {level} interval of the speed-up contains 1 and is wider than the margin"


def _gain(ends: Array, level_y: float, beyond: float, scale: Scale, settings: Settings) -> tuple[float, float, float]:
    """Gain at the cell's own time; a bound on one side where that time lies outside the baseline's range.

    beyond: log seconds by which the cell lies after (> 0) or before (< 0) the range.
    """
    from scipy.special import stdtrit

    quantile = 1.0 - 0.5 * settings.alpha
    c_for, se_for, df_for, c_against, se_against, df_against = ends
    c = np.array(
        [
            c_for,
            c_for - se_for * stdtrit(min(df_for, 1e6), quantile),
            c_against + se_against * stdtrit(min(df_against, 1e6), quantile),
        ]
    )
    gain, low, high = back_transformed(scale, level_y, c)
    if beyond < 0.0:
        return math.nan, low, math.inf
    if beyond > 0.0:
        return math.nan, -math.inf, high
    return gain, low, high


def _p_value(ends: tuple[float, ...]) -> float:
    from scipy.special import stdtr

    c_for, se_for, df_for, c_against, se_against, df_against = (float(v) for v in ends)
    tails = (stdtr(min(df_for, 1e6), -c_for / se_for), stdtr(min(df_against, 1e6), c_against / se_against))
    return min(1.0, 2.0 * float(min(tails)))
