from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reinvest.core.errors import LoopError, StoreError
from reinvest.core.view import TaskView
from reinvest.store import tables as tables_module
from reinvest.store.accumulate import Accumulator
from reinvest.store.artifacts import put_tensors
from reinvest.store.history import Asked
from reinvest.store.records import Records


def read(accumulator: Accumulator, folder: Path) -> Records:
    tables, about = accumulator.tensors()
    return Records.load(folder / "r", put_tensors(folder / "r", tables, about))


def epochs(
    count: int, examples: int, classes: int, *, seed: int = 0
) -> list[list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """Batches (ids, losses, output, targets) of some epochs of random logits."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (examples,), generator=generator)
    made = []
    for _ in range(count):
        output = torch.randn(examples, classes, generator=generator)
        losses = torch.nn.functional.cross_entropy(output, targets, reduction="none")
        order = torch.randperm(examples, generator=generator)
        made.append([(i, losses[i], output[i], targets[i]) for i in order.split(7)])
    return made


def test_tables_hold_what_was_seen(tmp_path: Path) -> None:
    data = epochs(5, 50, 4)
    a = Accumulator(tmp_path)
    a.begin(50, 5)
    for epoch, batches in enumerate(data):
        for ids, losses, output, targets in batches:
            a.observe(epoch, ids, losses, output, targets, None)
    found = read(a, tmp_path)
    assert found.loss.shape == found.correct.shape == (5, 50)
    mean = torch.zeros(50, 4)
    for epoch, batches in enumerate(data):
        for ids, losses, output, targets in batches:
            assert torch.equal(found.loss[epoch, ids], losses.half().float())
            assert torch.equal(found.correct[epoch, ids], output.argmax(1).eq(targets).float())
            if epoch >= 2:
                mean[ids] += output / 3
    expected = mean.log_softmax(1)
    assert (found.log_probabilities - expected).abs().max() <= 6 / 255 + 1e-5
    assert found.seen.tolist() == [3] * 50
    assert found.codes.dtype == torch.uint8 and found.codes.shape == (50, 4)


def test_what_was_not_seen_or_not_valid_is_nan(tmp_path: Path) -> None:
    a = Accumulator(tmp_path)
    a.begin(6, 2)
    output = torch.eye(3)
    valid = torch.tensor([True, False, True])
    a.observe(0, torch.tensor([4, 0, 1]), torch.tensor([1.0, 2.0, 3.0]), output, torch.tensor([0, 1, 0]), valid)
    found = read(a, tmp_path)
    assert found.loss[0].isnan().tolist() == [True, False, True, True, False, True]
    assert found.loss[1].isnan().all() and found.correct[1].isnan().all()
    assert found.correct[0].nan_to_num(-1).tolist() == [-1, 0, -1, -1, 1, -1]
    assert found.seen.tolist() == [0, 1, 0, 0, 1, 0]
    assert found.log_probabilities.isnan().any(1).tolist() == [True, False, True, True, False, True]


def test_a_batch_may_be_overwritten_after_it_was_observed(tmp_path: Path) -> None:
    a = Accumulator(tmp_path)
    a.begin(2, 1)
    ids, losses, output, targets = torch.tensor([0, 1]), torch.ones(2), torch.eye(2), torch.tensor([0, 1])
    a.observe(0, ids, losses, output, targets, None)
    for tensor in (ids, losses, output, targets):
        tensor.zero_()
    found = read(a, tmp_path)
    assert found.loss.tolist() == [[1.0, 1.0]] and found.correct.tolist() == [[1.0, 1.0]]


def test_half_precision_outputs_and_infinite_losses(tmp_path: Path) -> None:
    a = Accumulator(tmp_path)
    a.begin(2, 1)
    output = torch.tensor([[1.0, 2.0], [math.inf, 0.0]], dtype=torch.bfloat16)
    losses = torch.tensor([0.5, math.inf], dtype=torch.bfloat16)
    a.observe(0, torch.tensor([0, 1]), losses, output, torch.tensor([1, 1]), None)
    found = read(a, tmp_path)
    assert found.loss.dtype == torch.float32 and found.loss[0, 1] == math.inf
    assert found.seen.tolist() == [1, 0]  # a row that is not finite tells nothing


def test_interrupted_and_continued_in_mid_epoch_equals_uninterrupted(tmp_path: Path) -> None:
    data = epochs(5, 40, 3)
    flat = [(epoch, *batch) for epoch, batches in enumerate(data) for batch in batches]
    whole = Accumulator(tmp_path)
    whole.begin(40, 5)
    for batch in flat:
        whole.observe(*batch, None)
    for stop in (0, 1, 8, len(flat) - 2):
        first = Accumulator(tmp_path)
        first.begin(40, 5)
        for batch in flat[:stop]:
            first.observe(*batch, None)
        state = first.state_dict()
        for batch in flat[stop : stop + 1]:
            first.observe(*batch, None)  # lost with the process; must not reach the state
        first.flush()
        second = Accumulator(tmp_path)
        second.begin(40, 5)
        second.load_state_dict(state)
        for batch in flat[stop:]:
            second.observe(*batch, None)
        expected, _ = whole.tensors()
        for name, table in second.tensors()[0].items():
            assert torch.equal(table.nan_to_num(-9), expected[name].nan_to_num(-9)), (stop, name)


def test_state_of_other_data_is_refused(tmp_path: Path) -> None:
    a = Accumulator(tmp_path)
    a.begin(4, 1)
    a.observe(0, torch.tensor([0]), torch.ones(1), torch.ones(1, 2), torch.zeros(1).long(), None)
    b = Accumulator(tmp_path)
    b.begin(5, 1)
    with pytest.raises(LoopError, match="saved for 4 examples, now 5"):
        b.load_state_dict(a.state_dict())


def test_ids_outside_the_data_set_are_refused(tmp_path: Path) -> None:
    for wrong in (-1, 4):
        a = Accumulator(tmp_path)
        a.begin(4, 1)
        a.observe(0, torch.tensor([wrong]), torch.ones(1), torch.ones(1, 2), torch.zeros(1).long(), None)
        with pytest.raises(LoopError, match=rf"0 \.\.\. 3, got {wrong}"):
            a.flush()


def test_observe_before_begin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoopError, match="begin"):
        Accumulator(tmp_path).observe(0, torch.zeros(1).long(), torch.ones(1), torch.ones(1, 2), torch.zeros(1), None)


@pytest.mark.parametrize(("examples", "length"), [(None, 3), (10, None)])
def test_without_sizes_nothing_is_kept_and_it_is_said(tmp_path: Path, examples: int | None, length: int | None) -> None:
    a = Accumulator(tmp_path)
    a.begin(examples, length)
    a.observe(0, torch.zeros(1).long(), torch.ones(1), torch.ones(1, 2), torch.zeros(1).long(), None)
    tables, about = a.tensors()
    assert tables == {} and "was not known" in about["records"]
    assert a.state_dict()["tables"] == {}


def test_without_an_example_as_it_is_what_the_loader_says_is_kept(tmp_path: Path) -> None:
    """Blended batches are not observed: the split and the hashes are worth knowing all the same."""
    roles = torch.tensor([1, 1, 2, 3, 3], dtype=torch.uint8)
    view = TaskView(namespace="toy", classes=4, roles=lambda: roles, hashes=lambda: torch.arange(5))
    a = Accumulator(tmp_path, Asked(views=2))
    a.begin(5, 3, view)
    found = read(a, tmp_path)
    assert torch.equal(found.roles, roles) and found.hashes.tolist() == [0, 1, 2, 3, 4]
    assert found.namespace == "toy" and found.examples == 5 and found.classes == 4
    assert found.loss.shape == found.correct.shape == (3, 5)
    assert found.loss.isnan().all() and found.correct.isnan().all() and found.labels.tolist() == [-1] * 5
    assert not found.has_rows
    with pytest.raises(StoreError, match="this run kept no log-probabilities: all examples were blended"):
        found.rows(torch.tensor([0]))


def test_outputs_that_are_no_class_scores_keep_losses_only(tmp_path: Path) -> None:
    a = Accumulator(tmp_path)
    a.begin(3, 1)
    for length in (4, 6):  # batches of sequences padded to different lengths
        output, targets = torch.zeros(1, length, 7), torch.zeros(1, length)
        a.observe(0, torch.tensor([length // 4]), torch.ones(1), output, targets, None)
    found = read(a, tmp_path)
    assert found.loss.nan_to_num(-1).tolist() == [[-1, 1, -1]]
    assert found.correct.isnan().all()
    with pytest.raises(StoreError, match="targets are not classes"):
        found.codes  # noqa: B018


def test_epochs_beyond_the_planned_are_kept(tmp_path: Path) -> None:
    a = Accumulator(tmp_path)
    a.begin(2, 1)
    for epoch in range(3):
        a.observe(epoch, torch.tensor([0, 1]), torch.full((2,), float(epoch)), torch.eye(2), torch.tensor([0, 1]), None)
    assert read(a, tmp_path).loss.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_large_tables_live_in_files_that_go_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_module, "MAPPED_BEYOND", 1000)
    data = epochs(3, 60, 4)
    mapped, plain = Accumulator(tmp_path), Accumulator(tmp_path)
    for a, limit in ((mapped, 1000), (plain, 1 << 30)):
        monkeypatch.setattr(tables_module, "MAPPED_BEYOND", limit)
        a.begin(60, 3)
        for epoch, batches in enumerate(data):
            for batch in batches:
                a.observe(epoch, *batch, None)
        a.flush()
    assert len(list(tmp_path.glob("records.*.partial"))) == 5
    expected = plain.tensors()[0]
    for name, table in mapped.tensors()[0].items():
        assert torch.equal(table, expected[name])
    mapped.discard()
    assert list(tmp_path.glob("records.*.partial")) == []
