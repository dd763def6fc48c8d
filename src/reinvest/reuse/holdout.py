"""Irreducible losses: what models that were trained on other examples make of those of a training that begins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.batch import unpack
from ..core.criterion import check_losses, per_example
from ..core.errors import InvalidValue
from ..core.forward import logits_of
from ..core.method import Context
from ..core.protocols import find_run
from ..core.view import TRAIN
from ..dynamics.trajectories import TRAINING, Trajectories
from .clean import evaluating
from .fit import ReuseWarning, check_ancestors, check_data, source_of
from .models import model_of

__all__ = ["read_holdout"]

BATCH = 512
WHO = "ReducibleLossSelection"


def read_holdout(runs: Sequence[Any], context: Context, *, loss: str = "last", balance: bool = False) -> Tensor:
    """Losses of runs' models on the training examples that they were not trained on: float32 [N], the mean over the runs.

    Each model makes one pass in eval mode, without augmentation; NaN where every run was trained on the example (or made
    from one that was), and outside the training split. `loss` and `balance` are those of other readers and change nothing.
    Raises InvalidValue for a run that saw this task's test examples, was trained on all training examples, or is not
    finished, and for a loader without clean examples; StoreError for a run that kept no records of what it was trained on.
    """
    view = context.task
    if view.clean is None or view.examples is None:
        raise InvalidValue(
            f"{WHO} shows the training examples to another model, got a loader that does not offer them; make the losses "
            "yourself and pass scores=[...]"
        )
    training = torch.ones(view.examples, dtype=torch.bool) if view.roles is None else view.roles().cpu() == TRAIN
    total, count = torch.zeros(view.examples, dtype=torch.float64), torch.zeros(view.examples)
    for reference in runs:
        run = find_run(reference, WHO)
        if run.status != "finished":
            raise InvalidValue(
                f"irreducible losses are those of a finished run, got run {run.id!r} ({run.status}); take another one"
            )
        source = source_of(run)
        check_data(source, view, by_id=False)
        check_ancestors(run, view)
        unseen = training & ~_trained(run, view.namespace, view.examples)
        if not bool(unseen.any()):
            raise InvalidValue(
                f"irreducible losses come from a model that was not trained on the examples, got run {run.id!r}, which was "
                f"trained on all {int(training.sum())}; train one on others, or use source='records'"
            )
        losses = _losses_of(model_of(run, context), context)
        good = unseen & losses.isfinite()
        total[good] += losses[good].double()
        count += good
    return (total / count).float()


def _trained(run: Any, namespace: str, examples: int) -> Tensor:
    """Which ids the run, and the runs that it was made from, were trained on: bool [N]."""
    found, waiting, met = torch.zeros(examples, dtype=torch.bool), [run], {run.id}
    while waiting:
        one = waiting.pop()
        seen = Trajectories.of(one, source=TRAINING)
        if not seen.namespace or not namespace or seen.namespace == namespace:
            ids = seen.ids
            found[ids[ids < examples]] = True
            roles = one.records().roles
            if roles is not None:
                # Examples that were always blended have no losses, and were trained on all the same.
                split = (roles == TRAIN).nonzero()[:, 0]
                found[split[split < examples]] = True
        for known in one.parents:
            folder = one.path.parent / known
            if known in met:
                continue
            met.add(known)
            if folder.exists():
                waiting.append(type(one)(folder))
                continue
            warnings.warn(
                f"losses of examples that a model was trained on are no irreducible ones, and run {one.id!r} was made from "
                f"{known!r}, which is gone, so that nothing tells what that one was trained on; train a run anew",
                ReuseWarning,
                stacklevel=2,
            )
    return found


def _losses_of(model: nn.Module, context: Context) -> Tensor:
    """The criterion's losses of the clean training examples, float32 [N] by id; NaN for all others."""
    view = context.task
    assert view.clean is not None and view.examples is not None
    found = torch.full((view.examples,), math.nan)
    with evaluating(model), torch.no_grad():
        for ids, x, y in view.clean(BATCH):
            output = logits_of(model, unpack((ids, x, y), True), context.device, WHO).float()
            targets = y.to(context.device)
            losses = check_losses(context.criterion(output, targets), len(ids), context.criterion)
            found[ids.cpu()] = per_example(losses, targets).float().cpu()
    return found
