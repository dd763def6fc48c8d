"""Learning-rate schedules as functions of progress: the factor on the peak rate, whatever the length of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..core.errors import InvalidValue
from ._check import ROUNDING


def _checked(progress: float, warmup: float, final: float) -> None:
    if not 0.0 <= progress <= 1.0:
        raise InvalidValue(f"progress is a share of the run from 0 to 1, got {progress!r}; pass step / total_steps")
    if not 0.0 <= warmup < 1.0:
        raise InvalidValue(f"warmup is a share of the run from 0 to below 1, got {warmup!r}; 0.05 is usual")
    if not 0.0 <= final <= 1.0:
        raise InvalidValue(
            f"final is a factor from 0 (the rate ends at zero) to 1 (it stays), got {final!r}; 0.0 is usual"
        )


def _after(progress: float, warmup: float) -> float:
    """The share done of what follows the warm-up, 0 to 1."""
    return (progress - warmup) / (1.0 - warmup)


def cosine(progress: float, *, warmup: float = 0.0, final: float = 0.0) -> float:
    """Linear from 0 to 1 during the warm-up, then half a cosine from 1 to `final` (Loshchilov, Hutter, 1608.03983).

    progress in [0, 1]; warmup: share of the run in [0, 1); final: factor at the end, in [0, 1].
    Raises InvalidValue for a value outside its range.
    """
    _checked(progress, warmup, final)
    if progress < warmup:
        return progress / warmup
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * _after(progress, warmup)))


def linear(progress: float, *, warmup: float = 0.0, final: float = 0.0) -> float:
    """Linear from 0 to 1 during the warm-up, then linear from 1 to `final`.

    progress in [0, 1]; warmup: share of the run in [0, 1); final: factor at the end, in [0, 1].
    Raises InvalidValue for a value outside its range.
    """
    _checked(progress, warmup, final)
    if progress < warmup:
        return progress / warmup
    return 1.0 - (1.0 - final) * _after(progress, warmup)


def constant(progress: float, *, warmup: float = 0.0) -> float:
    """Linear from 0 to 1 during the warm-up, then 1.

    progress in [0, 1]; warmup: share of the run in [0, 1). Raises InvalidValue for a value outside its range.
    """
    _checked(progress, warmup, 1.0)
    return progress / warmup if progress < warmup else 1.0


def one_cycle(progress: float, *, warmup: float = 0.3, final: float = 0.0) -> float:
    """Half a cosine from `final` up to 1 during the warm-up, then half a cosine back down (Smith, Topin, 1708.07120).

    progress in [0, 1]; warmup: share of the run in [0, 1); final: factor at both ends, in [0, 1].
    Raises InvalidValue for a value outside its range.
    """
    _checked(progress, warmup, final)
    if progress < warmup:
        return final + (1.0 - final) * 0.5 * (1.0 - math.cos(math.pi * progress / warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * _after(progress, warmup)))


def cooldown(
    progress: float, *, share: float = 0.2, warmup: float = 0.0, final: float = 0.0, forks: Sequence[float] = ()
) -> float:
    """Linear from 0 to 1 during the warm-up, then 1, then 1 - sqrt(t) down to `final` (Hägele et al., 2405.18392).

    progress in [0, 1]; share: of the run that the cool-down takes, in (0, 1], with t its share done; warmup: share of
    the run in [0, 1); final: factor at the end, in [0, 1]. forks: shares of the run, from the end of the warm-up to the
    beginning of the cool-down, at which `train` keeps the state for shorter runs that begin there (`train(trunk=)`).
    Raises InvalidValue for a value outside its range, and for a warm-up and a cool-down that take more than the whole run.
    """
    _checked(progress, warmup, final)
    if not 0.0 < share <= 1.0:
        raise InvalidValue(f"share is of the run, above 0 and up to 1, got {share!r}; 0.2 is usual")
    if warmup + share > 1.0 + ROUNDING:
        raise InvalidValue(
            f"warm-up and cool-down take the whole run at most, got warmup={warmup!r} and share={share!r}; shorten one"
        )
    if progress < warmup:
        return progress / warmup
    done = max(0.0, 1.0 - (1.0 - progress) / share)
    return 1.0 - (1.0 - final) * math.sqrt(done)


def cycle_ends(cycles: int = 3, *, growth: float = 2.0, warmup: float = 0.0) -> list[float]:
    """Where the cycles of `cyclic` end, as shares of the run: there a run of that length is finished.

    After the warm-up come `cycles` cycles (1 up), each `growth` (1 up) times as long as the one before it. The last end
    is 1.0. With warmup = 1 / 2 ** cycles and growth 2 every end is twice the one before it.
    Raises InvalidValue for values outside their ranges, and for a warm-up longer than twice the first cycle.
    """
    _checked(1.0, warmup, 0.0)
    if not isinstance(cycles, int) or isinstance(cycles, bool) or cycles < 1:
        raise InvalidValue(f"cycles is a whole number from 1 up, got {cycles!r}; 3 to 6 are usual")
    if not 1.0 <= growth < math.inf:
        raise InvalidValue(f"growth is from 1 (equal cycles) up, got {growth!r}; 2.0 is usual")
    lengths = [growth**k for k in range(cycles)]
    ends = [warmup + (1.0 - warmup) * sum(lengths[: k + 1]) / sum(lengths) for k in range(cycles)]
    if warmup > 2.0 * (ends[0] - warmup) + ROUNDING:
        raise InvalidValue(
            f"the warm-up is at most twice as long as the first cycle ({ends[0] - warmup:.3g} of the run), got "
            f"warmup={warmup!r}; shorten it or take fewer cycles"
        )
    return [*ends[:-1], 1.0]


def cyclic(progress: float, *, cycles: int = 3, growth: float = 2.0, warmup: float = 0.0, final: float = 0.0) -> float:
    """Linear from 0 to 1 during the warm-up, then half a cosine from 1 to `final` in each of several cycles.

    Cycles grow by `growth`; `cycle_ends` says where they end, where the factor is `final` and from where on it begins
    anew at 1 without a warm-up (Portes et al., 2206.00832). What is read at an end stands for a run of that length; ends
    of one run are not independent of each other.
    progress in [0, 1]; cycles: 1 (which is `cosine`) up; growth: 1 up; warmup: share of the run in [0, 1), at most twice
    the first cycle; final: factor at the end of each cycle, in [0, 1]. Raises InvalidValue for a value outside its range.
    """
    _checked(progress, warmup, final)
    ends = cycle_ends(cycles, growth=growth, warmup=warmup)
    if progress < warmup:
        return progress / warmup
    # An end belongs to the cycle that it ends; rounding must not make the end of a cycle the start of the next.
    own = next(k for k, end in enumerate(ends) if progress <= end + ROUNDING)
    begin = ends[own - 1] if own else warmup
    done = min(1.0, (progress - begin) / (ends[own] - begin))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))


def _reads(*, cycles: int = 3, growth: float = 2.0, warmup: float = 0.0, final: float = 0.0) -> list[float]:
    return cycle_ends(cycles, growth=growth, warmup=warmup)


def _keeps(*, share: float = 0.2, warmup: float = 0.0, final: float = 0.0, forks: Sequence[float] = ()) -> list[float]:
    for fork in forks:
        if not warmup - ROUNDING <= fork <= 1.0 - share + ROUNDING:
            raise InvalidValue(
                f"forks lie between the end of the warm-up ({warmup:g} of the run) and the beginning of the cool-down "
                f"({1.0 - share:g}), got {fork!r}; leave it out"
            )
    return list(forks)


cyclic.reads = _reads  # type: ignore[attr-defined]  # shares of the run at which the test split is read
cooldown.keeps = _keeps  # type: ignore[attr-defined]  # shares of the run at which the state is kept

catalog: dict[str, Callable[..., float]] = {
    f.__name__: f for f in (constant, cooldown, cosine, cyclic, linear, one_cycle)
}
