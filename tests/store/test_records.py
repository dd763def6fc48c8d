from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from reinvest import Indexed, Methods
from reinvest.core.errors import CorruptFile, InvalidValue, StoreError
from reinvest.core.view import TaskView
from reinvest.store import Run, RunWriter, Store
from reinvest.store.accumulate import Accumulator
from reinvest.store.artifacts import put_tensors
from reinvest.store.records import Records

Record = Callable[..., AbstractContextManager[RunWriter]]


def recorded(folder: Path, view: TaskView | None = None, *, examples: int = 50, classes: int = 6) -> Records:
    """Records of one epoch in which the first ten examples were not seen."""
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(examples - 10, classes, generator=generator)
    targets = torch.randint(0, classes, (examples - 10,), generator=generator)
    a = Accumulator(folder)
    a.begin(examples, 1, view)
    a.observe(0, torch.arange(10, examples), torch.ones(examples - 10), output, targets, None)
    tables, about = a.tensors()
    return Records.load(folder / "r", put_tensors(folder / "r", tables, about))


@pytest.mark.parametrize("classes", [6, 1500])
def test_a_partial_read_equals_the_whole(tmp_path: Path, classes: int) -> None:
    found = recorded(tmp_path, classes=classes)
    whole, known = found.rows(torch.arange(50))
    assert known.tolist() == [False] * 10 + [True] * 40
    assert torch.equal(whole[:10], torch.zeros(10, classes))
    assert torch.allclose(whole[10:].exp().sum(1), torch.ones(40), atol=1e-5)
    for ids in ([49], [3, 12, 12, 40, 0], torch.tensor([20, 11], dtype=torch.int32), []):
        rows, some = found.rows(ids)
        assert torch.equal(rows, whole[torch.as_tensor(ids).long()])
        assert torch.equal(some, known[torch.as_tensor(ids).long()])
    if classes == 6:
        assert torch.allclose(whole[10:], found.log_probabilities[10:].log_softmax(1), atol=1e-6)
        assert found.log_probabilities[:10].isnan().all()


@pytest.mark.parametrize(
    ("ids", "got"), [([50], "50"), ([-1], "-1"), ([1.0], "float"), ([[1]], "shape"), ([True], "bool")]
)
def test_ids_outside_the_tables_are_refused(tmp_path: Path, ids: Any, got: str) -> None:
    with pytest.raises(InvalidValue, match=got):
        recorded(tmp_path).rows(ids)


def test_what_the_loader_said_is_kept(tmp_path: Path) -> None:
    calls = []

    def column(name: str, value: int, kind: torch.dtype) -> Callable[[], Tensor]:
        def make() -> Tensor:
            calls.append(name)
            return torch.full((50,), value, dtype=kind)

        return make

    view = TaskView(
        namespace="digits",
        fingerprint="ab12",
        examples=50,
        classes=6,
        class_names=("zero", "eins, ümlaut", "2", "3", "4", "5"),
        preprocessing="1 x 8 x 8, divided by 16",
        moves=True,
        hashes=column("hashes", -(2**62), torch.int64),
        roles=column("roles", 3, torch.uint8),
    )
    found = recorded(tmp_path, view)
    assert sorted(set(calls)) == ["hashes", "roles"]
    assert (found.namespace, found.fingerprint, found.classes, found.examples) == ("digits", "ab12", 6, 50)
    assert found.class_names == view.class_names and found.preprocessing == view.preprocessing and found.moves
    assert found.positions is None and found.stride == 1 and found.kept_mass == 1.0 and found.top is None
    assert found.hashes is not None and found.hashes.dtype == torch.int64 and set(found.hashes.tolist()) == {-(2**62)}
    assert found.roles is not None and found.roles.dtype == torch.uint8 and set(found.roles.tolist()) == {3}
    assert found.labels is not None and found.labels.dtype == torch.int64
    assert (found.labels[:10] == -1).all() and (found.labels[10:] >= 0).all()


def test_what_the_loader_did_not_say_is_unknown(tmp_path: Path) -> None:
    for view in (None, TaskView()):
        found = recorded(tmp_path, view)
        assert (found.namespace, found.fingerprint, found.preprocessing, found.moves) == ("", "", "", False)
        assert found.class_names is None and found.hashes is None and found.roles is None
        assert found.classes == 6


def test_a_column_that_the_loader_cannot_give_loses_nothing_else(tmp_path: Path) -> None:
    def broken() -> Tensor:
        raise OSError("the disk is gone")

    found = recorded(tmp_path, TaskView(hashes=broken, roles=lambda: torch.zeros(49)))
    assert found.hashes is None and found.roles is None and found.has_rows
    assert "the disk is gone" in found.about["hashes"] and "[49] for 50" in found.about["roles"]


