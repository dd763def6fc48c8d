"""Choose a baseline's settings: every point of a small grid, by the mean validation quality of several seeds.

    python -m benchmarks.tuning PLAN.yaml [--store runs] [--out PLAN.json]

The plan has a recipe, `grid` (optimizer arguments and their values), `seeds` and the metric. The result has every point,
with each seed's validation quality, best first. The test split is not looked at.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import torch
import yaml

import reinvest as ri
from reinvest.evaluation.settings import direction


def tune(plan: dict[str, Any], store: ri.Store) -> list[dict[str, Any]]:
    """[{settings, validation: one quality a seed, mean}], best first."""
    base, metric = plan["recipe"], plan["metric"]
    points = []
    for values in itertools.product(*plan["grid"].values()):
        settings = dict(zip(plan["grid"], values, strict=True))
        recipe = ri.Recipe(**{**base, "optimizer": {**base["optimizer"], **settings}})
        runs = [ri.train(recipe, seed=seed, store=store, evaluations=1) for seed in range(plan["seeds"])]
        found = [run.quality(metric, split="validation") for run in runs]
        points.append({"settings": settings, "validation": found, "mean": statistics.fmean(found)})
        print(json.dumps(points[-1]), flush=True)
    return sorted(points, key=lambda point: point["mean"], reverse=direction(metric))


def main() -> None:
    """Run the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--store", default="runs")
    parser.add_argument("--out", type=Path, help="default: the plan's name with .json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    plan = yaml.safe_load(chosen.plan.read_text(encoding="utf8"))
    points = tune(plan, ri.Store(chosen.store))
    result = {"kind": "tuning", "plan": plan, "points": points, "chosen": points[0]["settings"], "facts": ri.facts()}
    out = chosen.out or chosen.plan.with_suffix(".json")
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
