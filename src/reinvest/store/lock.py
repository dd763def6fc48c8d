"""Who writes a run: an operating-system lock that ends with its process, however that process ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from ..core.errors import RunBusy
from .artifacts import writing

NAME = ".lock"
PATIENCE = 1.0
"""Seconds a writer waits: a reader that looks whether a run is alive holds the lock for a moment."""


def hold(folder: Path, timeout: float = PATIENCE) -> BaseFileLock:
    """Take the run's lock for this process until `.release()` or the end of the process.

    Raises RunBusy if another writer has it, FileNotFoundError if the folder is gone, StoreUnwritable.
    """
    lock = FileLock(folder / NAME)
    try:
        with writing(folder / NAME):
            lock.acquire(timeout=timeout, poll_interval=0.02)
    except Timeout as error:
        raise RunBusy(
            f"a run has one writer, and another process is writing {folder.name!r}; "
            "wait until it ends, or record under another name or seed"
        ) from error
    return lock


@contextmanager
def vacant(folder: Path) -> Iterator[bool]:
    """Whether nobody writes the run; while the block lasts, nobody can begin to. Works on a read-only disk too."""
    path = folder / NAME
    if sys.platform == "win32":
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
        return
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            # Shared: two readers that look at the same moment must not take each other for a writer.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
