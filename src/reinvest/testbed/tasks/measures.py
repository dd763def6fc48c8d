"""Metrics of a whole split that are no means over its examples: per class, per pixel, per token.

Each has `update(output, target)`, called once a batch, and `compute() -> {name: value}`; a task hands out a new one from
its `measure()`. Sums are kept in float64 or whole numbers, so batches of any size give the same values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...core.criterion import IGNORE, cross_entropy
from ...core.errors import InvalidValue


class Confusion:
    """Counts of (target, prediction) over all positions whose target is not -100: the base of the class measures."""

    def __init__(self, classes: int) -> None:
        if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
            raise InvalidValue(f"classes is a whole number of at least 1, got {classes!r}; pass the number of classes")
        self.classes = classes
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)
        """int64 [classes, classes]: row = target, column = prediction."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Logits [B, C] with targets [B], or [B, C, ...] with [B, ...]."""
        predicted = output.argmax(1)
        valid = target != IGNORE
        cells = target[valid] * self.classes + predicted[valid]
        self.counts += torch.bincount(cells.cpu(), minlength=self.classes**2).reshape(self.counts.shape)

    def accuracy(self) -> float:
        """Share of the counted positions that are right; NaN without any."""
        return _ratio(int(self.counts.trace()), int(self.counts.sum()))


class MeanIoU(Confusion):
    """Intersection over union of each class, averaged over the classes that occur: {"miou", "pixel_accuracy"}.

    A class that is in no target and no prediction is left out of the mean. Positions with target -100 count for nothing,
    whatever is predicted there.
    """

    def per_class(self) -> Tensor:
        """IoU of each class, float64 [classes]; NaN where the class is absent from targets and predictions."""
        hits = self.counts.diagonal().double()
        return hits / (self.counts.sum(0) + self.counts.sum(1) - hits)

    def compute(self) -> dict[str, float]:
        """{"miou": mean over the classes that occur, "pixel_accuracy": share of right pixels}."""
        return {"miou": float(self.per_class().nanmean()), "pixel_accuracy": self.accuracy()}


class ClassAccuracy(Confusion):
    """The mean over classes of the share of right examples, so that large classes count no more: {"class_accuracy"}.

    Classes without an example are left out of the mean. "accuracy" is the plain share beside it.
    """

    def compute(self) -> dict[str, float]:
        """{"class_accuracy", "accuracy"}."""
        shares = self.counts.diagonal().double() / self.counts.sum(1)
        return {"class_accuracy": float(shares.nanmean()), "accuracy": self.accuracy()}


class TokenMeans:
    """Means over tokens, each of equal weight whatever example it is in: {"nll", "token_accuracy", "perplexity"}.

    nll is in nats a token; perplexity is its exponential (infinite where that overflows). Tokens with target -100 do not
    count. Examples of many counted tokens weigh more, unlike in the mean of per-example losses.
    """

    def __init__(self) -> None:
        self._nll = torch.zeros((), dtype=torch.float64)
        self._right = self._tokens = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        """Logits [B, C, T] or [B, T, C] with targets [B, T] (or [B, C] with [B])."""
        # As the criterion reads the layout: classes are last where they are not second.
        last = output.ndim > 2 and output.shape[2:] != target.shape[1:]
        valid = target != IGNORE
        right = (output.argmax(-1 if last else 1) == target) & valid
        self._nll += cross_entropy(output, target).double().sum().cpu()
        self._right += int(right.sum())
        self._tokens += int(valid.sum())

    def compute(self) -> dict[str, float]:
        """{"nll", "token_accuracy", "perplexity"}; NaN without a counted token."""
        nll = _ratio(float(self._nll), self._tokens)
        return {
            "nll": nll,
            "token_accuracy": _ratio(self._right, self._tokens),
            # Beyond 700 nats float64 has no number for it.
            "perplexity": math.exp(nll) if nll < 700 else nll * math.inf,
        }


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else math.nan
