"""The settings of the specification's tables, with its figures: what operating_characteristics.py simulates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import simulated_points as sim
from verdict_tables import SEEDS, Draw, crossing_settings, gain_settings, halving, power_settings, setting

IRREGULAR = (np.array([0.4, 3.0, 1.0, 0.6, 2.0]), np.array([2.0, 0.5, 3.0, 0.4, 1.0]))


def null_settings() -> Iterator[dict[str, Any]]:
    long = 960.0
    for i, n in enumerate(SEEDS):
        for k, figures in (
            (4, ((0.014, 0.011, 0.975), (0.021, 0.023, 0.956), (0.027, 0.025, 0.948))),
            (5, ((0.017, 0.016, 0.967), (0.024, 0.024, 0.952), (0.025, 0.027, 0.948))),
            (6, ((0.017, 0.016, 0.967), (0.024, 0.025, 0.951), (0.024, 0.027, 0.948))),
        ):
            for sd in (0.002, 0.004, 0.008):
                yield null(f"{k} durations, sd {sd}", n, sim.standard, sim.standard, figures[i], k=k, sd=sd)
        for sd in (0.004, 0.008):
            yield null(
                f"halving, sd {sd}",
                n,
                sim.standard,
                sim.standard,
                ((0.018, 0.019, 0.963), (0.021, 0.022, 0.957), (0.026, 0.025, 0.949))[i],
                sd=halving(5, sd),
            )
            yield null(
                f"saturating, sd {sd}",
                n,
                sim.saturating,
                sim.saturating,
                ((0.019, 0.011, 0.970), (0.023, 0.023, 0.953), (0.023, 0.025, 0.951))[i],
                sd=sd,
            )
        for name, noise, figures in (
            ("t3 noise", sim.heavy, ((0.011, 0.012, 0.978), (0.018, 0.015, 0.967), (0.022, 0.025, 0.953))),
            (
                "one run in ten 4 sd worse",
                sim.outliers,
                ((0.018, 0.013, 0.969), (0.019, 0.020, 0.961), (0.022, 0.021, 0.957)),
            ),
            ("skewed", sim.skewed, ((0.013, 0.012, 0.975), (0.017, 0.019, 0.965), (0.020, 0.020, 0.960))),
        ):
            yield null(name, n, sim.standard, sim.standard, figures[i], noise=noise)
        yield null(
            "method sd x3",
            n,
            sim.standard,
            sim.standard,
            ((0.016, 0.016, 0.968), (0.020, 0.025, 0.954), (0.027, 0.027, 0.946))[i],
            method_sd=0.012,
        )
        yield null(
            "one method cell sd x4",
            n,
            sim.standard,
            sim.standard,
            ((0.020, 0.022, 0.958), (0.026, 0.027, 0.946), (0.025, 0.029, 0.945))[i],
            method_sd=0.004 * np.array([1, 1, 4, 1, 1]),
        )
        yield null(
            "irregular cell sds",
            n,
            sim.standard,
            sim.standard,
            ((0.028, 0.030, 0.942), (0.029, 0.026, 0.945), (0.027, 0.026, 0.946))[i],
            sd=0.004 * IRREGULAR[0],
            method_sd=0.004 * IRREGULAR[1],
        )
        yield null(
            "flat",
            n,
            sim.flat,
            sim.flat,
            ((0.003, 0.002, 0.995), (0.003, 0.003, 0.994), (0.003, 0.004, 0.993))[i],
        )
        both = sim.overtrained(sim.standard, 0.006, long)
        yield null(
            "both over-train by .006",
            n,
            both,
            both,
            ((0.018, 0.016, 0.966), (0.024, 0.024, 0.952), (0.025, 0.025, 0.949))[i],
        )
        for drop in (0.006, 0.02):
            yield null(
                f"only the baseline over-trains by {drop}",
                n,
                sim.overtrained(sim.standard, drop, long),
                sim.overtrained(sim.standard, 0, long),
                ((0.018, 0.012, 0.970), (0.023, 0.020, 0.958), (0.023, 0.023, 0.954))[i],
            )


def range_settings() -> Iterator[dict[str, Any]]:
    """Null settings in which the method's durations are not the baseline's."""
    t = sim.durations(5)
    for name, own in (
        ("3 of 5 method durations", t[1:4]),
        ("4 of 5 method durations", t[:4]),
        ("clock x1.5", 1.5 * t),
        ("method starts x2 later", 2.0 * t),
    ):
        for n in SEEDS:
            yield setting("ranges", f"null, {name}", n, elsewhere(t, own, n))


def elsewhere(times: np.ndarray, own: np.ndarray, n: int) -> Draw:
    return lambda rng: [
        *sim.arm_points("a", sim.standard, times, n, 0.004, rng),
        *sim.arm_points("b", sim.standard, own, n, 0.004, rng, first_seed=1000),
    ]


def null(
    name: str, n: int, base: sim.Curve, method: sim.Curve, figures: tuple[float, ...], **noise: Any
) -> dict[str, Any]:
    return setting(
        "null",
        name,
        n,
        lambda rng: sim.two_arms(base, method, rng, n=n, **noise),
        expected=dict(zip(("better", "worse", "coverage"), figures, strict=True)),
    )


def shared_settings() -> Iterator[dict[str, Any]]:
    """Correlated seeds and the timing block's shared error."""
    paired = {3: {0: 0.51, 0.3: 0.64, 0.6: 0.84, 0.9: 1.0}, 5: {0: 0.86, 0.3: 0.94, 0.6: 1.0, 0.9: 1.0}}
    plain = {3: {0: 0.60, 0.3: 0.62, 0.6: 0.66, 0.9: 0.72}, 5: {0: 0.89, 0.3: 0.92, 0.6: 0.96, 0.9: 0.98}}
    fast = sim.faster(sim.standard, 1.1)
    for n in (3, 5):
        for rho in (0, 0.3, 0.6, 0.9):
            for mode, figures, options in (
                ("paired", paired, {"pairs": "duration"}),
                ("unpaired", plain, {}),
            ):
                yield setting(
                    "pairs",
                    f"S 1.1, correlation {rho}, {mode}",
                    n,
                    shared(fast, n, rho, "pairs"),
                    1.1,
                    {"better": figures[n][rho]},
                    **options,
                )
    for rho in (0.3, 0.6):
        for n in SEEDS:
            yield setting(
                "pairs",
                f"null, correlation {rho}, paired",
                n,
                shared(sim.standard, n, rho, "pairs"),
                pairs="duration",
            )
            yield setting(
                "repeated",
                f"null, correlation {rho}, one block per arm",
                n,
                shared(sim.standard, n, rho, "arm"),
            )
            yield setting(
                "repeated",
                f"null, correlation {rho}, one block in all",
                n,
                shared(sim.standard, n, rho, "all"),
                pairs="duration",
            )
    for n, figure in zip(SEEDS, (0.25, 0.56, 0.91), strict=True):
        yield setting(
            "repeated",
            "S 1.1, correlation 0.3, one block per arm",
            n,
            shared(fast, n, 0.3, "arm"),
            1.1,
            {"better": figure},
        )
    for sd in (0.02, 0.04):
        for n in SEEDS:
            yield setting(
                "timing",
                f"shared log error sd {sd}, variance added",
                n,
                mistimed(n, sd),
                timing={"b": {"log_ratio_variance": sd**2, "df": 9}},
            )
            yield setting("timing", f"shared log error sd {sd}, ignored", n, mistimed(n, sd))
            yield setting(
                "timing",
                f"shared log error sd {sd}, variance estimated from 10 rounds",
                n,
                mistimed(n, sd, rounds=10),
            )


