"""The specification's tables of power, gains and crossings as settings, and what all settings are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import simulated_points as sim

SEEDS = (3, 5, 10)
Draw = Callable[[np.random.Generator], list[dict[str, Any]]]


def setting(
    table: str,
    scenario: str,
    n: int,
    draw: Draw,
    truth: float | None = 1.0,
    expected: dict[str, float] | None = None,
    **options: Any,
) -> dict[str, Any]:
    return {
        "table": table,
        "scenario": scenario,
        "n": n,
        "draw": draw,
        "truth": truth,
        "expected": expected or {},
        "options": options,
    }


def halving(k: int, sd: float) -> np.ndarray:
    """The noise halves per doubling of time; sd is the middle duration's."""
    return sd * 2.0 ** ((k - 1) / 2.0 - np.arange(k))


POWER = {
    1.05: (
        (0.62, 0.90, 1),
        (0.19, 0.34, 0.68),
        (0.07, 0.12, 0.24),
        (0.20, 0.37, 0.72),
        (0.25, 0.46, 0.72),
        (0.10, 0.19, 0.36),
        (0.09, 0.17, 0.38),
        (0.23, 0.46, 0.79),
        (0.14, 0.27, 0.54),
    ),
    1.1: (
        (0.99, 1, 1),
        (0.59, 0.88, 1),
        (0.17, 0.32, 0.65),
        (0.64, 0.92, 1),
        (0.66, 0.90, 0.98),
        (0.31, 0.53, 0.86),
        (0.26, 0.49, 0.83),
        (0.71, 0.96, 1),
        (0.43, 0.73, 0.98),
    ),
    1.2: (
        (1, 1, 1),
        (0.98, 1, 1),
        (0.53, 0.83, 0.99),
        (0.99, 1, 1),
        (0.94, 1, 1),
        (0.73, 0.96, 1),
        (0.70, 0.94, 1),
        (1, 1, 1),
        (0.92, 1, 1),
    ),
    1.3: (
        (1, 1, 1),
        (1, 1, 1),
        (0.82, 0.99, 1),
        (1, 1, 1),
        (0.98, 1, 1),
        (0.92, 1, 1),
        (0.90, 1, 1),
        (1, 1, 1),
        (1, 1, 1),
    ),
}


def power_settings() -> Iterator[dict[str, Any]]:
    columns: tuple[tuple[str, sim.Curve, dict[str, Any]], ...] = (
        ("sd .002", sim.standard, {"sd": 0.002}),
        ("sd .004", sim.standard, {}),
        ("sd .008", sim.standard, {"sd": 0.008}),
        ("halving", sim.standard, {"sd": halving(5, 0.004)}),
        ("t3", sim.standard, {"noise": sim.heavy}),
        ("outliers", sim.standard, {"noise": sim.outliers}),
        ("saturating", sim.saturating, {}),
        ("4 durations", sim.standard, {"k": 4}),
        ("6 durations", sim.standard, {"k": 6}),
    )
    for speedup, figures in POWER.items():
        for (name, curve, noise), column in zip(columns, figures, strict=True):
            for n, figure in zip(SEEDS, column, strict=True):
                yield setting(
                    "power",
                    f"{speedup}, {name}",
                    n,
                    drawing(curve, sim.faster(curve, speedup), n, noise),
                    truth=speedup,
                    expected={"better": figure},
                )


def drawing(base: sim.Curve, method: sim.Curve, n: int, noise: dict[str, Any]) -> Draw:
    return lambda rng: sim.two_arms(base, method, rng, n=n, **noise)


