"""Observed against predicted spread of a digits MLP over 20 seeds, the share of each source, and coverage of intervals.

    python -m benchmarks.variance_sources [--runs 20] [--store FOLDER] [--out benchmarks/results/variance_sources.jsonl]

One JSON line a figure: the spread of runs with everything free beside the predicted one and the binomial floor; each
source's standard deviation and share; and, by 2,000 simulations, how often 95 % intervals of a mean hold it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reinvest as ri
from reinvest.evaluation.variance import BOOTSTRAP_FROM, summarise
from reinvest.studies.variance_sources import SourcesPlan, variance_sources

PLAIN: dict[str, Any] = {
    "task": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [64]},
    "duration": "10ep",
    "batch_size": 64,
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
}
RECIPES = {
    "plain": PLAIN,
    "augmented": {
        **PLAIN,
        "task": {"name": "digits", "augment": "crop-flip"},
        "methods": [{"name": "Mixup", "alpha": 0.2}],
    },
}
SIMULATIONS = 2_000
SHAPES = ("normal", "skewed")


def lines(recipe: dict[str, Any], runs: int, store: ri.Store) -> Iterator[dict[str, Any]]:
    """The lines about runs of a recipe: the spread, then a line a source, then what is left."""
    plan = SourcesPlan(ri.Recipe(**recipe), runs=runs)
    result = variance_sources(plan, store, workers=1, threads=1).result
    summary, test, sources = result["summary"], result["test"], result["sources"]
    yield {
        "what": "spread of runs",
        "runs": summary["n"],
        "mean": summary["mean"],
        **{name: summary[name] for name in ("sd", "sd_low", "sd_high")},
        **test,
        "independent_errors_sd": result["agreement"]["spread"]["sampling_sd"],
        "between_runs_sd": result["agreement"]["spread"]["sd"],
        "between_runs_low": result["agreement"]["spread"]["low"],
        "between_runs_high": result["agreement"]["spread"]["high"],
        "churn": result["agreement"]["churn"],
    }
    kept = ("runs", "mean", "sd", "sd_low", "sd_high", "share", "share_low", "share_high")
    for part in (*sources["parts"], sources["none"], sources["whole"]):
        yield {"what": "source", "free": part["source"] or "all", **{name: part[name] for name in kept}}
    yield {"what": "unexplained", **sources["unexplained"], "same_bits_with_all_held": sources["same_bits"]}


def coverage(shape: str, runs: int) -> dict[str, Any]:
    """How often the interval of the mean of `runs` values holds the true one."""
    draw = np.random.default_rng(runs)
    hit = {"t": 0, "bca": 0}
    for _ in range(SIMULATIONS):
        values = draw.normal(0, 1, runs) if shape == "normal" else draw.exponential(1, runs) - 1
        found = summarise(values.tolist())
        hit["t"] += found.low <= 0 <= found.high
        hit["bca"] += found.bca is not None and found.bca[0] <= 0 <= found.bca[1]
    rates = {name: count / SIMULATIONS for name, count in hit.items()}
    error = max((p * (1 - p) / SIMULATIONS) ** 0.5 for p in rates.values())
    if runs < BOOTSTRAP_FROM:
        rates["bca"] = None  # type: ignore[assignment]
    return {"what": "coverage at 95 %", "values": shape, "runs": runs, **rates, "standard_error": error}


def main() -> None:
    """Print the lines, and keep them after a line of facts if --out is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--store", help="default: a folder that is removed again")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    kept = [json.dumps({"benchmark": "variance_sources", "facts": ri.facts(), "recipes": RECIPES})]
    with tempfile.TemporaryDirectory() as folder:
        found = [
            *(
                {"recipe": name, **line}
                for name, recipe in RECIPES.items()
                for line in lines(recipe, chosen.runs, ri.Store(chosen.store or folder))
            ),
            *(coverage(shape, runs) for shape in SHAPES for runs in (3, 5, 10, 20)),
        ]
    for line in found:
        kept.append(json.dumps({"benchmark": "variance_sources", **line}))
        print(kept[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(kept) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
