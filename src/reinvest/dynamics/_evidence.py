"""What probes tell of the other examples: how many are of a kind, how probably each one is, how good a list of them is.

Probes of a kind are a sample of what that kind looks like (G), all ordinary examples are a mixture of it and of other
things (F). The share of the kind among the ordinary is at most F(t) / G(t) for the examples above any threshold t; the
smallest such ratio is taken for it, which supposes that at the far end hardly anything else is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InvalidValue
from ..core.probes import Probes
from ..core.streams import stream
from . import classify
from .series import filled
from .trajectories import Trajectories

ORDINARY = "ordinary"
WRONG = "random label"
PLAIN = "as it is"
DRAWS = 1000
DECILES, FEWEST = 9, 20
TINY = 1e-12
MOST_ROWS = 65_536
TOLD = 0.7


@dataclass(frozen=True)
class Precision:
    """How good a list is, by probes that should be on it: an estimate, and the 95 % interval of re-drawn probes and data.

    precision: share of the listed examples that are of the kind. found: share of all of that kind that are listed.
    proportion: share of the ordinary examples that are of it, listed or not. probes: how many told this.
    """

    precision: float
    low: float
    high: float
    found: float
    proportion: float
    probes: int


@dataclass(frozen=True)
class Told:
    """What probes tell. names: the kinds; probability: float32 [N, K] of each, NaN where unknown; assessment.

    vague: kinds that are not told from ordinary examples well enough to say anything about one.
    """

    names: tuple[str, ...]
    probability: Tensor
    assessment: classify.Assessment
    vague: tuple[str, ...]

    def of(self, kind: str) -> Tensor | None:
        """Probability [N] that an example is of a kind of probe; None for a kind that is told apart poorly."""
        if kind not in self.names or kind in self.vague:
            return None
        return self.probability[:, self.names.index(kind)]


def check_probes(probes: Probes, known: Tensor) -> None:
    """Refuse probes that the run never trained on (known: bool [N]): of the validation or test split, say."""
    outside = int((~known[probes.ids]).sum())
    if outside:
        raise InvalidValue(
            f"probes are trained along with the rest, got {outside} of {len(probes)} that this run never trained on, so "
            "they are not of its training split; plant them among training examples"
        )


def proportion(ordinary: Tensor, probes: Tensor) -> float:
    """Share of the ordinary examples that are of the probes' kind, from a score of each that is high for the kind.

    ordinary: float [N], sorted upwards; probes: float [P]. Thresholds are the deciles of the probes with at least 20 of
    them above (a third of fewer than 60): low ones let other things in, above high ones there are few probes. Averaged,
    with inverse variances for weights, are those whose ratio, two standard deviations down, is not above the smallest of
    all, two up. In simulations with 200 probes right on average where the kind stands apart, and too high by a quarter
    where it overlaps with the rest as far as an AUC of 0.9.
    """
    return float(_proportions(ordinary, probes.unsqueeze(0), torch.zeros(1))[0])


def _proportions(ordinary: Tensor, probes: Tensor, luck: Tensor) -> Tensor:
    """`proportion` for several draws of probes [D, P]: float64 [D].

    luck: standard normals [D], how many more or fewer ordinary examples another set of them would have up there.
    """
    size = probes.shape[1]
    drawn = probes.sort(1).values
    at = torch.arange(1, DECILES + 1) * size // (DECILES + 1)
    at = at[size - at >= min(FEWEST, size // 3)]
    cuts = drawn[:, at].contiguous()
    count = len(ordinary) - torch.searchsorted(ordinary, cuts).double()
    above = (count + luck.unsqueeze(1) * count.sqrt()).clamp(min=0) / max(len(ordinary), 1)
    caught = (drawn.unsqueeze(1) >= cuts.unsqueeze(2)).double().mean(2)
    ratio = above / caught
    spread = ratio * ((1 - caught) / (caught * size)).sqrt()
    small = ratio - 2 * spread <= (ratio + 2 * spread).amin(1, keepdim=True)
    weight = small / (spread.square() + TINY)
    return ((weight * ratio).sum(1) / weight.sum(1)).clamp(max=1.0)


def precision_of(ordinary: Tensor, probes: Tensor, listed: Tensor, caught: Tensor) -> Precision:
    """How many of the listed are of the probes' kind.

    ordinary: scores [N] of all ordinary examples; probes: [P] of the probes; listed: bool [N], on the list; caught: bool
    [P], probes that would be on it.
    """
    order = ordinary.sort().values
    part = float(listed.double().mean())
    draw = stream(0, "suspects", 0)
    drawn = draw.integers(len(probes), DRAWS * len(probes)).view(DRAWS, -1)
    shares = _proportions(order, probes[drawn], draw.normal(DRAWS)) * caught.double()[drawn].mean(1) / max(part, TINY)
    low, high = torch.quantile(shares.clamp(max=1.0), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    share, found = proportion(order, probes), float(caught.double().mean())
    return Precision(min(1.0, share * found / max(part, TINY)), low, high, found, share, len(probes))


def told_apart(run: Trajectories, kept: Tensor, known: Tensor) -> Told | None:
    """Kinds told apart by a classifier that learned from the run's reference probes and as many ordinary examples.

    kept: epochs to use; known: bool [N]. None without probes, or with too few of them. Its probabilities are those of
    this data set: probes are equally many of each kind, and what they are a sample of may be rare. Probes that were left
    as they are stand for no kind of their own: they are ordinary examples.
    """
    probes = None if run.probes is None else _changed(run.probes)
    if probes is None or run.probes is None or not len(probes):
        return None
    halves = (probes.reference, ~probes.reference)
    counts = [int((half & (probes.kinds == kind)).sum()) for half in halves for kind in range(len(probes.names))]
    if min(counts) < classify.LEAST:
        return None
    names = (ORDINARY, *probes.names)
    others = known.clone()
    others[run.probes.ids] = False
    rest = others.nonzero()[:, 0]
    each = int(probes.reference.sum()) // len(probes.names)
    drawn = rest[stream(0, "ordinary probes", 0).permutation(len(rest))[: 2 * each]]
    sets = []
    for half, ordinary in zip(halves, (drawn[::2], drawn[1::2]), strict=True):
        ids = torch.cat([ordinary, probes.ids[half]])
        kinds = torch.cat([torch.zeros(len(ordinary), dtype=torch.int64), probes.kinds[half] + 1])
        sets.append((_whole(run.rows(ids)[:, kept]), kinds))
    learned = classify.assess(classify.fit(*sets[0], names), *sets[1])
    assert learned.assessment is not None
    vague = _vague(learned.probabilities(sets[1][0]), sets[1][1], names)
    odds = torch.full((run.examples, len(names)), torch.nan)
    for start, block in run.blocks(MOST_ROWS):
        odds[start : start + len(block)] = learned.probabilities(_whole(block[:, kept]))
    return Told(names, _calibrated(odds, probes, rest), learned.assessment, vague)


def _changed(probes: Probes) -> Probes:
    """The probes without those that were left as they are."""
    if PLAIN not in probes.names:
        return probes
    plain = probes.names.index(PLAIN)
    rest = probes.kinds != plain
    kinds = probes.kinds[rest]
    return Probes(
        tuple(name for name in probes.names if name != PLAIN),
        probes.ids[rest],
        kinds - (kinds > plain).long(),
        probes.reference[rest],
        probes.labels[rest],
    )


def _whole(losses: Tensor) -> Tensor:
    return filled(losses).clamp(min=0)


def _vague(answers: Tensor, kinds: Tensor, names: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds whose validation probes do not rank above ordinary examples clearly: AUC below 0.7 at its lower 95 % end.

    Ordinary examples may be of the kind themselves, so that even a perfect ranking stays below 1 (0.8 with 40 % of them).
    """
    found = []
    for kind in range(1, len(names)):
        ratio = answers[:, kind] / answers[:, 0].clamp(min=1e-9)
        if _auc_low(ratio[kinds == 0], ratio[kinds == kind]) < TOLD:
            found.append(names[kind])
    return tuple(found)


