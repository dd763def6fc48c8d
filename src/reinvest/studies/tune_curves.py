"""How good the best of k trials is to be expected: what a smaller tuning budget would have found."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from math import comb

from ..core.errors import InvalidValue


def best_of(values: Sequence[float], k: int, *, higher_is_better: bool = True) -> float:
    """The expected best of k trials, from the qualities of B independent ones: the mean over all their subsets of k.

    Unbiased (Tang et al., arXiv 2004.13705): sum of C(i-1, k-1) / C(B, k) times the i-th value from the worst up. k = 1 is the
    mean, k = B the best that was seen; its error grows with k. Raises InvalidValue for k outside 1 .. B: nothing is
    known of more trials than were made.
    """
    made = len(values)
    if not 1 <= k <= made:
        raise InvalidValue(
            f"the best of k trials is known for k from 1 to the {made} that were made, got {k}; make more trials"
        )
    ordered = sorted(values, reverse=not higher_is_better)
    subsets = comb(made, k)
    return sum(comb(i, k - 1) / subsets * ordered[i] for i in range(k - 1, made))


def expectation_curve(
    studies: Sequence[Sequence[float]], *, higher_is_better: bool = True, most: int | None = None
) -> list[tuple[int, float]]:
    """[(k, expected best of k trials)], averaged over independent tuning studies.

    studies: the qualities of each study's trials. most: the largest k (default: half of the trials of the shortest study,
    at least 1, because the estimate of a large k rests on few of them). Raises InvalidValue beyond the trials made.
    """
    largest = max(1, min(map(len, studies)) // 2) if most is None else most
    return [
        (k, statistics.fmean(best_of(values, k, higher_is_better=higher_is_better) for values in studies))
        for k in range(1, largest + 1)
    ]
