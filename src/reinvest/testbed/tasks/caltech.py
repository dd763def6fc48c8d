"""Caltech-101: few large pictures of 101 kinds of things, from the published folders of JPEG files."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from ...core.errors import DataError, InvalidValue
from .files import VARIABLE, data_folder
from .held import Rows, held
from .measures import ClassAccuracy
from .pictures import check_side, marks, pictures_in, read_pictures
from .portions import Portion, cut_names
from .splits import by_class
from .task import Task

CLASSES = 101
PLACE = "101_ObjectCategories"
BACKGROUND = "BACKGROUND_Google"
# Of all pictures at 64 x 64; squashing or another size hardly moves them.
MEAN, STD = [0.54563, 0.52868, 0.50205], [0.30207, 0.29602, 0.30940]


class PerClassTask(Task):
    """Classification measured by "class_accuracy", the mean over classes of the share of right examples."""

    evaluation_batch = 32

    def measure(self) -> ClassAccuracy:
        """Mean per-class accuracy, with the plain accuracy beside it."""
        return ClassAccuracy(self.classes)


def caltech101(
    *,
    folder: str | None = None,
    size: int = 64,
    per_class: int = 30,
    augment: str | None = "crop-flip",
    pad: int | None = None,
    train_examples: int | None = None,
    train_start: int = 0,
    first_classes: int | None = None,
    test_on: str = "test",
) -> PerClassTask:
    """Pictures [3, size, size] in 101 classes (the background class is dropped); metric "class_accuracy".

    Ids are row numbers of the 8,677 files in the order of class folder and file name. Of each class `per_class` pictures
    by a fixed permutation are there to train on, a sixth of them (rounded down, at least one) held out for validation:
    25 + 5 of 30. All others are the test split.
    folder: where 101_ObjectCategories is, or the folder above (default $REINVEST_DATA or ./data).
    size: height and width, 8 to 512; pictures are squashed to a square. All of them are kept in memory as bytes.
    per_class: 2 to 30 (the smallest class has 31 pictures).
    augment: "crop-flip" (shifts by up to `pad` pixels, by default an eighth of `size`, half mirrored) or None.
    train_examples, train_start, first_classes, test_on: a portion of the set, see `portions.Portion`.
    Raises DataError if folders are absent or incomplete, a picture is damaged, or Pillow is not installed.
    """
    check_side("size", size, 8, 512)
    if not isinstance(per_class, int) or isinstance(per_class, bool) or not 2 <= per_class <= 30:
        raise InvalidValue(f"per_class is a whole number from 2 to 30, got {per_class!r}; pass such a number")
    folders = class_folders(folder)
    names = [place.name for place in folders]
    files = [pictures_in(place) for place in folders]
    paths = [path for found in files for path in found]
    y = torch.repeat_interleave(torch.arange(len(files)), torch.tensor([len(found) for found in files]))
    validation = max(1, per_class // 6)
    whole = by_class("caltech101", y, names, train=per_class - validation, validation=validation)
    rows = held(("caltech101", marks(paths), size), lambda: _rows(paths, y, size))
    portion = Portion(
        train_examples=train_examples, train_start=train_start, first_classes=first_classes, test_on=test_on
    )
    splits, classes = portion.of(whole, y, CLASSES)
    return PerClassTask.from_rows(
        "caltech101",
        rows,
        splits=splits,
        classes=classes,
        metric="class_accuracy",
        augment=augment,
        pad=size // 8 if pad is None else pad,
        mean=MEAN,
        std=STD,
        class_names=cut_names(names, classes),
        preprocessing=f"pictures squashed to {size}x{size} (bilinear)",
    )


def _rows(paths: list[Path], y: Tensor, size: int) -> Rows:
    return Rows(torch.from_numpy(read_pictures(paths, (size, size))), y)


def class_folders(folder: str | os.PathLike[str] | None) -> list[Path]:
    """The folders of the 101 classes, by name. Raises DataError if there are others or none."""
    root = data_folder(folder)
    places = [root, root / PLACE, root / "caltech101" / PLACE, root / "caltech-101" / PLACE]
    place = next((p for p in places if p.name == PLACE and p.is_dir()), None)
    if place is None:
        where = str(root) if root.is_dir() else f"{root} (no such folder)"
        raise DataError(
            f"task 'caltech101' reads the class folders in {PLACE}, not found in {where} or its caltech101; get "
            "caltech-101.zip from the data set's home page (data.caltech.edu/records/mzrjq-6wc02), unpack it and what "
            f"is in it and name the folder that holds {PLACE} with folder=... or {VARIABLE}"
        )
    found = sorted(p for p in place.iterdir() if p.is_dir() and p.name != BACKGROUND and not p.name.startswith("."))
    if len(found) != CLASSES:
        raise DataError(
            f"Caltech-101 has {CLASSES} class folders beside {BACKGROUND}, got {len(found)} in {place}; unpack it again"
        )
    return found
