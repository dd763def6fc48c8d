"""A user's own tensors and data sets as tasks."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from reinvest._testing.task import TaskContract
from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.core.view import NO_SPLIT, TEST, TRAIN, VALIDATION, TaskView, view_of
from reinvest.testbed.tasks.task import Task


def pictures(n=120, change=None):
    g = torch.Generator().manual_seed(1)
    x = torch.randint(256, (n, 3, 6, 5), generator=g, dtype=torch.uint8)
    y = torch.arange(n) % 4
    if change == "pixel":
        x[n // 2, 1, 3, 2] ^= 1
    if change == "label":
        y[n // 2] = (y[n // 2] + 1) % 4
    return x, y


class Noisy(Dataset):
    """Items of a data set with a transform that draws from all three global generators."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        noise = torch.rand(()) + random.random() + np.random.rand()
        return self.x[i].double() + noise, int(self.y[i])


def noisy_task(change=None, **options):
    x, y = pictures(change=change)
    parts = [Noisy(x[a:b], y[a:b]) for a, b in ((0, 80), (80, 100), (100, 120))]
    return Task.from_datasets("noisy", *parts, **{"classes": 4, **options})


class TestFromTensors(TaskContract):
    def make_task(self):
        return self.make_altered(None)

    def make_altered(self, change):
        return Task.from_tensors("own", *pictures(change=change), augment="crop-flip", pad=1)


class TestFromDatasets(TaskContract):
    def make_task(self):
        return noisy_task()

    def make_altered(self, change):
        return noisy_task(change)


def test_workers_change_nothing():
    task, parallel = noisy_task(), noisy_task(workers=2)
    assert task.fingerprint == parallel.fingerprint
    for a, b in zip(task.loader("train", 16, seed=2), parallel.loader("train", 16, seed=2), strict=True):
        assert all(torch.equal(one, two) for one, two in zip(a, b, strict=True))


def test_reading_items_leaves_all_global_generators_alone():
    task = noisy_task()
    before = random.getstate(), np.random.get_state()[1].tolist()
    list(task.loader("train", 16))
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def test_random_transforms_differ_between_epochs_and_are_fixed_outside_training():
    task = noisy_task()

    def of(split, epoch):
        batches = list(task.loader(split, 1, epoch=epoch))
        return {int(ids): x for ids, x, _ in batches}

    one, two = of("train", 0), of("train", 1)
    assert all(not torch.equal(one[i], two[i]) for i in one)
    assert all(torch.equal(x, of("test", 1)[i]) for i, x in of("test", 0).items())


def test_ids_number_the_training_rows_first():
    task = noisy_task()
    assert [(int(v.min()), int(v.max())) for v in task.splits.values()] == [(0, 79), (80, 99), (100, 119)]
    assert task.input_shape == (3, 6, 5) and task.loader("train", 1).examples == 120
    ids, x, y = next(iter(task.loader("train", 16)))
    assert x.dtype == torch.float32 and torch.equal(y, ids % 4)


def test_tensors_and_data_sets_with_the_same_rows_have_the_same_hashes():
    x, y = pictures()
    parts = [TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 80), (80, 100), (100, 120))]
    splits = dict(zip(("train", "validation", "test"), torch.arange(120).split([80, 20, 20]), strict=True))
    loaded = Task.from_datasets("a", *parts, classes=4)
    ids = torch.tensor([5, 99, 3])
    for augment in (None, "crop-flip"):
        held = Task.from_tensors("b", x, y, splits=splits, augment=augment)
        assert torch.equal(loaded.hashes(ids), held.hashes(ids)) and loaded.fingerprint == held.fingerprint


def test_a_collate_function_is_used():
    task = noisy_task(
        collate=lambda items: (torch.stack([x for x, _ in items]) * 0, torch.tensor([y for _, y in items]))
    )
    _, x, _ = next(iter(task.loader("validation", 16)))
    assert x.abs().sum() == 0


