"""All scores of all examples in one pass over a run's tables, block by block, in bounded memory.

Rows without a gap, nearly all of them in most runs, go through a few operations on a block that stays in the cache: means
are sums in double precision (exact for float16, whatever the order), and what an example learned and forgot is counted on
bits, one an epoch. Rows with gaps go to `scores`, whose functions say what each number means.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InvalidValue, StoreError, unknown
from ..store.history import NOT_SEEN
from ..store.places import spread_out
from . import scores
from ._threads import each
from .trajectories import Trajectories

__all__ = ["SCORES", "scan"]

LOSSES = ("mean_loss", "last_loss", "first_loss")
ANSWERS = ("forgetting_events", "first_learned", "learned_for_good")
MARGINS = ("area_under_margin",)
SCORES = (*LOSSES, *ANSWERS, *MARGINS)
Array = np.ndarray[Any, Any]

BLOCK = 1 << 19
"""Losses that are looked at together: few enough to stay in the cache, enough for calls to cost little; of bytes four times."""
WORD = 64


def scan(
    trajectories: Trajectories,
    names: Sequence[str] | None = None,
    *,
    progress: Callable[[int, int], Any] | None = None,
) -> dict[str, Tensor]:
    """Scores of all examples by name, each float32 [N], NaN for examples that were never seen.

    names: some of "mean_loss", "last_loss", "first_loss" (in the first epoch that saw it), "forgetting_events",
    "first_learned", "learned_for_good" (`first_learned` for good) and "area_under_margin"; None takes all that the tables
    allow. Each is what the function of `dynamics.scores` gives for the whole table, bit for bit where the table is
    float16; of a float32 table means may differ in the last bit. progress: called with (rows done, rows in all) after
    each block; a row counts once for each table. Raises UnknownName for another score, StoreError for one that needs a table the run did not keep,
    InvalidValue for no names, no epochs, and shares of right answers above 1.
    """
    wanted = _wanted(trajectories, names)
    total, epochs = trajectories.loss.shape
    if not epochs:
        raise InvalidValue("scores are of at least one epoch, got trajectories of 0; train one first")
    found = {name: torch.empty(total) for name in wanted}
    passes = [kind(trajectories, wanted) for kind in (_Losses, _Answers, _Margins) if set(kind.names) & set(wanted)]
    for number, one in enumerate(passes):
        size = max(1, one.block() // epochs)

        def block(start: int, one: _Losses | _Answers = one, size: int = size) -> None:
            rows = slice(start, min(start + size, total))
            for name, values in one.scores(rows).items():
                found[name][rows] = values

        def done(blocks: int, number: int = number, size: int = size) -> None:
            if progress is not None:
                progress(number * total + min(blocks * size, total), len(passes) * total)

        each(block, range(0, total, size), done)
    if trajectories.places is None:
        return found
    return {name: spread_out(values, trajectories.places, math.nan) for name, values in found.items()}


def _wanted(trajectories: Trajectories, names: Sequence[str] | None) -> tuple[str, ...]:
    missing: dict[str, str] = {}
    if trajectories.correct is None and (trajectories.predicted is None or trajectories.labels is None):
        missing |= dict.fromkeys(ANSWERS, "whether an answer was right; a run with labels keeps that")
    if trajectories.margin is None:
        missing |= dict.fromkeys(MARGINS, "margins; train with records={'margins': True}")
    if names is None:
        return tuple(name for name in SCORES if name not in missing)
    if isinstance(names, str) or not names:
        raise InvalidValue(f"scores are asked for as a list of names, got {names!r}; pass for example ['mean_loss']")
    for name in names:
        if name not in SCORES:
            raise unknown("score of trajectories", str(name), SCORES)
        if name in missing:
            what, remedy = missing[name].split("; ")
            raise StoreError(f"{name} is read off {what}, got trajectories without; {remedy}")
    return tuple(dict.fromkeys(names))


# ---- means and ends ----------------------------------------------------------------------------------------------------


class _Losses:
    names: tuple[str, ...] = LOSSES
    exact: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "mean_loss": scores.mean_loss,
        "last_loss": scores.last_loss,
        "first_loss": lambda loss: scores.last_loss(loss.flip(0)),
    }

    def __init__(self, trajectories: Trajectories, wanted: Sequence[str]):
        self._table, self._wanted = self._of(trajectories), [name for name in self.names if name in wanted]
        self._kept = threading.local()

    @staticmethod
    def block() -> int:
        """Numbers that are read at once."""
        return BLOCK

    def _of(self, trajectories: Trajectories) -> Tensor:
        return trajectories.loss

    def scores(self, rows: slice) -> dict[str, Tensor]:
        """The wanted scores of these rows, float32 [n] each."""
        table = self._table[rows]
        if not hasattr(self._kept, "single"):  # the first block is as long as any, and fresh memory dear
            self._kept.single, self._kept.double = (
                torch.empty(table.shape, dtype=t) for t in (torch.float32, torch.float64)
            )
        block = self._kept.single[: len(table)].copy_(table)
        total = self._kept.double[: len(table)].copy_(block).sum(1)
        found = {name: self._fast(name, block, total) for name in self._wanted}
        gaps = total.isfinite().logical_not_()
        if bool(gaps.any()):
            some = block[gaps].T
            for name in found:
                found[name][gaps] = self.exact[name](some)
        return found

    def _fast(self, name: str, block: Tensor, total: Tensor) -> Tensor:
        if name in ("last_loss", "first_loss"):
            return block[:, -1 if name == "last_loss" else 0].clone()
        return (total / block.shape[1]).float()


class _Margins(_Losses):
    names = MARGINS
    exact: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {"area_under_margin": scores.area_under_margin}

    def _of(self, trajectories: Trajectories) -> Tensor:
        assert trajectories.margin is not None
        return trajectories.margin


# ---- right and wrong ---------------------------------------------------------------------------------------------------


class _Answers:
    names = ANSWERS
    exact: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "forgetting_events": scores.forgetting_events,
        "first_learned": scores.first_learned,
        "learned_for_good": lambda correct: scores.first_learned(correct, for_good=True),
    }

    def __init__(self, trajectories: Trajectories, wanted: Sequence[str]):
        self._wanted = [name for name in self.names if name in wanted]
        self._correct, self._said = trajectories.correct, trajectories.predicted
        self._labels = _row_labels(trajectories) if self._correct is None else None
        self._kept = threading.local()

    @staticmethod
    def block() -> int:
        """Numbers that are read at once: these are bytes."""
        return 4 * BLOCK

    def scores(self, rows: slice) -> dict[str, Tensor]:
        """The wanted scores of these rows, float32 [n] each."""
        marks, most = self._marks(rows)
        count, epochs = marks.shape
        if not hasattr(self._kept, "bits"):
            self._kept.bits = np.zeros((count, math.ceil(epochs / WORD) * WORD), np.uint8)
        bits = self._kept.bits[:count]
        right = bits[:, :epochs]
        gaps = torch.zeros(count, dtype=torch.bool)
        if self._labels is None:
            np.copyto(right, marks)
        else:
            labels = self._labels[rows]
            # Classes fit into a byte: a label beyond is never said.
            np.equal(marks, labels.clamp(0, NOT_SEEN).to(torch.uint8).numpy()[:, None], out=right.view(bool))
            gaps |= labels < 0
        words = _words(bits)
        found = {name: torch.from_numpy(COUNTS[name](words, epochs)) for name in self._wanted}
        if marks.max() > most:
            gaps[np.flatnonzero(marks > most) // epochs] = True
        if bool(gaps.any()):
            table = self._table(rows, gaps).T
            for name in found:
                found[name][gaps] = self.exact[name](table)
        return found

    def _marks(self, rows: slice) -> tuple[Array, int]:
        """Bytes [n, E]: the class that was said, or 1 for right and 0 for wrong; and the largest that is no gap."""
        if self._correct is None:
            assert self._said is not None
            return self._said[rows].numpy(), NOT_SEEN - 1
        block = self._correct[rows]
        if block.dtype not in (torch.int8, torch.uint8, torch.bool):
            inside = (block >= 0) & (block <= 1)
            block = (block >= 0.5).to(torch.uint8).masked_fill_(~inside, NOT_SEEN)
        return block.view(torch.uint8).numpy(), 1

    def _table(self, rows: slice, some: Tensor) -> Tensor:
        """Some of the rows as `scores` reads them: 1, 0 or a share, NaN where not seen or without a label."""
        if self._correct is not None:
            right = self._correct[rows][some].float()
            return right.masked_fill_(right < 0, math.nan)
        assert self._said is not None and self._labels is not None
        said, labels = self._said[rows][some], self._labels[rows][some].unsqueeze(1)
        return (said == labels).float().masked_fill_((said == NOT_SEEN) | (labels < 0), math.nan)


def _row_labels(trajectories: Trajectories) -> Tensor:
    """The label of each row of the tables, int64 [R], -1 for none."""
    labels, places = trajectories.labels, trajectories.places
    assert labels is not None
    if places is None:
        return labels.long()
    rows = torch.full((len(trajectories.loss),), -1)
    kept = places >= 0
    rows[places[kept].long()] = labels[kept].long()
    return rows


def _words(bits: Array) -> list[Array]:
    """Marks [n, a multiple of 64], not 0 for 1, as bits, the first lowest: a list of uint64 [n], 64 epochs each."""
    packed = np.packbits(bits.reshape(-1), bitorder="little").view("<u8").reshape(len(bits), -1)
    return list(np.ascontiguousarray(packed.T))


def _ones(words: Array) -> Array:
    """How many bits of each word are set."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words))
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1)  # numpy before 2.0
    return np.asarray(bits.sum(1, dtype=np.uint8))


