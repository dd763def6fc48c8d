"""How probably is each label right, and what would it be otherwise? Told by one run's histories of losses and answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import InvalidValue, StoreError
from ..core.labels import (
    Valley,
    align_classes,
    check_noise,
    clean_mixture,
    find_valley,
    levels_of,
    moved,
    soften_labels,
)
from . import classify
from ._evidence import check_probes, proportion
from ._histories import Histories, epochs_of, histories, together
from .probes import Probes
from .series import filled
from .trajectories import Trajectories

__all__ = ["clean_probability", "soften_labels", "suggested_labels"]

WRONG = "random label"
NAMES = (WRONG, "right label")
CHANCE = 0.025
"""Probability that probes which cannot be told apart are taken to be."""
PARTS = (1, 2, 4, 8)
"""A second group is looked for in all of a run, and in its first half, quarter and eighth."""
BLOCK = 65_536
MOST = 20_000
"""Ordinary examples that probes are compared with; of more, as many evenly spaced quantiles."""


def clean_probability(
    loss: Tensor | Trajectories,
    probes: Probes | None = None,
    *,
    kind: str = "linear",
    noise: float | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Probability that each example's label is right: float32 [N], 1 is surely right, NaN for examples hardly seen.

    loss: float [N, E], an example a row, NaN where not seen; or Trajectories, whose own probes and labels are used then.
    noise: the share of wrong labels where it is known, from 0 to below 1; None estimates it. labels: int64 [N], -1 for
    none; without probes levels are then compared within classes, so that one that is learned late is not called wrong.

    With probes (their ids are rows of `loss`): a classifier of `classify.fit` (kind) learns from the reference half what
    wrong labels ("random label") look like, against all other kinds; how often they are among the examples that are no
    probes comes from the validation half (`_among`), whatever the numbers of probes. Probes of wrong labels have 0. It does
    not answer where in the validation half wrong labels rank no higher than others: that is an InvalidValue that says so,
    as numbers without a meaning would go unnoticed.

    Without: a mixture of the mean log(1 + loss) (`core.labels.clean_mixture`), of the part of the run in which a second
    group stands out most, as the wrong labels that a long run memorises look like others in the end. The first epoch does
    not count, as its losses tell more of when an example was shown. All labels are right (1) where no part has a valley
    between two groups: in clean data, where a valley is found with a probability below 0.8 % (levels with one mode), and
    also where hard examples fill the valley, as in short runs on hard data. Whatever else has losses of its own looks
    like wrong labels.

    Raises InvalidValue for other shapes, fewer than 2 epochs (3 with probes), no finite loss, probes that are outside,
    lack "random label" or any other kind; UnknownName for another kind of classifier.
    """
    check_noise(noise)
    if isinstance(loss, Trajectories):
        probes = loss.probes if probes is None else probes
        labels = loss.labels if labels is None else labels
    elif not isinstance(loss, Tensor) or loss.ndim != 2 or not loss.is_floating_point():
        got = f"{loss.dtype} {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InvalidValue(f"trajectories are losses [N, E], an example a row, got {got}; pass records.loss.T")
    known, epochs = _seen(loss)
    if not bool(known.any()):
        raise InvalidValue(
            f"wrong labels are told by losses, got {len(known):,} examples without one that is finite; train on class labels, "
            "or with a smaller learning rate"
        )
    if probes is not None:
        return _by_probes(loss, known, epochs, probes, kind, noise)
    if len(epochs) < 2:
        raise InvalidValue(
            f"wrong labels are told after the first epoch, got {len(epochs)}; train for at least 2 epochs"
        )
    return clean_mixture(_clearest(loss, len(known), epochs, labels), noise)


def suggested_labels(runs: Trajectories | Sequence[Trajectories]) -> Tensor:
    """The class that each example has if its label is wrong: int64 [N], -1 where nothing was said.

    It is the class, other than the label, that was said most in the epochs before the label was learned for good: what a
    model says after it has memorised a wrong label is that label. An epoch counts by how often its answers were right.
    Several runs are taken together. Raises StoreError for runs that kept no answers or labels, InvalidValue for fewer
    than 3 epochs.
    """
    listed = [runs] if isinstance(runs, Trajectories) else list(runs)
    for run in listed:
        if run.predicted is None or run.labels is None:
            raise StoreError(
                "labels are suggested where a run kept what it said of each example (one label an example, up to 255 "
                "classes), got a run without; leave the examples out instead"
            )
    if not listed:
        raise InvalidValue("labels are suggested by at least one run, got none; pass its trajectories")
    size = max(run.examples for run in listed)
    return together([_padded(histories(run, epochs_of(run)), size) for run in listed]).suggested


def _padded(run: Histories, size: int) -> Histories:
    """The columns with room for ids that came later."""

    def longer(name: str, column: Tensor) -> Tensor:
        return F.pad(column, (0, size - len(column)), value=-1 if name == "suggested" else math.nan)

    return Histories(**{field.name: longer(field.name, getattr(run, field.name)) for field in fields(run)})


# ---- the two ways ------------------------------------------------------------------------------------------------------


def _clearest(loss: Tensor | Trajectories, count: int, epochs: Tensor, labels: Tensor | None) -> Tensor:
    """Levels [N] of the part of the run in which the valley is clearest; of all of it where there is none."""
    ends = sorted({max(2, math.ceil(len(epochs) / part)) for part in PARTS}, reverse=True)
    levels = torch.empty(len(ends), count)
    for start, block in _blocks(loss):
        every = levels_of(block[:, epochs])
        for row, end in enumerate(ends):
            levels[row, start : start + len(block)] = every[:, 1:end].nanmean(1)
    columns = [column if labels is None else align_classes(column, labels) for column in levels]
    best, clearest = columns[0], None
    for column in columns:
        valley: Valley | None = find_valley(column)
        if valley is not None and (clearest is None or valley.strength > clearest.strength):
            best, clearest = column, valley
    return best


