"""Data from the past: what an earlier run's losses say about which examples to train on, in what order, how much.

Values in, values out: a score is one number an id, float [N], NaN for an example that was never seen. The methods
`Subset`, `Curriculum` and `Weighting` do the same inside a training loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import InvalidValue, unknown
from ..core.method import Context
from ..core.protocols import find_run
from ..dynamics.scan import scan
from ..dynamics.trajectories import Trajectories
from ..methods._check import number, whole
from ..methods._scores import KINDS, SHARE, ascending, checked_scores, mask_of
from ..methods.losses.weighting import weights_from
from ..methods.select.curriculum import order_from
from ..methods.select.subset import capped, choose_subset
from .fit import Source, check_ancestors, check_data

__all__ = [
    "average_scores",
    "capped",
    "choose_subset",
    "high_loss_subset",
    "keep",
    "order_from",
    "scores_of",
    "weights_from",
    "window",
    "within_classes",
]


def scores_of(run: Any, kind: str = "mean", epochs: int | None = None) -> Tensor:
    """An earlier run's losses as scores: float32 [N], NaN for examples that it never trained on.

    run: a Run, or its id inside `store.lending()`. kind: "mean" over the epochs that saw the example, or the loss in the
    "last" or the "first" of them. epochs: only the first so many epochs of the run (from 1 up); None takes all. Losses
    that are not finite do not count. Raises InvalidValue for other values and where nothing is left, UnknownName for
    other kinds, StoreError for a run without records.
    """
    return _scores(find_run(run, "scores_of").records(), kind, epochs)


def _scores(records: Any, kind: str, epochs: int | None) -> Tensor:
    if kind not in KINDS:
        raise unknown("kind of score", kind, KINDS)
    if epochs is not None:
        whole(epochs, "epochs is a whole number from 1 up, or None for all", "leave it out", 1)
    # Losses of the training pass, whatever else the run kept: other runs are compared by the same.
    trajectories = Trajectories(records.history("loss")[:, :epochs], places=records.places)
    name = f"{kind}_loss"
    return checked_scores(scan(trajectories, [name])[name]).float()


def average_scores(runs: Sequence[Any], kind: str = "mean", epochs: int | None = None) -> Tensor:
    """The mean of several runs' `scores_of`, float32 [N]: each example's over the runs that saw it.

    Where data have grown in between, N is the largest. Losses of long runs are smaller than those of short ones, which
    shifts the examples that only some of the runs saw. Raises InvalidValue for no runs and for runs on different data
    sets.
    """
    if not isinstance(runs, (list, tuple)) or not runs:
        raise InvalidValue(f"scores are averaged over a list of runs, got {runs!r}; pass at least one run")
    every = [find_run(run, "average_scores").records() for run in runs]
    named = sorted({r.namespace for r in every if r.namespace})
    if len(named) > 1:
        raise InvalidValue(
            f"ids belong to one data set, got runs on {' and '.join(map(repr, named))}; average runs on the same data"
        )
    return _average([_scores(r, kind, epochs) for r in every])


def _average(columns: Sequence[Tensor]) -> Tensor:
    size = max(len(column) for column in columns)
    table = torch.stack([F.pad(column.double(), (0, size - len(column)), value=math.nan) for column in columns])
    return table.nanmean(0).float()


def high_loss_subset(
    scores: Tensor,
    share: float,
    *,
    replay: float = 0.25,
    cap: Tensor | None = None,
    among: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Ids int64 [k], ascending, to fine-tune on: the highest scores that `cap` allows, and a uniform draw of the rest.

    scores: float [N], NaN for examples never seen. share: of the candidates, in (0, 1]; k is rounded. replay: the part of
    k, in [0, 1], that is drawn uniformly from all others: 0 draws none. cap: bool [N], such as
    capped(scores, lowest=0.95), so that wrong labels are not chosen for their high loss; what it leaves unfilled is
    drawn, so k never changes. among: the candidates, as ids or a mask; default those with a score (ids without one may
    belong to the test set). A candidate without a score can be drawn only. Raises InvalidValue as `choose_subset` does.
    """
    return choose_subset(scores, share, replay=replay, cap=cap, among=among, seed=seed)


