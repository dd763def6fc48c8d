"""How often a planned study finds the speed-up that it was planned for, where the plan says 80 %.

    python benchmarks/plan_power.py --reps 800 --out benchmarks/results/plan_power.jsonl

Studies are simulated (tests/evaluation/simulated_points.py) and judged by the real verdict. "known": the noise is known all
but exactly, and the speed-up is the smallest that the plan says these seeds show; what is missing to 80 % is the error of
the plan's formula (a normal approximation for the power, linear in the logarithm of the speed-up). "pilot": the noise is
learned from three baseline runs a duration, the seeds are those that the plan asks for (at most 30), and the pilot's runs
are part of the study; the scatter of the pilot's noise comes on top. "pilot, no effect": the same without a difference:
the rate of better + worse. "at_least" and "at_most" are exact 99 % binomial bounds. --only keeps settings whose name
starts with the word.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "evaluation"))

import simulated_points as sim
from looks import bounds

from benchmarks.running import simulate_settings
from reinvest.evaluation import verdict
from reinvest.evaluation.design import Noise, noise_of
from reinvest.evaluation.drawing import drawable_arm

ALPHA, RHO, PILOT, MOST = 0.05, 0.4, 3, 30
MANY = 2000
SETTINGS: dict[str, dict[str, Any]] = {
    "known, 3 seeds": {"n": 3},
    "known, 5 seeds": {"n": 5},
    "known, 10 seeds": {"n": 10},
    "known, 5 seeds, 4 durations": {"n": 5, "k": 4},
    "known, 5 seeds, twice the noise": {"n": 5, "sd": 0.008},
    "known, 5 seeds, heavy tails": {"n": 5, "noise": sim.heavy},
    "known, 5 seeds, saturating": {"n": 5, "curve": sim.saturating},
    "pilot, speed-up 1.1": {"effect": 1.1},
    "pilot, speed-up 1.2, twice the noise": {"effect": 1.2, "sd": 0.008},
    "pilot, no effect": {"effect": 1.1, "truth": 1.0},
}


def noise_in(points: list[dict[str, Any]]) -> Noise:
    """The noise of arm "a"."""
    built, _, _ = drawable_arm(points, "a", higher_is_better=True, test_examples=None)
    assert built is not None
    return noise_of(built, rho=RHO, paired=False)


def known(setting: dict[str, Any], rng: np.random.Generator, reps: int) -> dict[str, Any]:
    """Studies of n seeds with the effect that the plan gives them."""
    curve, times, n = setting["curve"], sim.durations(setting["k"]), setting["n"]
    exact = sim.arm_points("a", curve, times, MANY, setting["sd"], rng, noise=setting["noise"])
    effect = noise_in(exact).design(n).smallest_effect(ALPHA)
    hits = 0
    for _ in range(reps):
        points = sim.two_arms(
            curve, sim.faster(curve, effect), rng, n=n, k=setting["k"], sd=setting["sd"], noise=setting["noise"]
        )
        hits += verdict(points, "a", alpha=ALPHA)["b"].verdict == "better"
    return {"seeds": n, "effect": round(effect, 4), **bounds(hits, reps)}


def piloted(setting: dict[str, Any], rng: np.random.Generator, reps: int) -> dict[str, Any]:
    """Studies whose seeds are planned from their own first runs."""
    curve, times, effect = setting["curve"], sim.durations(setting["k"]), setting["effect"]
    truth = setting.get("truth", effect)
    hits, asked = 0, []
    for _ in range(reps):
        whole = sim.two_arms(curve, sim.faster(curve, truth), rng, n=MOST, k=setting["k"], sd=setting["sd"])
        first = [p for place, p in enumerate(whole) if p["arm"] == "a" and place % MOST < PILOT]
        n = min(noise_in(first).design(PILOT).seeds_for(effect, ALPHA) or MOST, MOST)
        asked.append(n)
        found = verdict([p for place, p in enumerate(whole) if place % MOST < n], "a", alpha=ALPHA)["b"].verdict
        hits += found == "better" or (truth == 1.0 and found == "worse")
    exact = sim.arm_points("a", curve, times, MANY, setting["sd"], rng)
    right = noise_in(exact).design(PILOT).seeds_for(effect, ALPHA)
    quartiles = [float(q) for q in np.quantile(asked, [0.25, 0.5, 0.75])]
    return {"effect": effect, "truth": truth, "seeds": quartiles, "seeds_of_known_noise": right, **bounds(hits, reps)}


def simulate(name: str, reps: int) -> dict[str, Any]:
    """One setting over `reps` studies, from a generator keyed by its name."""
    setting = {"curve": sim.standard, "k": 5, "sd": 0.004, "noise": sim.normal, **SETTINGS[name]}
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    judged = known(setting, rng, reps) if "n" in setting else piloted(setting, rng, reps)
    return {"setting": name, "reps": reps, **judged}


def main() -> None:
    """Simulate the settings that are asked for."""
    simulate_settings(__doc__, SETTINGS, simulate, 800)


if __name__ == "__main__":
    main()
