"""Evidence for and against a method at every shift of its clock, and the intervals that invert the tests.

At shift s the method's clock plus s is the baseline's clock (both in log seconds), so exp(s) is a speed-up. The
evidence for the method takes the baseline's envelope (it may always stop earlier) and the method's raw curve (it
may not choose its best duration); the evidence against it takes them the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .curves import Array, Curves
from .dependence import Spread

POINTS = 65
SHIFTS = 81
# The whole overlap, its first quarter, middle half and last quarter, as inclusive ranges of the points.
WINDOWS = ((0, 64), (0, 16), (16, 48), (48, 64))
WINDOW_NAMES = ("short", "middle", "long")


def _trapezoids() -> Array:
    weights = np.zeros((len(WINDOWS), POINTS))
    for row, (first, last) in zip(weights, WINDOWS, strict=True):
        row[first : last + 1] = 1.0
        row[[first, last]] = 0.5
    return weights


TRAPEZOIDS = _trapezoids()


@dataclass(frozen=True)
class Evidence:
    """Contrasts over shifts [S] and windows [W] (the whole first).

    shifts: [S] increasing, holds 0 at index `zero`; estimate, forward, against: [S, W] contrasts on the fitted
    scale; forward_se, forward_df, against_se, against_df: [S, W]; rate: [S, W] derivative of the forward contrast
    by the shift; timing: [S, W] the part of the forward variance that is the timing block's; at, rise: [65] positions
    (log seconds) over the common range at equal time, and the mean slope of the curves there.
    """

    shifts: Array
    zero: int
    estimate: Array
    forward: Array
    against: Array
    forward_se: Array
    forward_df: Array
    against_se: Array
    against_df: Array
    rate: Array
    timing: Array
    at: Array
    rise: Array

    def bounds(self, window: int, level: float) -> tuple[float, float]:
        """Lower and upper end (logs) of one window's interval; level: probability of Student's quantile."""
        t_for = critical_ratio(self.forward[:, window], self.forward_se[:, window], self.forward_df[:, window], level)
        t_against = critical_ratio(
            self.against[:, window], self.against_se[:, window], self.against_df[:, window], level
        )
        return scan_interval(self.shifts, self.zero, t_for, t_against)

    def speedup(self, window: int) -> float:
        """Log speed-up at which the estimate contrast is zero; NaN if it has no zero in the domain."""
        return scan_zero(self.shifts, self.zero, self.estimate[:, window])


def shift_domain(base: Array, method: Array) -> tuple[float, float]:
    """Smallest and largest shift that leave an overlap of half of the shorter range; base, method: [K] knots."""
    half = 0.5 * min(base[-1] - base[0], method[-1] - method[0])
    return float(half - (method[-1] - base[0])), float(base[-1] - method[0] - half)


def shift_grid(low: float, high: float) -> tuple[Array, int]:
    """81 equal shifts from low to high with 0 put in, and the index of that 0."""
    grid = np.linspace(low, high, SHIFTS)
    grid = grid[np.abs(grid) > 1e-9]
    zero = int(np.searchsorted(grid, 0.0))
    return np.insert(grid, zero, 0.0), zero


def weigh(base: Curves, method: Curves, shifts: Array, rho: float) -> tuple[Array, Array, Array]:
    """Positions [S, 65] on the baseline's clock, their weights [S, W, 65] and the mean slope P."""
    low = np.maximum(base.x[0], method.x[0] + shifts)
    high = np.minimum(base.x[-1], method.x[-1] + shifts)
    x = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, POINTS)
    p = np.maximum(0.0, 0.5 * (base.slope(x) + method.slope(x - shifts[:, None])))
    ridge = rho * 0.5 * (base.average_slope + method.average_slope)
    # Two curves that never rise leave nothing to weigh by.
    w = (p + 0.001 * ridge) / (p * p + ridge * ridge) if ridge > 0.0 else np.ones_like(p)
    weights = w[:, None, :] * TRAPEZOIDS
    return x, weights / weights.sum(axis=-1, keepdims=True), p


