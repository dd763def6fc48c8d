"""Which example belongs to which split: fixed permutations of ids, keyed by the task's name and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ...core.errors import DataError, InvalidValue
from ...core.streams import stream

SPLITS = ("train", "validation", "test")


def _permutation(name: str, rows: int) -> Tensor:
    return stream(0, f"split:{name}", 0).permutation(rows)


def by_fraction(name: str, rows: int) -> dict[str, Tensor]:
    """60 % train, 20 % validation, 20 % test of ids 0..rows-1, rounded down (validation takes the rest).

    Each split is int64 [n] in the order of the permutation. Raises DataError for fewer than 5 rows.
    """
    if rows < 5:
        raise DataError(f"a task needs at least 5 rows to be split 60/20/20, got {rows}; give it more data")
    order = _permutation(name, rows)
    train, test = rows * 3 // 5, rows // 5
    return {"train": order[:train], "validation": order[train : rows - test], "test": order[rows - test :]}


def hold_out(name: str, rows: int, *, validation: int, test: int) -> dict[str, Tensor]:
    """Splits of a data set with a published test part: ids 0..rows-1 train and validation, then `test` ids in order.

    `validation` of the first `rows` ids are held out by the task's permutation. Raises InvalidValue if that leaves no
    training row.
    """
    if not 0 < validation < rows:
        raise InvalidValue(f"validation is from 1 to rows - 1 = {rows - 1}, got {validation}; hold out fewer examples")
    order = _permutation(name, rows)
    return {
        "train": order[: rows - validation],
        "validation": order[rows - validation :],
        "test": torch.arange(rows, rows + test),
    }


def by_class(
    name: str, labels: Tensor, class_names: Sequence[str], *, train: int, validation: int
) -> dict[str, Tensor]:
    """`train` and `validation` examples of each class by a permutation of its own, the rest is the test split.

    labels: int64 [N] in 0..len(class_names)-1. Training and validation ids are mixed over the classes, test ids ascend.
    Raises DataError for a class without an example left to test on.
    """
    parts: dict[str, list[Tensor]] = {split: [] for split in SPLITS}
    for label, word in enumerate(class_names):
        ids = (labels == label).nonzero().flatten()
        if len(ids) <= train + validation:
            raise DataError(
                f"each class needs more than {train + validation} examples ({train} to train on, {validation} for "
                f"validation), got {len(ids)} of {word!r}; take fewer a class"
            )
        order = ids[_permutation(f"{name}:{word}", len(ids))]
        for split, chosen in zip(SPLITS, order.tensor_split([train, train + validation]), strict=True):
            parts[split].append(chosen)
    place = _permutation(name, len(labels)).argsort()
    found = {split: torch.cat(ids) for split, ids in parts.items()}
    mixed = {split: ids[place[ids].argsort()] for split, ids in found.items()}
    return {**mixed, "test": found["test"].sort().values}


def subset(splits: Mapping[str, Tensor], train_examples: int | None) -> dict[str, Tensor]:
    """The same splits with only the first `train_examples` of the training permutation (None: all of them).

    Smaller subsets lie inside larger ones. Raises InvalidValue outside 1..number of training examples.
    """
    if train_examples is None:
        return dict(splits)
    most = len(splits["train"])
    if not isinstance(train_examples, int) or isinstance(train_examples, bool) or not 1 <= train_examples <= most:
        raise InvalidValue(
            f"train_examples is a whole number from 1 to {most}, got {train_examples!r}; pass such a number"
        )
    return {**splits, "train": splits["train"][:train_examples]}


def checked(splits: Mapping[str, Sequence[int] | Tensor], rows: int) -> dict[str, Tensor]:
    """A user's splits as int64 tensors: three non-empty, disjoint sets of ids in 0..rows-1; rows may be left out.

    Raises InvalidValue for other names, an empty split, an id twice or out of range.
    """
    if set(splits) != set(SPLITS):
        raise InvalidValue(f"splits are named train, validation and test, got {sorted(splits)}; give all three")
    found = {name: torch.as_tensor(splits[name], dtype=torch.int64).flatten() for name in SPLITS}
    for name, ids in found.items():
        if len(ids) == 0:
            raise InvalidValue(f"every split holds at least one example, got none in {name!r}; move some ids into it")
    everything = torch.cat(list(found.values()))
    if int(everything.min()) < 0 or int(everything.max()) >= rows:
        raise InvalidValue(
            f"split ids are row numbers from 0 to {rows - 1}, got {int(everything.min())}..{int(everything.max())}; "
            "give ids in that range"
        )
    counts = torch.bincount(everything)
    if int(counts.max()) > 1:
        raise InvalidValue(
            f"an example is in one split only, got id {int(counts.argmax())} more than once; make the splits disjoint"
        )
    return found


def each(splits: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """(name, ids) in the fixed order train, validation, test."""
    return ((name, splits[name]) for name in SPLITS)
