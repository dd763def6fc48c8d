"""What tuning luck does to a verdict: both arms are tuned, neither is better, and how often one is called better.

    python -m benchmarks.tuning_luck [--reps 2000] [--out benchmarks/results/tuning_luck.jsonl]

A null method: the configurations of both arms come from one distribution, whose spread is that of the seeds. Each arm
tries some of them once, on validation; the winner is run again with fresh seeds at five durations, and `verdict` judges
the test qualities. "recipe": one tuning an arm, the seed as the unit. "method": several independent tunings an arm, the
study as the unit. Each line has the rates of "better" and "worse" with the standard error and the exact 99 % bounds of
"better". Settings with a speed-up say what the honest unit costs in power; with no spread of configurations there is no
luck, and the recipe's verdict keeps its rate.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reinvest.evaluation import verdict

SPREAD = 0.004
"""Standard deviation of the accuracy over seeds, and over configurations."""
TIMES = 60.0 * 2.0 ** np.arange(5)
LEVEL = 0.99
NAMES = ("better", "worse", "mixed", "equivalent", "inconclusive", "not comparable")


@dataclass(frozen=True)
class Setting:
    """claim: "recipe" or "method"; trials: tried by (baseline, method) in each study; studies: an arm; seeds: of a
    winner at each duration; speedup: the truth; configs: spread of the configurations in units of the seeds';
    declared: whether the trials are declared to the verdict."""

    claim: str
    trials: tuple[int, int]
    studies: int = 1
    seeds: int = 5
    speedup: float = 1.0
    configs: float = 1.0
    declared: bool = True


SETTINGS = (
    Setting("recipe", (5, 5), configs=0.0),
    *(Setting("recipe", (k, k)) for k in (1, 5, 20)),
    *(Setting("recipe", (1, k), declared=False) for k in (5, 20)),
    Setting("recipe", (1, 20)),
    *(Setting("method", (k, k), studies=3, seeds=1) for k in (1, 5, 20)),
    *(Setting("method", (k, k), studies=3) for k in (1, 5, 20)),
    *(Setting("method", (k, k), studies=5) for k in (1, 5, 20)),
    Setting("recipe", (5, 5), speedup=1.2),
    *(Setting("method", (5, 5), studies=s, speedup=1.2) for s in (3, 5, 10)),
)


def truth(seconds: np.ndarray) -> np.ndarray:
    """Accuracy of the mean configuration: .770, .838, .883, .913, .932 at 60, 120, ... seconds."""
    return 0.97 - 0.20 * (seconds / 60.0) ** -0.6


def winner(trials: int, configs: float, rng: np.random.Generator) -> float:
    """What the best of `trials` configurations, each seen once on validation, adds to the accuracy."""
    added = SPREAD * configs * rng.standard_normal(trials)
    return float(added[np.argmax(added + SPREAD * rng.standard_normal(trials))])


def points_of(setting: Setting, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The runs of both arms' winners, with the study where the claim is about the method."""
    rows = []
    for a, (arm, trials) in enumerate(zip(("baseline", "method"), setting.trials, strict=True)):
        mean = truth(TIMES * (setting.speedup if a else 1.0))
        for study in range(setting.studies):
            best = winner(trials, setting.configs, rng)
            noise = SPREAD * rng.standard_normal((len(TIMES), setting.seeds))
            for k, seconds in enumerate(TIMES):
                for replicate in range(setting.seeds):
                    row = {"arm": arm, "duration": str(k), "seed": len(rows), "seconds": float(seconds)}
                    row["quality"] = float(mean[k] + best + noise[k, replicate])
                    rows.append(row | ({"study": str(study)} if setting.claim == "method" else {}))
    return rows


def simulate(setting: Setting, reps: int) -> dict[str, Any]:
    """Rates of one setting over `reps` data sets, from a generator keyed by the setting itself."""
    rng = np.random.default_rng(zlib.crc32(repr(setting).encode()))
    counts = dict.fromkeys(NAMES, 0)
    claims = set()
    spent = dict(zip(("baseline", "method"), (k * setting.studies for k in setting.trials), strict=True))
    for _ in range(reps):
        found = verdict(points_of(setting, rng), "baseline", tuning=spent if setting.declared else None)["method"]
        counts[found.verdict] += 1
        claims.add(found.claim)
    rate = counts["better"] / reps
    low, high = bounds(counts["better"], reps)
    return {
        "benchmark": "tuning_luck",
        "claim": setting.claim,
        "claims_printed": sorted(claims),
        "trials": list(setting.trials),
        "declared": setting.declared,
        "studies": setting.studies,
        "seeds": setting.seeds,
        "speedup": setting.speedup,
        "config_spread": setting.configs,
        "reps": reps,
        **{name: counts[name] / reps for name in NAMES if counts[name] or name in ("better", "worse")},
        "better_se": round(math.sqrt(rate * (1 - rate) / reps), 5),
        "better_low": round(low, 5),
        "better_high": round(high, 5),
    }


def bounds(hits: int, reps: int) -> tuple[float, float]:
    """Exact one-sided 99 % bounds of a rate, below and above."""
    from scipy.stats import beta

    low = 0.0 if hits == 0 else float(beta.ppf(1 - LEVEL, hits, reps - hits + 1))
    return low, 1.0 if hits == reps else float(beta.ppf(LEVEL, hits + 1, reps - hits))


def lines(reps: int) -> Iterator[dict[str, Any]]:
    """Every setting, and at last what it took."""
    begun = time.perf_counter()
    for setting in SETTINGS:
        yield simulate(setting, reps)
    took = round(time.perf_counter() - begun, 1)
    yield {"benchmark": "tuning_luck", "claim": "summary", "verdicts": reps * len(SETTINGS), "seconds": took}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of a stored result as a Markdown table: how often the verdict says "better", with twice its error."""
    head = (
        '| claim | trials of baseline, method | tunings of each | seeds | true speed-up | says "better" | says "worse" |',
        "|---|---|---|---|---|---|---|",
    )
    return "\n".join([*head, *(_row(r) for r in rows if r["claim"] != "summary")])


def _row(row: Mapping[str, Any]) -> str:
    trials = ", ".join(map(str, row["trials"]))
    notes = ["" if row["declared"] else "not declared", "" if row["config_spread"] else "no spread of configurations"]
    trials += "".join(f" ({note})" for note in notes if note)
    better = f"{100 * row['better']:.1f} % ± {200 * row['better_se']:.1f}"
    worse = f"{100 * row['worse']:.1f} %"
    if row.get("not comparable") == 1.0:
        better = worse = "refused"
    cells = (row["claim"], trials, row["studies"], row["seeds"], f"{row['speedup']:g}", better, worse)
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Simulate, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=2000, help="data sets of every setting")
    parser.add_argument("--out", type=Path, help="also write the JSON lines to this file")
    chosen = parser.parse_args()
    kept = []
    for line in lines(chosen.reps):
        kept.append(json.dumps(line))
        print(kept[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(kept) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
