"""The definition of the verdict read literally: loops, scipy's own PCHIP, no vectorisation.

Slow and short on purpose: the tests compare the package's implementation with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import digamma
from scipy.stats import t as student

WINDOWS = ((0, 64), (0, 16), (16, 48), (48, 64))


class ReferenceArm:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(row["duration"], []).append(row)
        cells = []
        for members in groups.values():
            q = np.array([r["quality"] for r in members])
            lt = np.log([r["seconds"] for r in members])
            cells.append((lt.mean(), -np.log(1 - q.mean()), (q - q.mean()) / (1 - q.mean()), lt - lt.mean()))
        cells.sort(key=lambda c: c[0])
        self.x = np.array([c[0] for c in cells])
        self.y = np.array([c[1] for c in cells])
        slope = np.maximum(0, PchipInterpolator(self.x, self.y).derivative()(self.x))
        self.d = [c[2] - b * c[3] for c, b in zip(cells, slope, strict=True)]
        self.n = np.array([len(c[2]) for c in cells])
        self.s2 = np.array([np.sum(d**2) / (len(d) - 1) for d in self.d])
        self.v = self.s2

    def raw(self, y: np.ndarray) -> PchipInterpolator:
        return PchipInterpolator(self.x, y)

    def envelope(self, y: np.ndarray) -> PchipInterpolator:
        return PchipInterpolator(self.x, np.maximum.accumulate(y))


def floor(a: ReferenceArm, b: ReferenceArm) -> None:
    s2 = np.concatenate([a.s2, b.s2])
    nu = np.concatenate([a.n, b.n]) - 1
    s2 = np.maximum(s2, 0.001 * np.median(s2))
    z = np.log(s2) - digamma(nu / 2) + np.log(nu / 2)
    x = np.concatenate([a.x, b.x])
    design = np.stack([np.ones_like(x), x, np.r_[np.zeros(len(a.x)), np.ones(len(b.x))]], axis=1)
    trend = np.exp(design @ np.linalg.lstsq(design, z, rcond=None)[0])
    a.v = np.maximum(a.s2, trend[: len(a.x)] / 2)
    b.v = np.maximum(b.s2, trend[len(a.x) :] / 2)


def contrast(b: ReferenceArm, m: ReferenceArm, s: float, window: tuple[int, int], forward: bool, rho: float = 0.4):
    """(C, se, df) of the evidence for (forward) or against the method at shift s."""
    lo, hi = max(b.x[0], m.x[0] + s), min(b.x[-1], m.x[-1] + s)
    x = np.linspace(lo, hi, 65)
    eb, em = b.envelope(b.y), m.envelope(m.y)
    p = np.maximum(0, (eb.derivative()(x) + em.derivative()(np.clip(x - s, m.x[0], m.x[-1]))) / 2)
    average = ((eb(b.x[-1]) - eb(b.x[0])) / (b.x[-1] - b.x[0]) + (em(m.x[-1]) - em(m.x[0])) / (m.x[-1] - m.x[0])) / 2
    w = (p + 0.001 * rho * average) / (p**2 + (rho * average) ** 2)
    trapezoid = np.zeros(65)
    trapezoid[window[0] : window[1] + 1] = 1
    trapezoid[[window[0], window[1]]] = 0.5
    w = w * trapezoid
    w = w / w.sum()
    make_f, make_g = (b.envelope, m.raw) if forward else (b.raw, m.envelope)
    xm = np.clip(x - s, m.x[0], m.x[-1])

    def value(yb: np.ndarray, ym: np.ndarray) -> float:
        return float(np.sum(w * (make_g(ym)(xm) - make_f(yb)(x))))

    terms, freedoms = [], []
    for arm, which in ((b, 0), (m, 1)):
        for k in range(len(arm.x)):
            step = np.sqrt(arm.v[k] / arm.n[k])
            up, down = arm.y.copy(), arm.y.copy()
            up[k] += step
            down[k] -= step
            if which == 0:
                g = (value(up, m.y) - value(down, m.y)) / (2 * step)
            else:
                g = (value(b.y, up) - value(b.y, down)) / (2 * step)
            terms.append(g**2 * arm.v[k] / arm.n[k])
            freedoms.append(arm.n[k] - 1)
    total = sum(terms)
    return (
        value(b.y, m.y),
        np.sqrt(total),
        total**2 / sum(a * a / f for a, f in zip(terms, freedoms, strict=True)),
    )


def lower_end(b: ReferenceArm, m: ReferenceArm, window: tuple[int, int], level: float) -> float:
    """log of the lower end; level is the probability at which Student's quantile is taken."""
    half = 0.5 * min(b.x[-1] - b.x[0], m.x[-1] - m.x[0])
    grid = np.linspace(half - (m.x[-1] - b.x[0]), b.x[-1] - m.x[0] - half, 81)
    s = np.unique(np.r_[grid[np.abs(grid) > 1e-9], 0.0])

    def t_of(i: int) -> float:
        c, se, df = contrast(b, m, float(s[i]), window, True)
        return c / (se * student.ppf(level, df))

    i = int(np.flatnonzero(s == 0)[0])
    here = t_of(i)
    if here > 1:
        while i + 1 < len(s):
            there = t_of(i + 1)
            if there <= 1:
                return float(s[i] + (here - 1) / (here - there) * (s[i + 1] - s[i]))
            i, here = i + 1, there
        return float(s[-1])
    while i > 0:
        there = t_of(i - 1)
        if there > 1:
            return float(s[i - 1] + (there - 1) / (there - here) * (s[i] - s[i - 1]))
        i, here = i - 1, there
    return -np.inf


def interval(
    rows: list[dict[str, Any]], baseline: str, method: str, window: int = 0, alpha: float = 0.05
) -> tuple[float, float]:
    """(low, high) as ratios; the upper end is the mirrored lower end of the swapped comparison."""
    b = ReferenceArm([r for r in rows if r["arm"] == baseline])
    m = ReferenceArm([r for r in rows if r["arm"] == method])
    floor(b, m)
    level = 1 - alpha / 2
    return float(np.exp(lower_end(b, m, WINDOWS[window], level))), float(
        np.exp(-lower_end(m, b, WINDOWS[window], level))
    )
