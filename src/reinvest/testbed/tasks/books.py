"""Language modelling on books: predict the next token, or the tokens that are hidden."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.criterion import per_example
from ...core.errors import DataError, InvalidValue, unknown
from ...core.streams import stream
from . import content
from .files import marks
from .measures import TokenMeans
from .portions import Portion, explored
from .splits import SPLITS
from .task import Task
from .texts import BOOKS, book_vocabulary, tokens_of
from .tokens import Vocabulary, label_of
from .windows import WindowSource

OBJECTIVES = ("causal", "masked")


class LanguageTask(Task):
    """Windows of tokens x int64 [B, T] with targets int64 [B, T]; a model gives logits [B, classes, T].

    Its metric is the mean negative log-likelihood per token in nats: "nll", lower is better. Every example has equally
    many targets, so that the mean over examples is the mean over tokens.
    """

    higher_is_better = False
    evaluation_batch = 64

    def __init__(self, name: str, source: WindowSource, *, objective: str, **about: Any) -> None:
        super().__init__(name, source, metric="nll", **about)
        self.objective = objective

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean negative log-likelihood over each example's targets, in nats: float32 [B]."""
        return per_example(self.criterion(output, target), target).to(torch.float32)

    def measure(self) -> TokenMeans:
        """ "nll", "token_accuracy" and "perplexity" over all targets of a split."""
        return TokenMeans()


def _whole(what: str, value: object, low: int, high: int | None, remedy: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        allowed = f"from {low} to {high:,}" if high is not None else f"of at least {low}"
        raise InvalidValue(f"{what} is a whole number {allowed}, got {value!r}; {remedy}")
    return value


@dataclass(frozen=True)
class _Stream:
    """The tokens of the three files one after the other: int16 [sum of counts], with 16 hex digits over them."""

    tokens: Tensor
    counts: tuple[int, ...]
    mark: str


@functools.lru_cache(maxsize=2)
def _stream(files: tuple[tuple[str, int, int], ...], vocabulary: Vocabulary) -> _Stream:
    """Tasks on the same files share their tokens."""
    parts = [tokens_of(vocabulary, Path(path)) for path, _, _ in files]
    tokens = np.concatenate(parts)
    mark = hashlib.blake2b(tokens.astype("<i2", copy=False).tobytes(), digest_size=8).hexdigest()
    return _Stream(torch.from_numpy(tokens), tuple(len(part) for part in parts), mark)


def _window_starts(counts: Sequence[int], length: int) -> list[Tensor]:
    """Where each file's windows begin in the joined tokens; the token after a window is in the same file."""
    found, begin = [], 0
    for name, tokens in zip(SPLITS, counts, strict=True):
        windows = (tokens - 1) // length
        if windows < 1:
            raise DataError(
                f"each text holds at least length + 1 = {length + 1} tokens, got {tokens} for {name!r}; "
                "choose a smaller length or a longer text"
            )
        found.append(begin + length * torch.arange(windows))
        begin += tokens
    return found


def _splits(name: str, counts: Sequence[int], evaluation: int | None, test_on: str) -> dict[str, Tensor]:
    """Training windows in the order of a permutation keyed by the name, the others at equal distances."""
    first = counts[0]
    parts = {"train": stream(0, f"split:{name}", 0).permutation(first)}
    for split, count in zip(SPLITS[1:], counts[1:], strict=True):
        parts[split] = first + torch.arange(count)
        first += count
    parts = explored(parts, test_on)
    for split in SPLITS[1:]:
        count = len(parts[split])
        kept = count if evaluation is None else min(evaluation, count)
        parts[split] = parts[split][torch.arange(kept) * count // kept]
    return parts


def _train_examples(train_tokens: int | None, train_examples: int | None, length: int) -> int | None:
    if train_tokens is None:
        return train_examples
    if train_examples is not None:
        raise InvalidValue(
            f"train_tokens and train_examples say the same in two units, got {train_tokens!r} and {train_examples!r}; "
            "give one of them"
        )
    return _whole("train_tokens", train_tokens, length, None, "pass at least one window's tokens") // length


def books(
    *,
    folder: str | os.PathLike[str] | None = None,
    objective: str = "causal",
    length: int = 128,
    vocabulary: int | str = "bytes",
    train_tokens: int | None = None,
    train_examples: int | None = None,
    train_start: int = 0,
    evaluation_examples: int | None = 1024,
    test_on: str = "test",
) -> LanguageTask:
    """Windows of `length` tokens out of train.txt, valid.txt and test.txt; classes = tokens of the vocabulary.

    Windows follow one another without gap or overlap. Ids number them over train, validation and test; they are the
    same for both objectives, and depend on vocabulary and length, which are in the task's name.
    folder: where the three files or their folder `books` are (default $REINVEST_DATA or ./data).
    objective: "causal" (target: the next token at every place) or "masked" (15 % of the places are chosen: 8 of 10
    hidden, 1 of 10 another token, 1 of 10 as it is; drawn anew each epoch in training, fixed outside).
    vocabulary: "bytes" (258 tokens) or the size of a BPE vocabulary trained on train.txt, from 259 to 32,768.
    train_tokens: the same as train_examples = train_tokens // length.
    train_examples, train_start, test_on: a portion of the windows, drawn from all books, see `portions.Portion`.
    evaluation_examples: at most so many windows, at equal distances, for validation and for test (None: all).
    Raises DataError if a file is absent, empty or no UTF-8, InvalidValue for other settings.
    """
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    _whole("length", length, 2, 65_536, "128 is usual for small models")
    if evaluation_examples is not None:
        _whole("evaluation_examples", evaluation_examples, 1, None, "None keeps all of them")
    portion = Portion(train_examples=_train_examples(train_tokens, train_examples, length), train_start=train_start)
    known = book_vocabulary(vocabulary, folder)
    joined = _stream(marks(BOOKS, folder), known)
    starts = _window_starts(joined.counts, length)
    label = label_of(vocabulary)
    name = f"books-{label}-{length}"
    whole = _splits(name, [len(part) for part in starts], evaluation_examples, test_on)
    splits, classes = portion.of(whole, torch.empty(0), known.size)
    about = f"windows of {length} tokens, vocabulary {label} {known.hash}, {objective}"
    source = WindowSource(
        joined.tokens, torch.cat(starts), length=length, masked=objective == "masked", size=known.size
    )
    return LanguageTask(
        name,
        source,
        objective=objective,
        splits=splits,
        classes=classes,
        fingerprint=content.fingerprint(source.rows, classes, f"{about} {joined.mark}", splits),
        preprocessing=about,
    )