def test_more_names_than_ten_thousand_are_left_out(tmp_path: Path) -> None:
    assert recorded(tmp_path, TaskView(class_names=tuple(map(str, range(10_001))))).class_names is None


def test_files_of_the_first_version_are_read(tmp_path: Path) -> None:
    tables = {
        "loss": torch.ones(2, 3),
        "correct": torch.tensor([[1, 0, -1]] * 2, dtype=torch.int8),
        "codes": torch.tensor([[0, 255], [255, 0], [9, 9]], dtype=torch.uint8),
        "seen": torch.tensor([3, 3, 0], dtype=torch.int32),
    }
    found = Records.load(tmp_path / "r", put_tensors(tmp_path / "r", tables, {"records": "loss and correct"}))
    assert found.classes == 2 and found.examples == 3 and found.kept_mass == 1.0
    assert found.namespace == "" and found.labels is None and found.hashes is None and found.positions is None
    rows, known = found.rows([2, 0])
    assert known.tolist() == [False, True] and rows[1].argmax() == 0 and rows[0].tolist() == [0.0, 0.0]
    old = {n: tables[n] for n in ("loss", "correct")}
    put_tensors(tmp_path / "s", old, {"log_probabilities": "outputs are not [B, C] but have 3 dimensions"})
    with pytest.raises(StoreError, match="3 dimensions"):
        Records.load(tmp_path / "s").rows([0])


def resident(path: Path) -> int:
    """Bytes of a file that this process has touched through its mappings."""
    total, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0] and not line.split(" ")[0].endswith(":"):
            mine = line.endswith(str(path))
        elif mine and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def test_opening_and_a_partial_read_touch_little_of_a_large_file(tmp_path: Path) -> None:
    examples, classes = 64_000, 1000
    tables = {
        "loss": torch.zeros(3, examples),
        "correct": torch.zeros(3, examples, dtype=torch.int8),
        "codes": torch.randint(0, 255, (examples, classes), dtype=torch.uint8),
        "seen": torch.ones(examples, dtype=torch.int32),
    }
    expected = put_tensors(tmp_path / "r", tables)
    found = Records.load(tmp_path / "r", expected)
    assert found.examples == examples and found.classes == classes and found.has_rows
    if not os.path.exists("/proc/self/smaps"):
        pytest.skip("which pages are read can be seen on Linux only")
    assert resident(tmp_path / "r") <= 2 * (2 << 20)  # the header of 64 MB, through two mappings
    rows, known = found.rows([5, 31_000, 31_001, 63_999])
    assert rows.shape == (4, classes) and known.all()
    # A system may map a file in blocks of up to 2 MiB; these are 3 places in two tables.
    assert resident(tmp_path / "r") <= 8 * (2 << 20) < expected["bytes"] / 3
    assert found.tables["codes"].untyped_storage().nbytes() in (expected["bytes"], 64_000_000)