def _by_probes(
    loss: Tensor | Trajectories, known: Tensor, epochs: Tensor, probes: Probes, kind: str, noise: float | None
) -> Tensor:
    if WRONG not in probes.names or len(probes.names) < 2:
        raise InvalidValue(
            f"wrong labels are told by probes of the kind {WRONG!r} and of another one, got {list(probes.names)}; plant "
            "both, or leave the probes out"
        )
    if len(probes) and not 0 <= int(probes.ids.min()) <= int(probes.ids.max()) < len(known):
        raise InvalidValue(
            f"probes are examples of this table, ids 0 to {len(known) - 1}, got {int(probes.ids.min())} to "
            f"{int(probes.ids.max())}; pass the losses of the run that they were planted in"
        )
    check_probes(probes, known)
    right = (probes.kinds != probes.names.index(WRONG)).long()
    table = _whole(loss.rows(probes.ids) if isinstance(loss, Trajectories) else loss[probes.ids].float(), epochs)
    learned = classify.fit(table[probes.reference], right[probes.reference], NAMES, kind=kind)
    validation = _odds(learned, table[~probes.reference])
    shown = validation[right[~probes.reference] == 0]
    _check_told_apart(shown, validation[right[~probes.reference] == 1])
    odds = torch.full((len(known),), math.nan)
    for start, block in _blocks(loss):
        often = 2 * block[:, epochs].isfinite().sum(1) >= len(epochs)
        odds[start : start + len(block)] = _odds(learned, _whole(block, epochs)).masked_fill(~often, math.nan)
    ordinary = ~odds.isnan()
    ordinary[probes.ids] = False
    found = 1.0 - _among(odds, odds[ordinary].sort().values, shown, noise)
    found[probes.of(WRONG)] = 0.0
    return found


def _odds(learned: classify.Classifier, losses: Tensor) -> Tensor:
    """Log-odds of a wrong label, float32 [N]."""
    return torch.logit(learned.probabilities(losses)[:, 0].double(), eps=1e-6).float()


def _check_told_apart(wrong: Tensor, others: Tensor) -> None:
    """Refuse a classifier by which validation probes of wrong labels rank no higher than the others.

    Ranks, and not how often each kind is recognised: that depends on how many probes there are of each, and the labels
    of the others are wrong as often as anybody's.
    """
    from scipy.stats import mannwhitneyu

    few = min(len(wrong), len(others))
    if few < classify.LEAST:
        raise InvalidValue(
            f"each kind has at least {classify.LEAST} validation probes, got {few}; plant more of them, or leave them out"
        )
    found = mannwhitneyu(wrong.double().numpy(), others.double().numpy(), alternative="greater")
    if not found.pvalue <= CHANCE:
        area = float(found.statistic) / (len(wrong) * len(others))
        raise InvalidValue(
            f"probabilities come from probes that can be told apart, got wrong labels above others in {area:.0%} of all "
            f"pairs of {len(wrong)} and {len(others)} validation probes (guessing: 50%, p = {found.pvalue:.2g}); train "
            "longer, plant more probes, or leave them out"
        )


def _among(odds: Tensor, ordinary: Tensor, probes: Tensor, noise: float | None) -> Tensor:
    """Probability [N] of being as the `probes` [P] are, for examples with these log-odds [N], among the `ordinary` [M] ones.

    The share of the kind comes from probes and ordinary examples alone, as other kinds of probes may have wrong labels
    too; all log-odds are moved by one number, so that the probabilities of the ordinary have that mean.
    """
    ordinary = odds[~odds.isnan()].sort().values if not len(ordinary) else ordinary
    share = proportion(ordinary, probes) if noise is None else noise
    if share <= 0.0 or not len(ordinary):
        return torch.where(odds.isnan(), math.nan, 0.0)
    few = ordinary[torch.arange(MOST) * (len(ordinary) - 1) // (MOST - 1)] if len(ordinary) > MOST else ordinary
    return torch.sigmoid(odds + moved(few.double(), share))


# ---- reading -----------------------------------------------------------------------------------------------------------


def _blocks(loss: Tensor | Trajectories) -> Iterator[tuple[int, Tensor]]:
    """(first row, float32 [n, E]) of the table from top to bottom."""
    if isinstance(loss, Trajectories):
        yield from loss.blocks(BLOCK)
        return
    for start in range(0, len(loss), BLOCK):
        yield start, loss[start : start + BLOCK].float()


def _seen(loss: Tensor | Trajectories) -> tuple[Tensor, Tensor]:
    """(bool [N]: rows with a finite loss; the epochs that have any, int64: a run that ended early has empty ones)."""
    rows, columns = [torch.zeros(0, dtype=torch.bool)], None
    for _, block in _blocks(loss):
        good = block.isfinite()
        rows.append(good.any(1))
        columns = good.any(0) if columns is None else columns | good.any(0)
    return torch.cat(rows), torch.zeros(0, dtype=torch.int64) if columns is None else columns.nonzero()[:, 0]


def _whole(loss: Tensor, epochs: Tensor) -> Tensor:
    """Rows without gaps, as classifiers want them."""
    return filled(loss[:, epochs]).clamp(min=0)
