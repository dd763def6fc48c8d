"""Are planted wrong labels found, at what cost, and does it pay to act? The plan is a file; results are one JSON.

    python -m benchmarks.planted_noise benchmarks/plans/planted_noise.yaml [--store S] [--workers 2] [--out FILE]

Runs are kept in a store and never trained twice. cleanlab is asked where it is installed (pip install cleanlab); else
that row is left out and the result says so.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import yaml

import reinvest as ri
from benchmarks.planted_acting import act
from benchmarks.planted_folds import cross_validated
from reinvest.dynamics import classify, scores
from reinvest.dynamics.clean import clean_probability
from reinvest.dynamics.series import filled
from reinvest.dynamics.suspects import find_suspects
from reinvest.dynamics.trajectories import Trajectories
from reinvest.loop.session import build_task

EARLY = 5


def train_all(recipes: Sequence[tuple[ri.Recipe, int]], store: Path, workers: int) -> list[Any]:
    """The runs of (recipe, seed), those that are missing trained in `workers` processes of one thread.

    None where a method refused to begin.
    """
    jobs = [(recipe.to_dict(), seed, str(store)) for recipe, seed in recipes]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, run in enumerate(pool.map(_train, jobs), 1):
            print(f"{done}/{len(jobs)} {run}", file=sys.stderr, flush=True)
    kept = ri.Store(store)
    return [_trained(recipe, seed, kept) for recipe, seed in recipes]


def _trained(recipe: ri.Recipe, seed: int, store: ri.Store) -> Any:
    try:
        return ri.train(recipe, seed, store, records={"margins": True}, evaluations=2, progress=False)
    except ri.ReinvestError as error:
        print(f"refused: {error}", file=sys.stderr, flush=True)
        return None


def _train(job: tuple[dict[str, Any], int, str]) -> str:
    torch.set_num_threads(1)
    recipe, seed, store = job
    run = _trained(ri.Recipe.from_dict(recipe), seed, ri.Store(store))
    return "refused" if run is None else f"{run.id} {run.quality('accuracy'):.4f}"


def area(score: torch.Tensor, truth: torch.Tensor) -> float:
    """Area under the ROC curve of `score` for `truth` (bool); examples without a score rank lowest."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth.numpy(), score.nan_to_num(-math.inf).clamp(-1e9, 1e9).numpy()))


def detectors(t: Trajectories, probes: Any) -> dict[str, Callable[[], torch.Tensor]]:
    """Name -> score float [N], high where a label is suspected, out of one run's records."""
    every = torch.arange(t.examples)
    loss = t.rows(every)
    return {
        "mean loss": lambda: scores.mean_loss(loss.T),
        "last loss": lambda: scores.last_loss(loss.T),
        f"loss after {EARLY} epochs": lambda: loss[:, EARLY - 1],
        "area under the margin": lambda: -scores.area_under_margin(t.rows(every, "margin").T),
        "forgetting": lambda: scores.forgetting_events(t.rows(every, "correct").T).clamp(max=1e6),
        "probes, linear": lambda: 1 - clean_probability(loss, probes),
        "probes, k-NN": lambda: 1 - clean_probability(loss, probes, kind="knn"),
        "mixture, no probes": lambda: 1 - clean_probability(loss),
        "`reinvest suspects`": lambda: 1 - find_suspects(t, most=1).quality,
    }


def detect(run: Any, task: Any) -> dict[str, Any]:
    """Areas under the curve of every detector, and what `find_suspects` calls a label error."""
    t, truth = Trajectories.of(run), task.planted
    judged = torch.zeros(t.examples, dtype=torch.bool)
    judged[task.splits["train"]] = True
    if truth.probes is not None:
        judged[truth.probes.ids] = False
    wrong = truth.relabelled[judged]
    found: dict[str, Any] = {"accuracy": run.quality("accuracy"), "area": {}}
    for name, ask in detectors(t, truth.probes).items():
        try:
            found["area"][name] = area(ask()[judged], wrong) if bool(wrong.any()) else None
        except ri.ReinvestError as error:
            found["area"][name] = None
            found.setdefault("refused", {})[name] = str(error)
    return found | {"called": called(t, truth, judged), "kinds": kinds(t, truth, judged)}


