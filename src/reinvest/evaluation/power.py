"""What a design could have seen: the smallest effect found with 80 %, and the seeds needed to decide.

Normal approximation for the power, Student's quantile with the design's own degrees of freedom for the level.
"""

from __future__ import annotations

import math

POWER = 0.8
MOST_SEEDS = 10_000


def smallest_effect(se: float, df: float, rate: float, *, alpha: float, power: float = POWER) -> float:
    """Smallest speed-up (a ratio > 1) that a two-sided test at alpha finds with the given power.

    se, df: of the contrast at no effect; rate: derivative of the contrast by the log of the speed-up (its sign does
    not matter). NaN where quality does not depend on time.
    """
    from scipy.special import ndtri, stdtrit

    needed = (stdtrit(min(df, 1e6), 1.0 - 0.5 * alpha) + ndtri(power)) * se
    if abs(rate) < 1e-12 or not math.isfinite(needed) or needed / abs(rate) > 50.0:
        return math.nan
    return math.exp(needed / abs(rate))


def seeds_needed(
    effect: float,
    se: float,
    df: float,
    seeds: int,
    *,
    alpha: float,
    power: float = POWER,
    fixed_variance: float = 0.0,
) -> int | None:
    """Seeds a cell at which a contrast of the present size is found with the given power, or None beyond 10,000.

    effect: the contrast; se, df: at `seeds` seeds a cell; fixed_variance: the part of se^2 that more seeds do not
    reduce (the timing block's).
    """
    from scipy.special import ndtri, stdtrit

    if not (math.isfinite(effect) and effect != 0.0):
        return None

    def enough(n: int) -> bool:
        variance = max(se * se - fixed_variance, 0.0) * seeds / n + fixed_variance
        freedom = min(df * (n - 1.0) / max(seeds - 1, 1), 1e6)
        return bool(abs(effect) >= (stdtrit(freedom, 1.0 - 0.5 * alpha) + ndtri(power)) * math.sqrt(variance))

    if not enough(MOST_SEEDS):
        return None
    few, many = 2, MOST_SEEDS
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many
