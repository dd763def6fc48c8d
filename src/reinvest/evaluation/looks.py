"""Looks at a study before its end, and the level that alpha spending leaves each of them.

Whoever judges at every few seeds and stops when something shows finds differences where there are none: three looks at
5 % each err in 11 % of studies. Looks that are declared before the runs share one alpha. How much of it is spent up to a
look is a function of the share of the seeds seen there (Lan and DeMets 1983), and the levels follow from the joint normal
distribution of the statistics, by recursive integration (Armitage, McPherson and Rowe 1969).

A timing block's error is shared by all looks. It makes them more alike than the recursion takes them to be, so that less
than alpha is spent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.errors import InvalidValue, unknown
from .curves import Array

DECIDED = ("better", "worse", "mixed", "equivalent")
"""Verdicts with which a study may end at a look."""
SMALLEST = 1e-12
"""Level of a look at which next to nothing is spent; no test can be made at a level of zero."""
FARTHEST = 9.0
"""Boundaries in standard deviations beyond which nothing happens."""


def _obrien_fleming(share: float, alpha: float) -> float:
    from scipy.special import ndtr, ndtri

    return float(4.0 * ndtr(ndtri(0.25 * alpha) / math.sqrt(share)))


def _pocock(share: float, alpha: float) -> float:
    return alpha * math.log(1.0 + (math.e - 1.0) * share)


SPENDING: dict[str, Callable[[float, float], float]] = {"obrien-fleming": _obrien_fleming, "pocock": _pocock}
"""Alpha spent up to a share in (0, 1] of the seeds, both sides together. "obrien-fleming" keeps nearly all of it for the
last look; "pocock" spends so that all looks have about the same level."""


@dataclass(frozen=True)
class Look:
    """One of the declared looks at a study.

    place: among the looks, from 0; looks: their seeds; alphas: their two-sided levels; spending: of which function;
    total: the alpha that all of them share; earlier: {arm: verdict} of each look before this one.
    """

    place: int
    looks: tuple[int, ...]
    alphas: tuple[float, ...]
    spending: str
    total: float
    earlier: tuple[Mapping[str, str], ...] = field(default=())

    @property
    def seeds(self) -> int:
        """Whole replicates that are judged."""
        return self.looks[self.place]

    @property
    def alpha(self) -> float:
        """The level at which they are judged."""
        return self.alphas[self.place]

    @property
    def last(self) -> bool:
        """True for the end of the study."""
        return self.place == len(self.looks) - 1

    def after(self, previous: Look, verdicts: Mapping[str, str]) -> Look:
        """This look, which comes after the previous one with these verdicts."""
        return replace(self, earlier=(*previous.earlier, dict(verdicts)))

    def flags(self, verdicts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """What each arm's verdict is to be read with; verdicts: {arm: verdict} of this look."""
        said = [
            f"look {self.place + 1} of {len(self.looks)}, at {self.seeds} of {self.looks[-1]} seeds: judged at a level of "
            f"{percent(self.alpha)}, so that all looks together err in {percent(self.total)} ({self.spending} spending)"
        ]
        if not self.last and decided(verdicts.values()):
            said.append(f"the study ended at {self.seeds} of {self.looks[-1]} seeds, because every arm is decided")
        return {arm: (*said, *self._before(arm, name)) for arm, name in verdicts.items()}

    def _before(self, arm: str, now: str) -> list[str]:
        return [
            f"called {was[arm]} at {seeds} seeds and {now} now: the verdict of the last look counts"
            for seeds, was in zip(self.looks, self.earlier, strict=False)
            if was.get(arm) in DECIDED and was[arm] != now
        ]

    def to_dict(self, verdicts: Mapping[str, str]) -> dict[str, Any]:
        """Plain values: the spending, and of each look its seeds, its level and its verdicts (None: not taken)."""
        taken: list[dict[str, str] | None] = [*map(dict, self.earlier), dict(verdicts)]
        taken += [None] * (len(self.looks) - len(taken))
        rows = zip(self.looks, self.alphas, taken, strict=True)
        return {
            "spending": self.spending,
            "alpha": self.total,
            "taken": [{"seeds": n, "level": 1.0 - alpha, "verdicts": said} for n, alpha, said in rows],
        }


@dataclass(frozen=True)
class Judgement:
    """An arm was judged at `seeds` whole replicates, under these declared looks (none: ()) and their spending."""

    seeds: int
    looks: tuple[int, ...] = ()
    spending: str = ""


def undeclared(now: Judgement, before: Iterable[Judgement], alpha: float) -> list[str]:
    """What to say of earlier judgements of the same arm that the declared looks do not hold; alpha: of one judgement."""
    if now.looks:
        strange = {j.seeds for j in before if (j.looks, j.spending) != (now.looks, now.spending)}
    else:
        strange = {j.seeds for j in before} - {now.seeds}
    if not strange:
        return []
    seeds = " and ".join(map(str, sorted(strange)))
    if now.looks:
        return [
            f"judged at {seeds} seeds before these looks were declared: what they share is more than {percent(alpha)}; "
            "declare looks before the first judgement"
        ]
    every = sorted({*strange, now.seeds})
    rate = sum(crossing(every, [alpha] * len(every)))
    return [
        f"judged at {seeds} seeds too, which was not declared: whoever may stop at any of them errs in up to "
        f"{percent(rate)} of studies without a difference, not in {percent(alpha)}; declare looks before the first run"
    ]


