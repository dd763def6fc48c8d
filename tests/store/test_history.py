"""What every epoch said of every example: three bytes each, exact where it must be, to a part in 2,000 elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from reinvest.core.criterion import margins_of
from reinvest.core.errors import InvalidValue, StoreError, UnknownName
from reinvest.core.view import TaskView
from reinvest.dynamics.probes import choose_probes
from reinvest.dynamics.trajectories import Trajectories
from reinvest.store.accumulate import Accumulator
from reinvest.store.history import Asked, asked
from reinvest.store.records import Records

N, E, C = 40, 4, 5


def batches(classes: int = C, seed: int = 0) -> list[tuple[int, Tensor, Tensor, Tensor]]:
    """(epoch, ids, output, targets): all examples once an epoch, in another order each time."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (N,), generator=draw)
    found = []
    for epoch in range(E):
        for ids in torch.randperm(N, generator=draw).split(16):
            found.append((epoch, ids, 3 * torch.randn(len(ids), classes, generator=draw), labels[ids]))
    return found


def kept(folder: Path, data: list[Any], what: Asked | None = None, view: TaskView | None = None) -> Records:
    made = Accumulator(folder, what)
    made.begin(N, E, view)
    for epoch, ids, output, targets in data:
        losses = torch.nn.functional.cross_entropy(output, targets, reduction="none")
        made.observe(epoch, ids, losses, output, targets, None)
    tables, about = made.tensors()
    save_file({k: v.contiguous() for k, v in tables.items()}, folder / "records.safetensors", about)
    return Records.load(folder / "records.safetensors")


def test_three_bytes_an_example_and_epoch(tmp_path: Path) -> None:
    found = kept(tmp_path, batches())
    tables = [found.history(name) for name in ("loss", "predicted")]
    assert all(t.shape == (N, E) for t in tables) and "correct" not in found.tables
    assert sum(t.element_size() for t in tables) == 3
    assert found.epochs == E and found.examples == N


def test_losses_answers_and_margins_are_those_of_each_epoch(tmp_path: Path) -> None:
    found = kept(tmp_path, batches(), Asked(margins=True))
    t = Trajectories.of(found)
    for epoch, ids, output, targets in batches():
        losses = torch.nn.functional.cross_entropy(output, targets, reduction="none")
        assert torch.equal(found.loss[epoch, ids], losses.half().float())
        assert torch.equal(found.predicted[epoch, ids], output.argmax(1))
        assert torch.equal(found.correct[epoch, ids], output.argmax(1).eq(targets).float())
        own = output.gather(1, targets[:, None])[:, 0]
        others = torch.stack([row[torch.arange(C) != y].max() for row, y in zip(output, targets, strict=True)])
        assert torch.equal(found.margin[epoch, ids], (own - others).half().float())
        assert torch.equal(t.rows(ids)[:, epoch], losses.half().float())
        assert torch.equal(t.rows(ids, "margin")[:, epoch] > 0, t.rows(ids, "correct")[:, epoch] == 1)
        p = output.softmax(1).gather(1, targets[:, None])[:, 0]
        assert torch.allclose(t.rows(ids, "confidence")[:, epoch], p, rtol=5e-3)


def test_float32_on_demand(tmp_path: Path) -> None:
    found = kept(tmp_path, batches(), Asked(loss="float32"))
    for epoch, ids, output, targets in batches():
        losses = torch.nn.functional.cross_entropy(output, targets, reduction="none")
        assert torch.equal(found.loss[epoch, ids], losses)


def test_float32_keeps_losses_beyond_float16(tmp_path: Path) -> None:
    made = Accumulator(tmp_path, Asked(loss="float32"))
    made.begin(2, 1)
    made.observe(
        0, torch.arange(2), torch.tensor([1e6, 7e4]), torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64), None
    )
    assert made.tensors()[0]["loss"][:, 0].tolist() == [1e6, 7e4]


@pytest.mark.parametrize("classes", [3, 300, 1001])
def test_an_example_without_a_label_has_an_answer_and_no_loss(tmp_path: Path, classes: int) -> None:
    output, targets = torch.randn(4, classes), torch.tensor([0, -100, 2, -100])
    losses = torch.nn.functional.cross_entropy(output, targets, reduction="none")
    assert losses[1] == 0  # what torch says of it
    made = Accumulator(tmp_path)
    made.begin(4, 1)
    made.observe(0, torch.arange(4), losses, output, targets, None)
    tables, about = made.tensors()
    save_file({k: v.contiguous() for k, v in tables.items()}, tmp_path / "records.safetensors", about)
    found = Records.load(tmp_path / "records.safetensors")
    t = Trajectories.of(found)
    for table in (
        found.loss[0],
        found.correct[0],
        t.rows(torch.arange(4))[:, 0],
        t.rows(torch.arange(4), "correct")[:, 0],
    ):
        assert table.isnan().tolist() == [False, True, False, True]
    assert t.ids.tolist() == [0, 2] and bool(found.known(torch.arange(4)).all())
    if classes == 3:
        assert torch.equal(found.predicted[0], output.argmax(1))