def test_a_stated_fingerprint_saves_reading_the_data():
    class Unreadable(Noisy):
        def __getitem__(self, i):
            assert i == 0, "only the shape of the first item is needed"
            return super().__getitem__(i)

    x, y = pictures()
    marks = {Task.from_datasets("a", *[Unreadable(x, y)] * 3, classes=4, fingerprint=w).fingerprint for w in "abb"}
    assert len(marks) == 2
    marks = {Task.from_tensors("a", x, y, fingerprint=w).fingerprint for w in "abb"}
    assert len(marks) == 2


def test_features_floats_and_whole_data_defaults():
    x, y = torch.randn(50, 7, dtype=torch.float64), torch.arange(50) % 3
    task = Task.from_tensors("features", x, y)
    assert task.classes == 3 and task.input_shape == (7,) and task.test_examples == 10
    ids, got, _ = next(iter(task.loader("train", 10)))
    assert got.dtype == torch.float32 and torch.equal(got, x[ids].float())
    scaled = Task.from_tensors("features", x, y, mean=[1.0] * 7, std=2.0)
    ids, got, _ = next(iter(scaled.loader("train", 10)))
    assert torch.equal(got, (x[ids].float() - 1) * 0.5)


def test_batches_do_not_share_memory_with_the_data():
    x, y = torch.zeros(20, 2), torch.arange(20) % 2
    task = Task.from_tensors("t", x, y)
    next(iter(task.loader("test", 4)))[1].add_(1)
    assert x.abs().sum() == 0


def test_a_moved_task_yields_the_same_batches():
    for augment in (None, "crop-flip"):
        task = Task.from_tensors("own", *pictures(), augment=augment, pad=1)
        moved = task.to("cpu")
        for a, b in zip(task.loader("train", 16), moved.loader("train", 16), strict=True):
            assert all(torch.equal(one, two) for one, two in zip(a, b, strict=True))
        assert moved.fingerprint == task.fingerprint
    assert noisy_task().to("cpu").input_shape == (3, 6, 5)


@pytest.mark.parametrize(
    "make", [lambda: Task.from_tensors("own", *pictures(), augment="crop-flip", pad=1), noisy_task]
)
def test_views_of_another_epoch_come_in_the_order_of_this_one(make):
    task = make()
    then = {int(i): x for ids, xs, _ in task.loader("train", 1, seed=5, epoch=3) for i, x in zip(ids, xs, strict=True)}
    plain = list(task.loader("train", 16, seed=2, epoch=1))
    loader = task.loader("train", 16, seed=2, epoch=1, start=1, views=(5, 3))
    assert loader.views == (5, 3) and task.loader("train", 16, seed=2, epoch=1).views == (2, 1)
    for (ids, x, y), (own, x_own, y_own) in zip(loader, plain[1:], strict=True):
        assert torch.equal(ids, own) and torch.equal(y, y_own) and not torch.equal(x, x_own)
        assert torch.equal(x, torch.stack([then[i] for i in ids.tolist()]))
    fixed = task.loader("test", 16, views=(5, 3))
    assert fixed.views is None
    assert all(torch.equal(a[1], b[1]) for a, b in zip(fixed, task.loader("test", 16), strict=True))


@pytest.mark.parametrize("views", [3, (1,), (1, -1), (1, 2.0), [1, 2], (True, 0)])
def test_views_are_a_seed_and_an_epoch(views):
    with pytest.raises(InvalidValue, match=r"views is \(seed, epoch\) of the draws to replay, got .*; leave it out"):
        Task.from_tensors("own", *pictures()).loader("train", 8, views=views)


def test_criterion_and_score():
    task = Task.from_tensors("own", *pictures())
    output, target = torch.tensor([[2.0, 0, 0, 0], [0, 0, 0, 3.0]]), torch.tensor([0, 1])
    assert task.score(output, target).tolist() == [1.0, 0.0]
    soft = torch.nn.functional.one_hot(target, 4).float()
    assert torch.allclose(task.criterion(output, target), task.criterion(output, soft))


