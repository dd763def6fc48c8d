"""What differs between runs of one recipe: on which examples they agree, and how much of their spread is luck of the test set.

Predictions are int64 [R, N], a run a row: the class given to each of N test examples. Correctness is [R, N], bool or 0/1.
Cooper, Frankle, De Sa, 2206.11834; Jordan, 2304.01910.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InvalidValue

__all__ = [
    "VarianceSplit",
    "arbitrary_share",
    "by_group",
    "churn",
    "pairwise_churn",
    "self_consistency",
    "variance_split",
]


@dataclass(frozen=True)
class VarianceSplit:
    """Variances of accuracy between runs, as shares squared.

    observed: of the R accuracies on this test set (n - 1 below). sampling: what independent errors on these examples
    alone would give. between: unbiased estimate of the variance on the whole distribution, which can come out below 0.
    """

    observed: float
    sampling: float
    between: float

    @property
    def sd(self) -> float:
        """The distribution-wise standard deviation, 0.0 where the estimate is negative."""
        return math.sqrt(max(0.0, self.between))


def pairwise_churn(predictions: Tensor) -> Tensor:
    """Share of examples on which two runs differ, float64 [R, R]: 0 on the diagonal, 1 if they differ everywhere.

    Raises InvalidValue for fewer than 2 runs or another shape.
    """
    runs = _runs(predictions)
    found = torch.zeros(len(runs), len(runs), dtype=torch.float64)
    for i, row in enumerate(runs):
        found[i] = (runs != row).double().mean(1)
    return found


def churn(predictions: Tensor) -> float:
    """The mean of `pairwise_churn` over pairs of different runs: 0 all agree, 1 no two agree on anything."""
    table = pairwise_churn(predictions)
    return float(table.sum() / (len(table) * (len(table) - 1)))


def self_consistency(predictions: Tensor) -> Tensor:
    """For each example the chance that two different runs agree: float64 [N], 1 all agree.

    Of two classes 1 - 2 a b / (R (R - 1)) for a and b votes, at least about a half. Cooper and others (AAAI 2024).
    Raises InvalidValue as `pairwise_churn` does.
    """
    runs = _runs(predictions)
    count = len(runs)
    # Each run's number of others that agree with it, summed: no table of classes is needed.
    pairs = torch.zeros(runs.shape[1], dtype=torch.int64)
    for row in runs:
        pairs += (runs == row).sum(0) - 1
    return pairs.double() / (count * (count - 1))


def arbitrary_share(predictions: Tensor, below: float = 0.6) -> float:
    """Share of the examples whose self-consistency is under `below`, in (0, 1]: their class depends on the seed.

    Raises InvalidValue for a threshold outside that range and as `pairwise_churn` does.
    """
    if not isinstance(below, (int, float)) or not 0 < below <= 1:
        raise InvalidValue(
            f"a threshold of agreement is in (0, 1], got {below!r}; 0.6 is close to a coin flip of two classes"
        )
    return float((self_consistency(predictions) < below).double().mean())


def variance_split(correct: Tensor) -> VarianceSplit:
    """How much of the runs' spread of accuracy is the luck of this test set.

    correct: [R, N], R at least 2 and N at least 2. Raises InvalidValue otherwise.
    """
    right = _runs(correct).double()
    runs, size = right.shape
    if size < 2:
        raise InvalidValue(f"a test set has at least 2 examples, got {size}; pass the whole test split")
    observed = float(right.mean(1).var())
    p = right.mean(0)
    sampling = float((p * (1 - p)).sum() * runs / (runs - 1) / size**2)
    return VarianceSplit(observed, sampling, size / (size - 1) * (observed - sampling))


def by_group(values: Tensor, groups: Tensor) -> dict[int, float]:
    """The mean of per-example values [N] in each group, by its number int64 [N]; a class or a subgroup.

    Raises InvalidValue for other shapes.
    """
    if values.ndim != 1 or values.shape != groups.shape or groups.dtype != torch.int64:
        raise InvalidValue(
            f"values and groups are one each an example, got {list(values.shape)} and {groups.dtype} "
            f"{list(groups.shape)}; pass int64 numbers of groups"
        )
    return {int(g): float(values[groups == g].double().mean()) for g in sorted(set(groups.tolist()))}


def _runs(table: Tensor) -> Tensor:
    if not isinstance(table, Tensor) or table.ndim != 2 or len(table) < 2 or not table.shape[1]:
        got = list(table.shape) if isinstance(table, Tensor) else type(table).__name__
        raise InvalidValue(
            f"outcomes are a table [R, N] of at least 2 runs, a run a row, got {got}; train with more seeds"
        )
    return table
