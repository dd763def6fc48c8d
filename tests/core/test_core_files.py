"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from reinvest.core.files import write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_the_text_is_there_and_nothing_else(tmp_path: Path, durable: bool) -> None:
    path = write_whole(tmp_path / "new" / "kept.json", "für immer\n", durable=durable)
    assert path.read_bytes() == "für immer\n".encode()
    assert write_whole(path, "later", durable=durable).read_text() == "later"
    assert [p.name for p in path.parent.iterdir()] == ["kept.json"]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "kept.json", "before")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "after", durable=True)
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["kept.json"]


def test_two_that_write_at_the_same_time_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, or processes of one number on two machines: the second writes all of it before the first renames."""
    target, rename = tmp_path / "kept.json", Path.replace

    def later(temporary: Path, to: Path) -> Any:
        monkeypatch.setattr(Path, "replace", rename)
        write_whole(target, "second")
        assert target.read_text() == "second"
        return rename(temporary, to)

    monkeypatch.setattr(Path, "replace", later)
    assert write_whole(target, "first").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]
