"""Rows of the last pass, through the accumulator: more than 1,000 classes, tokens, pixels."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reinvest.core.errors import LoopError, StoreError
from reinvest.core.view import TaskView
from reinvest.store import lastpass, places
from reinvest.store import tables as tables_module
from reinvest.store.accumulate import Accumulator
from reinvest.store.artifacts import put_tensors
from reinvest.store.records import Records

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def read(accumulator: Accumulator, folder: Path) -> Records:
    tables, about = accumulator.tensors()
    return Records.load(folder / "r", put_tensors(folder / "r", tables, about))


def made(count: int, examples: int, *shape: int, scale: float = 6.0, seed: int = 0, size: int = 7) -> list[list[Batch]]:
    """Epochs of batches (ids, losses [B], output [B, C, *space], targets [B, *space]); `shape` is (C, *space)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, shape[0], (examples, *shape[1:]), generator=generator)
    epochs = []
    for _ in range(count):
        output = torch.randn(examples, *shape, generator=generator) * scale
        losses = F.cross_entropy(output, targets, reduction="none", ignore_index=-100)
        losses = losses if losses.ndim == 1 else losses.flatten(1).mean(1)
        order = torch.randperm(examples, generator=generator)
        epochs.append([(i, losses[i], output[i], targets[i]) for i in order.split(size)])
    return epochs


def fed(
    folder: Path, epochs: list[list[Batch]], examples: int, planned: float | None = None, **view: Any
) -> Accumulator:
    a = Accumulator(folder)
    a.begin(examples, planned or len(epochs), TaskView(**view))
    for epoch, batches in enumerate(epochs):
        for batch in batches:
            a.observe(epoch, *batch, None)
    return a


def logits_of(batches: list[Batch]) -> Tensor:
    """[N, C, ...] by id."""
    return torch.cat([b[2] for b in batches])[torch.cat([b[0] for b in batches]).argsort()]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(one[n].dtype == other[n].dtype and one[n].numpy().tobytes() == other[n].numpy().tobytes() for n in one)


# ---- more than 1,000 classes ---------------------------------------------------------------------------------------


def test_beyond_a_thousand_classes_the_largest_of_the_last_pass_are_kept(tmp_path: Path) -> None:
    data = made(3, 60, 1200)
    found = read(fed(tmp_path, data, 60), tmp_path)
    exact = logits_of(data[-1]).double().softmax(1)
    kept = exact.sort(1, descending=True).values[:, : found.top].sum(1)
    assert found.top is not None and found.top * 3 + 2 < 1200
    assert found.kept_mass == pytest.approx(float(kept.mean()), abs=1e-3) and found.kept_mass >= 0.98
    fewer = exact.sort(1, descending=True).values[:, : found.top - 1].sum(1)
    assert float(fewer.mean() - 2 * fewer.std() / math.sqrt(60)) < 0.98
    rows, known = found.rows(torch.arange(60))
    assert known.all() and torch.allclose(rows.exp().sum(1), torch.ones(60), atol=1e-5)
    assert (rows.double().exp() - exact).abs().max() <= 0.05
    assert torch.equal(rows.topk(3).indices[:, 0], exact.argmax(1))
    assert found.classes == 1200 and found.positions is None and found.stride == 1
    assert found.seen.tolist() == [1] * 60
    assert found.labels is not None and found.correct.shape == (3, 60)
    for epoch, batches in enumerate(data):
        for ids, losses, output, targets in batches:
            assert torch.equal(found.loss[epoch, ids], losses.half().float())
            assert torch.equal(found.correct[epoch, ids], output.argmax(1).eq(targets).float())
            assert torch.equal(found.labels[ids], targets)
    with pytest.raises(StoreError, match=f"kept the {found.top} largest of 1200 classes; use rows"):
        found.codes  # noqa: B018


def test_flat_rows_of_many_classes_are_kept_in_full(tmp_path: Path) -> None:
    data = made(1, 20, 1001, scale=0.1)
    found = read(fed(tmp_path, data, 20), tmp_path)
    assert found.top is None and found.kept_mass == 1.0
    rows, known = found.rows(torch.arange(20))
    assert known.all() and (rows - logits_of(data[0]).log_softmax(1)).abs().max() <= 12 / 255


