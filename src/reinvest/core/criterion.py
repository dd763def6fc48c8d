"""Per-example losses: the default criterion, and the way from [B, T] or [B, H, W] to [B]."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InvalidValue

if TYPE_CHECKING:
    from .batch import Batch

IGNORE = -100


def _torch_layout(output: Tensor, target: Tensor) -> bool:
    """Whether [B, C, ...] holds classes in dimension 1 (torch); otherwise they are last (Hugging Face, [B, T, V])."""
    return output.ndim == 2 or target.ndim != output.ndim - 1 or output.shape[2:] == target.shape[1:]


def classes_second(output: Tensor, target: Any) -> Tensor:
    """Logits with the classes in dimension 1: [B, C, ...] as it is, [B, T, C] (known by target [B, T]) turned round."""
    dense = isinstance(target, Tensor) and not target.is_floating_point()
    return output.movedim(-1, 1) if dense and not _torch_layout(output, target) else output


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy without averaging over the batch: [B] for logits [B, C], [B, T] for [B, C, T] or [B, T, C].

    target: class numbers int64 [B] / [B, T] / [B, H, W] (-100 is ignored), or class probabilities shaped as output.
    """
    return F.cross_entropy(classes_second(output, target), target, reduction="none", ignore_index=IGNORE)


def valid_counts(losses: Tensor, targets: Any) -> Tensor:
    """How many positions of each example count: float [B]; all of them unless class targets hold -100.

    A criterion may have averaged over an example's positions itself (losses [B], targets [B, T]).
    """
    if isinstance(targets, Tensor) and not targets.is_floating_point() and targets.shape[: losses.ndim] == losses.shape:
        return (targets != IGNORE).reshape(len(losses), -1).sum(1).to(losses.dtype)
    return torch.full((len(losses),), float(losses[0].numel()), dtype=losses.dtype, device=losses.device)


def labelled(targets: Any, batch: Batch | None) -> Any:
    """Dense class targets [B, ...] with a label wherever the loss has a part: blended partners' where the own is -100.

    Targets that are pasted (CutMix) hold the partners' labels already, so they stay as they are.
    """
    if batch is None or batch.mix is None or not isinstance(targets, Tensor) or targets.is_floating_point():
        return targets
    own, partners = batch.targets, batch.mix.partners
    if targets.ndim < 2 or targets.shape != own.shape or partners.shape != own.shape or partners.is_floating_point():
        return targets
    own, partners = own.to(targets.device), partners.to(targets.device)
    return torch.where((targets == IGNORE) & (own == IGNORE), partners, targets)


def in_range(targets: Tensor, output: Tensor) -> Tensor:
    """Class targets [B, ...] with -100 in place of whatever is no class of these logits."""
    classes = classes_second(output, targets).shape[1]
    return torch.where((targets >= 0) & (targets < classes), targets, IGNORE)


def valid_total(targets: Any) -> float:
    """How many positions of a whole batch have a label."""
    if isinstance(targets, Tensor) and not targets.is_floating_point():
        return float((targets != IGNORE).sum())
    return float(len(targets))


def per_example(losses: Tensor, targets: Any) -> Tensor:
    """Means over the valid positions: [B, ...] -> [B]; an example without a valid position has loss 0."""
    if losses.ndim == 1:
        return losses
    return losses.flatten(1).sum(1) / valid_counts(losses, targets).clamp(min=1)


def check_losses(losses: Any, count: int, criterion: Any) -> Tensor:
    """Refuse a criterion that averages over the batch: methods act on each example's loss before the mean."""
    name = getattr(criterion, "__name__", type(criterion).__name__)
    if not isinstance(losses, Tensor):
        raise InvalidValue(
            f"a criterion returns a tensor of losses [B], got {type(losses).__name__} from {name}; return a tensor"
        )
    if losses.ndim == 0 or len(losses) != count:
        got = "a scalar" if losses.ndim == 0 else f"shape {list(losses.shape)}"
        raise InvalidValue(
            f"a criterion returns one loss per example ([B] = [{count}]), got {got} from {name}; "
            "build it with reduction='none', e.g. criterion=nn.CrossEntropyLoss(reduction='none')"
        )
    return losses


def margins_of(output: Tensor, targets: Tensor) -> Tensor:
    """The logit of the label less the largest other one: float32 [B] for output [B, C]; NaN without a valid label.

    Above 0: the model says the label. Infinite for a single class.
    """
    rows, classes = output.detach().float(), output.shape[1]
    good = (targets >= 0) & (targets < classes)
    at = targets.long().where(good, 0).unsqueeze(1)
    own = rows.gather(1, at).squeeze(1)
    other = rows.scatter(1, at, -math.inf).amax(1)
    return torch.where(good, own - other, math.nan)
