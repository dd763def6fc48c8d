"""Tables of the training examples alone read as tables of all ids, bit for bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from reinvest.core.view import TEST, TRAIN, TaskView
from reinvest.store.accumulate import Accumulator
from reinvest.store.artifacts import put_tensors
from reinvest.store.places import places_of, spread_out
from reinvest.store.records import Records

N, C = 40, 5
TRAINED = torch.tensor([3, 4, 9, 17, 30, 31])


def roles() -> torch.Tensor:
    found = torch.full((N,), TEST, dtype=torch.uint8)
    found[TRAINED] = TRAIN
    return found


def recorded(folder: Path, view: TaskView | None, *, dense: bool, epochs: int = 2) -> Records:
    made = Accumulator(folder)
    made.begin(N, epochs, view)
    draws = torch.Generator().manual_seed(1)
    for epoch in range(epochs):
        for ids in TRAINED[torch.randperm(6, generator=draws)].split(4):
            shape = (len(ids), C, 3) if dense else (len(ids), C)
            output = torch.randn(shape, generator=draws)
            targets = torch.randint(C, (len(ids), 3) if dense else (len(ids),), generator=draws)
            made.observe(epoch, ids, torch.rand(len(ids), generator=draws), output, targets, None)
    tables, about = made.tensors()
    put_tensors(folder / "r.safetensors", tables, about)
    return Records.load(folder / "r.safetensors")


@pytest.mark.parametrize("dense", [False, True])
def test_few_training_examples_read_like_all_ids(tmp_path: Path, dense: bool) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    small = recorded(tmp_path / "a", TaskView(roles=roles), dense=dense)
    whole = recorded(tmp_path / "b", None, dense=dense)
    assert "places" in small.tables and "places" not in whole.tables
    assert small.tables["loss"].shape == (6, 2) and small.examples == whole.examples == N
    assert torch.equal(small.codes[TRAINED], whole.codes[TRAINED])
    for name in ("loss", "correct", "seen", "log_probabilities"):
        assert torch.equal(getattr(small, name).nan_to_num(7.0), getattr(whole, name).nan_to_num(7.0)), name
    ids = torch.arange(N)
    for a, b in zip(small.rows(ids), whole.rows(ids), strict=True):
        assert torch.equal(a, b)
    assert small.rows(ids)[1].reshape(N, -1).any(1).nonzero().flatten().tolist() == TRAINED.tolist()
    if not dense:
        assert small.labels is not None and whole.labels is not None and torch.equal(small.labels, whole.labels)


def test_passes_over_other_examples_are_counted_and_not_kept(tmp_path: Path) -> None:
    made = Accumulator(tmp_path)
    made.begin(N, 1, TaskView(roles=roles))
    ids = torch.tensor([3, 5, 9])
    made.observe(0, ids, torch.ones(3), torch.randn(3, C), torch.zeros(3, dtype=torch.int64), None)
    tables, about = made.tensors()
    assert about["outside"].startswith("1 passes")
    assert tables["loss"].isnan().T.tolist() == [[False, True, False, True, True, True]]


def test_rows_for_all_where_the_loader_says_nothing_or_nearly_all_are_trained_on() -> None:
    most = torch.full((N,), TRAIN, dtype=torch.uint8)
    assert places_of(None, N) is None and places_of(TaskView(), N) is None
    assert places_of(TaskView(roles=lambda: most), N) is None
    assert places_of(TaskView(roles=roles), N + 1) is None


def test_spread_out_puts_rows_where_their_ids_are() -> None:
    places = places_of(TaskView(roles=roles), N)
    assert places is not None
    whole = spread_out(torch.arange(6.0), places, math.nan)
    assert whole[TRAINED].tolist() == [0, 1, 2, 3, 4, 5] and int(whole.isnan().sum()) == N - 6
