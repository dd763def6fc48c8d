"""Which examples are suspect, by what a run saw of them anyway: wrong labels, spoiled inputs, doubles, the odd and the hard.

Records are enough: no model, no data. A ranking has a top whatever the data are like, so what is found is said with what
is known of its precision, which without probes is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidValue, unknown
from ._evidence import Precision
from ._ranking import CONFLICT, HIGH_LOSS, KINDS, LABEL_ERROR, NEVER, ORDER
from ._search import Search, trajectories_of
from ._sightings import Band, answers_of, bands_of
from .classify import Assessment

__all__ = ["KINDS", "Band", "Precision", "Suspects", "find_suspects"]

MOST = 1000
PART = 10
"""Unless told otherwise a list holds no more than a PART-th of the examples, and LEAST in any case."""
LEAST = 20
MOST_TWINS = 20


@dataclass(frozen=True)
class Suspects:
    """Suspect examples, S of them: by kind in the order of `KINDS`, in each the most suspect first. Columns are [S].

    ids. kinds: numbers into `KINDS`. score: share of all examples with a known loss that are less suspect of this kind, in
    [0, 1]; equal ones count half. label: the given one, -1 for none. suggested: the class that the model said most before
    it had learned the label, -1 for none. share: of the epochs, those in which it said that. learned: first epoch, from
    1, from which it was right for good, infinite if that never came. forgotten: times from right to wrong; both NaN for
    examples with a label a pixel or token. mean_loss.
    percentile: share of the examples of the same label with a smaller mean loss. probability: that the example is of
    this kind, NaN where nothing tells. twins: ids of equal content.

    found: how many there are of each kind, listed or not. quality: float32 [N], the mean probability of the label over the
    epochs, 1 for a label that the model never doubted. precision: how
    many of the listed label errors are some, known with probes only. agreement: rank correlation of the doubts of each
    two runs, float64 [R, R]. losses: float32 [S, E] of the first run; answers: uint8 [S, E], what it said in their place.
    hashed: whether content could be compared, and apart from labels. cut: whether the length of the list was asked for. leaks:
    how many of the examples trained on are there outside the training split too. labelled: whether an example has one
    label.
    """

    ids: Tensor
    kinds: Tensor
    score: Tensor
    label: Tensor
    suggested: Tensor
    share: Tensor
    learned: Tensor
    forgotten: Tensor
    mean_loss: Tensor
    percentile: Tensor
    probability: Tensor
    twins: tuple[tuple[int, ...], ...]
    found: dict[str, int]
    quality: Tensor
    known: int
    source: str
    class_names: tuple[str, ...] | None
    bands: tuple[Band, ...]
    losses: Tensor
    answers: Tensor | None
    hashed: tuple[bool, bool]
    cut: bool
    leaks: int
    precision: Precision | None = None
    assessment: Assessment | None = None
    agreement: Tensor | None = None
    labelled: bool = True

    def __len__(self) -> int:
        """S."""
        return len(self.ids)

    @property
    def epochs(self) -> int:
        """E: epochs of the first run in which anything was seen."""
        return self.losses.shape[1]

    def of(self, kind: str) -> Tensor:
        """Ids of one kind, the most suspect first. Raises UnknownName for another kind."""
        return self.ids[self.kinds == _number(kind)]

    def issues(self) -> Tensor:
        """bool [N]: listed label errors and conflicts with a suggestion and a probability of at least 1/2.

        Where nothing tells a probability: those listed if `most` was given, as that drew a line, else none.
        """
        found = torch.zeros(len(self.quality), dtype=torch.bool)
        found[self.ids[self._issues()]] = True
        return found

    def relabelled(self) -> tuple[Tensor, Tensor]:
        """(ids, suggested labels), int64 each, of what `issues` marks; in the order of ids."""
        own = self._issues()
        ids, order = self.ids[own].sort()
        return ids, self.suggested[own][order]

    def columns(self) -> dict[str, list[Any]]:
        """The table as lists of plain values, labels with their names: a column a field, a row a suspect."""
        names = self.class_names
        text = [[("" if i < 0 else str(i) if names is None else names[i]) for i in t.tolist()] for t in self._labels()]
        return {
            "id": self.ids.tolist(),
            "kind": [ORDER[kind] for kind in self.kinds.tolist()],
            "score": self.score.tolist(),
            "given": self.label.tolist(),
            "given_name": text[0],
            "suggested": self.suggested.tolist(),
            "suggested_name": text[1],
            "said_in": self.share.tolist(),
            "learned": self.learned.tolist(),
            "forgotten": self.forgotten.tolist(),
            "mean_loss": self.mean_loss.tolist(),
            "percentile": self.percentile.tolist(),
            "probability": self.probability.tolist(),
            "same_as": [list(twins) for twins in self.twins],
        }

    def _labels(self) -> tuple[Tensor, Tensor]:
        return self.label, self.suggested

    def _issues(self) -> Tensor:
        wrong = (self.kinds == _number(LABEL_ERROR)) | (self.kinds == _number(CONFLICT))
        return wrong & (self.suggested >= 0) & ((self.probability >= 0.5) | (self.probability.isnan() & self.cut))


def find_suspects(
    source: Any,
    *,
    most: int | None = None,
    kinds: Sequence[str] | None = None,
    label: int | None = None,
    contents: Tensor | None = None,
) -> Suspects:
    """The suspects among the examples that a run trained on, from its records alone.

    source: a Run, Records or Trajectories, or a list of those of the same data: then evidence is averaged. most: of each
    kind, from 1 up; None is 1,000, but no more than a tenth of the examples (20 at least). kinds: of `KINDS`; None is all.
    contents: int64 [N], a hash of each example's input without its label, for finding equal inputs with other labels.

    A label error has a loss above what is usual for its label, and before the model had learned it (by heart) it mostly
    said one other class. It ranks by the mean of log(1 + loss) over the epochs, above the median of the same label: in
    our trials as good as any mixture with what was said. With probes among the examples kinds get probabilities,
    and the list a precision. Raises StoreError for a run without records, InvalidValue for runs on different data, fewer
    than 3 epochs, one label only, losses that are nowhere finite, probes outside the training split, and for values
    outside these ranges; UnknownName for another kind.
    """
    wanted = ORDER if kinds is None else tuple(ORDER[_number(kind)] for kind in kinds)
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise InvalidValue(f"most is how many suspects of a kind are listed, from 1 up, got {most!r}; 1000 is usual")
    runs = trajectories_of(source)
    if label is not None and runs[0].labels is None:
        raise InvalidValue(
            f"suspects of one given label are listed for data with one label an example, got label={label!r} for examples "
            "without; list them all"
        )
    search = Search(runs, contents)
    known = int(search.seen.known.sum())
    ids, found = _chosen(search, wanted, label, min(MOST, max(LEAST, known // PART)) if most is None else most)
    hashed = (search.first.hashes is not None, contents is not None)
    return _listed(search, ids, label, found=found, hashed=hashed, cut=most is not None)


def _number(kind: str) -> int:
    if kind not in ORDER:
        raise unknown("kind of suspect", str(kind), ORDER)
    return ORDER.index(kind)


def _chosen(search: Search, wanted: Sequence[str], label: int | None, most: int) -> tuple[Tensor, dict[str, int]]:
    """(ids of the listed, by kind and rank; how many there are of each kind)."""
    ranking, parts, found = search.ranking, [], {}
    those = search.ordinary if label is None else search.ordinary & (search.groups == label)
    for kind in ORDER:
        own = ((ranking.kind == ORDER.index(kind)) & those).nonzero()[:, 0]
        found[kind] = len(own)
        if kind in wanted:
            parts.append(own[ranking.score[own].argsort(descending=True, stable=True)[:most]])
    always = (HIGH_LOSS,) if search.first.labels is None else (LABEL_ERROR, NEVER)
    return torch.cat(parts), {kind: count for kind, count in found.items() if count or kind in always}


def _listed(search: Search, ids: Tensor, label: int | None, **told: Any) -> Suspects:
    """Suspects with these ids; told: the fields that do not come from the search."""
    seen, ranking, first, kept = search.seen, search.ranking, search.first, search.epochs[0].kept
    kinds = ranking.kind[ids]
    # Of equal content with several labels the model has seen them all: only a settled answer names the other one.
    doubtful = (kinds == ORDER.index(CONFLICT)) & ~ranking.settled[ids]
    suggested = seen.suggested[ids].masked_fill(doubtful, -1)
    return Suspects(
        ids=ids,
        kinds=kinds,
        score=ranking.score[ids],
        label=torch.full_like(ids, -1) if first.labels is None else first.labels[ids],
        suggested=suggested,
        share=seen.share[ids],
        learned=seen.learned[ids] + 1,
        forgotten=seen.forgotten[ids],
        mean_loss=seen.mean_loss[ids],
        percentile=ranking.percentile[ids],
        probability=ranking.probability[ids],
        twins=_twins(search, ids),
        quality=seen.confidence,
        known=int(search.seen.known.sum()),
        source=first.source,
        class_names=first.class_names,
        bands=bands_of(first, kept, search.ordinary),
        losses=first.rows(ids)[:, kept],
        answers=answers_of(first, kept, ids, suggested),
        precision=search.precision(ids[kinds == ORDER.index(LABEL_ERROR)], label),
        leaks=search.leaks(),
        assessment=None if search.told is None else search.told.assessment,
        agreement=search.agreement(),
        labelled=first.labels is not None,
        **told,
    )


def _twins(search: Search, ids: Tensor) -> tuple[tuple[int, ...], ...]:
    """Other ids of equal content, of all splits, the first 20 of each."""
    group = search.doubles.group
    several = search.doubles.same | search.doubles.other
    members: dict[int, list[int]] = {}
    for example in several.nonzero()[:, 0].tolist():
        members.setdefault(int(group[example]), []).append(example)
    return tuple(
        tuple(other for other in members.get(int(group[i]), ()) if other != i)[:MOST_TWINS] for i in ids.tolist()
    )
