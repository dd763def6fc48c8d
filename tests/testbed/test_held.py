"""Rows that tasks share: one copy in memory, read again only when the files change."""

from __future__ import annotations

import gc
import os

import pytest
import torch

from reinvest.testbed.tasks import cifar, held, mnist
from reinvest.testbed.tasks.held import Rows


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch):
    monkeypatch.setattr(held, "_held", {})


@pytest.fixture
def folder(tmp_path):
    """CIFAR-10 of the right sizes that holds zeros (sparse, so that it costs no disk)."""
    for name, size in cifar.CIFAR10.files:
        with open(tmp_path / name, "wb") as file:
            file.truncate(size)
    return str(tmp_path)


def rows():
    return Rows(torch.zeros(4, 1, 6, 6, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))


def test_the_last_keys_are_remembered():
    made = []

    def ask(key):
        return held.held(key, lambda: made.append(key) or rows())

    assert ask("a") is ask("a")
    ask("b"), ask("a"), ask("c"), ask("a")
    assert made == ["a", "b", "c"]
    ask("b")
    assert made == ["a", "b", "c", "b"]


def test_padded_pictures_live_as_long_as_they_are_used():
    shared = rows()
    views = shared.windows(2)
    assert shared.windows(2) is views and shared.windows(1) is not views
    before = len(shared._windows)
    del views
    gc.collect()
    assert before == 1 and len(shared._windows) == 0


def test_portions_of_one_set_share_pictures_and_hashes(folder):
    whole = cifar.cifar10(folder=folder, size=8)
    part = cifar.cifar10(folder=folder, size=8, train_examples=100, test_on="validation")
    assert whole._source._views is part._source._views
    assert whole.view.hashes() is part.view.hashes() and whole.fingerprint != part.fingerprint
    assert whole.name == part.name and whole.view.plain()["preprocessing"] == part.view.plain()["preprocessing"]


def test_changed_files_are_read_again(folder):
    before = cifar.cifar10(folder=folder, augment=None, size=8)
    path = os.path.join(folder, "data_batch_1.bin")
    with open(path, "r+b") as file:
        file.write(b"\x03")
    os.utime(path, ns=(1, 1))
    after = cifar.cifar10(folder=folder, augment=None, size=8)
    assert int(before._source._y[0]) == 0 and int(after._source._y[0]) == 3
    assert before.fingerprint != after.fingerprint


def test_smaller_pictures_say_so_and_pad_less(folder):
    path = os.path.join(folder, "data_batch_1.bin")
    with open(path, "r+b") as file:
        file.write(bytes([1]) + bytes([10, 20] * 16 + [30, 41] * 16) * 16 * 3)
    task = cifar.cifar10(folder=folder, size=16)
    assert task.input_shape == (3, 16, 16) and task._source._x.dtype == torch.uint8
    assert torch.equal(task._source._x[0], torch.full((3, 16, 16), 25, dtype=torch.uint8))
    assert "averaged to 16x16" in task.view.preprocessing and task._source._pad == 2
    assert len(task.splits["train"]) == 45_000 and int(task._source._y[0]) == 1


def test_published_sets_cut_classes_and_names(tmp_path):
    place = tmp_path / "cifar-100-binary"
    place.mkdir()
    for name, size in cifar.CIFAR100.files:
        with open(place / name, "wb") as file:
            file.truncate(size)
    # Every label is 0 but one: with two classes the rest of the splits stays.
    (place / "fine_label_names.txt").write_text("\n".join(f"n{k}" for k in range(100)), encoding="utf8")
    task = cifar.cifar100(
        folder=str(tmp_path), augment=None, size=8, first_classes=2, train_examples=50, train_start=10
    )
    assert (task.classes, task.class_names, len(task.splits["train"])) == (2, ("n0", "n1"), 40)
    assert task.view.examples == 60_000 and task.view.namespace == "cifar100"


def test_mnist_takes_portions(tmp_path):
    import numpy as np

    for (name, size), head in zip(
        mnist.PUBLISHED.files,
        ([0x803, 60_000, 28, 28], [0x801, 60_000], [0x803, 10_000, 28, 28], [0x801, 10_000]),
        strict=True,
    ):
        with open(tmp_path / name, "wb") as file:
            file.write(np.array(head, ">i4").tobytes())
            file.truncate(size)
    task = mnist.mnist(folder=str(tmp_path), train_examples=30, train_start=5, first_classes=3, test_on="validation")
    assert [len(task.splits[k]) for k in ("train", "validation", "test")] == [25, 2_500, 2_500]
    assert task.classes == 3 and int(torch.cat([task.splits["validation"], task.splits["test"]]).max()) < 60_000
