"""Which source of randomness makes runs vary more: ratios of standard deviations with intervals that hold together.

Values in, values out. The interval is Bonett's (Applied Psychological Measurement 30, 2006, 10.1177/0146621605279551):
normal quantiles of the log ratio of variances, with a kurtosis that is estimated from both samples together. The F interval
is exact for normal values alone; of equal spreads with long tails it calls a quarter different. A bootstrap of five values
is far too short. Simulated in benchmarks/variance_sources.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InvalidValue
from .power import POWER
from .variance import LEVEL, sample, sample_variance

__all__ = ["COMPARED_FROM", "MOST_RUNS", "Ratio", "ratios", "runs_to_tell", "smallest_told"]

COMPARED_FROM = 5
"""Runs of each source from which on it is said which varies more: the kurtosis of fewer cannot be estimated."""
MOST_RUNS = 1_000
"""Runs of each source beyond which a difference counts as out of reach."""
MOST_RATIO = 1e6


@dataclass(frozen=True)
class Ratio:
    """How many times as much one source makes runs vary as another, by standard deviation.

    first, second: the sources, the one with the larger observed spread first. runs: of the one that has fewer. ratio: 1 or
    more; None where the second does not vary. low, high: interval of the ratio, all pairs together 95 %; None below
    `COMPARED_FROM` runs and where it has no end. larger: the source that varies more, "" where that cannot be told.
    needed: runs of each with which the observed ratio would be told in four studies of five, None where it is told
    already or beyond `MOST_RUNS`.
    """

    first: str
    second: str
    runs: int
    ratio: float | None
    low: float | None = None
    high: float | None = None
    larger: str = ""
    needed: int | None = None


def ratios(values: Mapping[str, Sequence[float]], *, step: float = 0.0) -> tuple[Ratio, ...]:
    """Every pair of sources, and which of the two varies more where the values can tell.

    values: {source: qualities of runs in which it alone varied}, independent of each other, 2 finite ones or more each. step:
    between neighbouring values of a quality that is counted, 1 / examples of an accuracy; 0 of others. Of sources that
    are equal, any at all are told apart in at most 5 % of studies, in 6 % where values are as skewed as an exponential.
    Raises InvalidValue for other values.
    """
    found = {name: sample(own) for name, own in values.items()}
    pairs = list(combinations(found, 2))
    compared = sum(min(len(found[a]), len(found[b])) >= COMPARED_FROM for a, b in pairs)
    tail = (1 - LEVEL) / max(compared, 1)
    return tuple(_ratio((a, found[a]), (b, found[b]), tail, step, compared) for a, b in pairs)


def runs_to_tell(ratio: float, pairs: int = 1) -> int | None:
    """Runs of each with which a ratio of standard deviations is told in 80 % of studies of so many pairs, for normal values;
    None beyond `MOST_RUNS`. ratio: from 1, equal, up. Raises InvalidValue otherwise.
    """
    if not ratio >= 1:
        raise InvalidValue(f"a ratio of the larger to the smaller spread is 1 or more, got {ratio!r}; turn it round")
    if ratio == 1:
        return None
    runs = 1 + (_reach(ratio, pairs) / math.log(ratio)) ** 2
    return None if runs > MOST_RUNS else max(math.ceil(runs), COMPARED_FROM)


def smallest_told(runs: int, pairs: int = 1) -> float:
    """The ratio of standard deviations, above 1, that so many runs of each tell in 80 % of studies of so many pairs.

    runs: `COMPARED_FROM` or more. Raises InvalidValue otherwise.
    """
    if runs < COMPARED_FROM:
        raise InvalidValue(
            f"sources are compared over {COMPARED_FROM} runs or more of each, got {runs!r}; train with more seeds"
        )
    low, high = 1.0, MOST_RATIO
    for _ in range(60):
        middle = math.sqrt(low * high)
        told = _reach(middle, pairs) <= math.log(middle) * math.sqrt(runs - 1)
        low, high = (low, middle) if told else (middle, high)
    return high


def _reach(ratio: float, pairs: int) -> float:
    """The log of a ratio of standard deviations that is told, times the square root of the runs less one.

    The kurtosis of two normal samples taken together rises with the ratio of their variances: 3 if they are equal, else
    up to 6.
    """
    from scipy.special import ndtri

    both = 6 * (1 + ratio**4) / (1 + ratio**2) ** 2
    quantile = float(ndtri(1 - (1 - LEVEL) / (2 * pairs)))
    return (quantile * math.sqrt(2 * (both - 1)) + 2 * float(ndtri(POWER))) / 2


def _ratio(
    one: tuple[str, NDArray[np.float64]],
    other: tuple[str, NDArray[np.float64]],
    tail: float,
    step: float,
    compared: int,
) -> Ratio:
    (first, a), (second, b) = sorted((one, other), key=lambda pair: -sample_variance(pair[1]))
    upper, lower, runs = sample_variance(a), sample_variance(b), min(len(a), len(b))
    ratio = math.sqrt(upper / lower) if lower > 0 else None
    if runs < COMPARED_FROM or upper == 0:
        return Ratio(first, second, runs, ratio)
    if lower == 0 and step == 0:
        return Ratio(first, second, runs, None, larger=first)
    low, high = _interval(a, b, tail, step)
    larger = first if low > 1 else ""
    needed = None if larger or ratio is None else runs_to_tell(ratio, compared)
    return Ratio(first, second, runs, ratio, low, high if ratio is not None else None, larger, needed)


def _interval(a: NDArray[np.float64], b: NDArray[np.float64], tail: float, step: float) -> tuple[float, float]:
    """The interval of the ratio of standard deviations; each variance at least what equal values may hide."""
    from scipy.special import ndtri

    z = float(ndtri(1 - tail / 2))
    spread = sum((len(one) - 1) * sample_variance(one) for one in (a, b))
    kurtosis = (len(a) + len(b)) * sum(_fourth(one) for one in (a, b)) / spread**2
    se = math.sqrt(sum((kurtosis - (len(one) - 3) / len(one)) / (len(one) - 1) for one in (a, b)))
    logs = [math.log(max(sample_variance(one), _hidden(len(one), tail, step))) for one in (a, b)]
    # Unequal numbers of runs would put the interval to one side of the ratio.
    small = math.log(len(a) / (len(a) - z)) - math.log(len(b) / (len(b) - z))
    middle = logs[0] - logs[1] + small
    return math.exp((middle - z * se) / 2), math.exp((middle + z * se) / 2)


def _fourth(values: NDArray[np.float64]) -> float:
    """The sum of fourth powers about the trimmed mean; of five values that is the median."""
    cut = min(int(len(values) / (2 * math.sqrt(len(values) - 4))), (len(values) - 1) // 2)
    middle = np.sort(values)[cut : len(values) - cut].mean()
    return float(((values - middle) ** 4).sum())


def _hidden(runs: int, tail: float, step: float) -> float:
    """The variance at which so many normal values, rounded to a step, are still all equal with probability tail / 2."""
    from scipy.special import ndtri

    alike = (tail / 2) ** (1 / runs)
    return (step / (2 * float(ndtri((1 + alike) / 2)))) ** 2
