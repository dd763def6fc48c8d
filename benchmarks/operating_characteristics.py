"""Operating characteristics of the verdict by simulation: one JSON line per row of the specification's tables.

    python benchmarks/operating_characteristics.py --reps 250 --out benchmarks/results/operating_characteristics.jsonl

Each line holds the simulated setting, the rates of the five verdicts, coverage of the true speed-up, the median
estimate and the median width of the interval (high / low), and the specification's figures with whether this
simulation agrees with them within Monte Carlo error (99.9 % binomial interval, widened by the specification's own).
Null settings take twice as many repetitions, because their rates are small. --only keeps tables whose name
starts with the word; --share I/K runs every K-th setting, so that processes can divide the work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "evaluation"))

import simulated_points as sim

from reinvest.evaluation import verdict

SEEDS = (3, 5, 10)
NAMES = ("better", "worse", "mixed", "equivalent", "inconclusive", "not comparable")
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


def simulate(row: dict[str, Any], reps: int) -> dict[str, Any]:
    """Rates of one setting over `reps` data sets, from a generator keyed by the setting's own name."""
    rng = np.random.default_rng(zlib.crc32(f"{row['table']} {row['scenario']} {row['n']}".encode()))
    counts = dict.fromkeys(NAMES, 0)
    covered, estimates, widths = 0, [], []
    for _ in range(reps):
        points = row["draw"](rng)
        options = dict(row["options"])
        if "timing" in points[0]:
            options["timing"] = {"b": {"log_ratio_variance": points[0]["timing"], "df": 9}}
        v = verdict(points, baseline="a", **options)["b"]
        counts[v.verdict] += 1
        estimates.append(v.speedup)
        widths.append(v.high / v.low if v.low > 0 else np.inf)
        covered += row["truth"] is not None and v.low <= row["truth"] <= v.high
    out: dict[str, Any] = {"table": row["table"], "scenario": row["scenario"], "n": row["n"], "reps": reps}
    out |= {
        name: counts[name] / reps for name in NAMES if counts[name] or name in ("better", "worse", "mixed")
    }
    known = [s for s in estimates if s == s]
    width = float(np.median(widths))
    out |= {
        "coverage": covered / reps if row["truth"] is not None else None,
        "median_speedup": round(float(np.median(known)), 4) if known else None,
        "median_width": round(width, 4) if np.isfinite(width) else None,
    }
    if row["expected"]:
        out["specification"] = row["expected"]
        out["agrees"] = all(
            agrees(out.get(key) or 0.0, reps, figure) for key, figure in row["expected"].items()
        )
    return out


def agrees(rate: float, reps: int, figure: float, z: float = 3.29) -> bool:
    """True if the rate and the specification's figure (2,000 data sets, two or three digits) may be the same."""
    pooled = min(max((rate * reps + figure * 2000 + 1) / (reps + 2002), 1e-3), 1 - 1e-3)
    rounding = 0.005 if figure in (0, 1) or round(figure, 2) == figure else 0.0005
    return bool(abs(rate - figure) <= z * np.sqrt(pooled * (1 - pooled) * (1 / reps + 1 / 2000)) + rounding)


def all_settings() -> list[dict[str, Any]]:
    return [
        *null_settings(),
        *range_settings(),
        *power_settings(),
        *gain_settings(),
        *crossing_settings(),
        *shared_settings(),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate the verdict's operating characteristics.")
    parser.add_argument(
        "--reps", type=int, default=250, help="data sets per setting (null settings: twice as many)"
    )
    parser.add_argument("--out", type=Path, default=None, help="also write the JSON lines to this file")
    parser.add_argument("--only", default="", help="tables whose name starts with this")
    parser.add_argument("--share", default="0/1", help="I/K: every K-th setting, starting with number I")
    arguments = parser.parse_args()
    first, every = (int(v) for v in arguments.share.split("/"))
    started, lines = time.perf_counter(), []
    for row in [s for s in all_settings() if s["table"].startswith(arguments.only)][first::every]:
        often = row["table"] == "null" or row["scenario"].startswith("null")
        lines.append(json.dumps(simulate(row, arguments.reps * (2 if often else 1))))
        print(lines[-1], flush=True)
    rows = [json.loads(line) for line in lines]
    compared = [r["agrees"] for r in rows if "agrees" in r]
    summary = {
        "table": "summary",
        "settings": len(rows),
        "verdicts": sum(r["reps"] for r in rows),
        "compared": len(compared),
        "agree": sum(compared),
        "seconds": round(time.perf_counter() - started, 1),
    }
    lines.append(json.dumps(summary))
    print(lines[-1])
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
