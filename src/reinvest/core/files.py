"""Files that are there whole or not at all, whoever is interrupted and whoever reads meanwhile."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: str | os.PathLike[str], text: str, *, durable: bool = False) -> Path:
    """Write a text file (UTF-8) to a temporary name beside it and rename it, with its folder made; returns the path.

    durable: only return when the disk has it (fsync). Raises OSError, and leaves what was there before.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        # Gone after the rename; left by a full disk or an interruption.
        temporary.unlink(missing_ok=True)
    return target
