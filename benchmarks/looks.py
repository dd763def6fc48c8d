"""Judging before the end: how often a study without a difference is called better or worse, with looks and without.

    python benchmarks/looks.py --reps 1000 --out benchmarks/results/looks.jsonl

Every line simulates studies (two arms, the curves of tests/evaluation/simulated_points.py) and judges them with the real
verdict at each look until it decides. Under no difference: the rate of better + worse with declared looks, and with naive
peeking at the same looks at 5 % each, beside what the recursion says of statistics that are exactly normal. With a
speed-up: how often it is found, and at how many seeds the study ends on average. "at_most" and "at_least" are exact 99 %
binomial bounds. --only keeps settings whose name starts with the word.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "evaluation"))

import simulated_points as sim

from benchmarks.running import simulate_settings
from reinvest.evaluation import verdict
from reinvest.evaluation.looks import DECIDED, crossing, levels

ALPHA = 0.05
LOOKS = (3, 5, 8)
SETTINGS: dict[str, dict[str, Any]] = {
    "null, 5 durations": {},
    "null, 4 durations": {"k": 4},
    "null, heavy tails": {"noise": sim.heavy},
    "null, saturating": {"curve": sim.saturating},
    "speed-up 1.1": {"speedup": 1.1},
    "speed-up 1.2": {"speedup": 1.2},
}


def upto(points: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """The first n runs of every cell."""
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for point in points:
        cell = point["arm"], point["duration"]
        seen[cell] = seen.get(cell, 0) + 1
        if seen[cell] <= n:
            kept.append(point)
    return kept


def followed(points: list[dict[str, Any]], alphas: dict[str, tuple[float, ...]]) -> dict[str, tuple[str, int]]:
    """{plan: (verdict with which it ends, seeds at that look)} of one study; alphas: {plan: level of each look}."""
    ends: dict[str, tuple[str, int]] = {}
    for place, n in enumerate(LOOKS):
        seen = upto(points, n)
        for plan, level in alphas.items():
            if plan not in ends:
                name = verdict(seen, "a", alpha=level[place])["b"].verdict
                if name in DECIDED or n == LOOKS[-1]:
                    ends[plan] = (name, n)
    return ends


def bounds(hits: int, reps: int) -> dict[str, float]:
    """Rate with its exact 99 % bounds on either side."""
    low = 0.0 if hits == 0 else float(beta.ppf(0.01, hits, reps - hits + 1))
    high = 1.0 if hits == reps else float(beta.ppf(0.99, hits + 1, reps - hits))
    return {"rate": hits / reps, "at_least": round(low, 4), "at_most": round(high, 4)}


def simulate(name: str, reps: int) -> dict[str, Any]:
    """One setting over `reps` studies, from a generator keyed by its name."""
    setting = {"curve": sim.standard, "speedup": 1.0, "k": 5, "noise": sim.normal, **SETTINGS[name]}
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    alphas = {plan: levels(LOOKS, ALPHA, plan) for plan in ("obrien-fleming", "pocock")}
    alphas["naive"] = (ALPHA,) * len(LOOKS)
    ends: dict[str, list[tuple[str, int]]] = {plan: [] for plan in alphas}
    method = sim.faster(setting["curve"], setting["speedup"])
    for _ in range(reps):
        points = sim.two_arms(setting["curve"], method, rng, n=LOOKS[-1], k=setting["k"], noise=setting["noise"])
        for plan, end in followed(points, alphas).items():
            ends[plan].append(end)
    line: dict[str, Any] = {"setting": name, "looks": list(LOOKS), "reps": reps}
    for plan, found in ends.items():
        wanted = ("better", "worse") if setting["speedup"] == 1.0 else ("better",)
        line[plan] = {
            "levels": [round(a, 6) for a in alphas[plan]],
            **bounds(sum(end in wanted for end, _ in found), reps),
            "mixed": sum(end == "mixed" for end, _ in found) / reps,
            "mean_seeds": float(np.mean([n for _, n in found])),
        }
        if setting["speedup"] == 1.0:
            line[plan]["normal_statistics"] = round(sum(crossing(LOOKS, alphas[plan])), 4)
    return line


def main() -> None:
    """Simulate the settings that are asked for."""
    simulate_settings(__doc__, SETTINGS, simulate, 1000)


if __name__ == "__main__":
    main()
