"""What a number of seeds can show, given the seed noise of one arm.

It is the verdict's own arithmetic, its cells, curves, weights and standard error, for an arm compared with a copy of
itself. So a plan says of a design what the report of such a study would say that it could have seen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .cells import Arm, trend_variances
from .curves import Array, arm_curves
from .dependence import Spread, spread_of
from .intervals import contrast
from .looks import Look, crossing
from .power import POWER, seeds_needed, smallest_effect

CONFIDENCE = 0.95
"""Of the ranges that say how well the noise is known."""
LARGEST = 50.0
"""Speed-up beyond which no smallest effect is looked for."""


@dataclass(frozen=True)
class Design:
    """A study of `seeds` seeds an arm and duration, as far as chance goes.

    se, df: of the verdict's contrast at no effect; rate: derivative of the contrast by the log of the speed-up; known_df:
    degrees of freedom with which the noise itself is known.
    """

    seeds: int
    se: float
    df: float
    rate: float
    known_df: float

    @property
    def factors(self) -> tuple[float, float]:
        """By what the noise may be smaller or larger than it was estimated, a 95 % interval (chi-square)."""
        return noise_factors(self.known_df)

    def smallest_effect(self, alpha: float, noise: float = 1.0) -> float:
        """Speed-up found with 80 % at level alpha, with `noise` times the noise; NaN if there is none up to e^50."""
        return smallest_effect(noise * self.se, self.df, self.rate, alpha=alpha)

    def seeds_for(self, effect: float, alpha: float, noise: float = 1.0) -> int | None:
        """Seeds with which a speed-up is found with 80 % at level alpha, or None beyond 10,000."""
        gained = abs(self.rate) * math.log(effect)
        return seeds_needed(gained, noise * self.se, self.df, self.seeds, alpha=alpha)


@dataclass(frozen=True)
class Noise:
    """The seed noise of one arm over its durations: the arm, its floored variances [K] on the fitted scale, the ridge of
    the verdict's weights, and whether arms are paired by seed (correlations are not known before, and taken as none)."""

    arm: Arm
    variances: Array
    rho: float
    paired: bool

    @property
    def runs(self) -> int:
        """Runs at the duration that has the fewest."""
        return int(self.arm.n.min())

    def design(self, seeds: int) -> Design:
        """The verdict's contrast of this arm and a copy of it, each with `seeds` runs a duration."""
        return Design(seeds, *self._contrast(seeds), known_df=self._known_df)

    @functools.cached_property
    def _known_df(self) -> float:
        return self._contrast(self.runs)[1]

    def _contrast(self, seeds: int) -> tuple[float, float, float]:
        curves = arm_curves(self.arm.x, self.arm.y, np.sqrt(self.variances / seeds))
        spread = spread_of([self.arm, self.arm], [self.variances, self.variances], paired=False)
        have = np.concatenate([self.arm.n, self.arm.n])
        evidence = contrast(curves, curves, _resized(spread, have, seeds), rho=self.rho)
        se, df, rate = (v[evidence.zero, 0] for v in (evidence.forward_se, evidence.forward_df, evidence.rate))
        # A pair of equal cells is one block with as many degrees of freedom as one of them (VERDICT 1b).
        return float(se), float(df) / (2.0 if self.paired else 1.0), float(rate)


def noise_of(arm: Arm, *, rho: float, paired: bool) -> Noise:
    """The noise of an arm with two runs or more at every duration, of which some differ."""
    return Noise(arm, trend_variances([arm, arm])[0], rho, paired)


def noise_factors(df: float) -> tuple[float, float]:
    """Ends of the 95 % interval of a standard deviation, in units of its estimate with df degrees of freedom."""
    from scipy.special import chdtri

    upper, lower = (float(chdtri(df, p)) for p in (0.5 * (1.0 - CONFIDENCE), 0.5 * (1.0 + CONFIDENCE)))
    return math.sqrt(df / upper), math.sqrt(df / lower)


def _resized(spread: Spread, have: Array, seeds: int) -> Spread:
    """The variance structure with `seeds` runs in every cell where it had `have` [K] of them."""
    share = have / seeds
    fewer = (seeds - 1.0) / np.maximum(have - 1.0, 1.0)
    least = (seeds - 1.0) / max(float(have.min()) - 1.0, 1.0)
    return replace(
        spread,
        variance=spread.variance * share,
        freedom=spread.freedom * fewer,
        blocks=tuple(block * np.sqrt(share)[:, None] for block in spread.blocks),
        block_freedom=tuple(df * least for df in spread.block_freedom),
    )


def looked(designs: Sequence[Design], looks: Sequence[Look], effect: float) -> tuple[float, float]:
    """(probability that an effect is found at any of the looks, mean number of seeds at the end) of a study with looks.

    designs: one a look; effect: a speed-up (> 0; 1 is none). Statistics are taken as normal, boundaries as Student's, as
    `power` does.
    """
    from scipy.special import ndtr, stdtrit

    bounds = [stdtrit(min(d.df, 1e6), 1.0 - 0.5 * look.alpha) for d, look in zip(designs, looks, strict=True)]
    drift = abs(designs[-1].rate) * math.log(effect) / designs[-1].se
    seeds = [look.seeds for look in looks]
    found = crossing(seeds, [2.0 * float(ndtr(-bound)) for bound in bounds], drift)
    early = sum(p * n for p, n in zip(found[:-1], seeds, strict=False))
    return sum(found), early + (1.0 - sum(found[:-1])) * seeds[-1]


def smallest_looked(designs: Sequence[Design], looks: Sequence[Look]) -> float:
    """The smallest speed-up that a study with looks finds with 80 %; NaN if there is none up to 50."""
    from scipy.optimize import brentq

    if not looked(designs, looks, LARGEST)[0] > POWER:
        return math.nan
    found = brentq(lambda s: looked(designs, looks, math.exp(s))[0] - POWER, 0.0, math.log(LARGEST), xtol=1e-9)
    return math.exp(float(found))
