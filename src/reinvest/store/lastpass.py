"""Rows of the last pass over each example: beyond 1,000 classes, and for many labels an example.

A mean over epochs would need full rows in memory (classes x 4 bytes for each token or pixel); the last pass alone can
be compressed batch by batch, as it comes.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import LoopError
from .codec import bytes_of_row, choose_top, encode, index_type, squeeze
from .tables import Tables

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 1 << 32
"""Largest tables of rows that are kept; a checkpoint holds a copy of them in memory."""
SAMPLE = 1 << 22
"""Numbers that are gathered before it is decided how many classes a row needs."""
_WAITING_ON_CPU, _WAITING_ON_DEVICE = 1 << 16, 1 << 24


def check_range(ids: Tensor, examples: int) -> None:
    """Refuse ids [B] outside 0 ... `examples` - 1 with LoopError."""
    if not len(ids):
        return
    low, high = (int(v) for v in ids.aminmax())
    if low < 0 or high >= examples:
        raise LoopError(
            f"example ids lie in 0 ... {examples - 1}, got {low if low < 0 else high}; "
            "wrap the data set in Indexed(...)"
        )


class LastPass:
    """Compresses rows [B, C] or [B, P, C] (`shape` is the part after B) as they come, where they are, and moves them into the tables in bulk.

    The first 4 million numbers wait, until there are enough rows to tell how many classes they need (`top`; None for
    full rows). `refused` says why no rows are kept.
    """

    def __init__(
        self, tables: Tables, folder: Path, examples: int, shape: tuple[int, ...], place: Callable[[Tensor], Tensor]
    ):
        self.shape = shape
        self.top: int | None = None
        self.decided = False
        self.refused = ""
        self._tables, self._folder, self._examples, self._place = tables, folder, examples, place
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._ready: list[tuple[Tensor, ...]] = []
        self._waiting_numbers = self._ready_numbers = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tables that hold the rows."""
        rows = ("codes",) if self.top is None else ("top", "top_codes", "rest")
        return (*rows, "seen", *(("known",) if len(self.shape) == 2 else ()))

    def add(self, ids: Tensor, logits: Tensor, known: Tensor) -> None:
        """One batch: ids [B], logits [B, C] or [B, P, C], and which rows mean something, bool [B] or [B, P]."""
        if self.refused:
            return
        self._waiting_numbers += logits.numel()
        limit = _WAITING_ON_CPU if logits.device.type == "cpu" else _WAITING_ON_DEVICE
        if self._waiting_numbers < (limit if self.decided else SAMPLE):
            # Clones: a compiled model, or a loader, may fill the same memory at the next step.
            self._waiting.append((ids.clone(), logits.clone(), known.clone()))
            return
        self._waiting.append((ids.clone(), logits, known))
        self._compress()

    def refuse(self, reason: str) -> None:
        """Keep no rows any more."""
        self.refused = reason
        self._waiting.clear()
        self._ready.clear()
        self._tables.drop(self.names)

    def flush(self) -> None:
        """Move everything into the tables, but for the rows that are still needed to decide."""
        if self.decided:
            self._compress()
            self._store()

    def close(self) -> None:
        """Decide with the rows there are, and move them into the tables."""
        if self._waiting:
            self._compress()
        self._store()

    def state_dict(self) -> dict[str, Any]:
        """What is not in the tables, after `flush`."""
        import torch

        waiting = [torch.cat(column).cpu() for column in zip(*self._waiting, strict=True)]
        plain = {"shape": list(self.shape), "top": self.top, "decided": self.decided, "refused": self.refused}
        return plain | {"waiting": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, with the tables restored."""
        self.top, self.decided, self.refused = state["top"], bool(state["decided"]), state["refused"]
        self._waiting = [tuple(state["waiting"])] if state["waiting"] else []
        self._waiting_numbers = self._waiting[0][1].numel() if self._waiting else 0

    def kept_mass(self) -> float:
        """Mean mass of the stored classes over all known rows."""
        if self.top is None:
            return 1.0
        known, rest = self._tables["known" if "known" in self._tables else "seen"] > 0, self._tables["rest"]
        total = 0.0
        for start in range(0, len(rest), 65536):
            part = slice(start, start + 65536)
            total += float(rest[part][known[part]].double().sum())
        return 1.0 - total / max(1, int(known.sum()))

    def _compress(self) -> None:
        import torch

        if not self._waiting:
            return
        ids, logits, known = (_join(column) for column in zip(*self._waiting, strict=True))
        self._waiting.clear()
        self._waiting_numbers = 0
        with torch.no_grad():
            # Sums over classes in one order of memory, whichever batches came together: a resumed run has the same bits.
            logits = logits.detach().contiguous()
            if not self.decided:
                sample = logits[known]
                if len(sample):
                    self._decide(sample)
            if self.refused or not self.decided:
                return
            if self.top is None:
                full = logits.float().log_softmax(-1)
                known = known & ~full.isnan().any(-1)
                rows: tuple[Tensor, ...] = (encode(full).masked_fill_(~known.unsqueeze(-1), 0),)
            else:
                index, codes, rest = squeeze(logits, self.top)
                known = known & ~rest.isnan()
                rows = (_bits(index), codes.masked_fill_(~known.unsqueeze(-1), 0), rest.masked_fill_(~known, 1.0))
            self._ready.append((ids, known, *rows))
        self._ready_numbers += known.numel() * bytes_of_row(self.shape[-1], self.top)
        if ids.device.type == "cpu" or self._ready_numbers >= _WAITING_ON_DEVICE:
            self._store()

    def _decide(self, logits: Tensor) -> None:
        import torch

        self.decided, self.top = True, choose_top(logits)
        classes, rows = self.shape[-1], (self._examples, *self.shape[:-1])
        needed = math.prod(rows) * bytes_of_row(classes, self.top)
        free = shutil.disk_usage(self._folder).free
        if needed > min(MOST_BYTES, free // 2):
            most = (
                "twice of which the disk has not free"
                if needed <= MOST_BYTES
                else f"more than {MOST_BYTES / 2**30:.0f} GiB"
            )
            self.refuse(f"rows of {math.prod(rows)} positions would take {needed / 2**30:.1f} GiB, {most}")
            return
        kinds: dict[str, tuple[tuple[int, ...], Any, float]] = {"seen": ((self._examples,), torch.int32, 0)}
        if len(self.shape) == 2:
            kinds["known"] = (rows, torch.uint8, 0)
        if self.top is None:
            kinds["codes"] = ((*rows, classes), torch.uint8, 0)
        else:
            kinds["top"] = ((*rows, self.top), index_type(classes), 0)
            kinds["top_codes"] = ((*rows, self.top), torch.uint8, 0)
            kinds["rest"] = (rows, torch.float16, 0)
        self._tables.allocate(kinds)

    def _store(self) -> None:
        import torch

        if not self._ready or self.refused:
            return
        ids, known, *rows = (_join(column).cpu() for column in zip(*self._ready, strict=True))
        self._ready.clear()
        self._ready_numbers = 0
        ids = self._place(ids)
        known = known & (ids >= 0).view(-1, *[1] * (known.ndim - 1))
        # An example whose pass says nothing keeps the row of the pass before; of several passes the last one counts.
        some = known.reshape(len(known), -1).any(1).nonzero().squeeze(1)
        chosen = some[last_of_each(ids[some])]
        ids, known = ids[chosen], known[chosen]
        for name, part in zip(self.names, rows, strict=False):
            _bits(self._tables[name])[ids] = part[chosen]
        self._tables["seen"][ids] = 1
        if "known" in self._tables:
            self._tables["known"][ids] = known.to(torch.uint8)


def _bits(numbers: Tensor) -> Tensor:
    """uint16 as int16, which torch can index for writing on every device; others as they are."""
    import torch

    return numbers.view(torch.int16) if numbers.dtype == torch.uint16 else numbers


def _join(parts: tuple[Tensor, ...]) -> Tensor:
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts)


def last_of_each(ids: Tensor) -> Tensor:
    """Positions [U] of the last occurrence of each id [B]."""
    import numpy as np
    import torch

    _, first = np.unique(ids.flip(0).numpy(), return_index=True)
    return len(ids) - 1 - torch.from_numpy(first)
