"""One number an example out of what runs saw of it: how hard, how late, how forgettable, how much in doubt.

Tables are [E, N], an epoch a row as in a run's records, NaN where an example was not seen; they are read row by row, so
that tables on disk need the memory of one row. Scores are float32 [N], NaN for examples about which nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidValue

__all__ = [
    "agreement",
    "area_under_margin",
    "average",
    "el2n",
    "first_learned",
    "forgetting_events",
    "last_loss",
    "mean_loss",
    "memorization",
    "reducible_loss",
]


def mean_loss(loss: Tensor) -> Tensor:
    """The mean of an example's losses over the epochs that saw it: 0 is right and sure all along, high is hard or wrong.

    loss: float [E, N]; losses that are not finite do not count. The no-probe baseline of 2209.10015's detection of
    wrong labels. Raises InvalidValue for another shape.
    """
    total, seen = _sums(loss, "losses")
    return (total / seen).float()


def area_under_margin(margin: Tensor) -> Tensor:
    """The mean margin over the epochs: negative where the model kept preferring another class, a sign of a wrong label.

    margin: float [E, N], an example's logit of its label minus the largest other one. Pleiss, Zhang, Elenberg,
    Weinberger, 2001.10528. Raises InvalidValue for another shape.
    """
    total, seen = _sums(margin, "margins")
    return (total / seen).float()


def last_loss(loss: Tensor) -> Tensor:
    """The loss in the last epoch that saw the example. Raises InvalidValue for another shape than [E, N]."""
    found = torch.full((_table(loss, "losses").shape[1],), math.nan)
    for row in loss:
        found = torch.where(row.isfinite(), row.float(), found)
    return found


def forgetting_events(correct: Tensor) -> Tensor:
    """How often an example went from right to wrong between two sightings: 0 is never, infinite never learned at all.

    correct: [E, N], 1 or 0 (or a share of right positions, right from one half on), NaN where not seen. Toneva, Sordoni,
    Combes, Trischler, Bengio, Gordon, 1812.05159. Raises InvalidValue for another shape or values outside [0, 1].
    """
    size = _table(correct, "correctness").shape[1]
    events, before = torch.zeros(size), torch.full((size,), math.nan)
    learned = torch.zeros(size, dtype=torch.bool)
    for row in correct:
        right, seen = _right(row)
        events += seen & (before == 1.0) & ~right
        learned |= right
        before = torch.where(seen, right.float(), before)
    events[~learned] = math.inf
    return events.masked_fill(before.isnan(), math.nan)


def first_learned(correct: Tensor, *, for_good: bool = False) -> Tensor:
    """The first epoch (from 0) in which an example was right; infinite if it never was.

    for_good: the first from which it was right at every later sighting, infinite if the last one was wrong. correct:
    as for `forgetting_events`. Raises InvalidValue as it does.
    """
    size = _table(correct, "correctness").shape[1]
    found, met = torch.full((size,), math.inf), torch.zeros(size, dtype=torch.bool)
    for epoch, row in enumerate(correct):
        right, seen = _right(row)
        found = torch.where(right & found.isinf(), float(epoch), found)
        if for_good:
            found = torch.where(seen & ~right, math.inf, found)
        met |= seen
    return found.masked_fill(~met, math.nan)


def el2n(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The length of the error vector p - onehot(label): 0 is right and sure, sqrt(2) wrong and sure.

    probabilities: [N, C] early in training, or [R, N, C] of R runs, over which the mean is taken (ten or more are
    advised; single runs are noisier). labels: int64 [N]. Uniform answers score sqrt((C - 1) / C). Paul, Ganguli,
    Dziugaite, 2107.07075; reproduced in 2303.14753. Raises InvalidValue for other shapes, rows that are no
    probabilities, and labels outside [0, C).
    """
    p = torch.as_tensor(probabilities)
    p = p.unsqueeze(0) if p.ndim == 2 else p
    if p.ndim != 3 or p.shape[2] < 2:
        raise InvalidValue(
            f"probabilities are [N, C] or [R, N, C] with at least 2 classes, got {list(p.shape)}; pass a softmax of logits"
        )
    known = ~p.isnan().any(-1)
    rows = p[known].double()
    if bool((rows < 0).any()) or bool(((rows.sum(-1) - 1).abs() > 1e-3).any()):
        raise InvalidValue(
            "each row of probabilities sums to 1 with no entry below 0, got rows that do not; pass logits.softmax(-1)"
        )
    y = _labels(labels, p.shape[1], p.shape[2])
    error = p.double().scatter_add(2, y.expand(len(p), -1).unsqueeze(2), p.new_full((len(p), len(y), 1), -1.0).double())
    return error.square().sum(-1).sqrt().nanmean(0).float()


