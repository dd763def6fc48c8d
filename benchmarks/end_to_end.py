"""What a whole comparison says where the truth is planted, on real training: digits, runs of 10 to 80 steps, judged by test loss.

The plan, written down before these runs (one study of each part, with other seeds, had said what they cost):

* "A/A": one recipe under two names, every run with a seed of its own, 3 seeds an arm and duration, a new timing block for
  each of 60 studies; no run serves in two studies. Each of "better" and "worse" may come out in 2.5 % of the studies: the
  check holds if their number does not lie beyond the exact 99 % binomial bound of 5 %. The interval must hold the
  true speed-up of 1 in 95 % of the studies, to the same bound.
* "fewer steps": in the baseline every fifth step changes nothing (no gradient reaches the optimizer), the arm is the recipe
  without that. 80 % of the steps do the same work: the arm is 1.25 times faster in steps at equal quality; what such a step
  costs or saves is not planted, so seconds a step are taken as the block finds them. 8 studies with 5 seeds. Looked at: how
  often "better", how often the interval holds the truth, and the two factors.
* "10 ms a step": the arm sleeps ten milliseconds in every step, on a wide net, whose own step takes about as long. 2
  studies with 5 seeds. The steps do the same work: all of
  the slow-down must be in the seconds a step, b / (b + 10 ms) for a baseline of b, and the verdict "worse".

Added when the figures were there: the 8 studies of "fewer steps" found 1.33 in the median, so 24 more with other seeds say
whether that is chance (the last line of the results: `--only "fewer steps" --studies 24 --seed 9000000`).

Prints one JSON line a part.

    python -m benchmarks.end_to_end [--only A/A] [--studies N] [--seed 0] [--out benchmarks/results/end_to_end.jsonl]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

import reinvest as ri
from reinvest.evaluation import verdict
from reinvest.evaluation.outcome import Verdict
from reinvest.evaluation.timing import Block, timing_block

STEPS = (10, 20, 40, 80)
"""Every one a multiple of five, so that a fifth of the steps is a whole number of them."""
BASE = ri.Recipe(
    task="digits",
    model={"name": "mlp", "hidden": [16]},
    batch_size=64,
    duration=f"{STEPS[0]}st",
    optimizer={"name": "sgd", "lr": 0.05},
)
SLEEP = 0.010
HERE = "benchmarks.end_to_end"
"""Where recipes find the planted methods, however this file is run."""
CARD = ri.Card("Planted", "none", 2026, "none", "gradients", "nothing", "the truth, on purpose", ("all",))


class IdleFifth(ri.Method):
    """Every fifth step changes nothing: the optimizer finds no gradients, and neither moves weights nor its momentum."""

    card = CARD
    neutral: ClassVar = {}

    def gradients(self, context: ri.Context, again: Any) -> bool:
        """No gradients in the middle one of five steps, which counts as a step all the same."""
        if context.step % 5 == 2:
            for parameter in context.model.parameters():
                parameter.grad = None
        return True


class Sleeping(ri.Method):
    """Sleeps ten milliseconds in every step."""

    card = CARD
    neutral: ClassVar = {}

    def gradients(self, context: ri.Context, again: Any) -> bool:
        """Sleep."""
        time.sleep(SLEEP)
        return True


WIDE = BASE.with_(model={"name": "mlp", "hidden": [1024, 1024]})
IDLE = BASE.with_(f"{HERE}:IdleFifth")
SLEEPER = WIDE.with_(f"{HERE}:Sleeping")


def rows(arm: str, recipe: ri.Recipe, seeds: Iterator[int], count: int, store: ri.Store) -> list[dict[str, Any]]:
    """`count` runs at each duration, every one with the next seed."""
    made = []
    for steps in STEPS:
        for _ in range(count):
            seed = next(seeds)
            run = ri.train(recipe.with_(duration=f"{steps}st"), seed, store, evaluations=1, progress=False)
            quality = run.quality("loss", "test")
            made.append({"arm": arm, "duration": f"{steps}st", "seed": seed, "steps": run.steps, "quality": quality})
    return made


def study(
    pair: tuple[ri.Recipe, ri.Recipe], seeds: Iterator[int], count: int, store: ri.Store
) -> tuple[Verdict, Block]:
    """Train both arms, time them side by side at a middle duration, and judge the second against the first."""
    recipes = dict(zip(("baseline", "arm"), pair, strict=True))
    points = [row for name, recipe in recipes.items() for row in rows(name, recipe, seeds, count, store)]
    middle = f"{STEPS[len(STEPS) // 2]}st"
    block = timing_block({n: r.with_(duration=middle) for n, r in recipes.items()}, "baseline")
    arm = block.arms["arm"]
    priced = [{**p, "seconds": p["steps"] * block.arms[p["arm"]].seconds_per_step} for p in points]
    timing = {"arm": {"log_ratio_variance": arm.log_ratio_variance, "df": arm.df}}
    return verdict(priced, "baseline", metric="loss", timing=timing)["arm"], block


PARTS: dict[str, tuple[tuple[ri.Recipe, ri.Recipe], int, int]] = {
    "A/A": ((BASE, replace(BASE)), 60, 3),
    "fewer steps": ((IDLE, BASE), 8, 5),
    "10 ms a step": ((WIDE, SLEEPER), 2, 5),
}
"""Part: (baseline and arm, studies, seeds of each)."""


def truth(part: str, block: Block) -> tuple[float, float]:
    """True ratios of steps and of seconds per step, baseline over arm."""
    if part == "10 ms a step":
        own = block.arms["baseline"].clocks["wall"]
        return 1.0, own / (own + SLEEP)
    return (1.25, math.exp(-block.arms["arm"].log_ratio)) if part == "fewer steps" else (1.0, 1.0)


def run_part(part: str, first_seed: int, studies: int | None = None) -> dict[str, Any]:
    """All studies of a part, as the line that is printed; studies: how many (default: as planned)."""
    from scipy.stats import binomtest

    pair, planned, count = PARTS[part]
    planned = studies or planned
    seeds = itertools.count(first_seed)
    with tempfile.TemporaryDirectory() as folder:
        store = ri.Store(folder)
        found = [study(pair, seeds, count, store) for _ in range(planned)]
    names = [v.verdict for v, _ in found]
    truths = [truth(part, block) for _, block in found]
    outside = sum(not v.low <= a * b <= v.high for (v, _), (a, b) in zip(found, truths, strict=True))
    line: dict[str, Any] = {"benchmark": "end_to_end", "part": part, "studies": planned, "seeds": count}
    line |= {name: names.count(name) for name in sorted(set(names))}
    wrong = names.count("better") + names.count("worse") if part == "A/A" else 0
    for name, number in (("outside", outside), *((("false", wrong),) if part == "A/A" else ())):
        p = float(binomtest(number, planned, 0.05, alternative="greater").pvalue)
        line |= {name: number, f"{name}_within_the_99_%_bound_of_5_%": p > 0.01}
    for name, values, true in (
        ("steps_ratio", [v.steps_ratio for v, _ in found], [a for a, _ in truths]),
        ("seconds_ratio", [v.seconds_ratio for v, _ in found], [b for _, b in truths]),
        ("speedup", [v.speedup for v, _ in found], [a * b for a, b in truths]),
    ):
        known = sorted(v for v in values if v == v) or [math.nan]
        line |= {name: round(statistics.median(known), 4), f"true_{name}": round(statistics.median(true), 4)}
        line |= {f"{name}_range": [round(known[0], 4), round(known[-1], 4)]}
    again = [b.again.interval() for _, b in found if b.again is not None]
    line["clock_against_itself_outside"] = sum(not low <= 1.0 <= high for low, high in again)
    line["blocks_disturbed"] = sum(bool(b.flags) for _, b in found)
    line["cores_taken_by_others"] = round(statistics.median(b.facts["others_during"] or 0.0 for _, b in found), 2)
    return line


def main() -> None:
    """Run the parts and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="one part")
    parser.add_argument("--studies", type=int, help="how many of each part (default: as planned)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, help="also write the lines to this file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lines = [json.dumps({"benchmark": "end_to_end", "facts": ri.facts()})] if chosen.out else []
    for number, part in enumerate(PARTS):
        if chosen.only in ("", part):
            lines.append(json.dumps(run_part(part, chosen.seed or 100_000 * number, chosen.studies)))
            print(lines[-1], flush=True)
            if chosen.out is not None:
                chosen.out.write_text("\n".join(lines) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