def test_a_second_pass_in_an_epoch_replaces_the_first(tmp_path: Path) -> None:
    (batches,) = made(1, 4, 1500, size=4)
    ids, losses, output, targets = batches[0]
    assert output[0].argmax() != output[1].argmax()
    for first, second in ((0, 1), (1, 0)):
        a = Accumulator(tmp_path)
        a.begin(4, 1)
        a.observe(0, ids[[0, 0]], losses[:2], output[[first, second]], targets[[0, 0]], None)
        rows, known = read(a, tmp_path).rows(ids[:1])
        assert known.all() and (rows.exp() - output[second].softmax(0)).abs().max() <= 0.05


def test_examples_missing_from_a_half_epoch_have_the_row_of_the_whole_one_before(tmp_path: Path) -> None:
    data = made(3, 20, 1200, size=10)
    found = read(fed(tmp_path, [data[0], data[1], data[2][:1]], 20, 2.5), tmp_path)
    late = data[2][0][0]
    early = torch.tensor([i for i in range(20) if i not in late.tolist()])
    for ids, batches in ((late, data[2]), (early, data[1])):
        rows, known = found.rows(ids)
        assert known.all()
        assert (rows.exp() - logits_of(batches)[ids].softmax(1)).abs().max() <= 0.05


def test_what_is_not_valid_or_not_finite_has_no_row(tmp_path: Path) -> None:
    ((batch,),) = made(1, 5, 1200, size=5)
    _, losses, output, targets = batch
    a = Accumulator(tmp_path)
    a.begin(6, 1)
    output = output.clone()
    output[3, 5] = math.nan
    a.observe(0, torch.arange(5), losses, output, targets, torch.tensor([True, True, False, True, True]))
    found = read(a, tmp_path)
    rows, known = found.rows(torch.arange(6))
    assert known.tolist() == [True, True, False, False, True, False]
    assert torch.equal(rows[~known], torch.zeros(3, 1200))
    assert found.labels is not None and found.labels[[2, 5]].tolist() == [-1, -1]


def test_a_run_that_stopped_early_says_so(tmp_path: Path) -> None:
    data = made(1, 20, 1200)
    found = read(fed(tmp_path, data, 20, planned=3), tmp_path)
    assert not found.has_rows and found.kept_mass is None
    with pytest.raises(StoreError, match="ended before its last epoch"):
        found.rows([0])


def test_ids_outside_the_data_set_are_refused(tmp_path: Path) -> None:
    a = fed(tmp_path, made(1, 5, 1200), 4)
    with pytest.raises(LoopError, match=r"0 \.\.\. 3, got 4"):
        a.flush()


# ---- tokens and pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes_last", [False, True])
def test_tokens_have_a_row_each_but_for_the_ignored(tmp_path: Path, classes_last: bool) -> None:
    data = made(2, 12, 300, 5)
    changed = []
    for batches in data:
        changed.append([])
        for ids, losses, output, targets in batches:
            targets = targets.clone()
            output = output.clone()
            output[:, 0, 2] = 50.0  # some right answers
            targets[ids < 6, 2] = 0
            targets[:, 1] = -100
            targets[ids == 3] = -100
            changed[-1].append((ids, losses, output.transpose(1, 2) if classes_last else output, targets))
    found = read(fed(tmp_path, changed, 12), tmp_path)
    assert found.positions == 5 and found.stride == 1 and found.labels is None
    rows, known = found.rows(torch.arange(12))
    assert rows.shape == (12, 5, 300) and known.shape == (12, 5)
    assert not known[:, 1].any() and not known[3].any() and int(known.sum()) == 11 * 4
    assert torch.equal(rows[~known], torch.zeros(12 * 5 - 44, 300))
    assert torch.allclose(rows[known].exp().sum(-1), torch.ones(44), atol=1e-5)
    output = logits_of(changed[-1])
    exact = (output if classes_last else output.transpose(1, 2)).softmax(-1)
    assert (rows.exp() - exact)[known].abs().max() <= 0.05
    assert found.top is not None and found.kept_mass is not None and found.kept_mass >= 0.98
    # The share of the valid positions that are right, for each example.
    for epoch, batches in enumerate(changed):
        for ids, _, output, targets in batches:
            right = output.argmax(-1 if classes_last else 1).eq(targets).sum(1) / (targets != -100).sum(1)
            assert torch.equal(found.correct[epoch, ids].nan_to_num(-1), right.nan_to_num(-1))
    assert found.correct[:, 3].isnan().all() and (found.correct[:, 0] >= 0.25).all()


