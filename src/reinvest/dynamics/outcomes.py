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
    "agreeing",
    "agreement_curve",
    "arbitrary_share",
    "by_group",
    "churn",
    "deviation_interval",
    "majority_credit",
    "pairwise_churn",
    "sd_interval",
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
    count = len(_runs(predictions))
    return (agreeing(predictions) - 1).sum(0).double() / (count * (count - 1))


def agreement_curve(predictions: Tensor) -> list[tuple[float, float]]:
    """(chance that two runs agree on an example, share of examples with at most that), rising to a share of 1.

    predictions: int64 [R, N], a run a row. Raises InvalidValue as `self_consistency` does.
    """
    chances = self_consistency(predictions)
    levels, counts = torch.unique(chances, return_counts=True)
    shares = (counts.cumsum(0).double() / len(chances)).tolist()
    return list(zip(levels.tolist(), shares, strict=True))


def agreeing(predictions: Tensor) -> Tensor:
    """How many runs, itself among them, say of each example what a run says of it: int64 [R, N], 1 to R.

    Raises InvalidValue as `pairwise_churn` does.
    """
    runs = _runs(predictions)
    # Row against row, so that no table of classes is needed.
    return torch.stack([(runs == row).sum(0) for row in runs])


def majority_credit(predictions: Tensor, labels: Tensor) -> Tensor:
    """1 where most runs say the label, 0 where they say something else: float64 [N]; their mean is the vote's accuracy.

    labels: int64 [N]. A tie of the label with k - 1 other classes counts 1 / k, which is what drawing lots would give on
    average. Raises InvalidValue as `pairwise_churn` does and for labels of another shape.
    """
    votes = agreeing(predictions)
    if not isinstance(labels, Tensor) or labels.shape != votes.shape[1:]:
        got = list(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise InvalidValue(
            f"labels are one each an example [{votes.shape[1]}], got {got}; pass those of the predictions"
        )
    most = votes.amax(0)
    tied = (votes == most).sum(0).double() / most
    return ((predictions == labels).sum(0) == most).double() / tied


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


def sd_interval(correct: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval of the distribution-wise standard deviation (`VarianceSplit.sd`) at `level`, in (0, 1).

    By the chi-square distribution of the observed variance with R - 1 degrees of freedom; a spread that came out smaller
    than the luck of the test set allows counts as that luck, so that few runs never seem to prove that there is none.
    Raises InvalidValue for a level outside that range and as `variance_split` does.
    """
    if not isinstance(level, (int, float)) or not 0 < level < 1:
        raise InvalidValue(f"the level of an interval is between 0 and 1, got {level!r}; pass 0.95")
    runs, size = correct.shape
    return deviation_interval(variance_split(correct), runs, size / (size - 1), level)


def deviation_interval(split: VarianceSplit, runs: int, scale: float, level: float = 0.95) -> tuple[float, float]:
    """`sd_interval` from the variances of so many runs.

    scale: by which observed - sampling is multiplied to get `between`, N / (N - 1) for N examples.
    """
    from scipy.stats import chi2

    far, near = (float(v) for v in chi2.ppf([(1 + level) / 2, (1 - level) / 2], runs - 1))
    ends = split.observed * (runs - 1) / far, max(split.observed, split.sampling) * (runs - 1) / near
    low, high = (math.sqrt(max(0.0, scale * (end - split.sampling))) for end in ends)
    return low, high


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
