"""The published sets themselves, where a copy is at hand: $REINVEST_DATA, or compact copies beside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from reinvest.core.errors import DataError
from reinvest.core.names import resolve
from reinvest.testbed.tasks import caltech, camvid, cifar, files, mnist

UNPACK = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "unpack.py"
CACHE = Path(tempfile.gettempdir()) / "reinvest-test-data"
SETS = {
    "cifar10": partial(files.locate, cifar.CIFAR10),
    "cifar100": partial(files.locate, cifar.CIFAR100),
    "mnist": partial(files.locate, mnist.PUBLISHED),
    "caltech101": caltech.class_folders,
    "camvid": camvid.frames,
}


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
                SETS[name](CACHE)
            except DataError:
                done = subprocess.run(
                    [sys.executable, str(UNPACK), str(CACHE), name], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    pytest.skip(f"{name}: the copy beside the checkout was not unpacked ({done.stderr.strip()[-80:]})")
    try:
        SETS[name](folder)
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


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_portions_of_16_pixels_share_rows_with_the_whole_set(name, classes):
    folder = data_folder(name)
    make = partial(resolve("task", name), folder=folder, size=16)
    whole, part = make(), make(train_examples=10_000, train_start=2_000, first_classes=classes // 2)
    assert part.view.hashes() is whole.view.hashes() and part.input_shape == (3, 16, 16)
    assert torch.equal(whole.splits["test"], torch.arange(50_000, 60_000))
    assert abs(len(part.splits["train"]) - 4_000) < 200 and abs(len(part.splits["test"]) - 5_000) < 50
    assert len(part.class_names) == classes // 2
    x = torch.cat([x for _, x, _ in part.clean(500)])
    # Averaging keeps the mean and takes away a little of the deviation.
    assert abs(float(x.mean())) < 0.1 and 0.85 < float(x.std()) < 1


def test_caltech101_as_published():
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    task = resolve("task", "caltech101")(folder=data_folder("caltech101"), size=16)
    assert [len(task.splits[k]) for k in ("train", "validation", "test")] == [2_525, 505, 5_647]
    assert task.view.examples == 8_677 and (task.classes, len(task.class_names)) == (101, 101)
    assert task.class_names[:2] == ("Faces", "Faces_easy") and task.class_names[-1] == "yin_yang"
    x = torch.cat([x for _, x, _ in task.loader("test", 1_000)])
    assert abs(float(x.mean())) < 0.05 and 0.85 < float(x.std()) < 1.05


def test_camvid_as_published():
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    task = resolve("task", "camvid")(folder=data_folder("camvid"))
    assert [len(task.splits[k]) for k in ("train", "validation", "test")] == [367, 101, 233]
    x, y = (torch.cat(part) for part in list(zip(*task.clean(100), strict=True))[1:])
    assert abs(float(x.mean())) < 0.02 and 0.9 < float(x.std()) < 1.02
    counts = torch.bincount(y[y >= 0], minlength=11)
    assert int(counts.min()) > 0 and counts.argmax() == 3 and 0.02 < float((y == -100).float().mean()) < 0.08