def test_an_example_without_a_labelled_position_has_no_loss(tmp_path: Path) -> None:
    targets = torch.tensor([[1, -100], [-100, -100]])
    made = Accumulator(tmp_path)
    made.begin(2, 1)
    made.observe(0, torch.arange(2), torch.tensor([0.7, 0.0]), torch.randn(2, 3, 2), targets, None)
    tables = made.tensors()[0]
    assert tables["loss"][:, 0].isnan().tolist() == tables["correct"][:, 0].isnan().tolist() == [False, True]


def test_a_table_of_answers_lets_batches_of_many_labels_pass(tmp_path: Path) -> None:
    made = Accumulator(tmp_path)
    made.begin(4, 1)
    made.observe(0, torch.arange(2), torch.ones(2), torch.randn(2, 3), torch.zeros(2, dtype=torch.int64), None)
    made.observe(0, torch.arange(2, 4), torch.full((2,), 2.0), torch.randn(2, 3, 5), torch.zeros(2, 5).long(), None)
    tables = made.tensors()[0]
    assert tables["loss"][:, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert (tables["predicted"][:, 0] == 255).tolist() == [False, False, True, True]


def test_a_state_knows_how_many_passes_were_left_out(tmp_path: Path) -> None:
    roles = torch.tensor([1, 1, 3, 3, 3, 3])
    first, second = Accumulator(tmp_path), Accumulator(tmp_path)
    for made in (first, second):
        made.begin(6, 2, TaskView(roles=lambda: roles))
    one = torch.arange(6), torch.ones(6), torch.randn(6, 3), torch.zeros(6, dtype=torch.int64), None
    first.observe(0, *one)
    second.load_state_dict(first.state_dict())
    for made in (first, second):
        made.observe(1, *one)
    assert first.tensors()[1] == second.tensors()[1] and "8 passes" in first.tensors()[1]["outside"]


def test_losses_beyond_float16_are_its_largest_number_and_infinite_ones_stay(tmp_path: Path) -> None:
    made = Accumulator(tmp_path)
    made.begin(4, 1)
    losses = torch.tensor([1e6, math.inf, 65504.0, 1e-9])
    made.observe(0, torch.arange(4), losses, torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), None)
    assert made.tensors()[0]["loss"][:, 0].tolist() == [65504.0, math.inf, 65504.0, 0.0]


@pytest.mark.parametrize(("classes", "table"), [(255, "predicted"), (256, "correct")])
def test_more_than_255_classes_keep_whether_it_was_right(tmp_path: Path, classes: int, table: str) -> None:
    found = kept(tmp_path, batches(classes))
    assert table in found.tables and ("correct" in found.tables) != ("predicted" in found.tables)
    for epoch, ids, output, targets in batches(classes):
        assert torch.equal(found.correct[epoch, ids], output.argmax(1).eq(targets).float())
    if table == "correct":
        with pytest.raises(StoreError, match="use losses"):
            found.predicted  # noqa: B018


def test_a_net_that_grows_beyond_255_classes_keeps_what_was_right_so_far(tmp_path: Path) -> None:
    data = [
        b if b[0] < 2 else (b[0], b[1], torch.cat([b[2], torch.full((len(b[2]), 300), 50.0)], 1), b[3])
        for b in batches()
    ]
    found = kept(tmp_path, data)
    for epoch, ids, output, targets in data:
        assert torch.equal(found.correct[epoch, ids], output.argmax(1).eq(targets).float())


def test_what_was_not_seen_is_nan_everywhere(tmp_path: Path) -> None:
    data = [b for b in batches() if b[0] != 1]
    found = kept(tmp_path, [(e, ids[ids != 7], o[ids != 7], y[ids != 7]) for e, ids, o, y in data], Asked(margins=True))
    assert found.loss[1].isnan().all() and found.correct[1].isnan().all() and (found.predicted[1] == -1).all()
    t = Trajectories.of(found)
    for what in ("loss", "correct", "predicted", "margin", "confidence"):
        rows = t.rows(torch.arange(N), what)
        assert rows[:, 1].isnan().all() and rows[7].isnan().all(), what
        assert rows[:7, [0, 2, 3]].isfinite().all(), what
    assert t.ids.tolist() == [i for i in range(N) if i != 7]


