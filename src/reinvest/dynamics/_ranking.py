"""Which kind of suspect an example is, and how it ranks among all examples for that kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.probes import SPOILED
from . import scores
from ._evidence import WRONG, Told
from ._histories import Histories

LABEL_ERROR, CONFLICT, DUPLICATE, HIGH_LOSS = "label error", "label conflict", "duplicate", "high loss"
CORRUPTED, NEVER, FORGOTTEN, ATYPICAL = "corrupted", "never learned", "forgotten often", "atypical"
KINDS = {
    CONFLICT: "equal content elsewhere has another label, so one of the two is wrong",
    LABEL_ERROR: "high loss for its label, while the model mostly said one other class",
    HIGH_LOSS: "mean loss among the highest tenth, where records tell no class that the model said instead",
    CORRUPTED: "its losses over time are those of the probes with spoiled inputs",
    NEVER: "wrong in every epoch, now with this class and now with that",
    FORGOTTEN: "learned and forgotten again, twice at least and more often than nine tenths of the others",
    ATYPICAL: "right in the end, but among the last tenth to be learned",
    DUPLICATE: "equal content and label at another id",
}
"""Kinds of suspects in the order in which they are listed, and what each means."""
ORDER = tuple(KINDS)
SETTLED = 1 / 3
MOSTLY = 0.9
OFTEN = 2


@dataclass(frozen=True)
class Doubles:
    """group: int64 [N], equal for equal content. same, other: bool [N], it is there twice with one label, or with several."""

    group: Tensor
    same: Tensor
    other: Tensor


@dataclass(frozen=True)
class Ranking:
    """kind: int64 [N], number into `KINDS`, -1 for none; score: float32 [N], rank for that kind in (0, 1), else NaN.

    doubt: float32 [N], the loss above what is usual for its label, NaN where an example was never seen; settled: bool [N],
    whether it is, and the model said one other class more than any, in a third of the answers at least. percentile: float32
    [N]. probability: float32 [N] of the kind, NaN where unknown.
    """

    kind: Tensor
    score: Tensor
    doubt: Tensor
    settled: Tensor
    percentile: Tensor
    probability: Tensor


def ranked(
    seen: Histories, groups: Tensor, ordinary: Tensor, told: Told | None, wrong: Tensor | None, doubles: Doubles
) -> Ranking:
    """Every example's kind, if it is suspect at all; ranks are among all examples that were seen.

    groups: int64 [N], the given labels (all 0 for none). ordinary: bool [N], seen and no probe: what is usual is taken
    from these. told: from probes. wrong: probability [N] of a wrong label, if anything tells it.
    """
    above = excess(seen.height, groups, ordinary)
    settled = (above > 0) & (seen.settled >= SETTLED) & (seen.settled > seen.own)
    unanswered = bool(seen.support.isnan().all())
    spoiled = _spoiled(told, len(groups))
    nothing, everything = torch.full_like(above, math.nan), torch.ones_like(above)
    sure = nothing if wrong is None else wrong
    forgotten = seen.forgotten.masked_fill(seen.forgotten.isinf(), math.nan)
    places: dict[str, tuple[Tensor, Tensor, Tensor]] = {
        DUPLICATE: (doubles.same, everything, everything),
        ATYPICAL: (_beyond_most(seen.learned, ordinary), seen.learned, nothing),
        FORGOTTEN: ((forgotten >= OFTEN) & _beyond_most(forgotten, ordinary), forgotten, nothing),
        NEVER: (seen.first.isinf(), above, nothing),
        HIGH_LOSS: (_beyond_most(above, ordinary) & unanswered, above, nothing),
        LABEL_ERROR: (settled, above, sure),
        CORRUPTED: ((spoiled > 0.5) & ~(spoiled < sure), spoiled, spoiled),
        CONFLICT: (doubles.other, above, sure),
    }
    kind = torch.full((len(groups),), -1)
    score, probability = nothing.clone(), nothing.clone()
    # From the weakest claim to the strongest, so that each example has the strongest that can be made.
    for name, (those, evidence, chance) in places.items():
        those = those & seen.known
        kind[those] = ORDER.index(name)
        score[those] = _rank(evidence, seen.known)[those]
        probability[those] = chance[those]
    return Ranking(kind, score, above, settled, percentile(seen.mean_loss, groups, ordinary), probability)


def excess(height: Tensor, groups: Tensor, ordinary: Tensor) -> Tensor:
    """`height` [N] above the median of the ordinary examples of the same label."""
    found = height.clone()
    for group in torch.unique(groups[ordinary]).tolist():
        found[groups == group] -= height[ordinary & (groups == group)].median()
    return found


def percentile(loss: Tensor, groups: Tensor, ordinary: Tensor) -> Tensor:
    """Share of the ordinary examples of the same label with a smaller loss, float32 [N]; equal ones count half."""
    found = torch.full_like(loss, math.nan)
    for group in torch.unique(groups[ordinary]).tolist():
        own = ordinary & (groups == group)
        found[own] = scores.average([loss[own]], ranks=True)
    return found


def doubles_of(hashes: Tensor | None, contents: Tensor | None, groups: Tensor) -> Doubles:
    """Equal rows by `hashes` of label and content, or by `contents` [N] of the content alone where that is known; a row that
    was not hashed has 0, and no double.

    groups: int64 [N], labels; below 0 for ids that the run did not train on, which may have any.
    """
    count = len(groups)
    table = contents if contents is not None else hashes
    if table is None:
        alone = torch.zeros(count, dtype=torch.bool)
        return Doubles(torch.arange(count), alone, alone)
    _, group = torch.unique(table, return_inverse=True)
    alone = (table == 0).nonzero()[:, 0]
    group[alone] = count + torch.arange(len(alone))
    _, group, size = torch.unique(group, return_inverse=True, return_counts=True)
    most = torch.iinfo(torch.int64).max
    low = torch.full((len(size),), most).scatter_reduce(0, group, groups.where(groups >= 0, most), "amin")
    high = torch.full((len(size),), -1).scatter_reduce(0, group, groups, "amax")
    other = (low < high)[group]
    return Doubles(group, (size > 1)[group] & ~other, other)


def _rank(evidence: Tensor, known: Tensor) -> Tensor:
    return scores.average([evidence.masked_fill(~known, math.nan)], ranks=True)


def _beyond_most(values: Tensor, ordinary: Tensor) -> Tensor:
    """bool [N]: finite, and above what nine tenths of the finite ones of the ordinary examples reach."""
    those = values[ordinary & values.isfinite()]
    if not len(those):
        return torch.zeros_like(ordinary)
    bound = those.sort().values[int(MOSTLY * (len(those) - 1))]
    return values.isfinite() & (values > bound)


def _spoiled(told: Told | None, count: int) -> Tensor:
    """Largest probability of a kind of probe with a spoiled input, float32 [N]; NaN where nothing tells."""
    columns = [] if told is None else [told.of(kind) for kind in told.names if kind in SPOILED]
    known = [column for column in columns if column is not None]
    return torch.stack(known).amax(0) if known else torch.full((count,), math.nan)


def wrong_by_probes(told: Told | None) -> Tensor | None:
    """Probability [N] that the label is wrong, by probes with random labels; None without, or told apart poorly."""
    return None if told is None else told.of(WRONG)
