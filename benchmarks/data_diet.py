"""Does it pay to choose the data by what an earlier run found? Selections against random halves at equal time.

    python -m benchmarks.data_diet benchmarks/plans/data_diet.yaml [--store S] [--workers 2] [--out FILE]

The plan is a file; results are one JSON: under each condition the comparison, as `reinvest compare` writes it, and what the
reference runs cost. Runs are kept in the store and never trained twice.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import reinvest as ri
from benchmarks.planted_noise import train_all
from benchmarks.running import give, plan_options
from reinvest.evaluation.compare import Listener, run_study
from reinvest.evaluation.plan import Job
from reinvest.evaluation.study import Study
from reinvest.loop.session import build_task

REFERRING = {
    "Subset": "reference",
    "PrioritizedTraining": "reference",
    "LabelCorrection": "reference",
    "ReducibleLossSelection": "halves",
}
"""Methods that are told of an earlier run, and of which."""


def references(plan: dict[str, Any], recipe: ri.Recipe, store: Path, workers: int) -> dict[str, list[Any]]:
    """The runs that the selections go by: one on all examples, and two on a half each."""
    whole, half = plan["reference"], plan["halves"]
    task: Any = build_task(recipe)
    train = task.splits["train"]
    order = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(half["seed"]))]
    folder = store / "lists"
    folder.mkdir(parents=True, exist_ok=True)
    noise = recipe.task.get("label_noise", 0.0)
    jobs = [(recipe.with_(duration=whole["duration"], batch_size=whole["batch_size"]), whole["seed"])]
    for number, left in enumerate(order.chunk(2)):
        file = folder / f"noise_{noise}_without_{number}.csv"
        file.write_text("id\n" + "\n".join(str(int(i)) for i in left.sort().values) + "\n", encoding="utf8")
        task = recipe.task | {"drop": str(file)}
        jobs.append((recipe.with_(task=task, duration=half["duration"], batch_size=half["batch_size"]), half["seed"]))
    runs = train_all(jobs, store, workers)
    return {"reference": runs[:1], "halves": runs[1:]}


def arm_of(recipe: ri.Recipe, changes: dict[str, Any], runs: dict[str, list[Any]]) -> ri.Recipe:
    """The recipe with a change of the plan: methods are told of their runs, other entries are fields of the recipe."""
    methods = {name: dict(own) for name, own in changes.items() if name in REFERRING}
    for name, own in methods.items():
        ids = [run.id for run in runs[REFERRING[name]]]
        own["run"] = ids[0] if len(ids) == 1 else ids
    rest = {name: value for name, value in changes.items() if name not in methods}
    return recipe.with_(*({"name": name, **own} for name, own in methods.items()), **rest)


def study_of(plan: dict[str, Any], recipe: ri.Recipe, runs: dict[str, list[Any]], title: str) -> Study:
    """The comparison under one condition."""
    arms = {name: arm_of(recipe, changes, runs) for name, changes in plan["arms"].items()}
    return Study(
        baseline=arm_of(recipe, plan["baseline"], runs),
        arms=arms,
        durations=plan["durations"],
        seeds=plan["seeds"],
        baseline_name="random half",
        title=f"Data diet, {title}",
    )


class Told:
    """Counts finished runs on standard error."""

    def __init__(self) -> None:
        self.left = 0

    def planned(self, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        self.left = len(todo)
        print(f"{len(jobs)} runs, {len(todo)} to do", file=sys.stderr, flush=True)

    def done(self, job: Job) -> None:
        self.left -= 1
        print(f"{self.left} left", file=sys.stderr, flush=True)


def main() -> None:
    """Run the plan and print (or write) what was found."""
    chosen = plan_options(__doc__, "runs/data_diet", workers=2)
    torch.set_num_threads(1)
    plan = yaml.safe_load(chosen.plan.read_text(encoding="utf8"))
    store = ri.Store(chosen.store)
    result: dict[str, Any] = {"plan": plan, "facts": ri.facts(), "conditions": {}}
    for title, noise in plan["conditions"].items():
        base = plan["recipe"]
        recipe = ri.Recipe.from_dict(base | {"task": base["task"] | noise, "duration": plan["reference"]["duration"]})
        runs = references(plan, recipe, chosen.store, chosen.workers)
        told = Told()
        listener = Listener(planned=told.planned, done=told.done)
        verdicts = run_study(study_of(plan, recipe, runs, title), store, workers=chosen.workers, listener=listener)
        result["conditions"][title] = {
            "references": {
                name: [{"seconds": run.cost["seconds"], "accuracy": run.quality("accuracy")} for run in own]
                for name, own in runs.items()
            },
            "comparison": verdicts.result,
        }
        print(verdicts, file=sys.stderr, flush=True)
    give(result, chosen.out)


if __name__ == "__main__":
    main()