def test_few_classes_are_kept_in_full_and_one_epoch_only(tmp_path: Path) -> None:
    data = made(3, 8, 4, 6, scale=1.0)
    found = read(fed(tmp_path, data, 8), tmp_path)
    assert found.top is None and found.codes.shape == (8, 6, 4) and found.kept_mass == 1.0
    rows, known = found.rows([7, 2, 2])
    exact = logits_of(data[-1]).transpose(1, 2).log_softmax(-1)
    assert known.all() and (rows - exact[[7, 2, 2]]).abs().max() <= 12 / 255
    assert (found.log_probabilities - exact).abs().max() <= 6 / 255 + 1e-5


@pytest.mark.parametrize(("most", "stride"), [(35, 1), (34, 2), (12, 2), (11, 3), (1, 7)])
def test_pixels_have_a_row_at_the_smallest_stride_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, stride: int
) -> None:
    monkeypatch.setattr(places, "MOST_POSITIONS", most)
    data = made(1, 4, 3, 5, 7, scale=1.0, size=2)
    data[0][0][3][:, 0, 0] = -100
    found = read(fed(tmp_path, data, 4), tmp_path)
    assert found.stride == stride and found.positions == -(-5 // stride) * -(-7 // stride)
    rows, known = found.rows(torch.arange(4))
    exact = logits_of(data[0]).log_softmax(1)[..., ::stride, ::stride].flatten(2).transpose(1, 2)
    assert (rows - exact)[known].abs().max() <= 12 / 255
    hidden = torch.zeros(4, dtype=torch.bool)
    hidden[data[0][0][0]] = True
    assert torch.equal(~known, torch.nn.functional.pad(hidden.unsqueeze(1), (0, known.shape[1] - 1)))


def test_a_stride_may_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accumulator, "stride", 4)
    found = read(fed(tmp_path, made(1, 4, 3, 8, 8), 4), tmp_path)
    assert found.stride == 4 and found.positions == 4


def test_labels_that_the_criterion_ignores_have_no_row(tmp_path: Path) -> None:
    data = made(1, 6, 3, 4, scale=1.0)
    for criterion in (torch.nn.CrossEntropyLoss(ignore_index=1), functools.partial(F.cross_entropy, ignore_index=1)):
        found = read(fed(tmp_path, data, 6, criterion=criterion), tmp_path)
        targets = torch.cat([b[3] for b in data[0]])[torch.cat([b[0] for b in data[0]]).argsort()]
        assert torch.equal(found.rows(torch.arange(6))[1], targets != 1)


def test_views_that_move_pixels_keep_no_rows_by_position(tmp_path: Path) -> None:
    data = made(2, 6, 3, 4)
    found = read(fed(tmp_path, data, 6, moves=True), tmp_path)
    assert found.moves and not found.has_rows and not found.correct.isnan().any()
    with pytest.raises(StoreError, match="training views move pixels or tokens"):
        found.rows([0])
    flat = [[(i, x, o[..., 0], t[..., 0]) for i, x, o, t in batches] for batches in data]
    assert read(fed(tmp_path, flat, 6, moves=True), tmp_path).has_rows  # one label: a mean over views is meant


