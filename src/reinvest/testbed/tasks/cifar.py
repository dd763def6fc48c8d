"""CIFAR-10 and CIFAR-100, 32x32, from the published binary editions."""

from __future__ import annotations

import numpy as np
import torch

from .files import Published, marks, names_beside, read, records
from .held import Rows, held
from .portions import Portion, check_size, cut_names, reduced
from .sources import check_labels
from .splits import hold_out
from .task import Task

TRAIN, TEST, VALIDATION = 50_000, 10_000, 5_000
SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_HOME = "the data set's home page (cs.toronto.edu/~kriz/cifar.html)"

CIFAR10 = Published(
    name="cifar10",
    title="CIFAR-10 binary version",
    home=_HOME,
    archive="cifar-10-binary.tar.gz",
    places=("", "cifar-10-batches-bin"),
    files=tuple(
        (f"{name}.bin", 10_000 * (1 + _PIXELS)) for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    ),
    pickled=("cifar-10-batches-py", "data_batch_1", "cifar-10-python.tar.gz"),
)
CIFAR100 = Published(
    name="cifar100",
    title="CIFAR-100 binary version",
    home=_HOME,
    archive="cifar-100-binary.tar.gz",
    places=("", "cifar-100-binary"),
    files=(("train.bin", TRAIN * (2 + _PIXELS)), ("test.bin", TEST * (2 + _PIXELS))),
    pickled=("cifar-100-python", "cifar-100-python.tar.gz"),
)


def _rows(published: Published, classes: int, folder: str | None, checksum: str | None, size: int) -> Rows:
    pieces = [records(part, 1 if classes == 10 else 2, SHAPE) for part in read(published, folder, checksum)]
    # The last label byte is the class itself; CIFAR-100 has the coarse class before it.
    y = torch.from_numpy(np.concatenate([labels[:, -1] for labels, _ in pieces]).astype(np.int64))
    check_labels(y, classes)
    return Rows(reduced(torch.from_numpy(np.concatenate([pictures for _, pictures in pieces])), size), y)


def _task(
    published: Published,
    classes: int,
    portion: Portion,
    *,
    folder: str | None,
    checksum: str | None,
    augment: str | None,
    pad: int | None,
    size: int,
    scale: tuple[list[float], list[float]],
    names: str,
) -> Task:
    check_size(size, SHAPE[1])
    rows = held(
        (published.name, marks(published, folder), checksum, size),
        lambda: _rows(published, classes, folder, checksum, size),
    )
    whole = hold_out(published.name, TRAIN, validation=VALIDATION, test=TEST)
    splits, count = portion.of(whole, rows.y, classes)
    return Task.from_rows(
        published.name,
        rows,
        splits=splits,
        classes=count,
        augment=augment,
        pad=size // 8 if pad is None else pad,
        mean=scale[0],
        std=scale[1],
        class_names=cut_names(names_beside(published, folder, names, classes), count),
        preprocessing="" if size == SHAPE[1] else f"pictures of {SHAPE[1]}x{SHAPE[2]} averaged to {size}x{size}",
    )


def cifar10(
    *,
    folder: str | None = None,
    checksum: str | None = None,
    augment: str | None = "crop-flip",
    pad: int | None = None,
    size: int = 32,
    train_examples: int | None = None,
    train_start: int = 0,
    first_classes: int | None = None,
    test_on: str = "test",
) -> Task:
    """Pictures [3, 32, 32] in 10 classes: 45,000 / 5,000 / the published test set of 10,000.

    Ids are row numbers: 0..49,999 the rows of data_batch_1 to 5, then the test rows.
    folder: where the .bin files or their folder cifar-10-batches-bin are (default $REINVEST_DATA or ./data).
    checksum: sha256 of data_batch_1.bin to 5 and test_batch.bin one after the other.
    augment: "crop-flip" (shifts by up to `pad` pixels, by default an eighth of `size`, half mirrored) or None.
    size: height and width, 32 (as published), 16 or 8 (averaged over blocks of pixels).
    train_examples, train_start, first_classes, test_on: a portion of the set, see `portions.Portion`.
    Raises DataError if files are absent, of another size, hold a label above 9, or fail the checksum.
    """
    return _task(
        CIFAR10,
        10,
        Portion(train_examples=train_examples, train_start=train_start, first_classes=first_classes, test_on=test_on),
        folder=folder,
        checksum=checksum,
        augment=augment,
        pad=pad,
        size=size,
        scale=([0.49140, 0.48216, 0.44653], [0.24703, 0.24349, 0.26159]),
        names="batches.meta.txt",
    )


def cifar100(
    *,
    folder: str | None = None,
    checksum: str | None = None,
    augment: str | None = "crop-flip",
    pad: int | None = None,
    size: int = 32,
    train_examples: int | None = None,
    train_start: int = 0,
    first_classes: int | None = None,
    test_on: str = "test",
) -> Task:
    """Pictures [3, 32, 32] in 100 (fine) classes: 45,000 / 5,000 / the published test set of 10,000.

    Ids are row numbers: 0..49,999 the rows of train.bin, then the test rows.
    folder: where the .bin files or their folder cifar-100-binary are (default $REINVEST_DATA or ./data).
    checksum: sha256 of train.bin and test.bin one after the other.
    augment: "crop-flip" (shifts by up to `pad` pixels, by default an eighth of `size`, half mirrored) or None.
    size: height and width, 32 (as published), 16 or 8 (averaged over blocks of pixels).
    train_examples, train_start, first_classes, test_on: a portion of the set, see `portions.Portion`.
    Raises DataError if files are absent, of another size, hold a label above 99, or fail the checksum.
    """
    return _task(
        CIFAR100,
        100,
        Portion(train_examples=train_examples, train_start=train_start, first_classes=first_classes, test_on=test_on),
        folder=folder,
        checksum=checksum,
        augment=augment,
        pad=pad,
        size=size,
        scale=([0.50708, 0.48655, 0.44092], [0.26733, 0.25644, 0.27615]),
        names="fine_label_names.txt",
    )
