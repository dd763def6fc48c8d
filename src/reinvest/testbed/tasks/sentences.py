"""Classification of sentences from published files of one sentence and one label a line."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.errors import DataError, InvalidValue
from . import content
from .files import Published, marks
from .held import Rows
from .portions import Portion
from .sources import Batches
from .splits import hold_out
from .task import Task
from .texts import book_vocabulary, read_text
from .tokens import PAD, Vocabulary, label_of

HEADER = "sentence\tlabel"


@dataclass(frozen=True)
class Sentences:
    """A published set: its files, the names of its classes, and how many training rows are held out."""

    published: Published
    names: tuple[str, ...]
    validation: int


SST2 = Sentences(
    Published(
        name="sst2",
        title="SST-2 sentences with labels",
        home="the GLUE benchmark's home page (gluebenchmark.com)",
        archive="",
        places=("", "sst2", "text/sst2"),
        files=(("train.tsv", 0), ("dev.tsv", 0)),
    ),
    ("negative", "positive"),
    3_000,
)
TREC6 = Sentences(
    Published(
        name="trec6",
        title="TREC question types",
        home="the data set's home page (cogcomp.seas.upenn.edu/Data/QA/QC)",
        archive="",
        places=("", "trec6", "text/trec6"),
        files=(("train.tsv", 0), ("test.tsv", 0)),
    ),
    ("description", "entity", "abbreviation", "human", "location", "number"),
    500,
)


def read_rows(path: Path, classes: int) -> tuple[list[str], list[int]]:
    """Sentences and labels of a file with the header "sentence<TAB>label".

    Raises DataError, naming the line, for another header, an empty sentence or a label outside 0..classes-1.
    """
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    if lines[0] != HEADER:
        raise DataError(f"{path.name} starts with {HEADER!r}, got {lines[0][:60]!r} in {path}; get the file again")
    sentences, labels = [], []
    for number, line in enumerate(lines[1:], 2):
        if not line and number == len(lines):
            break
        sentence, tab, label = line.rpartition("\t")
        if not tab or not sentence.strip() or not label.isdecimal() or int(label) >= classes:
            raise DataError(
                f"each line holds a sentence, a tab and a label from 0 to {classes - 1}, got {line[:60]!r} "
                f"in line {number} of {path}; get the file again"
            )
        sentences.append(sentence)
        labels.append(int(label))
    return sentences, labels


def padded(vocabulary: Vocabulary, sentences: Sequence[str], length: int) -> Tensor:
    """Each sentence's first `length` tokens, filled up with token 0 on the right: int16 [N, length]."""
    found = np.full((len(sentences), length), PAD, np.int16)
    for row, sentence in zip(found, sentences, strict=True):
        ids = vocabulary.encode(sentence)[:length]
        row[: len(ids)] = ids
    return torch.from_numpy(found)


class SentenceSource:
    """Sentences in memory: x int64 [B, T], labels y int64 [B]."""

    in_memory, moves, augmentation = True, False, "none"

    def __init__(self, held: Rows) -> None:
        self.rows, self.input_shape, self.device = len(held), tuple(held.x.shape[1:]), held.x.device
        self._held = held

    def read(self, batches: Sequence[Tensor], *, seed: int, epoch: int, training: bool) -> Batches:
        """(x, y) of each batch of ids; nothing is drawn."""
        for ids in batches:
            yield self._held.x[ids].to(torch.int64), self._held.y[ids]

    def hashes(self, ids: Tensor) -> Tensor:
        """64-bit hashes of rows `ids` [B]: int64 [B]."""
        return content.row_hashes(self._held.x[ids], self._held.y[ids])

    def labels(self) -> Tensor:
        """The label of every row: int64 [rows]."""
        return self._held.y.cpu()

    def relabelled(self, labels: Tensor) -> SentenceSource:
        """The same rows with labels int64 [rows]."""
        return SentenceSource(Rows(self._held.x, labels.to(self.device)))

    def to(self, device: torch.device) -> SentenceSource:
        """The same rows on another device."""
        return SentenceSource(Rows(self._held.x.to(device), self._held.y.to(device)))


