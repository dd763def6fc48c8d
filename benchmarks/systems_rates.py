"""How often a systems-only verdict is right: changes of speed alone, and changes of the maths that cost quality.

    python benchmarks/systems_rates.py --reps 1000 --out benchmarks/results/systems_rates.jsonl

Studies are simulated (tests/evaluation/simulated_points.py, durations in steps) and judged by `systems_verdict`; seconds per
step come from ten simulated rounds of a timing block, summarised as a block does. "same maths": the arm's quality after the
same steps is the baseline's, and a step is faster by the given factor; counted is "faster, same maths" ("says_faster": at
factor 1 an error) and what else is said. "costs": the arm needs (1 + margin)^cost times the steps, and a step is 1.2 times
faster, so that whatever is called the same maths is called faster; "called_same" at a cost of 1 or more is the error of the
equivalence, at most 5 % if it keeps its level. Every rate has its Monte Carlo error and exact 99 % bounds. --only keeps settings
whose name starts with the word; --table prints the tables of the page from the stored lines.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "evaluation"))

import simulated_points as sim
from looks import bounds

from benchmarks.running import simulate_settings
from reinvest.evaluation.equivalence import MARGIN, systems_verdict
from reinvest.evaluation.timing import MIN_ROUNDS, ArmTiming, trimmed_mean

RESULT = Path(__file__).resolve().parent / "results" / "systems_rates.jsonl"
QUIET, BUSY = 0.012, 0.05
"""Spread of a round's log ratio: the interval of ten rounds is then 1 % to either side, and 4 %."""
PLANTED = 1.2
"""How much faster a step of the arms is that cost quality."""
DESIGNS: dict[str, dict[str, Any]] = {
    "5 seeds": {"n": 5, "sd": 0.001},
    "10 seeds": {"n": 10, "sd": 0.001},
    "20 paired seeds, 4 times the noise": {"n": 20, "sd": 0.004, "rho": 0.9},
}
FACTORS, COSTS = (1.0, 1.05, 1.2, 1.5), (0.0, 0.5, 1.0, 2.0)
SHARP = {"n": 10, "sd": 0.0005}
SETTINGS: dict[str, dict[str, Any]] = {
    **{f"same maths, {f:g} times faster, {name}": {"factor": f, **d} for name, d in DESIGNS.items() for f in FACTORS},
    **{
        f"same maths, {f:g} times faster, 10 seeds, busy machine": {"factor": f, "round": BUSY, **DESIGNS["10 seeds"]}
        for f in FACTORS
    },
    **{f"costs {c:g} margin, {name}": {"cost": c, **d} for name, d in DESIGNS.items() for c in COSTS},
    "costs 1 margin, half the noise": {"cost": 1.0, **SHARP},
    "costs 1 margin, half the noise, in long runs only": {"cost": 1.0, "where": (0.0, 0.6), **SHARP},
    "costs 1 margin, half the noise, in short runs only": {"cost": 1.0, "where": (0.4, 1.0), "back": True, **SHARP},
    "costs 1 margin, half the noise, heavy tails": {"cost": 1.0, "noise": sim.heavy, **SHARP},
    "costs 1 margin, half the noise, skewed": {"cost": 1.0, "noise": sim.skewed, **SHARP},
    "costs 1 margin, half the noise, saturating": {"cost": 1.0, "curve": sim.saturating, **SHARP},
    "gains 1 margin, half the noise": {"cost": -1.0, **SHARP},
}


def method_of(setting: Mapping[str, Any]) -> sim.Curve:
    """The arm's error by its own steps. where: between which shares of the log range the cost comes (back: goes)."""
    worth, curve = (1.0 + MARGIN) ** -setting["cost"], setting["curve"]
    if "where" not in setting:
        return sim.faster(curve, worth)
    start, stop = setting["where"]
    ends = (worth, 1.0) if setting.get("back") else (1.0, worth)
    return sim.crossing(curve, *ends, sim.durations(5), start=start, stop=stop)


def timed(factor: float, spread: float, rng: np.random.Generator) -> ArmTiming:
    """Ten rounds of a block in which the arm's step is `factor` times faster."""
    mean, variance, df = trimmed_mean(list(spread * rng.standard_normal(MIN_ROUNDS) - math.log(factor)))
    return ArmTiming({("", 0): math.exp(mean)}, math.exp(mean), mean, variance, df)


