"""Cells: the runs of one arm at one duration, on the scale on which curves are fitted.

The scale is -log(error), error = 1 - quality where higher is better and the loss itself otherwise. A cell is
averaged first and transformed afterwards: transforming every run first would give the noisier arm a bonus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .curves import Array, pchip_slopes
from .points import Point, by_duration

# Mean log seconds closer than this count as one time.
TIED = 1e-9


@dataclass(frozen=True)
class Scale:
    """The fitting scale of a metric."""

    higher_is_better: bool

    def error(self, quality: Array) -> Array:
        """1 - quality, or the loss itself."""
        return np.asarray(1.0 - quality if self.higher_is_better else quality, dtype=np.float64)

    def quality(self, y: Array) -> Array:
        """Quality in the metric's units from values y of the fitting scale."""
        error = np.exp(-np.asarray(y, dtype=np.float64))
        return np.asarray(1.0 - error if self.higher_is_better else error)


@dataclass(frozen=True)
class Arm:
    """The cells of one arm, sorted by time.

    labels: durations; x: [K] mean log seconds; y: [K] fitted-scale means; n: [K] runs; quality: [K] metric means;
    sd: [K] seed standard deviation of the metric; deviations: K arrays [n_k] on the fitted scale, less what timing
    noise explains; s2: [K] their variances; time_variance: [K] variance of the mean log seconds; clusters: K tuples [n_k] of what makes runs independent;
    seconds_per_step: geometric mean over cells, or None where any run lacks its steps.
    """

    name: str
    labels: tuple[str, ...]
    x: Array
    y: Array
    n: Array
    quality: Array
    sd: Array
    deviations: tuple[Array, ...]
    s2: Array
    time_variance: Array
    clusters: tuple[tuple[str, ...], ...]
    seconds_per_step: float | None

    @property
    def has_curve(self) -> bool:
        """True with at least two durations, all different in time."""
        return len(self.x) > 1 and float(np.diff(self.x).min()) >= TIED


def build_arm(
    name: str,
    points: Sequence[Point],
    scale: Scale,
    *,
    test_examples: int | None = None,
    clusters: str = "trunk",
) -> Arm:
    """Cells of one arm from its finished points (all finite, seconds > 0, mean errors > 0 after continuity).

    clusters: "study", or "trunk" for the trunk where a point has one and the seed elsewhere.
    """
    groups = sorted(by_duration(points).values(), key=lambda g: float(np.mean(np.log([p.seconds for p in g]))))
    times = [np.log([p.seconds for p in g]) for g in groups]
    qualities = [np.array([p.quality for p in g]) for g in groups]
    x = np.array([t.mean() for t in times])
    errors = [scale.error(q) for q in qualities]
    mean_error = np.array([_cell_error(e, scale, test_examples) for e in errors])
    y = -np.log(mean_error)
    # Tied times have no curve: drawing goes on without one, judging has refused them before.
    drawable = len(x) > 1 and float(np.diff(x).min()) >= TIED
    slope = np.maximum(0.0, pchip_slopes(x, y)) if drawable else np.zeros(len(x))
    # A run that was slower than its cell may be better for that reason alone; the slope says by how much.
    deviations = tuple(
        -_centred(e) / m - b * (t - t.mean()) for e, m, b, t in zip(errors, mean_error, slope, times, strict=True)
    )
    n = np.array([len(g) for g in groups], dtype=np.float64)
    freedom = np.maximum(n - 1.0, 1.0)
    return Arm(
        name=name,
        labels=tuple(g[0].duration for g in groups),
        x=x,
        y=y,
        n=n,
        quality=np.array([q.mean() for q in qualities]),
        sd=np.array([np.sqrt(np.sum(_centred(q) ** 2) / f) for q, f in zip(qualities, freedom, strict=True)]),
        deviations=deviations,
        s2=np.array([np.sum(d * d) for d in deviations]) / freedom,
        time_variance=np.array([np.sum(_centred(t) ** 2) for t in times]) / freedom / n,
        clusters=tuple(tuple(cluster_of(p, clusters) for p in g) for g in groups),
        seconds_per_step=_seconds_per_step(groups),
    )


def cluster_of(point: Point, clusters: str = "trunk") -> str:
    """The unit of independence of a run: its study, else its trunk if it has one, else its seed."""
    if clusters == "study" and point.study:
        return f"study {point.study}"
    return f"trunk {point.trunk}" if point.trunk else f"seed {point.seed}"


def trend_variances(arms: Sequence[Arm]) -> list[Array]:
    """Per arm the cell variances [K], not below half the log-linear trend over all cells.

    Three runs are now and then luckily equal; the trend over time and arm says how unlikely that is.
    """
    from scipy.special import digamma

    s2 = np.concatenate([arm.s2 for arm in arms])
    nu = np.concatenate([arm.n for arm in arms]) - 1.0
    x = np.concatenate([arm.x for arm in arms])
    # Half of the cells may be without any variance: their median is then taken over the others.
    middle = np.median(s2) or np.median(s2[s2 > 0.0])
    z = np.log(np.maximum(s2, 0.001 * middle)) - digamma(nu / 2.0) + np.log(nu / 2.0)
    columns = [np.ones_like(x), x - x.mean()]
    sizes = [len(arm.x) for arm in arms]
    columns += [np.repeat(np.arange(len(arms)) == a, sizes).astype(np.float64) for a in range(1, len(arms))]
    design = np.stack(columns, axis=1)
    trend = np.exp(design @ np.linalg.lstsq(design, z, rcond=None)[0])
    return np.split(np.maximum(s2, 0.5 * trend), np.cumsum(sizes)[:-1])


def _centred(values: Array) -> Array:
    """Deviations from the mean; exactly zero where all values are equal."""
    return np.zeros_like(values) if np.ptp(values) == 0.0 else values - values.mean()


def _cell_error(errors: Array, scale: Scale, test_examples: int | None) -> float:
    """Mean error; no error (or nothing but errors) on a finite test set is moved inside by half an error."""
    mean = float(errors.mean())
    if scale.higher_is_better and test_examples is not None and (mean <= 0.0 or mean >= 1.0):
        return (mean * test_examples + 0.5) / (test_examples + 1.0)
    return mean


def _seconds_per_step(groups: Sequence[Sequence[Point]]) -> float | None:
    means = []
    for group in groups:
        logs = [np.log(p.seconds / p.steps) for p in group if p.steps]
        if len(logs) != len(group):
            return None
        means.append(float(np.mean(logs)))
    return float(np.exp(np.mean(means)))
