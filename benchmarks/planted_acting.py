"""Training again on what was found: relabelled, without the suspects, corrected on the way; against the data as they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import reinvest as ri
from reinvest.dynamics.trajectories import Trajectories

AS_IT_IS = "as it is"


def act(
    recipe: ri.Recipe,
    task: Any,
    runs: list[Any],
    store: Path,
    workers: int,
    train_all: Callable[..., list[Any]],
    label_errors: Callable[[Trajectories], tuple[torch.Tensor, torch.Tensor]],
) -> dict[str, Any]:
    """Test accuracy of each way, seed by seed, and its difference to the data as they are with a paired 95 % interval.

    Each seed's suspects are those of its own first run; the second run has the next hundred's seed, so that it is another.
    """
    folder = store / "lists"
    folder.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, list[tuple[ri.Recipe, int]]] = {}
    for seed, run in enumerate(runs):
        for name, changed in _ways(recipe, task, run, folder, label_errors).items():
            jobs.setdefault(name, []).append((changed, 100 + seed))
    found = train_all([job for own in jobs.values() for job in own], store, workers)
    count = len(runs)
    accuracy, refused = {}, {}
    for i, name in enumerate(jobs):
        own = found[i * count : (i + 1) * count]
        if None in own:
            # A way that refuses some of the seeds is no way; how often is told.
            refused[name] = own.count(None)
        else:
            accuracy[name] = [run.quality("accuracy") for run in own]
    plain = accuracy[AS_IT_IS]
    return {
        "noise": {k: recipe.task[k] for k in ("label_noise", "noise")},
        "accuracy": accuracy,
        "refused": refused,
        "difference": {name: paired(values, plain) for name, values in accuracy.items() if name != AS_IT_IS},
    }


def _ways(
    recipe: ri.Recipe, task: Any, run: Any, folder: Path, label_errors: Callable[..., Any]
) -> dict[str, ri.Recipe]:
    truth, train = task.planted, task.splits["train"]
    flags, suggested = label_errors(Trajectories.of(run))
    if truth.probes is not None:
        flags[truth.probes.ids] = False
    ids = train[flags[train]]
    draw = torch.Generator().manual_seed(0)
    ordinary = train[~torch.isin(train, truth.probes.ids)] if truth.probes is not None else train
    random = ordinary[torch.randperm(len(ordinary), generator=draw)][: len(ids)]
    wrong = truth.relabelled.nonzero()[:, 0]
    wrong = wrong if truth.probes is None else wrong[~torch.isin(wrong, truth.probes.ids)]

    def file(name: str, rows: list[str]) -> str:
        path = folder / f"{run.id}_{name}.csv"
        path.write_text("\n".join(rows) + "\n")
        return str(path)

    def pairs(chosen: torch.Tensor, labels: torch.Tensor) -> list[str]:
        return ["id,label", *(f"{int(i)},{int(labels[i])}" for i in chosen)]

    def without(name: str, chosen: torch.Tensor) -> ri.Recipe:
        return recipe.with_(task=recipe.task | {"drop": file(name, ["id", *(str(int(i)) for i in chosen)])})

    def relabelled(name: str, chosen: torch.Tensor, labels: torch.Tensor) -> ri.Recipe:
        return recipe.with_(task=recipe.task | {"correction": file(name, pairs(chosen, labels))})

    return {
        AS_IT_IS: recipe,
        "relabelled": relabelled("relabelled", ids, suggested),
        "without the suspects": without("without", ids),
        "without as many at random": without("random", random),
        "LabelCorrection from the first run": recipe.with_({"name": "LabelCorrection", "run": run.id}),
        "true labels": relabelled("truth", wrong, truth.clean_labels),
    }


def paired(values: list[float], plain: list[float]) -> dict[str, float]:
    """Mean difference with its 95 % t-interval, in shares of the test set."""
    from scipy.stats import t

    differences = [a - b for a, b in zip(values, plain, strict=True)]
    mean, count = statistics.fmean(differences), len(differences)
    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(differences) / math.sqrt(count) if count > 1 else math.inf
    return {"mean": mean, "low": mean - half, "high": mean + half}