def reducible_loss(loss: Tensor, irreducible: Tensor) -> Tensor:
    """What there is still to learn of an example: its loss now minus the loss of a model that was trained without it.

    Both float [N]. High: learnable, worth learning and not yet learned; near 0 learned already, or noise, which stays
    high for the other model too. The other model is one trained on held-out data (the paper) or a small model at the
    end of its training. Mindermann and others, 2206.07137. Raises InvalidValue for other shapes.
    """
    if loss.ndim != 1 or loss.shape != irreducible.shape:
        raise InvalidValue(
            f"both losses are one number an example, got shapes {list(loss.shape)} and {list(irreducible.shape)}; "
            "pass the losses of the same examples"
        )
    return (loss.double() - irreducible.double()).float()


def memorization(correct: Tensor, included: Tensor) -> Tensor:
    """Share right of the runs trained with an example minus that of the runs trained without: 0 learned from the others,
    1 only known where it was trained on.

    correct, included: [R, N] of R runs on random subsets, bool or 0 / 1. NaN where all runs had the example or none.
    Feldman, Zhang, 2008.03703. Raises InvalidValue for other shapes.
    """
    if correct.ndim != 2 or correct.shape != included.shape:
        raise InvalidValue(
            f"both tables are [R, N], a run a row, got shapes {list(correct.shape)} and {list(included.shape)}; "
            "stack the runs' columns"
        )
    right, inside = correct.double(), included.bool()
    with_it = (right * inside).sum(0) / inside.sum(0)
    without = (right * ~inside).sum(0) / (~inside).sum(0)
    return (with_it - without).float()


def average(scores: Sequence[Tensor], *, ranks: bool = False) -> Tensor:
    """The mean of several runs' scores of the same examples, float32 [N]; NaN only where every run has NaN.

    ranks: of the ranks in (0, 1) in place of the numbers, for scores of different kinds or lengths of training.
    Raises InvalidValue for no scores or for different lengths.
    """
    columns = _columns(scores)
    if ranks:
        columns = [_ranks(column) for column in columns]
    return torch.stack([c.double() for c in columns]).nanmean(0).float()


def agreement(scores: Sequence[Tensor]) -> Tensor:
    """Spearman's rank correlation of every pair of scores over the examples that both know: float64 [K, K], from -1
    (opposite orders) to 1 (the same order); NaN where fewer than two examples, or no two different scores, are left.

    Raises InvalidValue for no scores or for different lengths.
    """
    columns = _columns(scores)
    found = torch.eye(len(columns), dtype=torch.float64)
    for i, one in enumerate(columns):
        for j, other in enumerate(columns[:i]):
            both = ~(one.isnan() | other.isnan())
            a, b = (_ranks(c[both]).double() for c in (one, other))
            a, b = a - a.mean(), b - b.mean()
            size = (a.square().sum() * b.square().sum()).sqrt()
            found[i, j] = found[j, i] = (a * b).sum() / size if float(size) > 0 else math.nan
    return found


# ---- what they share ---------------------------------------------------------------------------------------------------


def _table(values: Any, what: str) -> Tensor:
    if not isinstance(values, Tensor) or values.ndim != 2 or not len(values):
        got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InvalidValue(f"{what} are a table [E, N], an epoch a row, got {got}; pass for example run.records().loss")
    return values


def _sums(values: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Sums over the epochs and how many counted, float64 [N]; 0 / 0 where none did."""
    total = torch.zeros(_table(values, what).shape[1], dtype=torch.float64)
    seen = torch.zeros_like(total)
    for row in values:
        good = row.isfinite()
        total += torch.where(good, row, 0.0)
        seen += good
    return total, seen


def _right(row: Tensor) -> tuple[Tensor, Tensor]:
    seen = ~row.isnan()
    if bool(((row < 0) | (row > 1)).any()):
        raise InvalidValue(
            f"correctness is from 0 to 1 and NaN where not seen, got {float(row[seen].min()):g} to "
            f"{float(row[seen].max()):g}; pass for example run.records().correct"
        )
    return seen & (row >= 0.5), seen


def _labels(labels: Tensor, count: int, classes: int) -> Tensor:
    if labels.shape != (count,) or labels.dtype != torch.int64:
        raise InvalidValue(
            f"labels are int64 [{count}], got {labels.dtype} {list(labels.shape)}; pass one class an example"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InvalidValue(
            f"labels are from 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}; leave out what has no label"
        )
    return labels


def _columns(scores: Sequence[Tensor]) -> list[Tensor]:
    columns = list(scores)
    if not columns or any(c.ndim != 1 or c.shape != columns[0].shape for c in columns):
        shapes = [list(c.shape) for c in columns]
        raise InvalidValue(f"scores are one column [N] a run, all of the same N, got {shapes}; pass at least one")
    return columns


def _ranks(scores: Tensor) -> Tensor:
    """Ranks in (0, 1), equal scores sharing the mean of theirs; NaN stays."""
    found = torch.full(scores.shape, math.nan, dtype=torch.float64)
    known = ~scores.isnan()
    if bool(known.any()):
        _, place, count = torch.unique(scores[known], return_inverse=True, return_counts=True)
        upper = count.cumsum(0)
        found[known] = ((2 * upper - count).double() / (2 * int(known.sum())))[place]
    return found
