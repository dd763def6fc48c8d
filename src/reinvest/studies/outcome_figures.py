"""What the votes of several runs come to: how often they agree, how sure their accuracies are, whom they divide.

Everything here is arithmetic on votes, so it serves runs of recipes and predictions from anywhere else alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InvalidValue
from ..dynamics.outcomes import majority_credit, sd_interval, self_consistency, variance_split
from ..evaluation.variance import binomial_floor

BINS = 20
"""Bars of the histogram of self-consistency, all 0.05 wide; the last one holds the 1 too."""
DISPUTED = 50
"""Examples at most that are listed as the most disputed."""
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Votes:
    """What R runs say of the N examples of a split. ids, labels: int64 [N]; classes: how many there are; predictions:
    int64 [R, N], a run a row; runs: what each is called; class_names: None where classes are numbers only.

    Raises InvalidValue for other shapes, fewer than 2 runs or examples, and classes out of range.
    """

    ids: Tensor
    labels: Tensor
    predictions: Tensor
    runs: tuple[str, ...]
    classes: int
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        table, size = self.predictions, len(self.ids)
        if table.ndim != 2 or table.shape != (len(self.runs), size) or self.labels.shape != (size,):
            raise InvalidValue(
                f"votes are a class a run and example [{len(self.runs)}, {size}] with a label an example, got "
                f"{list(table.shape)} and {list(self.labels.shape)}; pass ids, labels and runs of the same table"
            )
        if len(self.runs) < 2 or size < 2:
            raise InvalidValue(
                f"votes are those of 2 runs or more on 2 examples or more, got {len(self.runs)} and {size}; train with more "
                "seeds, or take the whole split"
            )
        for what, values in (("labels", self.labels), ("predictions", table)):
            low, high = (int(v) for v in values.aminmax())
            if values.dtype != torch.int64 or low < 0 or high >= self.classes:
                raise InvalidValue(
                    f"{what} are int64 numbers of classes from 0 to {self.classes - 1}, got {values.dtype} from {low} to "
                    f"{high}; leave out what has no label"
                )

    def name(self, label: int) -> str:
        """The name of a class, its number where it has none."""
        known = self.class_names or ()
        return known[label] if label < len(known) else str(label)


@dataclass(frozen=True)
class Spread:
    """How far the accuracies of the runs lie apart, and why; variances are shares squared.

    observed: variance of the R accuracies. sampling: what errors that are independent between runs would give on these
    examples. between: unbiased estimate of the variance on the whole distribution, below 0 where luck made the runs
    more alike. low, high: 95 % interval of the standard deviation `sd` between runs. floor: the standard deviation of
    an accuracy from the finite number of examples alone, sqrt(p (1 - p) / N).
    """

    observed: float
    sampling: float
    between: float
    low: float
    high: float
    floor: float

    @property
    def sd(self) -> float:
        """Standard deviation between the runs on the whole distribution, 0.0 where its estimate is negative."""
        return math.sqrt(max(0.0, self.between))

    def to_dict(self) -> dict[str, float]:
        """All fields, and the standard deviations."""
        deviations = {"observed_sd": math.sqrt(self.observed), "sampling_sd": math.sqrt(self.sampling), "sd": self.sd}
        return {**asdict(self), **deviations}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Spread:
        """From `to_dict()`."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class GroupOutcome:
    """The outcomes of some examples: all, those of a class, those of a subgroup. Shares in [0, 1].

    accuracy: mean over the runs. majority: of the runs' vote, see `majority_credit`. churn: share on which two runs
    differ, mean over pairs. arbitrary: share whose self-consistency is below the threshold. unanimous: share of which all
    runs say the same. deciles: of self-consistency, from the smallest to the largest, 11 values. spread: None for a
    single example. positions: where pixels or tokens have labels, how many there are; shares are then of these, and
    examples are those that have one. None for one label an example.
    """

    name: str
    examples: int
    accuracy: float
    majority: float
    churn: float
    arbitrary: float
    unanimous: float
    deciles: tuple[float, ...]
    spread: Spread | None
    positions: int | None = None

    @property
    def self_consistency(self) -> float:
        """The chance that two runs agree on an example: 1 - churn."""
        return 1.0 - self.churn

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        spread = None if self.spread is None else self.spread.to_dict()
        more = {"deciles": list(self.deciles), "spread": spread, "self_consistency": self.self_consistency}
        return {**values, **more}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GroupOutcome:
        """From `to_dict()`."""
        kept: dict[str, Any] = {name: values.get(name) for name in cls.__dataclass_fields__}
        spread = None if kept["spread"] is None else Spread.from_dict(kept["spread"])
        return cls(**{**kept, "deciles": tuple(kept["deciles"]), "spread": spread})