def gain_settings() -> Iterator[dict[str, Any]]:
    table = (
        (
            "standard",
            sim.standard,
            0.98,
            ((0.002, (0.58, 0.88, 1)), (0.004, (0.18, 0.31, 0.64)), (0.008, (0.07, 0.12, 0.23))),
        ),
        (
            "standard",
            sim.standard,
            0.95,
            ((0.002, (1, 1, 1)), (0.004, (0.76, 0.98, 1)), (0.008, (0.25, 0.47, 0.81))),
        ),
        ("standard", sim.standard, 0.90, ((0.002, (1, 1, 1)), (0.004, (1, 1, 1)), (0.008, (0.76, 0.98, 1)))),
        ("saturating", sim.saturating, 0.95, ((0.002, (0.78, 0.98, 1)), (0.004, (0.26, 0.50, 0.83)))),
        ("saturating", sim.saturating, 0.90, ((0.002, (1, 1, 1)), (0.004, (0.79, 0.98, 1)))),
        ("flat", sim.flat, 0.95, ((0.002, (0.62, 0.92, 1)), (0.004, (0.13, 0.33, 0.72)))),
        ("flat", sim.flat, 0.90, ((0.002, (0.99, 1, 1)), (0.004, (0.63, 0.92, 1)))),
    )
    for name, curve, factor, columns in table:
        for sd, figures in columns:
            for n, figure in zip(SEEDS, figures, strict=True):
                yield setting(
                    "gain",
                    f"{name}, error x {factor}, sd {sd}",
                    n,
                    drawing(curve, sim.lifted(curve, factor), n, {"sd": sd}),
                    None,
                    {"better": figure},
                )


def crossing_settings() -> Iterator[dict[str, Any]]:
    t = sim.durations(5)
    table = (
        (
            "+20 to -20 %",
            sim.standard,
            1.2,
            1 / 1.2,
            0.004,
            ((0.021, 0.008, 0.034), (0.026, 0.001, 0.22), (0.026, 0, 0.54)),
        ),
        (
            "-20 to +20 %",
            sim.standard,
            1 / 1.2,
            1.2,
            0.004,
            ((0.005, 0.021, 0.068), (0, 0.034, 0.25), (0, 0.040, 0.63)),
        ),
        (
            "+20 to -20 %, sd .002",
            sim.standard,
            1.2,
            1 / 1.2,
            0.002,
            ((0.024, 0, 0.33), (0.024, 0, 0.80), (0.002, 0, 1)),
        ),
        (
            "-20 to +20 %, sd .002",
            sim.standard,
            1 / 1.2,
            1.2,
            0.002,
            ((0, 0.026, 0.45), (0, 0.022, 0.88), (0, 0, 1)),
        ),
        (
            "+44 to -20 %",
            sim.standard,
            1.44,
            1 / 1.2,
            0.004,
            ((0.46, 0, 0.04), (0.70, 0, 0.12), (0.66, 0, 0.34)),
        ),
        (
            "only early x1.3",
            sim.standard,
            1.3,
            1.0,
            0.004,
            ((0.26, 0, 0.003), (0.47, 0, 0.006), (0.80, 0, 0.008)),
        ),
        (
            "only late x1.3",
            sim.standard,
            1.0,
            1.3,
            0.004,
            ((0.32, 0, 0.001), (0.57, 0, 0.002), (0.89, 0, 0.009)),
        ),
        ("step x1.4 to x.7", sim.standard, 1.4, 0.7, 0.004, ((0.018, 0, 0.57), (0.008, 0, 0.97), (0, 0, 1))),
        (
            "saturating, +20 to -20 %",
            sim.saturating,
            1.2,
            1 / 1.2,
            0.004,
            ((0.12, 0, 0.004), (0.22, 0, 0.007), (0.50, 0, 0.010)),
        ),
    )
    for name, curve, early, late, sd, figures in table:
        # "Only early" is over at the middle of the range, "only late" begins there.
        start, stop = {
            "only early x1.3": (0.0, 0.5),
            "only late x1.3": (0.5, 1.0),
            "step x1.4 to x.7": (0.499, 0.501),
        }.get(name, (0.0, 1.0))
        method = sim.crossing(curve, early, late, t, start=start, stop=stop)
        for n, row in zip(SEEDS, figures, strict=True):
            yield setting(
                "crossing",
                name,
                n,
                drawing(curve, method, n, {"sd": sd}),
                None,
                dict(zip(("better", "worse", "mixed"), row, strict=True)),
            )
    for sd, figures in (
        (0.0005, (0.93, 0.96, 0.95)),
        (0.001, (0.24, 0.69, 0.94)),
        (0.002, (0.001, 0.01, 0.27)),
    ):
        for n, figure in zip(SEEDS, figures, strict=True):
            yield setting(
                "equivalent",
                f"S = 1, sd {sd}",
                n,
                drawing(sim.standard, sim.standard, n, {"sd": sd}),
                expected={"equivalent": figure},
            )
