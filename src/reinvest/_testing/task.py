"""The contract every task keeps, as tests to inherit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..core.protocols import Task

Batch = tuple[Tensor, Tensor, Tensor]


class TaskContract:
    """Inherit, override `make_task` (and `make_altered`), and let pytest collect the subclass.

    The task should be small (some hundred examples): its training split is read a few times over.
    """

    batch_size = 16
    every_row_in_a_split = True
    """False for a task that leaves rows out of all splits."""

    def make_task(self) -> Task:
        """The task under test, built afresh."""
        raise NotImplementedError("a subclass of TaskContract overrides make_task() and returns the task to test")

    def make_altered(self, change: str) -> Task | None:
        """The task from data with one "pixel" or one "label" changed; None where the data cannot be changed."""
        return None

    def train(self, task: Task, *, seed: int = 0, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Training batches of one epoch."""
        return iter(task.loader("train", self.batch_size, seed=seed, epoch=epoch, start=start))

    @staticmethod
    def same(a: Batch, b: Batch) -> bool:
        """Bit for bit equal ids, inputs and targets."""
        return all(torch.equal(one, two) for one, two in zip(a, b, strict=True))

    @staticmethod
    def ids_of(task: Task, split: str) -> Tensor:
        """Sorted ids of a split; for "train" with batches of one, so that none is dropped."""
        loader = task.loader(split, 1 if split == "train" else 64)
        return torch.cat([ids for ids, _, _ in loader]).sort().values

    def test_a_loader_says_what_it_yields(self) -> None:
        task = self.make_task()
        for split in ("train", "validation", "test"):
            loader = task.loader(split, self.batch_size)
            batches = list(loader)
            assert loader.indexed and len(batches) == len(loader)
            for ids, x, y in batches:
                assert ids.dtype == torch.int64 and ids.shape == (len(x),) and len(x) == len(y)
                assert int(ids.min()) >= 0 and int(ids.max()) < loader.examples
        rows = len(self.ids_of(task, "train"))
        assert len(task.loader("train", self.batch_size)) == rows // self.batch_size
        assert len(self.ids_of(task, "test")) == task.test_examples

    def test_same_seed_and_epoch_give_the_same_batches(self) -> None:
        task, again = self.make_task(), self.make_task()
        pairs = zip(self.train(task, seed=3, epoch=2), self.train(again, seed=3, epoch=2), strict=True)
        assert all(self.same(a, b) for a, b in pairs)

    def test_another_epoch_or_seed_gives_another_order(self) -> None:
        task = self.make_task()
        first, _, _ = next(self.train(task, seed=3, epoch=0))
        for other in (self.train(task, seed=3, epoch=1), self.train(task, seed=4, epoch=0)):
            assert not torch.equal(first, next(other)[0])

    def test_a_later_start_skips_batches_and_changes_nothing(self) -> None:
        task = self.make_task()
        length = len(task.loader("train", self.batch_size))
        whole = list(self.train(task, seed=1, epoch=1))
        for start in {0, 1, length // 2, length}:
            rest = list(self.train(task, seed=1, epoch=1, start=start))
            assert len(rest) == length - start
            assert all(self.same(a, b) for a, b in zip(whole[start:], rest, strict=True))
            assert len(task.loader("train", self.batch_size, start=start)) == length

    def test_an_example_is_seen_the_same_way_in_batches_of_any_size(self) -> None:
        task = self.make_task()
        one = {
            int(i): x for ids, xs, _ in task.loader("train", 1, seed=5, epoch=1) for i, x in zip(ids, xs, strict=True)
        }
        for ids, xs, _ in islice(self.train(task, seed=5, epoch=1), 4):
            assert all(torch.equal(one[int(i)], x) for i, x in zip(ids, xs, strict=True))

    def test_every_training_example_comes_once_an_epoch(self) -> None:
        task = self.make_task()
        train = self.ids_of(task, "train")
        assert len(train.unique()) == len(train)  # type: ignore[no-untyped-call]
        seen = torch.cat([ids for ids, _, _ in self.train(task)])
        assert len(seen.unique()) == len(seen) == len(train) // self.batch_size * self.batch_size  # type: ignore[no-untyped-call]
        assert set(seen.tolist()) <= set(train.tolist())

    def test_splits_are_disjoint_and_complete(self) -> None:
        task = self.make_task()
        ids = torch.cat([self.ids_of(task, split) for split in ("train", "validation", "test")]).sort().values
        counts = torch.bincount(ids)
        assert int(counts.max()) == 1
        if self.every_row_in_a_split:
            assert torch.equal(ids, torch.arange(task.loader("train", 1).examples))

    def test_validation_and_test_do_not_depend_on_seed_or_epoch(self) -> None:
        task = self.make_task()
        for split in ("validation", "test"):
            plain = task.loader(split, self.batch_size)
            seeded = task.loader(split, self.batch_size, seed=9, epoch=4)
            assert all(self.same(a, b) for a, b in zip(plain, seeded, strict=True))

    def test_no_draw_comes_from_the_global_generator(self) -> None:
        task = self.make_task()
        before = torch.get_rng_state()
        list(self.train(task))
        assert torch.equal(before, torch.get_rng_state())

    def test_the_fingerprint_is_stable(self) -> None:
        mark = self.make_task().fingerprint
        assert mark == self.make_task().fingerprint
        assert len(mark) == 16 and int(mark, 16) >= 0

    def test_the_fingerprint_sees_one_changed_pixel_or_label(self) -> None:
        marks = [self.make_task().fingerprint]
        altered = [self.make_altered(change) for change in ("pixel", "label")]
        if None in altered:
            import pytest

            pytest.skip("make_altered() gives no altered data for this task")
        marks += [task.fingerprint for task in altered if task is not None]
        assert len(set(marks)) == 3

    def test_losses_and_scores_are_per_example(self) -> None:
        task = self.make_task()
        _, _, y = next(iter(task.loader("test", self.batch_size)))
        output = torch.zeros(len(y), task.classes, *y.shape[1:])
        losses, scores = task.criterion(output, y), task.score(output, y)
        assert losses.shape[:1] == scores.shape == (len(y),) and bool(scores.isfinite().all())