def contrast(
    base: Curves, method: Curves, spread: Spread, *, rho: float, timing: tuple[float, float] | None = None
) -> Evidence:
    """The evidence at every shift of the domain; timing: variance of the arms' log time ratio and its df."""
    shifts, zero = shift_grid(*shift_domain(base.x, method.x))
    x, weights, rise = weigh(base, method, shifts, rho)
    base_raw, base_envelope = _averages(base, x, weights)
    method_raw, method_envelope = _averages(method, x - shifts[:, None], weights)
    variance, freedom = timing or (0.0, np.inf)

    def against_of(f: Array, g: Array) -> tuple[Array, Array, Array, Array, Array]:
        c = _settle(g[..., 0] - f[..., 0])
        rate = np.gradient(c, shifts, axis=0)
        shared = [(rate * rate * variance, freedom)] if timing else []
        gradient = np.concatenate([-f[..., 1:], g[..., 1:]], axis=-1)
        se, df = spread.standard_error(gradient, shared)
        return c, se, df, rate, shared[0][0] if shared else np.zeros_like(c)

    forward, forward_se, forward_df, rate, part = against_of(base_envelope, method_raw)
    against, against_se, against_df, _, _ = against_of(base_raw, method_envelope)
    return Evidence(
        shifts=shifts,
        zero=zero,
        estimate=_settle(method_envelope[..., 0] - base_envelope[..., 0]),
        forward=forward,
        against=against,
        forward_se=forward_se,
        forward_df=forward_df,
        against_se=against_se,
        against_df=against_df,
        rate=rate,
        timing=part,
        at=x[zero],
        rise=rise[zero],
    )


def scan_interval(shifts: Array, zero: int, t_for: Array, t_against: Array) -> tuple[float, float]:
    """Ends of the interval, scanned outward from no effect; t_for, t_against: [S] in units of the critical value.

    An end at the edge of the domain is a bound ("at least"); -inf or inf is an open end.
    """
    low = _scan_low(shifts, zero, t_for)
    high = -_scan_low(-shifts[::-1], len(shifts) - 1 - zero, -t_against[::-1])
    return low, high


def scan_zero(shifts: Array, zero: int, values: Array) -> float:
    """The zero of a falling function nearest to no effect, by linear interpolation; NaN if there is none."""
    if values[zero] == 0.0:
        return float(shifts[zero])
    if values[zero] < 0.0:
        return -scan_zero(-shifts[::-1], len(shifts) - 1 - zero, -values[::-1])
    beyond = np.flatnonzero(values[zero + 1 :] <= 0.0)
    if not len(beyond):
        return float("nan")
    j = zero + 1 + int(beyond[0])
    return _crossing(shifts, values, j - 1, 0.0)


def _scan_low(shifts: Array, zero: int, t: Array) -> float:
    if t[zero] > 1.0:
        beyond = np.flatnonzero(t[zero + 1 :] <= 1.0)
        return _crossing(shifts, t, zero + int(beyond[0]), 1.0) if len(beyond) else float(shifts[-1])
    before = np.flatnonzero(t[:zero] > 1.0)
    return _crossing(shifts, t, int(before[-1]), 1.0) if len(before) else float("-inf")


def _crossing(shifts: Array, values: Array, i: int, level: float) -> float:
    part = (values[i] - level) / (values[i] - values[i + 1])
    return float(shifts[i] + part * (shifts[i + 1] - shifts[i]))


def critical_ratio(c: Array, se: Array, df: Array, level: float) -> Array:
    """Contrasts in units of their critical value; a contrast without any error decides by its sign."""
    from scipy.special import stdtrit

    critical = se * stdtrit(np.minimum(df, 1e6), level)
    sure = np.where(c == 0.0, 0.0, np.copysign(1e12, c))
    return np.where(critical > 0.0, np.clip(c / np.where(critical > 0.0, critical, 1.0), -1e12, 1e12), sure)


def _settle(c: Array) -> Array:
    """Differences that are only rounding become exactly zero, so that a copy of an arm is exactly a tie."""
    return np.where(np.abs(c) < 1e-13, 0.0, c)


def _averages(curves: Curves, at: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted means of the raw and the envelope curve with their gradients: two arrays [S, W, 1 + K].

    A weighted mean of a piecewise cubic is its coefficients times the weighted moments of the positions, and the
    moments serve every curve of the arm.
    """
    which, u = curves.locate(at)
    pieces = len(curves.x) - 1
    powers = np.stack([np.ones_like(u), u, u * u, u * u * u], axis=-1)
    inside = which[..., None] == np.arange(pieces)
    basis = (inside[..., None] * powers[..., None, :]).reshape(*at.shape, pieces * 4)
    moments = weights @ basis

    def mean(value: Array, gradient: Array) -> Array:
        table = np.concatenate([value[None], gradient]).reshape(len(gradient) + 1, -1)
        return np.asarray(moments @ table.T)

    return mean(curves.raw, curves.raw_gradient), mean(curves.envelope, curves.envelope_gradient)
