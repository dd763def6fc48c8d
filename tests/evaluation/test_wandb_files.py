"""W&B's run files: read as W&B wrote them, cut off anywhere, or damaged."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinvest.core.errors import CorruptFile
from reinvest.evaluation.wandb_files import BLOCK, read_run_file

PACKED = Path(__file__).parents[1] / "data" / "imports" / "wandb_offline.zip"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight epochs."""
    place = tmp_path_factory.mktemp("wandb")
    with zipfile.ZipFile(PACKED) as packed:
        packed.extractall(place)
    return next(f for f in sorted(place.rglob("*.wandb")) if read_run_file(f)["config.epochs"] == 8)


def test_a_run_has_its_name_configuration_last_values_and_end(file: Path) -> None:
    run = read_run_file(file)
    assert run["State"] == "finished" and run["Name"].startswith(f"{run['config.arm']}-8-")
    assert run["config.optimizer.name"] == "sgd" and run["config.seed"] // 1000 == 8
    assert run["summary.epoch"] == 7 and run["summary.steps"] == 192
    assert 0.8 < run["summary.test_accuracy"] < 1.0


def test_a_run_that_was_killed_is_running_and_has_what_it_logged(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    cut = tmp_path / "run-a.wandb"
    cut.write_bytes(whole[: int(0.6 * len(whole))])
    run = read_run_file(cut)
    assert run["State"] == "running" and run["config.epochs"] == 8 and 0 <= run["summary.epoch"] < 7


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 4000))
def test_a_file_may_end_anywhere(file: Path, size: int) -> None:
    whole = file.read_bytes()
    cut = file.with_name("cut.wandb")
    cut.write_bytes(whole[: max(7, min(size, len(whole)))])
    assert read_run_file(cut)["State"] in ("running", "finished")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b":W&B\xe1\xbe\x00" + struct.pack("<IHB", 0, 3, 9) + b"abc",
                                  b":W&B\xe1\xbe\x00" + struct.pack("<IHB", 0, 3, 1) + b"\xff\xff\xff"])  # fmt: skip
def test_other_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run-b.wandb").write_bytes(data)
    with pytest.raises(CorruptFile, match="other bytes"):
        read_run_file(tmp_path / "run-b.wandb")


def field(number: int, value: bytes) -> bytes:
    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    return varint(number << 3 | 2) + varint(len(value)) + value


@pytest.mark.parametrize("length", [10, BLOCK - 200, BLOCK, 3 * BLOCK + 17])
def test_a_record_may_run_over_blocks(tmp_path: Path, length: int) -> None:
    """A summary of that length is cut into chunks as LevelDB cuts it, and read whole."""
    text = "x" * length
    record = field(3, field(1, field(1, b"note") + field(16, json.dumps(text).encode())))
    data, left = b":W&B\xe1\xbe\x00", record
    while left:
        room = BLOCK - len(data) % BLOCK
        if room < 7:
            data += bytes(room)
            continue
        part, rest = left[: room - 7], left[room - 7 :]
        kind = (1 if not rest else 2) if len(left) == len(record) else (3 if rest else 4)
        data += struct.pack("<IHB", 0, len(part), kind) + part
        left = rest
    (tmp_path / "run-c.wandb").write_bytes(data)
    assert read_run_file(tmp_path / "run-c.wandb")["summary.note"] == text
