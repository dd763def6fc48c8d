"""Every example's history in one run, or in several, as one number of each kind that suspects are told by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..core.errors import InvalidValue
from . import scores
from .trajectories import Trajectories

BLOCK = 16_384
LEAST_EPOCHS = 3


@dataclass(frozen=True)
class Histories:
    """Columns [N], NaN (suggested: -1) for examples that were never seen.

    mean_loss. height: the mean of log(1 + loss) above the average example of the same epochs. confidence: mean
    probability of the label. first: first epoch in which it was right, infinite if never. learned: the first from which
    it stayed right. forgotten: times that it went from right to wrong; these three NaN for examples without one label
    each, where only a share of positions is right. suggested: the class, other than the label, that
    the model said most before the example was learned, an epoch's answer counting by how often answers were right in it.
    support: that class's part of what all epochs count, in [0, 1]. settled: its part of what was said before the example
    was learned; own: the label's part of that. share: of the epochs, those in which the model said the suggestion.
    """

    mean_loss: Tensor
    height: Tensor
    confidence: Tensor
    first: Tensor
    learned: Tensor
    forgotten: Tensor
    suggested: Tensor
    support: Tensor
    settled: Tensor
    own: Tensor
    share: Tensor

    @property
    def known(self) -> Tensor:
        """bool [N]: examples with at least one loss."""
        return ~self.mean_loss.isnan()


@dataclass(frozen=True)
class Epochs:
    """Of each epoch, float64 [E]: how many examples were seen, their mean log(1 + loss), and the share that was right."""

    seen: Tensor
    level: Tensor
    right: Tensor

    @property
    def kept(self) -> Tensor:
        """Epochs in which anything was seen, int64: a run that ended early has empty ones at its end."""
        return (self.seen > 0).nonzero()[:, 0]


def epochs_of(run: Trajectories) -> Epochs:
    """One pass over a run. Raises InvalidValue for losses that are nowhere finite and for fewer than 3 epochs."""
    total = torch.zeros(3, run.epochs, dtype=torch.float64)
    asked = torch.zeros(run.epochs, dtype=torch.float64)
    for start, loss in run.blocks(BLOCK):
        right, good = _right(run, torch.arange(start, start + len(loss))), loss.isfinite()
        total[0] += good.sum(0)
        total[1] += _logs(loss, good).sum(0)
        total[2] += right.nan_to_num(0.0).sum(0)
        asked += right.isfinite().sum(0)
    if not bool(total[0].any()):
        raise InvalidValue(
            f"suspects are told by losses, got {run.examples:,} examples and {run.epochs} epochs without one that is "
            "finite; train on class labels, or with a smaller learning rate"
        )
    found = Epochs(total[0], total[1] / total[0], total[2] / asked)
    if len(found.kept) < LEAST_EPOCHS:
        raise InvalidValue(
            f"suspects are told by at least {LEAST_EPOCHS} epochs, got {len(found.kept)}; train longer, with the same seed "
            "or another"
        )
    return found


def histories(run: Trajectories, epochs: Epochs) -> Histories:
    """All columns of one run, in a second pass."""
    said = run.predicted is not None and run.labels is not None
    names = [f.name for f in fields(Histories)]
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for start in range(0, run.examples, BLOCK):
        ids = torch.arange(start, min(start + BLOCK, run.examples))
        columns = _of_losses(run.rows(ids)[:, epochs.kept], epochs)
        right = _right(run, ids)[:, epochs.kept]
        if run.labels is None:
            right = torch.full_like(right, math.nan)
        columns |= {
            "first": scores.first_learned(right.T),
            "learned": scores.first_learned(right.T, for_good=True),
            "forgotten": scores.forgetting_events(right.T),
        }
        columns |= _answers(run, ids, columns["learned"], epochs) if said else _no_answers(len(ids))
        for name in names:
            found[name].append(columns[name])
    return Histories(**{name: torch.cat(parts) for name, parts in found.items()})


def together(runs: Sequence[Histories]) -> Histories:
    """Several runs of the same examples as one: means, and the suggestion that has most support in all of them.

    An example that one run never learned was never learned; one is right for the first time where any run has it right.
    """
    if len(runs) == 1:
        return runs[0]
    plain = ("mean_loss", "height", "confidence", "learned", "forgotten", "own")
    columns = {name: scores.average([getattr(run, name) for run in runs]) for name in plain}
    firsts = torch.stack([run.first for run in runs])
    columns["first"] = firsts.nan_to_num(math.inf, posinf=math.inf).amin(0).masked_fill(firsts.isnan().all(0), math.nan)
    suggested = torch.stack([run.suggested for run in runs])
    support = torch.stack([run.support.nan_to_num(0.0) for run in runs])
    # [R, N]: what all runs together say for the suggestion of each of them.
    total = torch.stack([(support * (suggested == one)).sum(0) for one in suggested])
    best = total.masked_fill(suggested < 0, -1.0).argmax(0)
    columns["suggested"] = suggested.gather(0, best.unsqueeze(0))[0]
    agree = suggested == columns["suggested"]
    for name in ("support", "settled", "share"):
        values = torch.stack([getattr(run, name) for run in runs])
        columns[name] = (values.nan_to_num(0.0) * agree).mean(0).masked_fill(values.isnan().all(0), math.nan)
    return Histories(**columns)


def _right(run: Trajectories, ids: Tensor) -> Tensor:
    """Whether answers were right, float32 [B, E]; NaN where a run does not tell."""
    if run.correct is None and (run.predicted is None or run.labels is None):
        return torch.full((len(ids), run.epochs), math.nan)
    return run.rows(ids, "correct")


def _logs(loss: Tensor, good: Tensor) -> Tensor:
    """log(1 + loss) as float64, 0 where there is none."""
    return torch.where(good, loss, 0.0).clamp(min=0).log1p().double()


def _of_losses(loss: Tensor, epochs: Epochs) -> dict[str, Tensor]:
    good = loss.isfinite()
    count = good.sum(1).double()
    height = _logs(loss, good).sum(1) - good.double() @ epochs.level[epochs.kept]
    clean = torch.where(good, loss, 0.0).double()
    return {
        "mean_loss": (clean.sum(1) / count).float(),
        "height": (height / count).float(),
        "confidence": ((clean.neg().exp() * good).sum(1) / count).float(),
    }


def _answers(run: Trajectories, ids: Tensor, learned: Tensor, epochs: Epochs) -> dict[str, Tensor]:
    said = run.rows(ids, "predicted")[:, epochs.kept]
    assert run.labels is not None
    labels, seen = run.labels[ids], ~said.isnan()
    at = said.nan_to_num(0.0).long()
    weight = epochs.right[epochs.kept].nan_to_num(0.0).float() * seen
    before = weight * (torch.arange(said.shape[1]) < learned.nan_to_num(0.0).unsqueeze(1))
    votes = torch.zeros(len(ids), max(run.classes or 0, int(at.max()) + 1 if at.numel() else 1))
    votes.scatter_add_(1, at, before)
    own = votes.gather(1, labels.clamp(0, votes.shape[1] - 1).unsqueeze(1))[:, 0] * (labels >= 0)
    votes.scatter_(1, labels.clamp(0, votes.shape[1] - 1).unsqueeze(1), 0.0)
    most, suggested = votes.max(1)
    none, total = most <= 0, before.sum(1)
    return {
        "suggested": suggested.masked_fill(none, -1),
        "support": most / weight.sum(1),
        "settled": (most / total).masked_fill(none, 0.0),
        "own": (own / total).masked_fill(total <= 0, 1.0),
        "share": ((at == suggested.unsqueeze(1)) & seen).sum(1) / seen.sum(1).float() * ~none,
    }


def _no_answers(count: int) -> dict[str, Tensor]:
    nothing = torch.full((count,), math.nan)
    names = ("support", "settled", "own", "share")
    return {"suggested": torch.full((count,), -1), **dict.fromkeys(names, nothing)}
