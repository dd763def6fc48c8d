"""Portions of a data set, for sequences of tasks: more or other training examples, fewer classes, smaller pictures.

Ids and namespace stay those of the whole set, so what one task recorded about an example another can use. Each option
narrows by itself: with the others unchanged, more examples or classes always include those of fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import InvalidValue, unknown
from .splits import subset


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Which part of a data set a task uses; the defaults are the whole set.

    train_examples, train_start: positions train_start..train_examples - 1 of the whole set's training permutation
    (default: from 0 to the end), so that portions overlap as their positions do. first_classes: of all splits, only
    examples whose label is below it (2..classes; None: all). test_on: "test", or "validation" for exploration that must
    not see the test split: the first half of the validation split stays validation and its second half is the test.
    """

    train_examples: int | None = None
    train_start: int = 0
    first_classes: int | None = None
    test_on: str = "test"

    def of(self, splits: Mapping[str, Tensor], labels: Tensor, classes: int) -> tuple[dict[str, Tensor], int]:
        """(splits, number of classes) of the portion; labels: int64 [N] by id.

        Raises InvalidValue for positions, classes or a split that would be empty; UnknownName for another `test_on`.
        """
        found = subset(explored(splits, self.test_on), self.train_examples)
        start, end = self.train_start, len(found["train"])
        if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < end:
            raise InvalidValue(
                f"train_start is a whole number from 0 (nothing is dropped) to {end - 1}, got {start!r}; "
                "pass one below train_examples"
            )
        found["train"] = found["train"][start:]
        if self.first_classes is None:
            return found, classes
        count = _class_count(self.first_classes, classes)
        found = {split: ids[labels[ids] < count] for split, ids in found.items()}
        empty = [split for split, ids in found.items() if len(ids) == 0]
        if empty:
            raise InvalidValue(
                f"each split of a portion holds at least one example, got none in {empty[0]!r} "
                f"with first_classes={count}; take more classes or more of the training split"
            )
        return found, count


def _class_count(value: object, classes: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= classes:
        raise InvalidValue(
            f"first_classes is a whole number from 2 to {classes} (all of them), got {value!r}; pass such a number"
        )
    return value


def explored(splits: Mapping[str, Tensor], test_on: str) -> dict[str, Tensor]:
    """The splits as they are for "test"; for "validation" that split's halves as validation and test.

    Raises UnknownName for another word, InvalidValue for a validation split of one example.
    """
    if test_on not in ("test", "validation"):
        raise unknown("split to test on", test_on, ["test", "validation"])
    if test_on == "test":
        return dict(splits)
    ids = splits["validation"]
    if len(ids) < 2:
        raise InvalidValue(
            f"a validation split is cut in half from 2 examples on, got {len(ids)}; use test_on='test' for this task"
        )
    half = (len(ids) + 1) // 2
    return {"train": splits["train"], "validation": ids[:half], "test": ids[half:]}


def cut_names(names: Sequence[str] | None, classes: int) -> list[str] | None:
    """The names of the first `classes` classes."""
    return None if names is None else list(names[:classes])


def check_size(size: object, full: int) -> int:
    """`size` if `full` (the pictures' own side) or a quarter or half of it. Raises InvalidValue for anything else."""
    sides = (full, full // 2, full // 4)
    if not isinstance(size, int) or isinstance(size, bool) or size not in sides:
        raise InvalidValue(
            f"size is {sides[0]} (pictures as published), {sides[1]} or {sides[2]}, got {size!r}; pass one of these"
        )
    return size


def reduced(x: Tensor, size: int) -> Tensor:
    """Pictures uint8 [N, C, S, S] reduced to uint8 [N, C, size, size]: means over blocks, halves rounded up.

    In whole numbers, so that every machine makes the same pictures. `size` divides S.
    """
    side = x.shape[-1] // size
    if side == 1:
        return x
    pieces = []
    for part in torch.split(x, 5_000):  # sums are wider than bytes: the whole set at once would take a lot of memory
        total = torch.full((*part.shape[:2], size, size), side * side // 2, dtype=torch.int32)
        for down in range(side):
            for right in range(side):
                total += part[:, :, down::side, right::side]
        pieces.append((total // (side * side)).to(torch.uint8))
    return torch.cat(pieces)