def test_a_subclass_brings_another_metric():
    class Ranked(Task):
        higher_is_better = False

        def score(self, output, target):
            return (output > output.gather(1, target[:, None])).float().mean(1)

    task = Ranked.from_tensors("own", *pictures(), metric="rank")
    assert task.metric == "rank" and not task.higher_is_better


def test_loaders_say_what_their_data_are():
    task = Task.from_tensors("own", *pictures(), augment="crop-flip", pad=1, mean=0.5, class_names="abcd")
    for loader in (task.loader("train", 8), task.loader("test", 8), task.clean(8)):
        assert view_of(loader) is task.view
    view = task.view
    assert isinstance(view, TaskView) and view.criterion is task.criterion
    assert (view.namespace, view.fingerprint, view.examples) == ("own", task.fingerprint, 120)
    assert (view.classes, view.class_names, view.moves) == (4, ("a", "b", "c", "d"), True)
    assert view.preprocessing == "inputs 3x6x5 of bytes / 255, mean 0.5"
    assert not Task.from_tensors("own", *pictures()).view.moves and noisy_task().view.moves
    assert view.augmentation == task.to("cpu").view.augmentation == "crop-flip, pad 1"
    assert Task.from_tensors("own", *pictures()).view.augmentation == "none"


def test_the_view_gives_each_row_its_hash_and_its_role():
    for task in (Task.from_tensors("own", *pictures()), noisy_task()):
        assert torch.equal(task.view.hashes(), task.hashes(torch.arange(120)))
        assert task.view.hashes() is task.view.hashes()
        roles = task.view.roles()
        assert roles.dtype == torch.uint8 and len(roles) == 120
        for split, role in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
            assert torch.equal((roles == role).nonzero().flatten(), task.splits[split].sort().values)
    part = {"train": [3, 4], "validation": [0], "test": [7]}
    x, y = pictures(20)
    y[9] = -1  # a row without a label, in no split
    roles = Task.from_tensors("own", x, y, splits=part, classes=4).view.roles()
    assert roles.tolist() == [VALIDATION, 0, 0, TRAIN, TRAIN, 0, 0, TEST, *[NO_SPLIT] * 12]


def test_a_stated_fingerprint_keeps_slow_rows_unread():
    x, y = pictures()
    parts = [TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 80), (80, 100), (100, 120))]
    assert Task.from_datasets("a", *parts, classes=4, fingerprint="v1").view.hashes is None
    held = Task.from_tensors("a", x, y, fingerprint="v1")
    assert torch.equal(held.view.hashes(), held.hashes(torch.arange(120)))


def test_clean_gives_the_training_examples_once_in_a_fixed_order_unmoved():
    x, y = pictures()
    task, plain = (Task.from_tensors("own", x, y, augment=a, pad=1) for a in ("crop-flip", None))
    ids, views, labels = (torch.cat(part) for part in zip(*task.view.clean(7), strict=True))
    assert torch.equal(ids, task.splits["train"]) and torch.equal(labels, y[ids])
    expected = {int(i): v for i, v, _ in plain.loader("train", 1)}
    assert all(torch.equal(v, expected[int(i)][0]) for i, v in zip(ids, views, strict=True))
    some = torch.tensor([119, 3, 3])
    got, _, _ = next(iter(task.clean(8, some)))
    assert torch.equal(got, some) and len(task.clean(2, some)) == 2


@pytest.mark.parametrize(
    "wrong", [[1, 2], torch.tensor([120]), torch.tensor([-1]), torch.tensor([0.5]), torch.arange(0)]
)
def test_clean_refuses_what_are_no_row_numbers(wrong):
    with pytest.raises(InvalidValue, match="ids are row numbers from 0 to 119 as int64"):
        Task.from_tensors("own", *pictures()).clean(8, wrong)


def test_a_moved_task_has_a_view_of_its_own_data():
    task = Task.from_tensors("own", *pictures())
    moved = task.to("cpu")
    assert moved.view is not task.view and torch.equal(moved.view.hashes(), task.view.hashes())
    assert torch.equal(next(iter(moved.view.clean(4)))[1], next(iter(task.clean(4)))[1])