def _valid(index: int, epochs: int) -> np.uint64:
    """The bits of word `index` that stand for an epoch."""
    return np.uint64((1 << min(WORD, epochs - index * WORD)) - 1)


def _first(words: list[Array], epochs: int) -> Array:
    found = np.full(len(words[0]), np.inf, np.float32)
    for index in reversed(range(len(words))):
        word = words[index]
        below = _ones((word & (~word + np.uint64(1))) - np.uint64(1)).astype(np.float32)
        found = np.where(word != 0, below + np.float32(index * WORD), found)
    return found


def _for_good(words: list[Array], epochs: int) -> Array:
    """One after the last wrong answer."""
    found = np.zeros(len(words[0]), np.float32)
    for index, word in enumerate(words):
        wrong = ~word & _valid(index, epochs)
        # With the bit below the highest cleared, the conversion cannot round up to the next power of two.
        highest = (wrong & ~(wrong >> np.uint64(1))).astype(np.float64).view(np.uint64) >> np.uint64(52)
        after = highest.astype(np.float32) + np.float32(index * WORD - 1022)
        found = np.where(wrong != 0, after, found)
    found[found == epochs] = np.inf
    return found


def _forgotten(words: list[Array], epochs: int) -> Array:
    found = np.zeros(len(words[0]), np.float32)
    carry, learned = np.zeros_like(words[0]), np.zeros(len(words[0]), bool)
    for index, word in enumerate(words):
        found += _ones(((word << np.uint64(1)) | carry) & ~word & _valid(index, epochs))
        carry = word >> np.uint64(WORD - 1)
        learned |= word != 0
    found[~learned] = np.inf
    return found


COUNTS: dict[str, Callable[[list[Array], int], Array]] = {
    "forgetting_events": _forgotten,
    "first_learned": _first,
    "learned_for_good": _for_good,
}
