"""Files that are there whole or not at all, whoever is interrupted and whoever reads meanwhile."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False, newline: str | None = None) -> Iterator[TextIO]:
    """A text file (UTF-8) to write, under a temporary name beside `path`, which it takes at the end; its folder is made.

    durable: only end when the disk has it (fsync). newline: as for `open`. Raises OSError, and leaves what was there before.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # No process number: two threads have one, and two machines that share the folder may.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf8", newline=newline) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        # Gone after the rename; left by a full disk or an interruption.
        temporary.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], text: str, *, durable: bool = False) -> Path:
    """Write a text file as `replacing` does; returns the path."""
    with replacing(path, durable=durable) as file:
        file.write(text)
    return Path(path)
