from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from reinvest.core.errors import CorruptFile, InvalidValue, StoreError
from reinvest.store.codec import decode_rows, encode
from reinvest.store.rows import RowTable


def logits(rows: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed)) * 3


def test_rows_come_back_by_id_also_before_the_table_is_sealed(tmp_path: Path) -> None:
    written = logits(6, 5)
    table = RowTable.create(tmp_path / "t", 10, 5, {"run": "ab", "what": "ümlaut"})
    table.write([8, 0, 3, 4, 5, 1], written)
    table.set_labels([8, 0], torch.tensor([4, 2]))
    assert not (tmp_path / "t").exists()
    expected = decode_rows(encode(written.log_softmax(1)))
    for _ in range(2):
        rows, known = table.rows([3, 9, 8, 3])
        assert known.tolist() == [True, False, True, True]
        assert torch.equal(rows, torch.stack([expected[2], torch.zeros(5), expected[0], expected[2]]))
        assert table.known.nonzero().squeeze(1).tolist() == [0, 1, 3, 4, 5, 8]
        assert table.labels.tolist() == [2, -1, -1, -1, -1, -1, -1, -1, 4, -1]
        assert (table.examples, table.classes, table.positions) == (10, 5, None)
        assert table.about == {"run": "ab", "what": "ümlaut"}
        table.seal()
        table = RowTable.open(tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert load_file(tmp_path / "t")["codes"].shape == (10, 5)


def test_rows_by_position(tmp_path: Path) -> None:
    written = logits(3, 4, 7)
    table = RowTable.create(tmp_path / "t", 5, 7, positions=4)
    valid = torch.ones(3, 4, dtype=torch.bool)
    valid[1, 2] = False
    table.write(torch.tensor([4, 0, 2]), written, valid)
    table.seal()
    rows, known = RowTable.open(tmp_path / "t").rows([0, 1, 4])
    assert rows.shape == (3, 4, 7) and table.positions == 4
    assert torch.equal(known, torch.stack([valid[1], torch.zeros(4, dtype=torch.bool), valid[0]]))
    assert torch.equal(rows[2], decode_rows(encode(written[0].log_softmax(-1)))) and rows[0, 2].tolist() == [0.0] * 7


def test_rows_that_are_not_finite_are_not_known(tmp_path: Path) -> None:
    table = RowTable.create(tmp_path / "t", 4, 2)
    table.write([0, 1, 2], torch.tensor([[math.nan, 0], [math.inf, 0], [-math.inf, 0]]))
    rows, known = table.rows([0, 1, 2, 3])
    assert known.tolist() == [False, False, True, False] and rows[2].exp().round().tolist() == [0, 1]
    table.write([0], torch.zeros(1, 2))
    assert table.rows([0])[1].tolist() == [True]


@pytest.mark.parametrize(
    ("ids", "rows", "got"),
    [
        ([4], torch.zeros(1, 3), "4"),
        ([-1], torch.zeros(1, 3), "-1"),
        ([0.0], torch.zeros(1, 3), "float"),
        ([0], torch.zeros(1, 4), r"\[1, 4\]"),
        ([0, 1], torch.zeros(1, 3), r"\[1, 3\]"),
        ([0], torch.zeros(1, 3, dtype=torch.int64), "int64"),
    ],
)
def test_what_is_no_row_of_the_table_is_refused_and_changes_nothing(
    tmp_path: Path, ids: list[Any], rows: torch.Tensor, got: str
) -> None:
    table = RowTable.create(tmp_path / "t", 4, 3)
    with pytest.raises(InvalidValue, match=got):
        table.write(ids, rows)
    assert not table.known.any()


@pytest.mark.parametrize("labels", [torch.zeros(3), torch.zeros(2).long()])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: torch.Tensor) -> None:
    with pytest.raises(InvalidValue, match="one class number an id"):
        RowTable.create(tmp_path / "t", 4, 3).set_labels([0, 1, 2], labels)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (2.0, 3), (True, 3)])
def test_sizes_are_whole_numbers(tmp_path: Path, sizes: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidValue, match="whole number from 1"):
        RowTable.create(tmp_path / "t", *sizes)
    assert list(tmp_path.iterdir()) == []


