from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinvest.core.errors import CorruptFile, InvalidValue, StoreUnwritable
from reinvest.store import artifacts
from reinvest.store.artifacts import check_file, digest_of, get_state, get_tensors, put, put_state, put_tensors


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("size", [0, 10, artifacts.OVERLAP_BEYOND * 2])
def test_put_writes_all_bytes_and_tells_their_hash(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    found = put(path, [data[:5], data[5:]])
    assert path.read_bytes() == data
    assert found == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": size} == digest_of(path)
    assert check_file(path, found) == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EDQUOT])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "file"
    put(path, [b"old"])

    def fail(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(artifacts.os, "fsync", fail)
    with pytest.raises(StoreUnwritable, match=r"must be writable, but .* at .*file; free some space"):
        put(path, [b"new"])
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_check_file_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "file"
    found = put(path, [b"12345"])
    path.write_bytes(b"12346")
    assert "another sha256" in check_file(path, found)
    path.write_bytes(b"123")
    assert "has 3 bytes and had 5" in check_file(path, found)
    path.unlink()
    assert check_file(path, found) == "is missing"


def test_tensors_are_what_the_format_library_writes(tmp_path: Path) -> None:
    tensors = {
        "b": torch.randn(3, 4),
        "a": torch.randn(2, 2).to(torch.bfloat16),
        "h": torch.randn(5).half(),
        "n": torch.arange(6).view(2, 3),
        "m": torch.tensor([True, False, True]),
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "u": torch.arange(7, dtype=torch.uint8),
    }
    put_tensors(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs")
    ours, theirs = load_file(tmp_path / "ours"), load_file(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    for name, tensor in tensors.items():
        assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], theirs[name])
    assert (tmp_path / "ours").stat().st_size == (tmp_path / "theirs").stat().st_size


def test_tensors_that_share_memory_or_are_views_are_written_in_full(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, requires_grad=True)
    found = put_tensors(tmp_path / "w", {"one": weight, "tied": weight, "turned": weight.T})
    loaded = get_tensors(tmp_path / "w", found)
    assert torch.equal(loaded["one"], weight) and torch.equal(loaded["tied"], weight)
    assert torch.equal(loaded["turned"], weight.T)


@pytest.mark.parametrize("bad", [3, "x", torch.eye(2).to_sparse()])
def test_only_dense_tensors_are_weights(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(InvalidValue, match="weights are dense tensors by name"):
        put_tensors(tmp_path / "w", {"bad": bad})


def test_changed_and_truncated_tensor_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    found = put_tensors(path, {"a": torch.randn(100)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptFile, match="another sha256"):
        get_tensors(path, found)
    for cut in (0, 5, 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        for expected in (found, None):
            with pytest.raises(CorruptFile, match=r"/w .*restore it from a copy"):
                get_tensors(path, expected)


def test_a_pickle_in_the_place_of_tensors_is_not_executed(tmp_path: Path) -> None:
    path, target = tmp_path / "w", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(CorruptFile):
        get_tensors(path, None)
    assert not target.exists()


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {
        "model": OrderedDict(w=torch.randn(3), n=torch.tensor(2)),
        "step": 3, "lr": 0.1, "big": 2**70, "names": ["a", None, True], "pair": (1, 2),
        "generator": torch.get_rng_state(),
    }  # fmt: skip
    put_state(tmp_path / "state.pt", state)
    loaded = get_state(tmp_path / "state.pt")
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert {k: loaded[k] for k in ("step", "lr", "big", "names", "pair")} == {
        k: state[k] for k in ("step", "lr", "big", "names", "pair")
    }


@pytest.mark.parametrize("bad", [object(), range(3), torch.nn.Linear(1, 1), {"a": [lambda: 0]}])
def test_state_that_could_not_be_read_again_is_refused_when_saving(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(InvalidValue, match=r"tensors and plain values, got"):
        put_state(tmp_path / "state.pt", {"x": bad})
    assert not (tmp_path / "state.pt").exists()


def test_damaged_state_is_refused_even_by_one_bit(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    put_state(path, {"a": torch.arange(10000.0)})
    whole = path.read_bytes()
    for data in (
        b"", whole[:100], whole[: len(whole) // 2], whole[:-5],
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 4]) + whole[len(whole) // 2 + 1 :],
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(CorruptFile, match=r"state\.pt is damaged or is no saved state"):
            get_state(path)


@pytest.mark.parametrize("form", ["pickle", "torch zip", "torch old"])
def test_a_malicious_state_is_not_executed(tmp_path: Path, form: str) -> None:
    path, target = tmp_path / "state.pt", tmp_path / "executed"
    buffer = io.BytesIO()
    if form == "pickle":
        pickle.dump({"state": Bomb(target)}, buffer)
    else:
        torch.save({"state": Bomb(target)}, buffer, _use_new_zipfile_serialization=form == "torch zip")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CorruptFile, match="nothing in it was executed"):
        get_state(path)
    assert not target.exists()


def test_a_malicious_state_cannot_have_torch_advise_to_execute_it(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"state": Bomb(tmp_path / "executed")}, path)
    with pytest.raises(CorruptFile, match=r"nothing in it was executed \(\w+\)") as raised:
        get_state(path)
    assert "weights_only" not in str(raised.value)