def drawn(setting: Mapping[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Points of one study, the steps in place of the seconds."""
    base, method, n, sd = setting["curve"], method_of(setting), setting["n"], setting["sd"]
    rows = (
        sim.correlated(base, method, rng, n=n, rho=setting["rho"], mode="pairs", sd=sd)
        if setting["rho"]
        else sim.two_arms(base, method, rng, n=n, sd=sd, noise=setting["noise"])
    )
    return [{**row, "steps": row["seconds"]} for row in rows]


def rate(hits: int, reps: int) -> dict[str, float]:
    """A rate, its Monte Carlo error and its exact 99 % bounds."""
    share = hits / reps
    return {**bounds(hits, reps), "error": round(math.sqrt(share * (1.0 - share) / reps), 4)}


def simulate(name: str, reps: int) -> dict[str, Any]:
    """One setting over `reps` studies, from a generator keyed by its name."""
    given = SETTINGS[name]
    plain = {"curve": sim.standard, "noise": sim.normal, "rho": 0.0, "round": QUIET, "cost": 0.0, "factor": PLANTED}
    setting = {**plain, **given}
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    outcomes: Counter[str] = Counter()
    same = held = 0
    for _ in range(reps):
        timing = timed(setting["factor"], setting["round"], rng)
        pairs = "duration" if setting["rho"] else None
        found = systems_verdict(drawn(setting, rng), "a", "b", timing, pairs=pairs)
        outcomes[found.outcome] += 1
        same += found.steps_low > 1.0 / (1.0 + MARGIN) and found.steps_high < 1.0 + MARGIN
        held += found.speed_low <= setting["factor"] <= found.speed_high
    line: dict[str, Any] = {"setting": name, "reps": reps, "seeds": setting["n"], "noise": setting["sd"]}
    line |= {"factor": setting["factor"], "cost": setting["cost"]}
    line["says_faster"] = rate(outcomes["faster, same maths"], reps)
    line["called_same"] = rate(same, reps)
    line["says_differs"] = rate(outcomes["quality differs"], reps)
    line["speed_interval_holds"] = rate(held, reps)
    return line | {"outcomes": dict(sorted(outcomes.items()))}


def tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tables of the page: rates in per cent with twice their Monte Carlo error, or the exact 99 % bound of 0 and 1."""
    known = {row["setting"]: row for row in rows}
    busy = [*DESIGNS, "10 seeds, busy machine"]
    faster = [
        [f"{f:g} times", *(_shown(known[f"same maths, {f:g} times faster, {one}"]["says_faster"]) for one in busy)]
        for f in FACTORS
    ]
    costs = [
        [f"{c:g}", *(_shown(known[f"costs {c:g} margin, {one}"]["called_same"]) for one in DESIGNS)] for c in COSTS
    ]
    edge = [
        [name.replace("costs 1 margin, ", ""), _shown(known[name]["called_same"])]
        for name, setting in SETTINGS.items()
        if abs(setting.get("cost", 0.0)) == 1.0 and setting["sd"] == SHARP["sd"]
    ]
    return [
        _table(["same maths, a step faster by", *busy], faster),
        _table(["costs, in margins", *DESIGNS], costs),
        _table(["at the margin, 10 seeds", "called the same maths"], edge),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _shown(found: Mapping[str, float]) -> str:
    if found["rate"] in (0.0, 1.0):
        bound = f"at least {100 * found['at_least']:.1f}" if found["rate"] else f"at most {100 * found['at_most']:.1f}"
        return f"{100 * found['rate']:g} % ({bound})"
    return f"{100 * found['rate']:.1f} % ± {200 * found['error']:.1f}"


def main() -> None:
    """Simulate the settings that are asked for, or print the tables."""
    if sys.argv[1:] == ["--table"]:
        print("\n\n".join(tables([json.loads(line) for line in RESULT.read_text(encoding="utf8").splitlines()])))
        return
    simulate_settings(__doc__, SETTINGS, simulate, 1000)


if __name__ == "__main__":
    main()
