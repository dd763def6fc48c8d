"""Learning-rate schedules as functions of progress: the factor on the peak rate, whatever the length of the run."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..core.errors import InvalidValue


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


catalog: dict[str, Callable[..., float]] = {f.__name__: f for f in (constant, cosine, linear, one_cycle)}