def shared(method: sim.Curve, n: int, rho: float, mode: str) -> Draw:
    return lambda rng: sim.correlated(sim.standard, method, rng, n=n, rho=rho, mode=mode)


def mistimed(n: int, sd: float, rounds: int = 0) -> Draw:
    """Both arms equal; the method's clock carries one error for all its runs, as a timing block gives it.

    With rounds the block itself is simulated: the clock's error is the mean of that many noisy rounds and the variance
    is their estimate, which the rows carry under "timing".
    """

    def draw(rng: np.random.Generator) -> list[dict[str, Any]]:
        rows = sim.two_arms(sim.standard, sim.standard, rng, n=n)
        if rounds:
            noise = sd * np.sqrt(rounds) * rng.standard_normal(rounds)
            error, variance = float(noise.mean()), float(noise.var(ddof=1) / rounds)
        else:
            error, variance = sd * float(rng.standard_normal()), 0.0
        for row in rows:
            if row["arm"] == "b":
                row["seconds"] *= float(np.exp(error))
            if rounds:
                row["timing"] = variance
        return rows

    return draw


def all_settings() -> list[dict[str, Any]]:
    return [
        *null_settings(),
        *range_settings(),
        *power_settings(),
        *gain_settings(),
        *crossing_settings(),
        *shared_settings(),
    ]
