"""The verdict against a slow restatement of its definition, on seeded random point files.

The restatement was written from the definition alone, without sight of the package, and follows its numbered steps.
It favours being read over being fast: one loop per shift, scipy's PCHIP, one function per step. It is silent where
the definition is: seeds repeated over cells of unequal size, and pairs declared for arms that cannot be paired.
"""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace as Record
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.special import digamma
from scipy.stats import t as student

from reinvest.evaluation import verdict

ALPHA, RHO, MARGIN = 0.05, 0.4, math.log(1.05)
SIDAK = 1 - (1 - ALPHA) ** (1 / 3)
PARTS = {"whole": slice(0, 65), "short": slice(0, 17), "middle": slice(16, 49), "long": slice(48, 65)}
WINDOWS = ("short", "middle", "long")
Row = dict[str, Any]


# ------------------------------------------------------------------------------------------------ step 1: cells
def cells_of(rows: list[Row], loss: bool, test_examples: int | None) -> list[Record]:
    """Average first, transform afterwards; deviations are relative to the mean error, less what the clock explains."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["duration"]].append(row)
    cells = []
    for group in groups.values():
        error = np.array([r["quality"] if loss else 1 - r["quality"] for r in group])
        log_t = np.log([r["seconds"] for r in group])
        mean = error.mean()
        if test_examples and not loss and mean in (0.0, 1.0):
            mean = (mean * test_examples + 0.5) / (test_examples + 1)
        cell = Record(seeds=[r["seed"] for r in group], n=len(group), x=log_t.mean(), y=-math.log(mean))
        cell.d, cell.clock = -(error - error.mean()) / mean, log_t - log_t.mean()
        cells.append(cell)
    cells.sort(key=lambda c: c.x)
    slope = PchipInterpolator([c.x for c in cells], [c.y for c in cells]).derivative()
    for c in cells:
        c.d = c.d - max(0.0, float(slope(c.x))) * c.clock
        c.s2 = float(np.sum(c.d**2)) / (c.n - 1)
    return cells


# ------------------------------------------------------------------------------------------------ step 2: floor
def set_floor(base: list[Record], method: list[Record]) -> None:
    """v: the cell variance, not below half of the log-linear trend over time and arm."""
    cells = base + method
    s2 = np.array([c.s2 for c in cells])
    nu = np.array([c.n - 1.0 for c in cells])
    z = np.log(np.maximum(s2, 0.001 * np.median(s2))) - digamma(nu / 2) + np.log(nu / 2)
    design = np.column_stack([np.ones(len(cells)), [c.x for c in cells], [0.0] * len(base) + [1.0] * len(method)])
    trend = np.exp(design @ np.linalg.lstsq(design, z, rcond=None)[0])
    for c, half in zip(cells, trend / 2, strict=True):
        c.v = max(c.s2, half)


# ------------------------------------------------------------------------------------------------ step 3: curves
class Curve:
    """PCHIP through the cell means (or their running maximum), with central differences for every cell mean."""

    def __init__(self, cells: list[Record], envelope: bool) -> None:
        self.x = np.array([c.x for c in cells])
        self.step = np.array([math.sqrt(c.v / c.n) for c in cells])
        y, moved = np.array([c.y for c in cells]), np.diag(self.step)
        table = np.vstack([y, y + moved, y - moved]).T  # one column a curve: as it is, each mean up, each mean down
        if envelope:
            table = np.maximum.accumulate(table, axis=0)
        self.curves = PchipInterpolator(self.x, table)
        self.derivative = PchipInterpolator(self.x, table[:, 0]).derivative()
        self.average_slope = (table[-1, 0] - table[0, 0]) / (self.x[-1] - self.x[0])

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k, v = len(self.x), self.curves(np.clip(x, self.x[0], self.x[-1]))
        return v[:, 0], (v[:, 1 : k + 1] - v[:, k + 1 :]) / (2 * self.step)

    def slope(self, x: np.ndarray) -> np.ndarray:
        return self.derivative(np.clip(x, self.x[0], self.x[-1]))


# --------------------------------------------------------------------------- step 4 and 1b: the variance of a contrast
def block(cells: list[Record], gradient: np.ndarray) -> tuple[float, float]:
    """One block: what a seed adds is summed over the cells before it is squared."""
    z: dict[Any, float] = defaultdict(float)
    for c, g in zip(cells, gradient, strict=True):
        for seed, d in zip(c.seeds, c.d, strict=True):
            z[seed] += g * d / c.n
    m = len(z)
    return m / (m - 1) * sum(v * v for v in z.values()), m - 1


def repeats(cells: list[Record]) -> bool:
    return len({s for c in cells for s in c.seeds}) < sum(c.n for c in cells)


def error_of(base: list[Record], method: list[Record], gb: np.ndarray, gm: np.ndarray, paired: bool) -> tuple:
    """Standard error and Welch-Satterthwaite degrees of freedom."""
    if paired and (repeats(base) or repeats(method)):
        parts = [block(base + method, np.concatenate([gb, gm]))]
    elif paired:
        parts = [block([b, m], np.array(g)) for b, m, g in zip(base, method, zip(gb, gm, strict=True), strict=True)]
    else:
        parts = []
        for cells, g in ((base, gb), (method, gm)):
            if repeats(cells):
                parts.append(block(cells, g))
            else:
                parts += [(h * h * c.v / c.n, c.n - 1) for c, h in zip(cells, g, strict=True)]
    a, nu = (np.array(column, float) for column in zip(*parts, strict=True))
    return math.sqrt(a.sum()), a.sum() ** 2 / np.sum(a**2 / nu) if a.sum() > 0 else nu.min()


# ------------------------------------------------------------------------------------------------ step 4: contrast
def contrasts(base: list[Record], method: list[Record], curves: Record, s: float, paired: bool) -> dict[str, Record]:
    """Per part of the overlap: the estimate C(E, E), and C with its error for and against the method, at shift s."""
    xb, xm = curves.env_b.x, curves.env_m.x
    x = np.linspace(max(xb[0], xm[0] + s), min(xb[-1], xm[-1] + s), 65)
    (env_b, g_env_b), (raw_b, g_raw_b) = curves.env_b.at(x), curves.raw_b.at(x)
    (env_m, g_env_m), (raw_m, g_raw_m) = curves.env_m.at(x - s), curves.raw_m.at(x - s)
    p = np.maximum(0, (curves.env_b.slope(x) + curves.env_m.slope(x - s)) / 2)
    ridge = RHO * (curves.env_b.average_slope + curves.env_m.average_slope) / 2
    weight = (p + 0.001 * ridge) / (p**2 + ridge**2) if ridge > 0 else np.ones(65)
    found = {}
    for part, i in PARTS.items():
        w = weight[i].copy()
        w[[0, -1]] /= 2
        w /= w.sum()
        found[part] = Record(
            estimate=exact(w @ (env_m - env_b)[i]),
            forward=(exact(w @ (raw_m - env_b)[i]), *error_of(base, method, -w @ g_env_b[i], w @ g_raw_m[i], paired)),
            against=(exact(w @ (env_m - raw_b)[i]), *error_of(base, method, -w @ g_raw_b[i], w @ g_env_m[i], paired)),
        )
    return found


def exact(c: float) -> float:
    """Rounding is no evidence."""
    return 0.0 if abs(c) < 1e-13 else float(c)


# ------------------------------------------------------------------------------------- steps 5 to 8: the scans
def lower_end(s: np.ndarray, t: np.ndarray) -> float:
    """Outward from no effect, by linear interpolation; the end of the domain is a bound."""

    def between(i: int) -> float:
        return s[i] + (s[i + 1] - s[i]) * (1 - t[i]) / (t[i + 1] - t[i])

    zero = int(np.flatnonzero(s == 0)[0])
    if t[zero] > 1:
        return next((between(i) for i in range(zero, len(s) - 1) if t[i + 1] <= 1), s[-1])
    return next((between(i) for i in range(zero - 1, -1, -1) if t[i] > 1), -math.inf)


def interval(s: np.ndarray, scan: list[dict[str, Record]], part: str, alpha: float) -> tuple[float, float]:
    def ratio(name: str) -> np.ndarray:
        c, se, df = np.array([getattr(found[part], name) for found in scan]).T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(c == 0, 0, np.clip(c / (se * student.ppf(1 - alpha / 2, df)), -1e12, 1e12))

    return lower_end(s, ratio("forward")), -lower_end(-s[::-1], -ratio("against")[::-1])


def estimate(s: np.ndarray, c: np.ndarray) -> float:
    """The zero met first when walking from no effect to where the sign points."""
    i = int(np.flatnonzero(s == 0)[0])
    step = 1 if c[i] > 0 else -1
    while c[i] != 0:
        j = i + step
        if not 0 <= j < len(s):
            return math.nan
        if c[i] * c[j] <= 0:
            return s[i] + (s[j] - s[i]) * c[i] / (c[i] - c[j])
        i = j
    return s[i]


# ------------------------------------------------------------------------------------------------ step 9: verdict
def restated(rows: list[Row], *, loss: bool = False, paired: bool = False, test_examples: int | None = None) -> Record:
    done = [r for r in rows if r["status"] == "finished"]
    base, method = (cells_of([r for r in done if r["arm"] == a], loss, test_examples) for a in ("base", "m"))
    set_floor(base, method)
    curves = Record(env_b=Curve(base, True), raw_b=Curve(base, False))
    curves.env_m, curves.raw_m = Curve(method, True), Curve(method, False)
    xb, xm = curves.env_b.x, curves.env_m.x
    half = min(xb[-1] - xb[0], xm[-1] - xm[0]) / 2
    s = np.unique(np.append(np.linspace(xb[0] - xm[-1] + half, xb[-1] - xm[0] - half, 81), 0.0))
    s = s[(s == 0) | (abs(s) > 1e-9)]
    scan = [contrasts(base, method, curves, float(v), paired) for v in s]
    shift = {part: estimate(s, np.array([found[part].estimate for found in scan])) for part in PARTS}
    low, high = interval(s, scan, "whole", ALPHA)
    band = {w: interval(s, scan, w, SIDAK) for w in WINDOWS}
    gains, losses = any(b[0] > 0 for b in band.values()), any(b[1] < 0 for b in band.values())
    if gains and losses:
        name = "mixed"
    elif low > 0 and not losses:
        name = "better"
    elif high < 0 and not gains:
        name = "worse"
    elif all(a > -MARGIN and b < MARGIN for a, b in (interval(s, scan, part, 0.10) for part in PARTS)):
        name = "equivalent"
    else:
        name = "inconclusive"
    here = scan[int(np.flatnonzero(s == 0)[0])]["whole"]
    (cf, sf, df), (ca, sa, da) = here.forward, here.against
    lift = here.estimate, cf - sf * student.ppf(1 - ALPHA / 2, df), ca + sa * student.ppf(1 - ALPHA / 2, da)
    middle = (max(xb[0], xm[0]) + min(xb[-1], xm[-1])) / 2
    error = math.exp(-curves.env_b.at(np.array([middle]))[0][0])
    numbers = [math.exp(v) for v in (shift["whole"], low, high)] + [error * (1 - math.exp(-c)) for c in lift]
    for w in WINDOWS:
        numbers += [math.exp(v) for v in (shift[w], *band[w])]
    return Record(verdict=name, numbers=numbers)


# ------------------------------------------------------------------------------------------------ random point files
def point_file(seed: int) -> tuple[list[Row], dict[str, Any]]:
    """Rows of arms "base" and "m", and how they are to be read."""
    rng = np.random.default_rng(seed)
    loss, paired = rng.random() < 0.25, rng.random() < 0.25
    fresh, unequal, copy, perfect = rng.random() < 0.6, rng.random() < 0.4, rng.random() < 0.08, rng.random() < 0.08
    k = int(rng.integers(4, 8))
    j = k if paired else int(rng.integers(3, 8))
    shape = rng.choice(["power", "power", "saturating", "flat", "overtrained", "only the baseline"])
    speedup, cross = rng.choice([0.5, 0.9, 1, 1, 1.1, 1.5, 3]), rng.choice([0, 0, 0.2, -0.2, 0.4])
    factor, slower = rng.choice([1, 1, 1, 0.9, 0.5, 1.2]), 1.0 if paired else rng.choice([1, 1, 1.4, 0.6])
    sd, jitter, step = rng.choice([0.0005, 0.002, 0.008]), rng.choice([0, 0, 0.02, 0.1]), rng.choice([1.6, 2.0])
    first, n0 = 60 * (step if j < k and rng.random() < 0.5 else 1), int(rng.integers(3, 11))
    shared = rng.standard_normal(10)
    rows = []
    for a, (arm, times) in enumerate((("base", 60 * step ** np.arange(k)), ("m", first * step ** np.arange(j)))):
        for i, t in enumerate(times):
            own = t * (speedup * math.exp(cross * (1 - 2 * i / (len(times) - 1))) if a else 1)
            error = {"saturating": 0.05 + 0.18 * math.exp(1 - own / 60), "flat": 0.08}.get(
                shape, 0.03 + 0.2 * (own / 60) ** -0.6
            )
            error *= factor if a else 1
            if i == len(times) - 1 and (shape == "overtrained" or (shape == "only the baseline" and not a)):
                error += 0.03
            size = sd * rng.choice([0.5, 1, 3])
            for r in range(int(rng.integers(3, 11)) if unequal and fresh and not paired else n0):
                noise = 0.6 * (shared[r] if not fresh or paired else 0) + 0.8 * rng.standard_normal()
                e = float(np.clip(error + size * noise, 0.002, 0.9))
                number = (100 * i if fresh else 0) + (0 if paired else 5000 * a) + r
                seconds = float(t * (slower if a else 1) * math.exp(jitter * rng.standard_normal()))
                quality = 10 * e if loss else 1 - e
                if perfect and not loss and a and i == len(times) - 1:
                    quality = 1.0
                lost = fresh and not paired and r > 3 and rng.random() < 0.05
                row = {"arm": arm, "duration": float(t), "seed": number, "seconds": seconds, "quality": quality}
                rows.append(row | {"status": "diverged" if lost else "finished"})
    if copy:
        rows = [r for r in rows if r["arm"] == "base"]
        rows += [r | {"arm": "m", "seed": r["seed"] + (0 if paired else 5000)} for r in rows]
    order = rng.permutation(len(rows))
    return [rows[i] for i in order], {"loss": loss, "paired": paired, "test_examples": 500 if perfect else None}


def overlaps(rows: list[Row]) -> bool:
    """True if the arms share at least half of the shorter range of times, which every verdict needs."""
    x: dict[Any, list[float]] = defaultdict(list)
    for r in rows:
        if r["status"] == "finished":
            x[r["arm"], r["duration"]].append(math.log(r["seconds"]))
    b, m = (sorted(float(np.mean(v)) for (arm, _), v in x.items() if arm == a) for a in ("base", "m"))
    return min(b[-1], m[-1]) - max(b[0], m[0]) >= 0.5 * min(b[-1] - b[0], m[-1] - m[0]) - 1e-9


def judged(rows: list[Row], *, loss: bool, paired: bool, test_examples: int | None) -> Any:
    options: dict[str, Any] = {"metric": "loss", "higher_is_better": False} if loss else {}
    return verdict(rows, "base", pairs="duration" if paired else None, test_examples=test_examples, **options)["m"]


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_verdict_equals_the_restated_definition(start: int) -> None:
    for seed in range(start, start + 10):
        rows, options = point_file(seed)
        found = judged(rows, **options)
        if not overlaps(rows):
            assert found.verdict == "not comparable", seed
            continue
        expected = restated(rows, **options)
        assert found.verdict == expected.verdict, (seed, found.reasons)
        numbers = [found.speedup, found.low, found.high, found.gain, found.gain_low, found.gain_high]
        for w in found.windows:
            numbers += [w.speedup, w.low, w.high]
        assert numbers == pytest.approx(expected.numbers, rel=1e-6, abs=1e-9, nan_ok=True), seed


def test_the_point_files_reach_every_verdict() -> None:
    words = {judged(rows, **options).verdict for rows, options in map(point_file, range(60))}
    assert words == {"better", "worse", "mixed", "equivalent", "inconclusive", "not comparable"}
