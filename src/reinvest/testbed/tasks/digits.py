"""Handwritten digits, 8x8: the data set packaged with scikit-learn, so nothing has to be downloaded."""

from __future__ import annotations

import numpy as np
import torch

from .portions import Portion
from .splits import by_fraction
from .task import Task

# Of the training pixels, in units of 0..1 for 0..255 (the pixels are 0..16).
MEAN, STD = 0.019147, 0.023605


def digits(
    *,
    augment: str | None = None,
    pad: int = 1,
    train_examples: int | None = None,
    train_start: int = 0,
    first_classes: int | None = None,
    test_on: str = "test",
) -> Task:
    """1,797 pictures [1, 8, 8] in 10 classes, split 60/20/20 into 1,078 / 360 / 359; ids are its row numbers.

    augment: "crop-flip" shifts by up to `pad` pixels and mirrors (mirroring harms digits; off by default).
    train_examples, train_start, first_classes, test_on: a portion of the set, see `portions.Portion`.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.from_numpy(data.images.astype(np.uint8)).unsqueeze(1)
    y = torch.from_numpy(data.target.astype(np.int64))
    portion = Portion(
        train_examples=train_examples, train_start=train_start, first_classes=first_classes, test_on=test_on
    )
    splits, classes = portion.of(by_fraction("digits", len(y)), y, 10)
    return Task.from_tensors(
        "digits",
        x,
        y,
        splits=splits,
        classes=classes,
        augment=augment,
        pad=pad,
        mean=MEAN,
        std=STD,
        class_names=[str(n) for n in range(classes)],
    )