def _auc_low(low: Tensor, high: Tensor) -> float:
    """Lower end of the 95 % interval of P(high > low), by the formula of Hanley and McNeil (1982)."""
    above = torch.searchsorted(low.sort().values, high).double()
    upto = torch.searchsorted(low.sort().values, high, right=True).double()
    auc = float(((above + upto) / 2).mean()) / len(low)
    one, two = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    rest = (len(high) - 1) * (one - auc**2) + (len(low) - 1) * (two - auc**2)
    return auc - 1.96 * math.sqrt(max(0.0, auc * (1 - auc) + rest) / (len(low) * len(high)))


def _calibrated(odds: Tensor, probes: Probes, ordinary: Tensor) -> Tensor:
    """From probabilities among equally many of each kind to those among the ordinary examples: share x (odds against F)."""
    found = odds / odds[:, :1].clamp(min=1e-9)
    for kind in range(1, odds.shape[1]):
        own = found[probes.ids[~probes.reference & (probes.kinds == kind - 1)], kind]
        found[:, kind] *= proportion(found[ordinary, kind].sort().values, own)
    # Kinds share an example; where the ordinary sample has hardly anything like it, they are all there is.
    found[:, 0] = (1 - found[:, 1:].sum(1)).clamp(min=0.0)
    return found / found.sum(1, keepdim=True)