def declared(looks: Sequence[int], alpha: float, spending: str) -> list[Look]:
    """The looks with their levels (see `levels`)."""
    alphas = levels(looks, alpha, spending)
    return [Look(k, tuple(looks), alphas, spending, alpha) for k in range(len(looks))]


def decided(verdicts: Iterable[str]) -> bool:
    """True if every arm has a verdict that more seeds are not needed for."""
    return all(name in DECIDED for name in verdicts)


def percent(share: float) -> str:
    """A level as text: "5 %", "1.6 %", "0.0001 %"."""
    return f"{100.0 * share:.2g} %" if share >= 1e-6 else f"{100.0 * share:.0e} %"


def levels(looks: Sequence[int], alpha: float, spending: str) -> tuple[float, ...]:
    """The two-sided level at which each look is judged, so that all of them together err with probability alpha.

    looks: increasing whole numbers of seeds, the last one all of them; alpha in (0, 1); spending: "obrien-fleming" or
    "pocock". Raises InvalidValue or UnknownName. Lan and DeMets, Biometrika 70 (1983) 659.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    shares = _shares(looks)
    if not 0.0 < alpha < 1.0:
        raise InvalidValue(f"alpha lies between 0 and 1, got {alpha}; 0.05 is usual")
    if not isinstance(spending, str) or spending not in SPENDING:
        raise unknown("spending function", spending, SPENDING)
    walk = _Walk(shares)
    spent, found = 0.0, []
    for share in shares:
        total = SPENDING[spending](share, alpha)
        part, spent = total - spent, total
        bound = FARTHEST
        if walk.outside(FARTHEST) < part:
            bound = float(brentq(lambda z, part=part: walk.outside(z) - part, 0.0, FARTHEST, xtol=1e-12))
        found.append(max(2.0 * float(ndtr(-bound)), SMALLEST))
        walk.go_on(bound)
    return tuple(found)


def crossing(looks: Sequence[int], alphas: Sequence[float], drift: float = 0.0) -> tuple[float, ...]:
    """The probability that each look is the first at which a test at its level (two-sided) rejects.

    drift: mean of the statistic at the last look, in standard errors; 0 is no effect, where the sum is the error rate of
    the whole; with an effect the sum is the power (which counts rejections on the wrong side too). Raises InvalidValue.
    """
    from scipy.special import ndtri

    shares = _shares(looks)
    if len(alphas) != len(shares):
        raise InvalidValue(
            f"there is one level for each look, got {len(alphas)} levels and {len(shares)} looks; pass as many"
        )
    walk = _Walk(shares, drift)
    found = []
    for alpha in alphas:
        bound = float(-ndtri(0.5 * alpha))
        found.append(walk.outside(bound))
        walk.go_on(bound)
    return tuple(found)


def _shares(looks: Any) -> list[float]:
    fine = isinstance(looks, Sequence) and not isinstance(looks, (str, bytes)) and len(looks) > 0
    if not fine or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in looks):
        raise InvalidValue(f"looks are whole numbers of seeds, at least one, got {looks!r}; write e.g. [3, 5, 8]")
    if any(b <= a for a, b in itertools.pairwise(looks)):
        raise InvalidValue(f"looks are whole numbers of seeds that increase, got {list(looks)}; put them in order")
    return [n / looks[-1] for n in looks]


class _Walk:
    """A Brownian path seen at the shares, as the density of those that have stayed inside all boundaries so far."""

    def __init__(self, shares: Sequence[float], drift: float = 0.0) -> None:
        self._shares, self._drift, self._look = shares, drift, 0
        # Before the first look the path is at zero, with certainty.
        self._at: Array = np.zeros(1)
        self._mass: Array = np.ones(1)

    def _step(self) -> tuple[float, float]:
        """Mean and standard deviation of the way to the next look."""
        before = self._shares[self._look - 1] if self._look else 0.0
        way = self._shares[self._look] - before
        return self._drift * way, math.sqrt(way)

    def outside(self, bound: float) -> float:
        """Probability that the next look is the first one with a statistic beyond `bound` standard deviations."""
        from scipy.special import ndtr

        mean, sd = self._step()
        edge = bound * math.sqrt(self._shares[self._look])
        middle = self._at + mean
        return float(self._mass @ (ndtr((-edge - middle) / sd) + ndtr((middle - edge) / sd)))

    def go_on(self, bound: float) -> None:
        """Take the next look; only paths inside `bound` standard deviations go on."""
        mean, sd = self._step()
        edge = min(bound, FARTHEST + abs(self._drift)) * math.sqrt(self._shares[self._look])
        # Enough nodes that the narrowest step to come is resolved.
        narrowest = math.sqrt(min(b - a for a, b in itertools.pairwise((0.0, *self._shares))))
        nodes, weights = np.polynomial.legendre.leggauss(int(np.clip(12.0 * edge / narrowest, 64, 1200)))
        at = edge * nodes
        z = (at[:, None] - self._at[None, :] - mean) / sd
        density = np.exp(-0.5 * z * z) @ self._mass / (sd * math.sqrt(2.0 * math.pi))
        self._at, self._mass = at, edge * weights * density
        self._look += 1
