"""One search for suspects: what is read of the runs, and everything that is worked out from it before a list is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidValue
from ..core.view import TEST, TRAIN, VALIDATION
from . import scores
from ._evidence import WRONG, Precision, Told, check_probes, precision_of, told_apart
from ._histories import epochs_of, histories, together
from ._ranking import LABEL_ERROR, ORDER, Doubles, doubles_of, ranked, wrong_by_probes
from .clean import clean_probability
from .trajectories import Trajectories

FEWEST_PROBES = 10


class Search:
    """runs: of the same examples. contents: int64 [N], hashes of the inputs alone, or None."""

    def __init__(self, runs: Sequence[Trajectories], contents: Tensor | None) -> None:
        self.runs = runs
        self.first = first = runs[0]
        self.epochs = [epochs_of(run) for run in runs]
        self.each = [histories(run, epochs) for run, epochs in zip(runs, self.epochs, strict=True)]
        self.seen = together(self.each)
        self.ordinary = self._ordinary()
        self.groups = torch.zeros(first.examples, dtype=torch.int64) if first.labels is None else first.labels
        self._check_classes()
        self.told = self._told()
        self.wrong = self._wrong()
        self.doubles = self._doubles(contents)
        self.ranking = ranked(self.seen, self.groups, self.ordinary, self.told, self.wrong, self.doubles)

    def _ordinary(self) -> Tensor:
        """bool [N]: seen, and no probe of any run."""
        found = self.seen.known.clone()
        for run, own in zip(self.runs, self.each, strict=True):
            if run.probes is not None:
                check_probes(run.probes, own.known)
                found[run.probes.ids] = False
        return found

    def _check_classes(self) -> None:
        labels = torch.unique(self.groups[self.ordinary])
        if self.first.labels is not None and len(labels) < 2:
            name = "none" if not len(labels) else repr(self.name_of(int(labels[0])))
            raise InvalidValue(
                f"a wrong label is told from right ones of at least two classes, got one label, {name}; use a run on more"
            )

    def _doubles(self, contents: Tensor | None) -> Doubles:
        first = self.first
        if first.labels is None and first.hashes is not None and contents is not None:
            # Of equal inputs those whose hashes of label and input together differ have different labels.
            return doubles_of(first.hashes, contents, torch.unique(first.hashes, return_inverse=True)[1])
        return doubles_of(first.hashes, contents, self.groups)

    def name_of(self, label: int) -> str:
        """The name of a class, or its number."""
        names = self.first.class_names
        return str(label) if names is None or not 0 <= label < len(names) else names[label]

    def _told(self) -> Told | None:
        """What the first run with probes tells of all examples."""
        for run, epochs, own in zip(self.runs, self.epochs, self.each, strict=True):
            if run.probes is not None:
                return told_apart(run, epochs.kept, own.known)
        return None

    def _wrong(self) -> Tensor | None:
        """Probability [N] that a label is wrong, the mean over runs: by probes, else where losses fall into two groups.

        None where neither tells: one group is no evidence that all labels are right.
        """
        if self.first.labels is None:
            return None
        found = [one for run in self.runs if (one := self._wrong_by(run)) is not None]
        wrong = scores.average(found) if found else wrong_by_probes(self.told)
        return None if wrong is None or not bool((wrong > 0).any()) else wrong

    def _wrong_by(self, run: Trajectories) -> Tensor | None:
        try:
            return 1 - clean_probability(run)
        # It refuses probes of one kind, and such as it cannot tell apart; a list without probabilities is still one.
        except InvalidValue:
            return None

    def agreement(self) -> Tensor | None:
        """Rank correlation of the doubts of each two runs, float64 [R, R]; None for one run."""
        if len(self.runs) == 1:
            return None
        own = [ranked(one, self.groups, self.ordinary, None, None, self.doubles).doubt for one in self.each]
        return scores.agreement([doubt.masked_fill(~self.ordinary, torch.nan) for doubt in own])

    def precision(self, listed: Tensor, label: int | None) -> Precision | None:
        """How many of the listed label errors (ids) are some, by the probes with random labels; None without enough.

        label: the one given label that the list is about, None for all.
        """
        run = next((run for run in self.runs if run.probes is not None), None)
        if run is None or run.probes is None or WRONG not in run.probes.names or not len(listed):
            return None
        ranking, own, those = self.ranking, run.probes.of(WRONG), self.ordinary
        if label is not None:
            own, those = own[self.groups[own] == label], those & (self.groups == label)
        if len(own) < FEWEST_PROBES:
            return None
        caught = (ranking.kind[own] == ORDER.index(LABEL_ERROR)) & (ranking.doubt[own] >= ranking.doubt[listed].min())
        marks = torch.zeros_like(those)
        marks[listed] = True
        return precision_of(ranking.doubt[those], ranking.doubt[own], marks[those], caught)

    def leaks(self) -> int:
        """Examples that the run trained on and whose content is also there under an id of another split.

        Where splits are not known: under an id that it did not train on.
        """
        roles = self.first.roles
        other = ~self.seen.known if roles is None else (roles == VALIDATION) | (roles == TEST)
        outside = torch.bincount(self.doubles.group, weights=other.double())
        return int(((outside[self.doubles.group] > 0) & self.seen.known).sum())


def trajectories_of(source: Any) -> list[Trajectories]:
    """The runs behind what a user passes, checked to be about the same examples."""
    given = list(source) if isinstance(source, (list, tuple)) else [source]
    if not given:
        raise InvalidValue("suspects are found in at least one run, got none; pass a run of the store")
    runs = [_trajectories(one) for one in given]
    first = runs[0]
    for run in runs[1:]:
        same = (
            run.examples == first.examples and run.namespace == first.namespace and run.fingerprint == first.fingerprint
        )
        if not same:
            raise InvalidValue(
                "runs are put together if they are about the same data, got "
                + " and ".join(
                    f"{r.namespace or 'unnamed data'} ({r.fingerprint or 'no fingerprint'})" for r in (first, run)
                )
                + "; look at each alone"
            )
        labels = (first.labels, run.labels)
        if (labels[0] is None) != (labels[1] is None):
            raise InvalidValue("runs are put together if both keep labels, got one without; look at each alone")
    return runs


def _trajectories(one: Any) -> Trajectories:
    if isinstance(one, Trajectories):
        return one
    found = Trajectories.of(one)
    if found.probes is not None and found.roles is not None:
        outside = int((found.roles[found.probes.ids] != TRAIN).sum())
        if outside:
            raise InvalidValue(
                f"probes belong to the training split, got {outside} of {len(found.probes)} in another one; plant them "
                "among training examples"
            )
    return found
