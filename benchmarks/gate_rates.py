"""How often `reinvest gate` says what, over draws from a pool of real runs: one JSON line a figure.

    python benchmarks/gate_rates.py --store /path/to/runs --out benchmarks/results/gate_rates.jsonl

Trains `--pool` seeds of examples/gate.yaml at its four durations, and of the same recipe with lower learning rates; then
draws, again and again, as many seeds for the baseline and as many others for the present recipe, and judges them in steps.
Seeds are drawn unpaired, which is the harder case: equal recipes with equal seeds give equal runs. Draws share runs, so
the error that is given is that of independent draws and a lower bound. With --blocks N the part "time" is asked instead.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reinvest as ri
from reinvest.core.yaml_numbers import load
from reinvest.evaluation.gate import BASELINE, PRESENT, GateSettings, judge_gate
from reinvest.evaluation.timing import timing_block
from reinvest.studies.gate import ROUNDS, calibrated, record_baseline

RATES = {"same recipe": 0.1, "learning rate x0.5": 0.05, "learning rate x0.2": 0.02}
RECIPE = Path(__file__).resolve().parents[1] / "examples" / "gate.yaml"


def pool_of(rate: float, seeds: int, store: Any) -> dict[str, list[dict[str, Any]]]:
    """Points of `seeds` runs by duration."""
    recipe = ri.Recipe.from_dict(load(RECIPE.read_text(encoding="utf8")))
    recipe = recipe.with_(optimizer={**recipe.optimizer, "lr": rate})
    rows: dict[str, list[dict[str, Any]]] = {}
    for point in record_baseline(recipe, store=store, seeds=seeds, workers=1, threads=1)["points"]:
        rows.setdefault(point["duration"], []).append({**point, "seconds": point["steps"]})
    return rows


def drawn(rows: dict[str, list[dict[str, Any]]], places: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [rows[duration][k] for duration, chosen in places.items() for k in chosen]


def figure(name: str, pools: tuple[Any, Any], seeds: int, draws: int) -> dict[str, Any]:
    """Shares of the four answers for the part "steps", over `draws` draws of `seeds` runs a duration on either side."""
    rng = np.random.default_rng(0)
    settings = GateSettings(metric="accuracy", higher_is_better=True, test_examples=359, pairs=False)
    baseline, present = pools
    counts: Counter[str] = Counter()
    for _ in range(draws):
        order = {duration: rng.permutation(len(rows)) for duration, rows in baseline.items()}
        ours = drawn(baseline, {d: o[:seeds] for d, o in order.items()})
        theirs = drawn(present, {d: o[seeds : 2 * seeds] for d, o in order.items()})
        counts[judge_gate(ours, theirs, None, settings)[0].verdict] += 1
    shares = {word: count / draws for word, count in sorted(counts.items())}
    error = max(math.sqrt(share * (1 - share) / draws) for share in shares.values())
    return {"figure": name, "seeds": seeds, "draws": draws, "shares": shares, "error": round(error, 4)}


def timing_figure(blocks: int) -> dict[str, Any]:
    """Shares of timing blocks that call a recipe of equal cost dearer or cheaper; only its learning rate differs."""
    recipe = ri.Recipe.from_dict(load(RECIPE.read_text(encoding="utf8"))).with_(duration="120st")
    other = recipe.with_(optimizer={**recipe.optimizer, "lr": 0.09})
    counts: Counter[str] = Counter()
    widths = []
    for _ in range(blocks):
        block = timing_block({BASELINE: recipe, PRESENT: other}, BASELINE, rounds=ROUNDS)
        low, high = calibrated(block).interval()
        widths.append(high / low)
        counts["dearer" if low > 1 else "cheaper" if high < 1 else "equal"] += 1
    shares = {word: count / blocks for word, count in sorted(counts.items())}
    error = max(math.sqrt(share * (1 - share) / blocks) for share in shares.values())
    width = round(float(np.median(widths)), 4)
    return {
        "figure": "seconds of equal cost",
        "blocks": blocks,
        "shares": shares,
        "width": width,
        "error": round(error, 4),
    }


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--pool", type=int, default=40)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--blocks", type=int, default=0, help="only time this many blocks, and add the line to --out")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    if options.blocks:
        line = json.dumps(timing_figure(options.blocks))
        print(line)
        if options.out:
            with Path(options.out).open("a", encoding="utf8") as file:
                file.write(line + "\n")
        return
    store = ri.Store(options.store)
    pools = {name: pool_of(rate, options.pool, store) for name, rate in RATES.items()}
    lines = [
        json.dumps({"pool": options.pool, **figure(name, (pools["same recipe"], pool), seeds, options.draws)})
        for name, pool in pools.items()
        for seeds in (3, 5, 10)
    ]
    print("\n".join(lines))
    if options.out:
        Path(options.out).write_text("\n".join(lines) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