def test_a_sealed_table_takes_nothing_more(tmp_path: Path) -> None:
    table = RowTable.create(tmp_path / "t", 4, 3)
    table.seal()
    table.seal()
    for sealed in (table, RowTable.open(tmp_path / "t")):
        with pytest.raises(StoreError, match="read-only"):
            sealed.write([0], torch.zeros(1, 3))
        with pytest.raises(StoreError, match="read-only"):
            sealed.set_labels([0], torch.tensor([1]))


def test_what_a_dead_process_left_is_started_over(tmp_path: Path) -> None:
    script = (
        "import os, sys, torch; from reinvest.store.rows import RowTable\n"
        "table = RowTable.create(sys.argv[1], 4, 3)\ntable.write([1], torch.zeros(1, 3))\nos._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "t")], check=False).returncode == 9
    assert [path.name for path in tmp_path.iterdir()] == ["t.partial"]
    table = RowTable.create(tmp_path / "t", 6, 2)
    assert not table.known.any() and table.examples == 6
    table.discard()
    assert list(tmp_path.iterdir()) == []


def test_another_table_under_the_same_name_waits(tmp_path: Path) -> None:
    first = RowTable.create(tmp_path / "t", 4, 3, {"run": "a"})
    with pytest.raises(StoreError, match="another one is being written"):
        RowTable.create(tmp_path / "t", 4, 3, {"run": "b"})
    second = RowTable.create(tmp_path / "t", 4, 3, {"run": "a"})
    second.write([2], torch.zeros(1, 3))
    assert first.rows([2])[1].tolist() == [True]
    second.discard()  # the other one still writes it
    first.seal()
    assert RowTable.open(tmp_path / "t").rows([2])[1].tolist() == [True]


def test_rows_written_after_another_one_sealed_appear(tmp_path: Path) -> None:
    first, second = (RowTable.create(tmp_path / "t", 4, 3) for _ in range(2))
    first.write([0], torch.zeros(1, 3))
    first.seal()
    reader = RowTable.open(tmp_path / "t")
    assert reader.known.tolist() == [True, False, False, False]
    later = RowTable.create(tmp_path / "t", 9, 9)  # the temporary name is free again
    second.write([3], torch.zeros(1, 3))
    second.seal()  # must not give the later table its name
    assert RowTable.open(tmp_path / "t").known.tolist() == [True, False, False, True]
    later.seal()
    assert RowTable.open(tmp_path / "t").examples == 9
    assert reader.examples == 4  # what is open stays what it was


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    table = RowTable.create(tmp_path / "t", 40, 3)
    table.seal()
    whole = (tmp_path / "t").read_bytes()
    for length in (0, 5, 60, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(CorruptFile):
            RowTable.open(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole.replace(b'"U8"', b'"I8"', 1))
    with pytest.raises(CorruptFile, match="not those of rows"):
        RowTable.open(tmp_path / "cut")
    with pytest.raises(CorruptFile, match="no table of rows"):
        RowTable.open(tmp_path / "none")


WRITING = """
import sys, torch
from reinvest.store.rows import RowTable
table = RowTable.create(sys.argv[1], 2000, 10, {"run": "a"})
print("ready", flush=True)
sys.stdin.readline()
for ids in torch.arange(0, 2000, 2).split(16):
    table.write(ids, torch.nn.functional.one_hot(ids % 10, 10) * 5.0)
    table.set_labels(ids, ids % 10)
table.seal()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="tables are shared through POSIX locks")
def test_two_processes_fill_one_table_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITING, str(tmp_path / "t")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None and other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    table = RowTable.create(tmp_path / "t", 2000, 10, {"run": "a"})  # both hold it before either writes
    other.stdin.write(b"go\n")
    other.stdin.flush()
    for ids in torch.arange(1, 2000, 2).split(16):
        table.write(ids, torch.nn.functional.one_hot(ids % 10, 10) * 5.0)
        table.set_labels(ids, ids % 10)
    other.communicate()
    assert other.returncode == 0
    assert table.known.all()
    table.seal()
    assert os.listdir(tmp_path) == ["t"]
    table = RowTable.open(tmp_path / "t")
    rows, known = table.rows(torch.arange(2000))
    assert known.all() and torch.equal(table.labels, torch.arange(2000) % 10)
    expected = decode_rows(encode((torch.eye(10) * 5.0).log_softmax(1)))
    assert torch.equal(rows, expected[torch.arange(2000) % 10])
