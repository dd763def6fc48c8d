"""Cross-validated predictions and what confident learning makes of them: the baseline that costs further runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import reinvest as ri
from reinvest.loop.session import build_model, build_task


def cross_validated(
    recipe: ri.Recipe, task: Any, folds: int, store: Path, workers: int, train_all: Callable[..., list[Any]]
) -> dict[str, Any]:
    """Areas of self confidence of predictions by models that did not train on the example, and cleanlab's issues."""
    from benchmarks.planted_noise import area

    truth, train = task.planted, task.splits["train"]
    ordinary = torch.ones(len(truth.labels), dtype=torch.bool)
    if truth.probes is not None:
        ordinary[truth.probes.ids] = False
    own = train[ordinary[train]]
    folder = store / "folds"
    folder.mkdir(parents=True, exist_ok=True)
    part = torch.randperm(len(own), generator=torch.Generator().manual_seed(0)) % folds
    recipes = [recipe.with_(task=recipe.task | {"drop": _file(folder, k, own[part == k])}) for k in range(folds)]
    runs = train_all([(r, 0) for r in recipes], store, workers)
    probabilities = torch.zeros(len(truth.labels), task.classes)
    for k, (one, run) in enumerate(zip(recipes, runs, strict=True)):
        probabilities[own[part == k]] = _predicted(one, run, own[part == k])
    labels = truth.labels[own]
    confidence = probabilities[own].gather(1, labels[:, None])[:, 0]
    wrong = truth.relabelled[own]
    seconds = sum(run.seconds for run in runs)
    found = {"area": area(-confidence, wrong), "seconds": seconds, "folds": folds}
    return found | _confident(probabilities[own], labels, wrong)


def _file(folder: Path, fold: int, ids: torch.Tensor) -> str:
    path = folder / f"fold_{fold}_{len(ids)}.csv"
    path.write_text("id\n" + "".join(f"{int(i)}\n" for i in ids))
    return str(path)


def _predicted(recipe: ri.Recipe, run: Any, ids: torch.Tensor) -> torch.Tensor:
    task = build_task(recipe)
    model = build_model(recipe, task, 0)
    model.load_state_dict(run.weights())
    model.eval()
    with torch.no_grad():
        return torch.cat([model(x).softmax(1) for _, x, _ in task.clean(512, ids)])


def _confident(probabilities: torch.Tensor, labels: torch.Tensor, wrong: torch.Tensor) -> dict[str, Any]:
    try:
        import cleanlab
        from cleanlab.filter import find_label_issues
    except ImportError:
        return {"cleanlab": None}
    issues = torch.from_numpy(find_label_issues(labels.numpy(), probabilities.numpy(), n_jobs=1))
    hits = int((issues & wrong).sum())
    return {
        "cleanlab": cleanlab.__version__,
        "called": int(issues.sum()),
        "precision": hits / max(1, int(issues.sum())),
        "recall": hits / max(1, int(wrong.sum())),
    }
