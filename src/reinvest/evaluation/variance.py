"""The outcome of a recipe as a distribution over its runs: spread, what luck of the test set explains of it, and sources.

Values in, values out. What runs say of single examples is in `dynamics.outcomes`. Bouthillier et al., 2103.03098;
Jordan, 2304.01910; Agarwal et al., 2108.13264.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InvalidValue

__all__ = [
    "BOOTSTRAP_FROM",
    "Better",
    "Part",
    "Sources",
    "Summary",
    "binomial_floor",
    "by_source",
    "predicted_sd",
    "probability_better",
    "runs_needed",
    "sample",
    "sample_variance",
    "summarise",
]

LEVEL = 0.95
BOOTSTRAP_FROM = 10
"""Runs from which on a bootstrap interval is given too: of fewer it is far too short."""
RESAMPLES = 9_999
DRAWS = 20_000
"""Of the simulation behind the interval of what sources leave unexplained."""


@dataclass(frozen=True)
class Summary:
    """A quality over runs, in its own units. diverged: further runs that have none.

    sd: with n - 1 below; sd_low, sd_high: its 95 % interval (chi-square, so for values that are about normal). low, high: 95 % interval of the mean by Student's t, on which statements rest. bca: the one of
    the bootstrap (bias-corrected and accelerated) beside it, None below `BOOTSTRAP_FROM` runs.
    """

    n: int
    diverged: int
    mean: float
    sd: float
    sd_low: float
    sd_high: float
    smallest: float
    largest: float
    low: float
    high: float
    bca: tuple[float, float] | None = None


@dataclass(frozen=True)
class Better:
    """The probability that a run of one arm beats a run of another, ties counting a half: 0 never, 0.5 as often as not,
    1 always. low, high: its 95 % interval. first, second: runs of each."""

    probability: float
    low: float
    high: float
    first: int
    second: int


@dataclass(frozen=True)
class Part:
    """The spread over `runs` runs in which one source varies; source: "" where all do, "none" where none does.

    sd_low, sd_high: 95 % interval of the standard deviation (chi-square, so for values that are about normal). share: of
    the variance with all sources free; its interval by the F distribution; None where nothing varies.
    """

    source: str
    runs: int
    mean: float
    variance: float
    sd_low: float
    sd_high: float
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None

    @property
    def sd(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.variance)


@dataclass(frozen=True)
class Sources:
    """Which source of randomness makes runs differ: `parts`, one source each; `whole`, all free; `none`, all fixed.

    unexplained: the share of the whole variance that the sources one by one do not add up to: above 0 they amplify each
    other, below 0 they overlap; with its 95 % interval; None where nothing varies. What runs differ by with everything
    fixed (the machine) is in each part and counted once.
    """

    parts: tuple[Part, ...]
    whole: Part
    none: Part
    unexplained: float | None
    unexplained_low: float | None
    unexplained_high: float | None


def summarise(values: Sequence[float], *, diverged: int = 0) -> Summary:
    """The spread of a quality over runs. values: 2 or more, finite; diverged: runs that have none, 0 or more.

    Raises InvalidValue otherwise.
    """
    from scipy.special import stdtrit

    found = sample(values)
    n, mean, sd = len(found), float(found.mean()), math.sqrt(sample_variance(found))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * sd / math.sqrt(n)
    return Summary(
        n=n,
        diverged=diverged,
        mean=mean,
        sd=sd,
        sd_low=_sd_end(sd, n - 1, upper=False),
        sd_high=_sd_end(sd, n - 1, upper=True),
        smallest=float(found.min()),
        largest=float(found.max()),
        low=mean - half,
        high=mean + half,
        bca=_bootstrap(found),
    )


def binomial_floor(p: float, size: int) -> float:
    """Standard deviation of a share p in [0, 1] counted on `size` examples: no single accuracy is surer than that."""
    return math.sqrt(_share(p) * (1 - p) / _examples(size))


def predicted_sd(error: float, size: int) -> float:
    """Standard deviation between the accuracies of runs on `size` examples, if together they are calibrated: sqrt(e / 2n).

    error: their mean error rate e, in [0, 1]. Derived for two classes and errors that are independent between runs and
    examples (Jordan, 2304.01910). Raises InvalidValue for other values.
    """
    return math.sqrt(_share(error) / (2 * _examples(size)))


def probability_better(first: Sequence[float], second: Sequence[float]) -> Better:
    """The chance that a run of the first arm has a larger value than one of the second, with its 95 % interval.

    The Mann-Whitney U over the number of pairs; the interval inverts a score test with a variance that does not vanish at
    0 and 1 (Newcombe, Statistics in Medicine 25, 2006, method 5). Runs are taken as independent between the arms. Raises
    InvalidValue for fewer than 2 values on a side, or values that are not finite.
    """
    from scipy.special import ndtri

    a, b = sample(first), sample(second)
    differences = a[:, None] - b[None, :]
    found = float((differences > 0).mean() + 0.5 * (differences == 0).mean())
    z, extra = float(ndtri((1 + LEVEL) / 2)), (len(a) + len(b)) / 2 - 1

    def beyond(theta: float) -> bool:
        spread = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (found - theta) ** 2 > z * z * theta * (1 - theta) * spread / (len(a) * len(b))

    return Better(found, _edge(0.0, found, beyond), _edge(1.0, found, beyond), len(a), len(b))


def runs_needed(gamma: float = 0.75, alpha: float = 0.05, power: float = 0.95) -> int:
    """Pairs of runs with which a probability of being better of `gamma`, in (0.5, 1], is found: 29 for 0.75.

    Noether's formula for a one-sided test at alpha with the given power, both in (0, 1). Raises InvalidValue otherwise.
    """
    from scipy.special import ndtri

    if not 0.5 < gamma <= 1:
        raise InvalidValue(f"a probability of being better that can be shown is in (0.5, 1], got {gamma!r}; pass 0.75")
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise InvalidValue(f"{name} is in (0, 1), got {value!r}; leave it out")
    return math.ceil(float(ndtri(1 - alpha) + ndtri(power)) ** 2 / (6 * (gamma - 0.5) ** 2))


def by_source(values: Mapping[str, Sequence[float]], *, whole: Sequence[float], none: Sequence[float]) -> Sources:
    """Shares of the spread by source. values: {source: qualities of runs in which it alone varied}; whole: of runs in which
    all did; none: of runs with everything fixed. 2 finite values or more each; raises InvalidValue otherwise.
    """
    total = _part("", whole, None)
    parts = tuple(_part(name, found, total) for name, found in values.items())
    rest = _part("none", none, total)
    if total.variance == 0:
        return Sources(parts, total, rest, None, None, None)

    def left(
        all_free: NDArray[np.float64], fixed: NDArray[np.float64], each: list[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        return 1 - (fixed + sum(one - fixed for one in each)) / all_free

    def drawn(part: Part, draw: np.random.Generator) -> NDArray[np.float64]:
        return part.variance * (part.runs - 1) / draw.chisquare(part.runs - 1, DRAWS)

    # A generalized pivotal quantity: each variance times its degrees of freedom over a chi-square of them.
    draw = np.random.default_rng(0)
    simulated = left(drawn(total, draw), drawn(rest, draw), [drawn(part, draw) for part in parts])
    low, high = (float(v) for v in np.quantile(simulated, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    exact = left(np.array([total.variance]), np.array([rest.variance]), [np.array([p.variance]) for p in parts])
    return Sources(parts, total, rest, float(exact[0]), low, high)


def _part(source: str, values: Sequence[float], whole: Part | None) -> Part:
    from scipy.special import fdtri

    found = sample(values)
    df, variance, tail = len(found) - 1, sample_variance(found), (1 - LEVEL) / 2
    share: tuple[float | None, ...] = (None, None, None)
    if whole is not None and whole.variance > 0:
        ratio, other = variance / whole.variance, whole.runs - 1
        share = ratio, *(ratio / float(fdtri(df, other, below)) for below in (1 - tail, tail))
    sd = math.sqrt(variance)
    ends = (_sd_end(sd, df, upper=upper) for upper in (False, True))
    return Part(source, len(found), float(found.mean()), variance, *ends, *share)


def _sd_end(sd: float, df: int, *, upper: bool) -> float:
    """An end of the 95 % interval of a standard deviation."""
    from scipy.special import chdtri

    tail = (1 - LEVEL) / 2
    return sd * math.sqrt(df / float(chdtri(df, 1 - tail if upper else tail)))


def _bootstrap(values: NDArray[np.float64]) -> tuple[float, float] | None:
    if len(values) < BOOTSTRAP_FROM:
        return None
    if float(np.ptp(values)) == 0:
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _edge(far: float, near: float, beyond: Callable[[float], bool]) -> float:
    """Where between `near`, which is inside an interval, and `far` it ends."""
    if not beyond(far):
        return far
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if beyond(middle) else (far, middle)
    return near


def sample_variance(values: NDArray[np.float64]) -> float:
    """The variance with n - 1 below; exactly 0 for equal values, whose mean may round."""
    return float(values.var(ddof=1)) if float(np.ptp(values)) > 0 else 0.0


def sample(values: Sequence[float]) -> NDArray[np.float64]:
    """2 finite values or more, as an array [n]. Raises InvalidValue for others."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 1 or len(found) < 2 or not bool(np.isfinite(found).all()):
        raise InvalidValue(
            f"a spread is that of 2 finite values or more, got {values!r}; train with more seeds, and count diverged runs apart"
        )
    return found


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise InvalidValue(f"an error rate or accuracy is in [0, 1], got {value!r}; pass a share, not per cent")
    return value


def _examples(size: int) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InvalidValue(f"a test set has at least 1 example, got {size!r}; pass their number")
    return size
