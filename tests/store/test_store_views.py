"""Rows of single epochs: what is kept, how it is read, and that nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reinvest.core.errors import InvalidValue, LoopError, StoreError, UnknownName
from reinvest.core.view import TaskView
from reinvest.store.accumulate import Accumulator
from reinvest.store.artifacts import put_tensors
from reinvest.store.codec import decode_rows, encode
from reinvest.store.history import Asked
from reinvest.store.records import Records

N, CLASSES, EPOCHS = 23, 4, 5
Batch = tuple[int, Tensor, Tensor, Tensor, Tensor]


def data(epochs: int = EPOCHS, classes: int = CLASSES) -> list[Batch]:
    """Batches (epoch, ids, losses, output, targets): the last two examples of each epoch's order are dropped."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, classes, (N,), generator=generator)
    found = []
    for epoch in range(epochs):
        output = torch.randn(N, classes, generator=generator)
        losses = torch.nn.functional.cross_entropy(output, targets, reduction="none")
        for ids in torch.randperm(N, generator=generator)[:21].split(7):
            found.append((epoch, ids, losses[ids], output[ids], targets[ids]))
    return found


class Clock:
    """Feeds an accumulator, whose loader draws the views of epoch e from (seed, e + shift)."""

    def __init__(
        self, folder: Path, views: int, *, planned: float = EPOCHS, seed: int = 7, shift: int = 0, **view: Any
    ):
        self.epoch = 0
        self.accumulator = Accumulator(folder, Asked(views=views))
        self.accumulator.begin(N, planned, TaskView(**view), lambda: (seed, self.epoch + shift))

    def feed(self, batches: list[Batch]) -> Clock:
        for batch in batches:
            self.epoch = batch[0]
            self.accumulator.observe(*batch, None)
        return self

    def read(self, folder: Path) -> Records:
        tables, about = self.accumulator.tensors()
        return Records.load(folder / "r", put_tensors(folder / "r", tables, about))


@pytest.mark.parametrize("training", [None, range(8, 20)], ids=["all", "some ids are trained on"])
def test_each_kept_epoch_holds_what_was_said_in_it(tmp_path: Path, training: range | None) -> None:
    roles = torch.zeros(N, dtype=torch.uint8)
    roles[list(training or [])] = 1
    more = {} if training is None else {"roles": lambda: roles}
    found = Clock(tmp_path, 2, **more).feed(data()).read(tmp_path)
    assert (found.views, found.view_seed, found.view_epochs) == (2, 7, (3, 4))
    for k, epoch in enumerate((3, 4)):
        wanted, seen = torch.zeros(N, CLASSES), torch.zeros(N, dtype=torch.bool)
        for at, ids, _, output, _ in data():
            if at == epoch:
                wanted[ids], seen[ids] = decode_rows(encode(output.log_softmax(1))), True
        if training is not None:
            seen &= roles == 1
        rows, known = found.view_rows(k, torch.arange(N))
        assert torch.equal(known, seen) and 0 < int(known.sum()) < N
        assert torch.equal(rows[seen], wanted[seen]) and not rows[~seen].any()
    rows, known = found.view_rows(1, [5, 5])
    assert torch.equal(rows[0], rows[1]) and found.tables["views"].dtype == torch.uint8


def test_nothing_else_changes(tmp_path: Path) -> None:
    plain, about = Clock(tmp_path, 0).feed(data()).accumulator.tensors()
    also, about_too = Clock(tmp_path, 3).feed(data()).accumulator.tensors()
    assert set(plain) == {"loss", "predicted", "labels", "codes", "seen"}
    assert set(also) - set(plain) == {"views", "views_known"}
    assert all(torch.equal(plain[n].nan_to_num(-9), also[n].nan_to_num(-9)) for n in plain)
    assert set(about_too) - set(about) == {"views", "view_seed", "view_epochs"}
    assert about == {name: about_too[name] for name in about}
    assert "views" not in Clock(tmp_path, 0).feed(data()).accumulator.state_dict()


@pytest.mark.parametrize(
    ("wanted", "planned", "trained", "kept"),
    [
        (9, 5, 5, [0, 1, 2, 3, 4]),
        (1, 5, 5, [4]),
        (2, 2.5, 3, [1, 2]),
        (3, 5, 4, [2, 3]),
        (5, 9, 5, [4]),
        (1, 4, 5, [3]),
    ],
)
def test_the_last_planned_epochs_are_kept_as_far_as_trained(
    tmp_path: Path, wanted: int, planned: float, trained: int, kept: list[int]
) -> None:
    clock = Clock(tmp_path, wanted, planned=planned).feed([b for b in data() if b[0] < trained])
    found = clock.read(tmp_path)
    assert list(found.view_epochs) == kept and found.views == len(kept)


def test_draws_are_those_of_the_loader(tmp_path: Path) -> None:
    found = Clock(tmp_path, 2, seed=-3, shift=40).feed(data()).read(tmp_path)
    assert (found.view_seed, found.view_epochs) == (-3, (43, 44))


def test_of_several_passes_in_an_epoch_the_last_one_counts(tmp_path: Path) -> None:
    first, second = torch.eye(4)[:2], torch.eye(4)[2:]
    ids, y = torch.tensor([3, 3]), torch.tensor([0, 1])
    found = Clock(tmp_path, 1, planned=1).feed([(0, ids, torch.ones(2), o, y) for o in (first, second)]).read(tmp_path)
    assert torch.equal(found.view_rows(0, [3])[0][0], decode_rows(encode(second[1].log_softmax(0))))


