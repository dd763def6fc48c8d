"""The published sets themselves, where a copy is at hand: $REINVEST_DATA, or compact copies beside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from reinvest.core.errors import DataError
from reinvest.core.names import resolve
from reinvest.testbed.tasks import cifar, files, mnist

UNPACK = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "unpack.py"
CACHE = Path(tempfile.gettempdir()) / "reinvest-test-data"
SETS = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100, "mnist": mnist.PUBLISHED}


def data_folder(name):
    if os.environ.get(files.VARIABLE):
        folder = Path(os.environ[files.VARIABLE])
    else:
        folder = CACHE
        if not UNPACK.is_file():
            pytest.skip(f"{name}: {files.VARIABLE} is not set and no copy is beside the checkout")
        CACHE.mkdir(exist_ok=True)
        with FileLock(CACHE / "lock"):
            try:
                files.locate(SETS[name], CACHE)
            except DataError:
                done = subprocess.run(
                    [sys.executable, str(UNPACK), str(CACHE), name], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    pytest.skip(f"{name}: the copy beside the checkout was not unpacked ({done.stderr.strip()[-80:]})")
    try:
        files.locate(SETS[name], folder)
    except DataError as error:
        pytest.skip(f"{name}: {error}")
    return str(folder)


@pytest.mark.parametrize(
    ("name", "classes", "rows", "first"),
    [("cifar10", 10, 50_000, 6), ("cifar100", 100, 50_000, None), ("mnist", 10, 60_000, 5)],
)
def test_counts_labels_and_splits(name, classes, rows, first):
    task = resolve("task", name)(folder=data_folder(name))
    assert (task.classes, task.test_examples) == (classes, 10_000)
    assert len(task.splits["train"]) == rows - 5_000 and len(task.splits["validation"]) == 5_000
    assert task.splits["test"].tolist() == list(range(rows, rows + 10_000))
    labels = torch.cat([y for _, _, y in task.loader("test", 1_000)])
    assert len(labels.bincount(minlength=classes)) == classes
    assert len(task.class_names) == classes
    if first is not None:
        assert int(task._source._y[0]) == first
    means = torch.stack([x.mean((0, 2, 3)) for _, x, _ in task.loader("validation", 1_000)]).mean(0)
    assert means.abs().max() < 0.05


def test_lossless_mnist_has_a_known_fingerprint():
    task = resolve("task", "mnist")(folder=data_folder("mnist"))
    assert task.fingerprint == "49d262dba17e1cbb"


def test_crop_flip_is_on_for_cifar_and_off_for_tests():
    task = resolve("task", "cifar10")(folder=data_folder("cifar10"), train_examples=1_000)
    plain = resolve("task", "cifar10")(folder=data_folder("cifar10"), train_examples=1_000, augment=None)
    (ids, x, _), (same, y, _) = next(iter(task.loader("train", 64))), next(iter(plain.loader("train", 64)))
    assert torch.equal(ids, same) and not torch.equal(x, y)
    (_, x, _), (_, y, _) = next(iter(task.loader("test", 64))), next(iter(plain.loader("test", 64)))
    assert torch.equal(x, y) and task.fingerprint == plain.fingerprint