def test_sequences_of_different_lengths_keep_no_rows(tmp_path: Path) -> None:
    data = made(1, 4, 9, 6, size=2)
    ids, losses, output, targets = data[0][1]
    varied = [[data[0][0], (ids, losses, output[..., :4], targets[..., :4])]]
    found = read(fed(tmp_path, varied, 4), tmp_path)
    assert not found.has_rows and not found.loss.isnan().any() and not found.correct.isnan().any()
    with pytest.raises(StoreError, match=r"rows of shape \[6, 9\] and \[4, 9\] cannot share one table"):
        found.rows([0])
    # Lengths that vary before any row is kept do no harm.
    whole = made(1, 4, 9, 6, size=2)
    assert read(fed(tmp_path, [*varied, *whole], 4), tmp_path).rows(torch.arange(4))[1].all()


def test_tables_that_are_too_large_are_refused_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastpass, "MOST_BYTES", 10)
    found = read(fed(tmp_path, made(1, 4, 9, 6), 4), tmp_path)
    assert not found.has_rows and not found.loss.isnan().any()
    with pytest.raises(StoreError, match="rows of 24 positions would take"):
        found.rows([0])


def test_examples_without_a_single_label_keep_nothing_to_decide_on(tmp_path: Path) -> None:
    data = [[(i, x, o, torch.full_like(t, -100)) for i, x, o, t in made(1, 4, 9, 6)[0]]]
    found = read(fed(tmp_path, data, 4), tmp_path)
    assert found.correct.isnan().all() and not found.has_rows


# ---- checkpoints and memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1200,), (300, 5), (4, 6, 6)])
@pytest.mark.parametrize("sample", [1, 20_000, 1 << 22])
def test_interrupted_and_continued_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], sample: int
) -> None:
    monkeypatch.setattr(lastpass, "SAMPLE", sample)
    data = made(2, 40, *shape)
    flat = [(epoch, *batch) for epoch, batches in enumerate(data) for batch in batches]
    expected, about = fed(tmp_path, data, 40).tensors()
    for stop in (0, 3, 6, 7, 8, 9, len(flat) - 1, len(flat)):
        first = Accumulator(tmp_path)
        first.begin(40, 2, TaskView())
        for batch in flat[:stop]:
            first.observe(*batch, None)
        state = first.state_dict()
        for batch in flat[stop : stop + 1]:
            first.observe(*batch, None)  # lost with the process; must not reach the state
        first.flush()
        torch.save(state, tmp_path / "state")
        second = Accumulator(tmp_path)
        second.begin(40, 2, TaskView())
        second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
        for batch in flat[stop:]:
            second.observe(*batch, None)
        found, found_about = second.tensors()
        assert same(found, expected), stop
        assert found_about == about


@pytest.mark.parametrize("shape", [(1200,), (300, 5), (4, 6, 6)])
def test_large_tables_live_in_files_that_go_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    data = made(1, 30, *shape)
    expected = fed(tmp_path, data, 30).tensors()[0]
    monkeypatch.setattr(tables_module, "MAPPED_BEYOND", 1)
    mapped = fed(tmp_path, data, 30)
    assert same(mapped.tensors()[0], expected)
    names = {path.name for path in tmp_path.glob("records.*.partial")}
    assert names == {f"records.{name}.partial" for name in expected}
    mapped.discard()
    assert list(tmp_path.glob("records.*.partial")) == []


def test_a_batch_may_be_overwritten_after_it_was_observed(tmp_path: Path) -> None:
    for sample in (1, 1 << 22):
        lastpass.SAMPLE, before = sample, lastpass.SAMPLE
        try:
            data = made(1, 6, 300, 5)
            expected = fed(tmp_path, data, 6).tensors()[0]
            a = Accumulator(tmp_path)
            a.begin(6, 1, TaskView())
            for batch in data[0]:
                a.observe(0, *batch, None)
                for tensor in batch:
                    tensor.zero_()
            assert same(a.tensors()[0], expected)
        finally:
            lastpass.SAMPLE = before


def test_half_precision_outputs(tmp_path: Path) -> None:
    data = [[(i, x, o.bfloat16(), t) for i, x, o, t in made(1, 6, 300, 5)[0]]]
    rows, known = read(fed(tmp_path, data, 6), tmp_path).rows(torch.arange(6))
    assert known.all()
    exact = logits_of(data[0]).float().transpose(1, 2).softmax(-1)
    assert (rows.exp() - exact).abs().max() <= 0.05
