"""MNIST, 28x28, from the published idx files."""

from __future__ import annotations

import numpy as np
import torch

from .files import Published, idx, marks, read
from .held import Rows, held
from .portions import Portion
from .sources import check_labels
from .splits import hold_out
from .task import Task

TRAIN, TEST, VALIDATION = 60_000, 10_000, 5_000
MEAN, STD = 0.13066, 0.30811

_SHAPES = {
    "train-images-idx3-ubyte": (TRAIN, 28, 28),
    "train-labels-idx1-ubyte": (TRAIN,),
    "t10k-images-idx3-ubyte": (TEST, 28, 28),
    "t10k-labels-idx1-ubyte": (TEST,),
}

PUBLISHED = Published(
    name="mnist",
    title="MNIST idx files",
    home="the data set's home page (yann.lecun.com/exdb/mnist) or one of its mirrors",
    archive="",
    places=("", "mnist", "MNIST/raw"),
    files=tuple((name, 4 + 4 * len(shape) + int(np.prod(shape))) for name, shape in _SHAPES.items()),
)


def _rows(folder: str | None, checksum: str | None) -> Rows:
    parts = read(PUBLISHED, folder, checksum)
    pieces = [idx(part, shape, name) for part, (name, shape) in zip(parts, _SHAPES.items(), strict=True)]
    y = torch.from_numpy(np.concatenate([pieces[1], pieces[3]]).astype(np.int64))
    check_labels(y, 10)
    return Rows(torch.from_numpy(np.concatenate([pieces[0], pieces[2]])).unsqueeze(1), y)


def mnist(
    *,
    folder: str | None = None,
    checksum: str | None = None,
    augment: str | None = None,
    pad: int = 2,
    train_examples: int | None = None,
    train_start: int = 0,
    first_classes: int | None = None,
    test_on: str = "test",
) -> Task:
    """Digits [1, 28, 28] in 10 classes: 55,000 / 5,000 / the published test set of 10,000.

    Ids are row numbers: 0..59,999 the published training rows, then the test rows.
    folder: where the idx files are, as they are or as .gz (default $REINVEST_DATA or ./data).
    checksum: sha256 of the four files' unpacked contents in the order train images, train labels, test images, labels.
    augment: "crop-flip" shifts by up to `pad` pixels and mirrors (off: mirroring harms digits).
    train_examples, train_start, first_classes, test_on: a portion of the set, see `portions.Portion`.
    Raises DataError if files are absent, of another size or structure, or fail the checksum.
    """
    rows = held(("mnist", marks(PUBLISHED, folder), checksum), lambda: _rows(folder, checksum))
    portion = Portion(
        train_examples=train_examples, train_start=train_start, first_classes=first_classes, test_on=test_on
    )
    splits, classes = portion.of(hold_out("mnist", TRAIN, validation=VALIDATION, test=TEST), rows.y, 10)
    return Task.from_rows(
        "mnist",
        rows,
        splits=splits,
        classes=classes,
        augment=augment,
        pad=pad,
        mean=MEAN,
        std=STD,
        class_names=[str(n) for n in range(classes)],
    )