@dataclass(frozen=True)
class Disputed:
    """An example on which the runs differ: its label, and how many runs say each class, the most first; where each of its
    `positions` has a label, neither."""

    id: int
    label: int | None
    votes: tuple[tuple[int, int], ...]
    self_consistency: float
    group: str | None = None
    positions: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "votes": [list(vote) for vote in self.votes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Disputed:
        """From `to_dict()`."""
        return cls(**{**values, "votes": tuple((int(c), int(n)) for c, n in values["votes"])})


class Figures:
    """Per-example figures of votes, from which those of any group of examples are taken."""

    def __init__(self, votes: Votes, below: float) -> None:
        self.votes, self.below = votes, below
        self.consistency = self_consistency(votes.predictions)
        self.credit = majority_credit(votes.predictions, votes.labels)
        self.correct = votes.predictions == votes.labels

    def of(self, name: str, chosen: Tensor) -> GroupOutcome:
        """The outcomes of the examples at places `chosen` [n]."""
        consistency, correct = self.consistency[chosen], self.correct[:, chosen]
        accuracy = float(correct.double().mean())
        steps = torch.linspace(0, 1, 11, dtype=torch.float64)
        return GroupOutcome(
            name=name,
            examples=len(chosen),
            accuracy=accuracy,
            majority=float(self.credit[chosen].mean()),
            churn=float((1 - consistency).mean()),
            arbitrary=float((consistency < self.below).double().mean()),
            unanimous=float((consistency == 1).double().mean()),
            deciles=tuple(torch.quantile(consistency, steps, interpolation="lower").tolist()),
            spread=_spread(correct, accuracy) if len(chosen) > 1 else None,
        )

    def everything(self) -> GroupOutcome:
        """The outcomes of all examples."""
        return self.of("all", torch.arange(len(self.votes.ids)))

    def by_class(self) -> tuple[GroupOutcome, ...]:
        """The outcomes of each class that has examples, in the order of the classes."""
        found = torch.bincount(self.votes.labels).nonzero().squeeze(1).tolist()
        return tuple(self.of(self.votes.name(c), (self.votes.labels == c).nonzero().squeeze(1)) for c in found)

    def by_group(self, names: Sequence[str]) -> tuple[GroupOutcome, ...]:
        """The outcomes of each subgroup, by the name of each example's; numbers in their order, then words."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(name, []).append(place)
        return tuple(self.of(name, torch.tensor(places[name])) for name in sorted(places, key=numbers_first))

    def histogram(self) -> tuple[int, ...]:
        """How many examples have a self-consistency in each of `BINS` equal parts of [0, 1]."""
        # Shares of pairs are fractions whose products may fall a hair short of the edge on which they lie.
        bins = (self.consistency * BINS + 1e-9).long().clamp(max=BINS - 1)
        return tuple(torch.bincount(bins, minlength=BINS).tolist())

    def disputed(self, names: Sequence[str] | None = None, most: int = DISPUTED) -> tuple[Disputed, ...]:
        """The examples that divide the runs most, in order; of equal ones those with the smaller ids."""
        votes = self.votes
        divided = (self.consistency < 1).nonzero().squeeze(1)
        order = np.lexsort((votes.ids[divided].numpy(), self.consistency[divided].numpy()))
        found = []
        for place in divided[torch.from_numpy(order[:most])].tolist():
            counts = torch.bincount(votes.predictions[:, place]).tolist()
            said = [(label, count) for label, count in enumerate(counts) if count]
            found.append(
                Disputed(
                    id=int(votes.ids[place]),
                    label=int(votes.labels[place]),
                    votes=tuple(sorted(said, key=lambda vote: (-vote[1], vote[0]))),
                    self_consistency=float(self.consistency[place]),
                    group=None if names is None else names[place],
                )
            )
        return tuple(found)


def numbers_first(name: str) -> tuple[bool, int, str]:
    """Orders names: numbers by their value, then words."""
    number = name.isascii() and name.removeprefix("-").isdigit()
    return not number, int(name) if number else 0, name


def _spread(correct: Tensor, accuracy: float) -> Spread:
    split = variance_split(correct)
    low, high = sd_interval(correct)
    floor = binomial_floor(accuracy, correct.shape[1])
    return Spread(split.observed, split.sampling, split.between, low, high, floor)


def wilson(right: int, size: int) -> tuple[float, float]:
    """95 % interval of a share of which `right` of `size` were counted (Wilson's)."""
    p, z = right / size, Z95**2 / size
    middle, half = p + z / 2, math.sqrt(z * p * (1 - p) + z * z / 4)
    return max(0.0, (middle - half) / (1 + z)), min(1.0, (middle + half) / (1 + z))