def test_reading_never_changes_the_file(tmp_path: Path) -> None:
    found = recorded(tmp_path)
    before = (tmp_path / "r").read_bytes()
    found.loss.zero_()
    found.codes.zero_()
    assert (tmp_path / "r").read_bytes() == before


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path)
    whole = (tmp_path / "r").read_bytes()
    expected = {"bytes": len(whole), "sha256": "0" * 64}
    for length in (0, 7, 100, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(CorruptFile, match=f"has {length} bytes and had {len(whole)}"):
            Records.load(tmp_path / "cut", expected)
        with pytest.raises(CorruptFile, match="not a whole safetensors file"):
            Records.load(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole + b"x")
    with pytest.raises(CorruptFile, match="not a whole safetensors file"):
        Records.load(tmp_path / "cut")
    with pytest.raises(CorruptFile, match="is missing"):
        Records.load(tmp_path / "none")
    (tmp_path / "cut").write_bytes(struct.pack("<Q", 2**40) + whole[8:])
    with pytest.raises(CorruptFile, match="not a whole safetensors file"):
        Records.load(tmp_path / "cut", expected)


def test_bytes_that_changed_are_found_when_asked_for(tmp_path: Path) -> None:
    recorded(tmp_path)
    whole = bytearray((tmp_path / "r").read_bytes())
    expected = put_tensors(tmp_path / "again", {"loss": torch.ones(1)})
    assert Records.load(tmp_path / "r", verify=True).has_rows
    whole[-1] ^= 1
    (tmp_path / "r").write_bytes(whole)
    Records.load(tmp_path / "r", expected | {"bytes": len(whole)})
    with pytest.raises(CorruptFile, match="another sha256"):
        Records.load(tmp_path / "r", expected | {"bytes": len(whole)}, verify=True)


def test_a_file_without_records_is_refused(tmp_path: Path) -> None:
    put_tensors(tmp_path / "r", {"weight": torch.ones(2)})
    with pytest.raises(CorruptFile, match="no per-example records"):
        Records.load(tmp_path / "r")


# ---- through a chain and a store -----------------------------------------------------------------------------------


class TokenModel(nn.Module):
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.inside, self.out = nn.Embedding(tokens, 8), nn.Linear(8, tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inside(x))


def test_an_own_loop_on_sequences_leaves_rows_by_token(record: Record) -> None:
    torch.manual_seed(0)
    texts = torch.randint(0, 30, (12, 7))
    targets = texts[:, 1:].clone()
    targets[4, 2:] = -100
    data = Indexed(TensorDataset(texts[:, :-1], targets), name="texts")
    model = TokenModel(30)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loader = DataLoader(data, batch_size=5)
    methods = Methods()
    with record() as writer, methods.attach(model, optimizer, duration="2ep", data=loader, seed=0):
        for _ in range(2):
            for x, y in methods.batches(loader):
                methods.loss(model(x), y).backward()
                methods.step()
    found = writer.run.records()
    exact = model(texts[:, :-1]).detach().log_softmax(-1)
    assert found.namespace == "texts" and found.positions == 6 and found.classes == 30
    rows, known = found.rows(torch.arange(12))
    assert torch.equal(known, targets != -100)
    assert (rows - exact)[known].abs().max() <= 12 / 255 or found.top is not None
    losses = -exact.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1).masked_fill(targets == -100, 0.0)
    assert torch.allclose(found.loss[1], losses.sum(1) / (targets != -100).sum(1), rtol=2**-11, atol=1e-5)
    right = (exact.argmax(-1) == targets).sum(1) / (targets != -100).sum(1)
    assert torch.allclose(found.correct[1], right, atol=2**-12)


def test_a_mean_of_the_criterion_does_not_hide_the_class_names_in_the_truth(record: Record, store: Store) -> None:
    with record() as writer:
        names = ("a", "b")
        writer.begin({"examples": 4, "epochs": 1, "view": TaskView(namespace="n", class_names=names)})
        writer.observe(0, torch.arange(4), torch.ones(4), torch.eye(4)[:, :2], torch.zeros(4).long(), None)
    assert writer.run.records().class_names == names
    truth = json.loads((writer.path / "run.json").read_text())
    assert truth["records"]["namespace"] == "n" and "class_names" not in truth["records"]
    assert store.verify() == []


RECORDING = """
import sys, torch
from reinvest.store import Store
seed = int(sys.argv[2])
with Store(sys.argv[1]).record("mine", task="digits", seed=seed, facts={}) as run:
    run.begin({"examples": 400, "epochs": 4})
    print("ready", flush=True)
    sys.stdin.readline()
    for epoch in range(4):
        for ids in torch.arange(400).split(20):
            run.observe(epoch, ids, torch.full((20,), float(seed)), torch.eye(20) * seed, ids % 20, None)
"""


def test_two_processes_record_two_runs_of_one_store_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "runs")
    other = subprocess.Popen(
        [sys.executable, "-c", RECORDING, folder, "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None and other.stdout is not None
    with Store(folder) as store:
        with store.record("mine", task="digits", seed=1, facts={}) as run:
            run.begin({"examples": 400, "epochs": 4})
            assert other.stdout.readline() == b"ready\n"
            other.stdin.write(b"go\n")
            other.stdin.flush()
            for epoch in range(4):
                for ids in torch.arange(400).split(20):
                    run.observe(epoch, ids, torch.ones(20), torch.eye(20), ids % 20, None)
        other.communicate()
        assert other.returncode == 0
        assert store.verify() == []
        runs: list[Run] = list(store.runs())
        assert sorted(run.seed for run in runs) == [1, 2]
        for found in runs:
            records = found.records()
            assert (records.loss == found.seed).all() and records.seen.tolist() == [3] * 400
            rows, known = records.rows([399])
            probability = math.exp(found.seed) / (math.exp(found.seed) + 19)
            assert known.all() and float(rows[0, 19].exp()) == pytest.approx(probability, rel=0.05)