def test_a_row_that_is_not_finite_is_not_known(tmp_path: Path) -> None:
    output = torch.tensor([[0.0, math.inf, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    batch = (0, torch.tensor([1, 2]), torch.tensor([math.inf, 1.0]), output, torch.tensor([1, 1]))
    found = Clock(tmp_path, 1, planned=1).feed([batch]).read(tmp_path)
    assert found.view_rows(0, [0, 1, 2])[1].tolist() == [False, False, True]


@pytest.mark.parametrize("stop", range(1, 15))
def test_interrupted_and_continued_equals_uninterrupted(tmp_path: Path, stop: int) -> None:
    whole, about = Clock(tmp_path, 3).feed(data()).accumulator.tensors()
    first = Clock(tmp_path, 3).feed(data()[:stop])
    torch.save(first.accumulator.state_dict(), tmp_path / "state")
    first.feed(data()[stop : stop + 1]).accumulator.flush()  # lost with the process
    second = Clock(tmp_path, 3)
    second.accumulator.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    tables, said = second.feed(data()[stop:]).accumulator.tensors()
    assert said == about and set(tables) == set(whole)
    assert all(torch.equal(tables[n].nan_to_num(-9), whole[n].nan_to_num(-9)) for n in whole)


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2), (2, 3)])
def test_records_go_on_with_the_views_they_began_with(tmp_path: Path, before: int, after: int) -> None:
    state = Clock(tmp_path, before).feed(data()[:4]).accumulator.state_dict()
    with pytest.raises(LoopError, match=f"got views of {after} epochs for a state with {before}; pass the same"):
        Clock(tmp_path, after).accumulator.load_state_dict(state)
    assert Clock(tmp_path, before).feed(data()).read(tmp_path).views == before


def unsaid(clock: Clock) -> Clock:
    clock.accumulator.begin(N, EPOCHS, TaskView(), None)
    return clock.feed(data())


def reseeded(clock: Clock) -> Clock:
    clock.accumulator.begin(N, EPOCHS, TaskView(), lambda: (clock.epoch, 0))
    return clock.feed(data())


def wider(clock: Clock) -> Clock:
    return clock.feed([b for b in data() if b[0] < 4] + [b for b in data(classes=6) if b[0] == 4])


def many(clock: Clock) -> Clock:
    return clock.feed(data(classes=1001))


def dense(clock: Clock) -> Clock:
    return clock.feed([(0, torch.arange(2), torch.ones(2), torch.randn(2, 3, 5), torch.zeros(2, 5, dtype=torch.int64))])


@pytest.mark.parametrize(
    ("feed", "why"),
    [
        (unsaid, "the loader does not say"),
        (reseeded, "several seeds"),
        (wider, "number of classes changed"),
        (many, "at most 1,000 classes"),
        (dense, "one label an example"),
        (lambda clock: clock.feed(data()[:3]), "its last epochs were not trained"),
    ],
)
def test_what_cannot_be_replayed_is_not_kept_and_the_reason_is(tmp_path: Path, feed: Any, why: str) -> None:
    found = feed(Clock(tmp_path, 2)).read(tmp_path)
    assert found.views == 0 and "views_known" not in found.tables
    with pytest.raises(StoreError, match=f"got a run without .*{why}.*; use a run"):
        found.view_rows(0, [0])


def test_reading_refuses_what_is_not_there(tmp_path: Path) -> None:
    found = Clock(tmp_path, 2).feed(data()).read(tmp_path)
    for k in (2, -1, 0.0, True):
        with pytest.raises(InvalidValue, match=r"kept epochs are numbered 0 \.\.\. 1, got .*; ask"):
            found.view_rows(k, [0])  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="example ids lie in"):
        found.view_rows(0, [N])
    without = Clock(tmp_path, 0).feed(data()).read(tmp_path)
    for name in ("view_seed", "view_epochs"):
        with pytest.raises(StoreError, match=r"got a run without \(not asked for\)"):
            getattr(without, name)


@pytest.mark.parametrize("bad", [None, 3, 1, "views", [], {}])
def test_records_are_a_switch_or_a_dict(store: Any, record: Any, bad: Any) -> None:
    with (
        pytest.raises(InvalidValue, match=r"records is True, False or a dict.*, got .*; True is usual"),
        record(records=bad),
    ):
        pass
    assert not store.path.exists()


@pytest.mark.parametrize("bad", [{"views": 0}, {"views": True}, {"views": 1.0}, {"views": None}, {"views": "3"}])
def test_views_are_a_number(store: Any, record: Any, bad: Any) -> None:
    with pytest.raises(InvalidValue, match=r"views is a whole number from 1 up.*, got .*; "), record(records=bad):
        pass
    assert not store.path.exists()


@pytest.mark.parametrize("bad", [{"view": 2}, {"views": 2, "rows": 1}, {"loss": "float64"}])
def test_unknown_records_list_the_known(store: Any, record: Any, bad: Any) -> None:
    with pytest.raises(UnknownName, match="Known: "), record(records=bad):
        pass
    assert not store.path.exists()


def test_a_writer_keeps_views_with_the_draws_that_the_chain_tells(record: Any) -> None:
    with record(records={"views": 1}) as writer:
        writer.begin({"examples": N, "epochs": EPOCHS, "draws": lambda: (1, 2)})
        for batch in data():
            writer.observe(*batch, None)
    found = writer.run.records()
    assert (found.views, found.view_seed, found.view_epochs) == (1, 1, (2,))
    assert "draws" not in writer.run.training
