"""Simulated points with a known truth, and the rows of the specification's tables.

A truth is an error curve over time; noise is added to the accuracy of every run. Shared by the tests and by
benchmarks/operating_characteristics.py, so both judge the same definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Curve = Callable[[np.ndarray], np.ndarray]
Noise = Callable[[np.random.Generator, int], np.ndarray]


def standard(t: np.ndarray) -> np.ndarray:
    """Error of a power law: .230, .162, .117, .087, .068 at 60, 120, ... seconds."""
    return 0.03 + 0.20 * (t / 60.0) ** -0.6


def saturating(t: np.ndarray) -> np.ndarray:
    """Error that stops falling after about four times the shortest duration."""
    return 0.05 + 0.18 * np.exp(1.0 - t / 60.0)


def flat(t: np.ndarray) -> np.ndarray:
    """An error of 8 % whatever the time."""
    return np.full_like(np.asarray(t, dtype=float), 0.08)


def faster(curve: Curve, speedup: float) -> Curve:
    """The curve of a method that needs `speedup` times less time everywhere."""
    return lambda t: curve(np.asarray(t) * speedup)


def lifted(curve: Curve, factor: float) -> Curve:
    """The curve of a method whose error is `factor` times the baseline's at equal time."""
    return lambda t: factor * curve(np.asarray(t))


def overtrained(curve: Curve, drop: float, longest: float) -> Curve:
    """The curve up to half of the longest time; from there quality falls, by `drop` in all (0: stays)."""

    def error(t: np.ndarray) -> np.ndarray:
        t = np.asarray(t, dtype=float)
        peak = curve(np.array([longest / 2.0]))[0]
        return np.where(t > 0.75 * longest, peak + drop, curve(np.minimum(t, longest / 2.0)))

    return error


def crossing(
    curve: Curve, early: float, late: float, times: np.ndarray, *, start: float = 0.0, stop: float = 1.0
) -> Curve:
    """A method whose log speed-up goes linearly in log time from log(early) to log(late).

    start, stop: parts of the log range of `times` between which it changes; constant before and after.
    """
    span = np.log(times[-1] / times[0])
    first, last = np.log(times[0]) + start * span, np.log(times[0]) + stop * span

    def method(t: np.ndarray) -> np.ndarray:
        # The speed-up belongs to the baseline's time, so the inverse map is tabulated and interpolated.
        clock = np.linspace(np.log(times[0]) - 1.0, np.log(times[-1]) + 1.0, 4001)
        part = np.clip((clock - first) / (last - first), 0.0, 1.0)
        own = clock - (np.log(early) + part * (np.log(late) - np.log(early)))
        return curve(np.exp(np.interp(np.log(t), own, clock)))

    return method


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal(n)


def heavy(rng: np.random.Generator, n: int) -> np.ndarray:
    """Student's t with three degrees of freedom, scaled to variance one."""
    return rng.standard_t(3, n) / np.sqrt(3.0)


def outliers(rng: np.random.Generator, n: int) -> np.ndarray:
    """Normal, with one run in ten four standard deviations worse."""
    return rng.standard_normal(n) - 4.0 * (rng.random(n) < 0.1)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """A centred exponential."""
    return rng.exponential(1.0, n) - 1.0


def durations(k: int, first: float = 60.0) -> np.ndarray:
    return first * 2.0 ** np.arange(k)


def arm_points(
    name: str,
    curve: Curve,
    times: np.ndarray,
    n: int,
    sds: np.ndarray | float,
    rng: np.random.Generator,
    *,
    noise: Noise = normal,
    first_seed: int = 0,
    seeds: Sequence[Sequence[int]] | None = None,
) -> list[dict[str, Any]]:
    """Points of one arm: fresh seeds per duration unless `seeds` says otherwise."""
    spread = np.broadcast_to(np.asarray(sds, dtype=float), times.shape)
    truth = 1.0 - curve(times)
    rows = []
    for k, t in enumerate(times):
        draws = truth[k] + spread[k] * noise(rng, n)
        own = seeds[k] if seeds is not None else range(first_seed + k * n, first_seed + (k + 1) * n)
        rows += [
            {"arm": name, "duration": f"{k}", "seed": int(s), "seconds": float(t), "quality": float(q)}
            for s, q in zip(own, draws, strict=True)
        ]
    return rows


def two_arms(
    base: Curve,
    method: Curve,
    rng: np.random.Generator,
    *,
    n: int = 3,
    k: int = 5,
    sd: np.ndarray | float = 0.004,
    method_sd: np.ndarray | float | None = None,
    noise: Noise = normal,
) -> list[dict[str, Any]]:
    """Points of a baseline "a" and a method "b" with equal durations and fresh seeds everywhere."""
    times = durations(k)
    rows = arm_points("a", base, times, n, sd, rng, noise=noise)
    return rows + arm_points(
        "b", method, times, n, sd if method_sd is None else method_sd, rng, noise=noise, first_seed=1000
    )


def correlated(
    base: Curve,
    method: Curve,
    rng: np.random.Generator,
    *,
    n: int,
    rho: float,
    mode: str,
    k: int = 5,
    sd: float = 0.004,
) -> list[dict[str, Any]]:
    """Points whose noise is shared: mode "pairs" (per duration), "arm" (over durations) or "all"."""
    times = durations(k)
    common = {
        "pairs": np.broadcast_to(rng.standard_normal((1, k, n)), (2, k, n)),
        "arm": np.broadcast_to(rng.standard_normal((2, 1, n)), (2, k, n)),
        "all": np.broadcast_to(rng.standard_normal((1, 1, n)), (2, k, n)),
    }[mode]
    draws = np.sqrt(rho) * common + np.sqrt(1.0 - rho) * rng.standard_normal((2, k, n))
    rows = []
    for a, (name, curve) in enumerate((("a", base), ("b", method))):
        for j, t in enumerate(times):
            for i in range(n):
                seed = {"pairs": j * n + i, "arm": 100 * a + i, "all": i}[mode]
                quality = 1.0 - float(curve(np.array([t]))[0]) + sd * draws[a, j, i]
                rows.append(
                    {
                        "arm": name,
                        "duration": str(j),
                        "seed": seed,
                        "seconds": float(t),
                        "quality": float(quality),
                    }
                )
    return rows
