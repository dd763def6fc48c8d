"""Votes on tasks with a label a pixel or token: counted example by example, so that no run's answers are held at once.

A position counts if it has a label; each counts once, whichever example it is in. Positions of one example are no
independent evidence, so spreads and intervals are those of examples. For one position an example everything here is what
`outcome_figures` says of single labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..core.criterion import IGNORE
from ..core.errors import InvalidValue
from ..dynamics.outcomes import VarianceSplit, agreeing, deviation_interval, majority_credit, pairwise_churn
from .outcome_figures import BINS, DISPUTED, Z95, Disputed, GroupOutcome, Spread, numbers_first
from .outcome_files import write_table

AT_ONCE = 1 << 16
"""Positions of an example that are looked at together."""
STEPS = 11
MOST_CLASSES = 1000
"""Classes up to which each one's outcomes are worked out."""


class Tally:
    """Counts over the positions of K sets: of all, of each class, of each subgroup. runs: R."""

    def __init__(self, runs: int, sets: int) -> None:
        self.agree = torch.zeros(sets, runs * (runs - 1) // 2 + 1, dtype=torch.int64)
        """Positions by how many pairs of runs agree."""
        self.credit, self.within, self.squares = torch.zeros(3, sets, dtype=torch.float64).unbind()
        self.examples = torch.zeros(sets, dtype=torch.int64)
        # Of each run: right positions, and sums over examples of their square and of their product with all positions.
        self.right, self.right_right, self.right_all = torch.zeros(3, runs, sets, dtype=torch.float64).unbind()

    def add(self, sets: Tensor, agree: Tensor, credit: Tensor, right: Tensor) -> None:
        """An example's positions [P]: the set of each, pairs that agree, credit of the vote, and right ones bool [R, P]."""
        own, place = torch.unique(sets, return_inverse=True)
        width = self.agree.shape[1]
        counts = torch.bincount(place * width + agree, minlength=len(own) * width).view(len(own), width)
        size = counts.sum(1).double()
        hits = torch.stack([torch.bincount(place, weights=row.double(), minlength=len(own)) for row in right])
        self.agree[own] += counts
        self.credit[own] += torch.bincount(place, weights=credit, minlength=len(own))
        self.examples[own] += 1
        self.squares[own] += size.square()
        self.within[own] += hits.var(0)
        self.right[:, own] += hits
        self.right_right[:, own] += hits.square()
        self.right_all[:, own] += hits * size

    @property
    def size(self) -> Tensor:
        """Positions of each set, int64 [K]."""
        return self.agree.sum(1)

    def outcome(self, which: int, name: str, below: float) -> GroupOutcome:
        """The outcomes of a set that has positions."""
        counts, size = self.agree[which].double(), int(self.agree[which].sum())
        levels = torch.arange(len(counts), dtype=torch.float64) / (len(counts) - 1)
        reached = self.agree[which].cumsum(0)
        places = torch.tensor([step * (size - 1) // (STEPS - 1) for step in range(STEPS)])
        accuracy = self.right[:, which] / size
        return GroupOutcome(
            name=name,
            examples=int(self.examples[which]),
            accuracy=float(accuracy.mean()),
            majority=float(self.credit[which]) / size,
            churn=float((counts * (1 - levels)).sum()) / size,
            arbitrary=float(counts[levels < below].sum()) / size,
            unanimous=float(counts[-1]) / size,
            deciles=tuple(levels[torch.searchsorted(reached, places, right=True)].tolist()),
            spread=self._spread(which, accuracy, size),
            positions=size,
        )

    def _spread(self, which: int, accuracy: Tensor, size: int) -> Spread | None:
        """As of single labels, an example counting by its positions: with weights w, luck has the variance
        sum w^2 var(example), and 1 / (1 - sum w^2) stands for N / (N - 1)."""
        alone = float(self.squares[which]) / size**2
        if self.examples[which] < 2:
            return None
        observed, sampling = float(accuracy.var()), float(self.within[which]) / size**2
        scale = 1 / (1 - alone)
        split = VarianceSplit(observed, sampling, scale * (observed - sampling))
        low, high = deviation_interval(split, len(accuracy), scale)
        return Spread(observed, sampling, split.between, low, high, math.sqrt(float(self.errors(which).mean())))

    def errors(self, which: int) -> Tensor:
        """The variance of each run's accuracy from the finite number of examples, float64 [R]."""
        size = self.size[which].double()
        a = self.right[:, which] / size
        total = self.right_right[:, which] - 2 * a * self.right_all[:, which] + a.square() * self.squares[which]
        return total.clamp(min=0) / size**2


class PositionFigures:
    """Figures of R runs' votes on positions. Examples are added one by one, and what is kept of each is a few numbers.

    runs: what each is called. classes: how many there are. groups: the subgroup of each id, or None. Raises InvalidValue
    for fewer than 2 runs.
    """

    def __init__(
        self,
        runs: Sequence[str],
        classes: int,
        *,
        class_names: Sequence[str] | None = None,
        groups: Mapping[int, str] | None = None,
    ) -> None:
        if len(runs) < 2:
            raise InvalidValue(f"votes are those of 2 runs or more, got {len(runs)}; train with more seeds")
        self.runs, self.classes, self.groups = tuple(runs), classes, groups
        self.class_names = None if class_names is None else tuple(class_names)
        self.names = [] if groups is None else sorted(set(groups.values()), key=numbers_first)
        few = classes if classes <= MOST_CLASSES else 0
        self.whole, self.by_class, self.by_group = (Tally(len(runs), n) for n in (1, few, len(self.names)))
        self.differ = torch.zeros(len(runs), len(runs), dtype=torch.float64)
        self.ids: list[int] = []
        self.sizes: list[int] = []
        self.consistency: list[float] = []
        self.shares: list[list[float]] = []
        self.empty = 0

    def add(self, number: int, labels: Tensor, predictions: Tensor) -> None:
        """Example `number`: labels int64 of any shape, -100 where a position does not count; predictions int64 [R, ...].

        Raises InvalidValue for other shapes, classes out of range, and an example without a group where others have one.
        """
        self._check(labels, predictions)
        name = None if self.groups is None else self.groups.get(number)
        if self.groups is not None and name is None:
            raise InvalidValue(f"every example of the split has a group, got no group of id {number}; add it")
        valid = labels != IGNORE
        labels, said = labels[valid], predictions[:, valid]
        if not len(labels):
            self.empty += 1
            return
        agree, credit = _looked_at(said, labels)
        right, pairs = said == labels, self.whole.agree.shape[1] - 1
        self.whole.add(torch.zeros_like(labels), agree, credit, right)
        if len(self.by_class.examples):
            self.by_class.add(labels, agree, credit, right)
        if name is not None:
            self.by_group.add(torch.full_like(labels, self.names.index(name)), agree, credit, right)
        self.differ += pairwise_churn(said) * len(labels)
        self.ids.append(number)
        self.sizes.append(len(labels))
        self.consistency.append(int(agree.sum()) / (pairs * len(labels)))
        self.shares.append((right.sum(1).double() / len(labels)).tolist())

    def _check(self, labels: Tensor, predictions: Tensor) -> None:
        if predictions.shape != (len(self.runs), *labels.shape):
            raise InvalidValue(
                f"votes are a class a run and position, got {list(predictions.shape)} for {len(self.runs)} runs and labels "
                f"{list(labels.shape)}; pass those of the same example"
            )
        valid = labels != IGNORE
        for what, values, more in (("labels", labels, f", or {IGNORE} for none"), ("predictions", predictions, "")):
            those = values[..., valid]
            if those.numel() and (int(those.min()) < 0 or int(those.max()) >= self.classes):
                raise InvalidValue(
                    f"{what} are numbers of classes from 0 to {self.classes - 1}{more}, got {int(those.min())} to "
                    f"{int(those.max())}; renumber them"
                )

    @property
    def positions(self) -> int:
        """Positions that counted."""
        return sum(self.sizes)

    def name(self, label: int) -> str:
        """The name of a class, its number where it has none."""
        known = self.class_names or ()
        return known[label] if label < len(known) else str(label)

    def groups_of(self, below: float) -> tuple[GroupOutcome, tuple[GroupOutcome, ...], tuple[GroupOutcome, ...]]:
        """The outcomes of all positions, of each class that has some, and of each subgroup that has."""
        by_class = self.by_class.size.nonzero()[:, 0].tolist()
        by_group = self.by_group.size.nonzero()[:, 0].tolist()
        return (
            self.whole.outcome(0, "all", below),
            tuple(self.by_class.outcome(c, self.name(c), below) for c in by_class),
            tuple(self.by_group.outcome(g, self.names[g], below) for g in by_group),
        )

    def accuracies(self) -> list[tuple[float, float, float]]:
        """(accuracy, low, high) of each run; the 95 % interval is for the finite number of examples, which stand for
        themselves and not for their many positions."""
        size, count = self.whole.size.double(), len(self.ids)
        shares = (self.whole.right[:, 0] / size).tolist()
        halves = (Z95 * (self.whole.errors(0) * count / (count - 1)).sqrt()).tolist()
        return [(a, max(0.0, a - half), min(1.0, a + half)) for a, half in zip(shares, halves, strict=True)]

    def churn(self) -> tuple[tuple[float, ...], ...]:
        """Share of positions on which two runs differ, [R][R]."""
        return tuple(tuple(row) for row in (self.differ / self.positions).tolist())

    def histogram(self) -> tuple[int, ...]:
        """How many positions have a self-consistency in each of `BINS` equal parts of [0, 1]."""
        counts = self.whole.agree[0]
        levels = torch.arange(len(counts), dtype=torch.float64) / (len(counts) - 1)
        bins = (levels * BINS + 1e-9).long().clamp(max=BINS - 1)
        return tuple(torch.zeros(BINS, dtype=torch.int64).index_add_(0, bins, counts).tolist())

    def disputed(self, most: int = DISPUTED) -> tuple[Disputed, ...]:
        """The examples on whose positions the runs agree least, in order; of equal ones those with the smaller ids."""
        order = sorted(range(len(self.ids)), key=lambda k: (self.consistency[k], self.ids[k]))
        return tuple(
            Disputed(
                id=self.ids[k],
                label=None,
                votes=(),
                self_consistency=self.consistency[k],
                group=None if self.groups is None else self.groups[self.ids[k]],
                positions=self.sizes[k],
            )
            for k in order[:most]
            if self.consistency[k] < 1
        )

    def csv(self, path: str | Path) -> Path:
        """One line an example: id, positions, the share that each run has right, self_consistency, and its group."""
        head = ["id", "positions", *self.runs, "self_consistency", *([] if self.groups is None else ["group"])]
        return write_table(path, head, self._rows())

    def _rows(self) -> Iterator[list[object]]:
        for number, size, shares, agreed in zip(self.ids, self.sizes, self.shares, self.consistency, strict=True):
            more = [] if self.groups is None else [self.groups[number]]
            yield [number, size, *(f"{share:.6g}" for share in shares), f"{agreed:.6g}", *more]


def _looked_at(said: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(pairs of runs that agree, int64; credit of the vote) of each position [P]."""
    parts = [
        ((agreeing(some) - 1).sum(0) // 2, majority_credit(some, own))
        for some, own in zip(torch.split(said, AT_ONCE, 1), torch.split(labels, AT_ONCE), strict=True)
    ]
    agree, credit = zip(*parts, strict=True)
    return torch.cat(agree), torch.cat(credit)
