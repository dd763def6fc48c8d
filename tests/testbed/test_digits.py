"""The embedded default task."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from sklearn.datasets import load_digits

from reinvest._testing.task import TaskContract
from reinvest.core.names import resolve
from reinvest.core.protocols import Task as TaskProtocol
from reinvest.testbed.tasks.digits import digits


class TestDigits(TaskContract):
    def make_task(self):
        return digits()

    def make_altered(self, change):
        data = load_digits()
        if change == "pixel":
            data.images[1796, 3, 3] += 1 - 2 * (data.images[1796, 3, 3] > 0)
        else:
            data.target[1796] = (data.target[1796] + 1) % 10
        with mock.patch("sklearn.datasets.load_digits", return_value=data):
            return digits()


def test_fingerprint_and_splits_are_pinned():
    task = digits()
    assert isinstance(task, TaskProtocol)
    assert task.fingerprint == "be2921073ef6c11e"
    assert {k: (len(v), v[:4].tolist()) for k, v in task.splits.items()} == {
        "train": (1078, [720, 329, 1577, 1659]),
        "validation": (360, [832, 1115, 868, 1342]),
        "test": (359, [82, 1383, 80, 1437]),
    }


def test_what_it_says_about_itself():
    task = resolve("task", "digits")()
    assert (task.name, task.metric, task.classes, task.input_shape) == ("digits", "accuracy", 10, (1, 8, 8))
    assert task.test_examples == 359 and task.higher_is_better and task.class_names == tuple("0123456789")


def test_training_pictures_have_mean_zero_and_deviation_one():
    x = torch.cat([x for _, x, _ in digits().loader("train", 1)])
    assert x.dtype == torch.float32
    assert float(x.mean()) == pytest.approx(0, abs=1e-3) and float(x.std()) == pytest.approx(1, abs=1e-3)


def test_a_training_subset_leaves_the_other_splits_alone():
    whole, part = digits(), digits(train_examples=100)
    assert len(part.splits["train"]) == 100 and part.fingerprint != whole.fingerprint
    assert torch.equal(part.splits["test"], whole.splits["test"])


def test_augmentation_can_be_switched_on():
    plain, moved = (digits(augment=a) for a in (None, "crop-flip"))
    (_, a, _), (_, b, _) = next(iter(plain.loader("train", 64))), next(iter(moved.loader("train", 64)))
    assert a.shape == b.shape and not torch.equal(a, b)
    assert plain.fingerprint == moved.fingerprint
