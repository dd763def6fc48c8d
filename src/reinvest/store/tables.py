"""The tables of a run that is being recorded: in memory, and beyond 1 GiB in files of the run folder."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifacts import PARTIAL, writing

if TYPE_CHECKING:
    from torch import Tensor

MAPPED_BEYOND = 1 << 30
"""Bytes of one run's tables from which new ones live in files of the run folder instead of memory."""


class Tables(dict[str, "Tensor"]):
    """Named tensors, allocated when they are first needed."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = folder

    def allocate(self, shapes: Mapping[str, tuple[tuple[int, ...], Any, float]]) -> None:
        """Add tables: name -> (shape, type, fill). Raises StoreUnwritable where the disk has no room for them."""
        import torch

        new = sum(math.prod(shape) * dtype.itemsize for shape, dtype, _ in shapes.values())
        mapped = new + sum(table.nbytes for table in self.values()) > MAPPED_BEYOND
        for name, (shape, dtype, fill) in shapes.items():
            # Zeros are left to the system: pages of a wide table are claimed when rows arrive.
            table = self._mapped(name, shape, dtype) if mapped else torch.zeros(shape, dtype=dtype)
            self[name] = table.fill_(fill) if fill != 0 else table

    def drop(self, names: Iterable[str]) -> None:
        """Remove tables, and the files that held them."""
        for name in names:
            self.pop(name, None)
            (self._folder / f"records.{name}{PARTIAL}").unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove all tables, and the files that held them."""
        self.clear()
        for path in self._folder.glob("records.*" + PARTIAL):
            path.unlink()

    def _mapped(self, name: str, shape: tuple[int, ...], dtype: Any) -> Tensor:
        import torch

        path = self._folder / f"records.{name}{PARTIAL}"
        size = math.prod(shape)
        with writing(path), open(path, "wb") as file:
            # Claimed now: a disk that fills up later would end the process at a write into the mapping.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
            else:
                file.truncate(size * dtype.itemsize)
        table: Tensor = torch.from_file(str(path), shared=True, size=size, dtype=dtype)
        return table.view(shape)
