"""Rows in memory that several tasks share: a sequence of tasks on portions of one data set holds its pictures once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from . import content, views

KEPT = 2
"""Data sets that a process keeps in memory between tasks."""


class Rows:
    """x [N, ...] and y [N, ...], with what is worked out once for all tasks on them: hashes and padded pictures."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        # Weak: the padded pictures are larger than the plain ones and live only as long as a task uses them.
        self._windows: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    def __len__(self) -> int:
        """N."""
        return len(self.y)

    @functools.cached_property
    def hashes(self) -> Tensor:
        """Hashes of the rows that enter a fingerprint (`content.hashed_rows`): int64 [N] up to 10^6 rows."""
        rows = content.hashed_rows(len(self))
        return torch.cat([content.row_hashes(self.x[i], self.y[i]) for i in torch.split(rows, 10_000)])

    def windows(self, pad: int) -> Tensor:
        """`views.windows` of x, one copy for all tasks with this `pad`."""
        found = self._windows.get(pad)
        if found is None:
            found = views.windows(self.x, pad)
            self._windows[pad] = found
        return found


_held: dict[Hashable, Rows] = {}


def held(key: Hashable, make: Callable[[], Rows]) -> Rows:
    """The rows made under `key` before, or those that `make()` makes now; the last `KEPT` keys are remembered."""
    rows = _held.pop(key, None)
    if rows is None:
        while len(_held) >= KEPT:  # before the new ones are read: two sets in memory, never three
            del _held[next(iter(_held))]
        rows = make()
    _held[key] = rows
    return rows