@functools.lru_cache(maxsize=2)
def _rows(
    data: Sentences, files: tuple[tuple[str, int, int], ...], vocabulary: Vocabulary, length: int
) -> tuple[Rows, int]:
    """All rows, training rows first, and how many of them are training rows; tasks on one set share them."""
    (sentences, labels), (others, more) = (read_rows(Path(path), len(data.names)) for path, _, _ in files)
    if len(labels) <= data.validation:
        raise DataError(
            f"task {data.published.name!r} holds {data.validation} of its training rows out for validation, "
            f"got {len(labels)} in all; get the whole file"
        )
    if not more:
        raise DataError(f"a test file holds at least one row, got none in {files[1][0]}; get the file again")
    y = torch.tensor(labels + more, dtype=torch.int64)
    return Rows(padded(vocabulary, sentences + others, length), y), len(labels)


def _task(
    data: Sentences, portion: Portion, *, folder: str | os.PathLike[str] | None, length: int, vocabulary: int | str
) -> Task:
    if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= 65_536:
        raise InvalidValue(f"length is a whole number from 1 to 65,536, got {length!r}; 128 holds most sentences")
    name, known = data.published.name, book_vocabulary(vocabulary, folder)
    rows, training = _rows(data, marks(data.published, folder), known, length)
    whole = hold_out(name, training, validation=data.validation, test=len(rows) - training)
    splits, classes = portion.of(whole, rows.y, len(data.names))
    return Task(
        name,
        SentenceSource(rows),
        splits=splits,
        classes=classes,
        fingerprint=content.fingerprint(len(rows), classes, rows.hashes, splits),
        class_names=data.names[:classes],
        hashes=rows.hashes,
        preprocessing=f"sentences of {length} tokens, vocabulary {label_of(vocabulary)} {known.hash}",
    )


def sst2(
    *,
    folder: str | os.PathLike[str] | None = None,
    length: int = 128,
    vocabulary: int | str = "bytes",
    train_examples: int | None = None,
    train_start: int = 0,
    test_on: str = "test",
) -> Task:
    """Praise or blame in film reviews, 2 classes: 64,349 / 3,000 / the published development set of 872 for test.

    The published test labels are secret. Training rows include parts of sentences that are rows themselves, so that
    validation, cut out of them, is easier than test. Ids are row numbers: the training rows, then the others.
    folder: where the .tsv files or their folder text/sst2 are (default $REINVEST_DATA or ./data).
    length: tokens of an example; longer sentences lose their end, shorter ones are filled up with token 0.
    vocabulary: "bytes" or the size of a BPE vocabulary, which is trained on `books` in the same folder.
    train_examples, train_start, test_on: a portion of the set, see `portions.Portion`.
    Raises DataError if files are absent or not of this form, InvalidValue for other settings.
    """
    portion = Portion(train_examples=train_examples, train_start=train_start, test_on=test_on)
    return _task(SST2, portion, folder=folder, length=length, vocabulary=vocabulary)


def trec6(
    *,
    folder: str | os.PathLike[str] | None = None,
    length: int = 128,
    vocabulary: int | str = "bytes",
    train_examples: int | None = None,
    train_start: int = 0,
    first_classes: int | None = None,
    test_on: str = "test",
) -> Task:
    """What a question asks for, 6 classes: 4,952 / 500 / the published test set of 500.

    Ids are row numbers: the training rows, then the test rows. first_classes: only examples of so many classes, see
    `portions.Portion`. Other arguments and errors as for `sst2`.
    """
    portion = Portion(
        train_examples=train_examples, train_start=train_start, first_classes=first_classes, test_on=test_on
    )
    return _task(TREC6, portion, folder=folder, length=length, vocabulary=vocabulary)