X, Y = pictures(20)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X.numpy(), Y), {}, InvalidValue, "got ndarray and Tensor"),
        ((X[0], Y), {}, InvalidValue, r"shape \[N, C, H, W\] or \[N, F\], got"),
        ((X.long(), Y), {}, InvalidValue, "torch.int64"),
        ((X, Y[:-1]), {}, InvalidValue, r"N = 20, at least 1\), got torch.int64 \[19\]"),
        ((X, Y.int()), {}, InvalidValue, "torch.int32"),
        ((X[:0], Y[:0]), {}, InvalidValue, "at least 1"),
        ((X[:4], Y[:4]), {}, DataError, "at least 5 rows"),
        ((X, Y), {"classes": 3}, DataError, r"from 0 to classes - 1 = 2, got 0\.\.3"),
        ((X, Y - 1), {"classes": 4}, DataError, r"got -1\.\.2"),
        ((X, Y), {"classes": 1}, InvalidValue, "at least 2, got 1"),
        ((X, Y), {"augment": "crop"}, UnknownName, "did you mean 'crop-flip'"),
        ((X.float().flatten(1), Y), {"augment": "crop-flip"}, InvalidValue, "needs pictures"),
        ((X, Y), {"augment": "crop-flip", "pad": -1}, InvalidValue, "from 0 to 64, got -1"),
        ((X, Y), {"mean": [0.5, 0.5]}, InvalidValue, "one or 3 finite numbers"),
        ((X, Y), {"std": 0.0}, InvalidValue, "above 0"),
        ((X, Y), {"metric": "f1"}, InvalidValue, "override score"),
        ((X, Y), {"class_names": ["a"]}, InvalidValue, r"one name a class \(4\), got 1"),
        ((X, Y), {"splits": {"train": [1]}}, InvalidValue, "give all three"),
        ((X, Y), {"fingerprint": ""}, InvalidValue, "fingerprint is text"),
    ],
)
def test_bad_tensors_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Task.from_tensors("own", *arguments, **options)


def test_a_task_needs_a_name():
    with pytest.raises(InvalidValue, match="give it one"):
        Task.from_tensors("", X, Y)


@pytest.mark.parametrize(
    ("parts", "options", "error", "message"),
    [
        ([TensorDataset(X)] * 3, {}, InvalidValue, r"items \(x, y\), got tuple for row 0"),
        ([TensorDataset(X, Y), iter([]), TensorDataset(X, Y)], {}, InvalidValue, "for 'validation'"),
        ([TensorDataset(X, Y), [], TensorDataset(X, Y)], {}, InvalidValue, "got list for 'validation'"),
        ([TensorDataset(X, Y)] * 3, {"classes": 2}, DataError, r"got 0\.\.3"),
        ([TensorDataset(X, Y)] * 3, {"workers": -1}, InvalidValue, "at least 0, got -1"),
        ([TensorDataset(X, Y)] * 3, {"classes": 0}, InvalidValue, "at least 2, got 0"),
    ],
)
def test_bad_data_sets_are_refused(parts, options, error, message):
    with pytest.raises(error, match=message):
        Task.from_datasets("own", *parts, **{"classes": 4, **options})


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("training", 4), {}, UnknownName, "did you mean 'train'"),
        (("train", 0), {}, InvalidValue, "from 1 to 12, got 0"),
        (("train", 13), {}, InvalidValue, "from 1 to 12, got 13"),
        (("test", 2.0), {}, InvalidValue, "at least 1, got 2.0"),
        (("train", 4), {"start": 4}, InvalidValue, "from 0 to 3, got 4"),
        (("train", 4), {"epoch": -1}, InvalidValue, "at least 0, got -1"),
        (("train", 4), {"seed": 0.5}, InvalidValue, "whole number, got 0.5"),
    ],
)
def test_bad_loaders_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Task.from_tensors("own", X, Y).loader(*arguments, **options)