def called(t: Trajectories, truth: Any, judged: torch.Tensor) -> dict[str, Any]:
    """How many are called label errors, how many of them are, and how often the suggested label is the true one."""
    flags, suggested = label_errors(t)
    flags = flags & judged
    hits = flags & truth.relabelled
    right = (suggested == truth.clean_labels) & hits
    count, planted = int(flags.sum()), int((truth.relabelled & judged).sum())
    return {
        "called": count,
        "planted": planted,
        "judged": int(judged.sum()),
        "precision": int(hits.sum()) / count if count else None,
        "recall": int(hits.sum()) / planted if planted else None,
        "suggestion_right": int(right.sum()) / int(hits.sum()) if int(hits.sum()) else None,
    }


def label_errors(t: Trajectories) -> tuple[torch.Tensor, torch.Tensor]:
    """(called a label error bool [N], suggested label int64 [N], -1 for none), as `reinvest suspects` says it."""
    found = find_suspects(t, most=t.examples)
    ids, labels = found.relabelled()
    flags, suggested = torch.zeros(t.examples, dtype=torch.bool), torch.full((t.examples,), -1)
    flags[ids], suggested[ids] = True, labels
    return flags, suggested


def kinds(t: Trajectories, truth: Any, judged: torch.Tensor) -> dict[str, Any]:
    """Balanced accuracy over clean / wrong label / spoiled, of classifiers that learned from the probes."""
    probes = truth.probes
    if probes is None:
        return {}
    others = judged.nonzero()[:, 0]
    table, number = filled(t.rows(probes.ids)), probes.kinds
    actual = truth.relabelled[others].long() + 2 * truth.corrupted[others].long()
    order = [probes.names.index(n) for n in ("as it is", "random label", "noise")]
    found: dict[str, Any] = {}
    for kind in ("linear", "knn", "dtw", "mean loss"):
        model = classify.fit(table[probes.reference], number[probes.reference], probes.names, kind=kind, k=20)
        said = model.probabilities(filled(t.rows(others))).nan_to_num(0).argmax(1)
        recall = [float((said[actual == k] == order[k]).double().mean()) for k in range(3) if bool((actual == k).any())]
        found[kind] = {"balanced": sum(recall) / len(recall), "recall": recall}
    return found


def recipes_of(plan: dict[str, Any]) -> list[ri.Recipe]:
    """One a planted truth."""
    base = plan["recipe"]
    return [ri.Recipe.from_dict(base | {"task": base["task"] | noise}) for noise in plan["noises"]]


def clean_check(plan: dict[str, Any], store: Path, workers: int) -> dict[str, Any]:
    """How many examples of a data set known to be clean are called label errors."""
    task = plan["recipe"]["task"] | {"base": plan["clean"], "corrupted": 0.0}
    recipe = ri.Recipe.from_dict(plan["recipe"] | {"task": task})
    runs = train_all([(recipe, seed) for seed in range(plan["seeds"])], store, workers)
    made = build_task(recipe)
    return {
        "task": plan["clean"],
        "runs": [detect(run, made)["called"] | {"accuracy": run.quality("accuracy")} for run in runs],
    }


def main() -> None:
    """Run the plan and print (or write) what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--store", type=Path, default=Path("runs/planted_noise"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parts", default="detect,folds,clean,act", help="parts of the study, with commas")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    plan = yaml.safe_load(chosen.plan.read_text(encoding="utf8"))
    parts = chosen.parts.split(",")
    result: dict[str, Any] = {"plan": plan, "facts": ri.facts(), "parts": parts}
    recipes, seeds = recipes_of(plan), range(plan["seeds"])
    runs = train_all([(recipe, seed) for recipe in recipes for seed in seeds], chosen.store, chosen.workers)
    by_noise = [runs[i * len(seeds) : (i + 1) * len(seeds)] for i in range(len(recipes))]
    tasks = [build_task(recipe) for recipe in recipes]
    if "detect" in parts:
        result["detection"] = [[detect(run, task) for run in own] for own, task in zip(by_noise, tasks, strict=True)]
    if "folds" in parts:
        result["cross_validation"] = [
            cross_validated(recipe, task, plan["folds"], chosen.store, chosen.workers, train_all)
            for recipe, task in zip(recipes, tasks, strict=True)
        ]
    if "clean" in parts:
        result["clean"] = clean_check(plan, chosen.store, chosen.workers)
    if "act" in parts:
        result["acting"] = [
            act(recipes[i], tasks[i], by_noise[i], chosen.store, chosen.workers, train_all, label_errors)
            for i in plan["acting"]
        ]
    text = json.dumps(result, indent=1)
    if chosen.out is None:
        print(text)
    else:
        chosen.out.write_text(text + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
