from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reinvest.core.errors import RunBusy
from reinvest.store.lock import NAME, hold, vacant


def _hold_for_ever(folder: Path, ready: Any) -> None:
    lock = hold(folder)
    ready.set()
    signal.pause()
    lock.release()


def test_one_writer_at_a_time_and_any_number_of_looks(tmp_path: Path) -> None:
    with vacant(tmp_path) as free:
        assert free
    lock = hold(tmp_path)
    with vacant(tmp_path) as free:
        assert not free
    with pytest.raises(RunBusy, match="another process is writing"):
        hold(tmp_path, timeout=0.05)
    lock.release()
    with vacant(tmp_path) as one, vacant(tmp_path) as two:
        assert one and two
    hold(tmp_path).release()


def test_nobody_begins_while_somebody_looks(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    with vacant(tmp_path) as free, pytest.raises(RunBusy):
        assert free
        hold(tmp_path, timeout=0.05)


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_for_ever, args=(tmp_path, ready))
    process.start()
    try:
        assert ready.wait(20)
        with vacant(tmp_path) as free:
            assert not free
    finally:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    with vacant(tmp_path) as free:
        assert free