def keep(
    scores: Tensor,
    share: float,
    which: str = "lowest",
    *,
    labels: Tensor | None = None,
    among: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Ids int64 [k], ascending, of the "lowest", "highest" or "middle" share of the scores; the others are to be dropped.

    scores: float [N], NaN for examples never seen. share: in (0, 1], of the examples with a score; rounded. labels:
    int64 [N]; the share is then taken (and rounded) in each class by itself. among: whom it is about, as ids or a mask;
    default those with a score. An example of `among` that was never seen is always kept, beyond the share.
    Raises InvalidValue for values outside these ranges, other shapes, and labels below 0 where there is a score.
    """
    number(share, SHARE, "0.5 is usual", 0, 1, above=True)
    scores = checked_scores(scores)
    candidates = mask_of(among, scores)
    known = candidates & ~scores.isnan()
    groups = [known] if labels is None else [known & (labels == c) for c in _classes(labels, known)]
    parts = [choose_subset(scores, share, which=which, replay=0.0, among=g, seed=seed) for g in groups if bool(g.any())]
    return torch.cat([*parts, (candidates & scores.isnan()).nonzero()[:, 0]]).sort().values


def window(
    scores: Tensor,
    low: float,
    high: float,
    *,
    labels: Tensor | None = None,
    among: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Ids int64 [k], ascending, of the examples whose scores rank from share `low` to share `high`, counted from below.

    low, high: in [0, 1], low < high; their places are rounded: window(scores, 0.5, 0.9) drops the lower half and the
    highest tenth, where wrong labels are, and windows side by side share no example. labels: int64 [N]; ranks are then
    those inside each class. among, unseen examples and errors: as for `keep`.
    """
    for name, value in (("low", low), ("high", high)):
        number(value, f"{name} is a share of the examples from 0 to 1", "0.5 is the middle", 0, 1)
    if low >= high:
        raise InvalidValue(f"a window is from a lower to a higher share, got low={low!r} and high={high!r}; swap them")
    scores = checked_scores(scores)
    candidates = mask_of(among, scores)
    known = candidates & ~scores.isnan()
    groups = [known] if labels is None else [known & (labels == c) for c in _classes(labels, known)]
    ranked = [ascending(scores, group.nonzero()[:, 0], seed) for group in groups]
    places = [[math.floor(share * len(ids) + 0.5 + 1e-9) for share in (low, high)] for ids in ranked]
    parts = [ids[first:last] for ids, (first, last) in zip(ranked, places, strict=True)]
    return torch.cat([*parts, (candidates & scores.isnan()).nonzero()[:, 0]]).sort().values


def within_classes(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores as ranks inside their class, in (0, 1): float32 [N], NaN stays; what is chosen by them is balanced.

    labels: int64 [N]. Equal scores have equal ranks. Raises InvalidValue as `keep` does.
    """
    scores = checked_scores(scores)
    found = torch.full_like(scores, math.nan)
    for c in _classes(labels, ~scores.isnan()):
        own = ~scores.isnan() & (labels.cpu() == c)
        found[own] = (weights_from(scores, 1.0, among=own)[own].double()) / 2
    return found.float()


def _classes(labels: Tensor, known: Tensor) -> list[int]:
    if not isinstance(labels, Tensor) or labels.shape != known.shape or labels.dtype != torch.int64:
        got = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise InvalidValue(
            f"labels are one class an id (int64 [{len(known)}]), got {got}; pass for example records.labels"
        )
    own = labels.cpu()[known]
    if bool((own < 0).any()):
        raise InvalidValue(
            f"examples with a score have a label from 0 up, got {int((own < 0).sum())} without one; take scores and "
            "labels of the same run"
        )
    classes: list[int] = sorted(set(own.tolist()))
    return classes


def fitting_run(reference: Any, context: Context) -> Any:
    """An earlier run (or its id) whose records speak of the examples of a training that begins.

    Raises InvalidValue for records of another data set, or of a run that saw this task's test examples (or was made from
    one that did), DataError where shared ids stand for different examples.
    """
    run = find_run(reference, "a method that re-uses data")
    records, known = run.records(), context.task.namespace
    name = f"run {run.id!r}"
    if records.namespace and known and records.namespace != known:
        raise InvalidValue(
            f"losses belong to the ids of one data set, got those of {records.namespace!r} ({name}) for {known!r}; "
            "take a run on the same data"
        )
    # Losses at another size or scaling of the inputs still say which examples are hard: no word of preprocessing.
    check_data(
        Source(name, records.namespace or "", records.fingerprint or "", hashes=records.hashes, roles=records.roles),
        context.task,
        by_id=True,
    )
    check_ancestors(run, context.task)
    return run


def read_scores(runs: Sequence[Any], context: Context, *, loss: str = "mean", balance: bool = False) -> Tensor:
    """The (average) scores float32 [N] of earlier runs for a training that begins: refused where the data do not fit.

    loss: which of an example's losses, see `scores_of`. balance: as ranks inside the class that the records name.
    Raises what `fitting_run` does, and InvalidValue for records without the labels that `balance` needs.
    """
    columns, labels = [], []
    for reference in runs:
        run = fitting_run(reference, context)
        records = run.records()
        columns.append(_scores(records, loss, None))
        if balance:
            if records.labels is None:
                raise InvalidValue(
                    f"balance needs the labels in a run's records, got none in those of run {run.id!r}; leave balance out"
                )
            labels.append(records.labels)
    if not balance:
        return _average(columns)
    size = max(len(column) for column in columns)
    labelled = torch.stack([F.pad(column, (0, size - len(column)), value=-1) for column in labels]).amax(0)
    return within_classes(_average(columns), labelled)


catalog: dict[str, Any] = {"records": read_scores, "holdout": "reinvest.reuse.holdout:read_holdout"}
"""Where a method's scores come from -> how they are read: (runs, context, loss=, balance=) -> float32 [N]."""