def test_a_split_of_few_reads_like_all_ids(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    roles = torch.full((N,), 3, dtype=torch.uint8)
    roles[::3] = 1
    trained = (roles == 1).nonzero()[:, 0]
    data = [(e, ids[roles[ids] == 1], o[roles[ids] == 1], y[roles[ids] == 1]) for e, ids, o, y in batches()]
    small = kept(tmp_path / "a", data, Asked(margins=True), TaskView(roles=lambda: roles))
    whole = kept(tmp_path / "b", data, Asked(margins=True))
    assert small.places is not None and whole.places is None and len(small.history("loss")) == len(trained)
    for name in ("loss", "correct", "predicted", "margin"):
        assert torch.equal(getattr(small, name).nan_to_num(9), getattr(whole, name).nan_to_num(9)), name
    a, b = Trajectories.of(small), Trajectories.of(whole)
    assert a.examples == b.examples == N and a.ids.tolist() == trained.tolist()
    for size in (7, 16, 100):
        for (start, x), (other, y) in zip(a.blocks(size), b.blocks(size), strict=True):
            assert start == other and torch.equal(x.nan_to_num(9), y.nan_to_num(9))


def test_reading_leaves_the_tables_as_they_are() -> None:
    loss, correct = torch.rand(6, 3), torch.tensor([[1.0, -1.0, 0.0]]).expand(6, 3).clone()
    before = loss.clone(), correct.clone()
    places = torch.tensor([0, 1, -1, 2, 3, 4, 5], dtype=torch.int32)
    t = Trajectories(loss, correct=correct, places=places)
    assert t.rows(torch.arange(7))[2].isnan().all() and t.rows(torch.arange(2), "correct")[:, 1].isnan().all()
    assert torch.equal(loss, before[0]) and torch.equal(correct, before[1])


def test_records_of_before_are_read_alike(tmp_path: Path) -> None:
    loss, right = torch.rand(E, N), torch.randint(0, 2, (E, N), dtype=torch.int8)
    tables = {"loss": loss, "correct": right, "labels": torch.zeros(N, dtype=torch.int32)}
    save_file(tables, tmp_path / "old.safetensors", {"records": "as they were"})
    found = Records.load(tmp_path / "old.safetensors")
    assert torch.equal(found.loss, loss) and torch.equal(found.correct, right.float()) and found.examples == N
    assert torch.equal(Trajectories.of(found).rows(torch.tensor([3, 1])), loss.T[[3, 1]])


def test_probes_travel_with_the_records(tmp_path: Path) -> None:
    labels = torch.arange(N) % C
    probes = choose_probes(labels, ("random label", "noise"), 3, seed=1)
    found = Trajectories.of(kept(tmp_path, batches(), None, TaskView(probes=probes))).probes
    assert found is not None and found.names == probes.names
    for name in ("ids", "kinds", "reference", "labels"):
        assert torch.equal(getattr(found, name), getattr(probes, name)), name


def test_a_state_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    what = Asked(margins=True)
    whole = Accumulator(tmp_path, what)
    first, second = Accumulator(tmp_path, what), Accumulator(tmp_path, what)
    for made in (whole, first, second):
        made.begin(N, E)
    for number, (epoch, ids, output, targets) in enumerate(batches()):
        losses = output.logsumexp(1)
        whole.observe(epoch, ids, losses, output, targets, None)
        (first if number < 5 else second).observe(epoch, ids, losses, output, targets, None)
        if number == 4:
            second.load_state_dict(first.state_dict())
    a, b = whole.tensors()[0], second.tensors()[0]
    assert set(a) == set(b) and all(torch.equal(a[k].nan_to_num(9), b[k].nan_to_num(9)) for k in a)


def test_margins_by_hand() -> None:
    output = torch.tensor([[2.0, 5.0, 1.0], [2.0, 5.0, 1.0], [0.0, 0.0, 0.0]])
    assert margins_of(output, torch.tensor([1, 0, 2])).tolist() == [3.0, -3.0, 0.0]
    assert margins_of(output, torch.tensor([-100, 3, 0])).isnan().tolist() == [True, True, False]
    assert margins_of(output, torch.tensor([1, 0, 2], dtype=torch.uint8)).tolist() == [
        3.0,
        -3.0,
        0.0,
    ]  # torch's loss takes them


def test_what_can_be_asked() -> None:
    assert asked(True) == Asked() and not asked(False).kept
    assert asked({"margins": True, "loss": "float32"}) == Asked(True, 0, True, "float32")
    with pytest.raises(InvalidValue, match="margins is True or False, got 1"):
        asked({"margins": 1})
    with pytest.raises(UnknownName, match="Known: float16, float32"):
        asked({"loss": "int8"})


def test_trajectories_refuse_what_they_cannot_read(tmp_path: Path) -> None:
    t = Trajectories.of(kept(tmp_path, batches()))
    with pytest.raises(StoreError, match="'margins': True"):
        t.rows(torch.tensor([0]), "margin")
    with pytest.raises(UnknownName, match="Known: "):
        t.rows(torch.tensor([0]), "losses")
    with pytest.raises(InvalidValue, match="example ids lie in"):
        t.rows(torch.tensor([N]))
    with pytest.raises(StoreError, match="got a run without"):
        Trajectories.of(kept(tmp_path, batches()), source="clean pass")
    with pytest.raises(InvalidValue, match="an example a row, got"):
        Trajectories(torch.rand(3))
    with pytest.raises(InvalidValue, match="tables of one run have one shape"):
        Trajectories(torch.rand(3, 2), correct=torch.rand(2, 3))
