"""Per-example records: what a chain saw of every example in every epoch, gathered at next to no cost.

    loss      [E, N] float32, cross-entropy against the original label, NaN where the example was not seen
    correct   [E, N] int8, 1 / 0, and -1 where it was not seen (read as float32 with NaN)
    codes     [N, C] uint8, log-probabilities of the mean logits over the last 3 planned epochs, in [-12, 0]
    seen      [N] int32, how often an example went into that mean

N counts the examples of the data set, E the planned epochs, C the classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CorruptFile, LoopError, StoreError
from .artifacts import PARTIAL, get_tensors, writing

if TYPE_CHECKING:
    from torch import Tensor

LAST_EPOCHS = 3
CLASSES = 1000
"""Widest rows of log-probabilities that are kept."""
FLOOR = -12.0
MAPPED_BEYOND = 1 << 30
"""Bytes of one run's tables from which they live in files of the run folder instead of memory."""
_PENDING_ON_CPU, _PENDING_ON_DEVICE = 1 << 16, 1 << 24


def encode(log_probabilities: Tensor) -> Tensor:
    """Log-probabilities (any shape) as uint8: 0 is probability 1, 255 is e^-12 or less."""
    import torch

    return (log_probabilities.clamp(FLOOR, 0.0) * (255 / FLOOR)).round().to(torch.uint8)


def decode(codes: Tensor) -> Tensor:
    """uint8 codes as float32 log-probabilities, right to 0.024 above the floor of -12 (not renormalised)."""
    import torch

    return codes.to(torch.float32) * (FLOOR / 255)


@dataclass(frozen=True)
class Records:
    """The per-example tables of one run."""

    tables: Mapping[str, Tensor]
    about: Mapping[str, str]

    @classmethod
    def load(cls, path: Path, expected: Mapping[str, Any] | None = None) -> Records:
        """Read a records file. Raises CorruptFile."""
        from safetensors import safe_open

        tables = get_tensors(path, expected)
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        if "loss" not in tables or "correct" not in tables:
            raise CorruptFile(f"{path} holds no per-example records; restore it from a copy, or train the run again")
        return cls(tables, about)

    @property
    def loss(self) -> Tensor:
        """[E, N] float32; NaN where an example was not seen."""
        return self.tables["loss"]

    @property
    def correct(self) -> Tensor:
        """[E, N] float32, 1 or 0; NaN where an example was not seen."""
        import torch

        raw = self.tables["correct"]
        return torch.where(raw < 0, math.nan, raw.to(torch.float32))

    @property
    def codes(self) -> Tensor:
        """[N, C] uint8, see `decode`. Raises StoreError if they were not kept, saying why."""
        if "codes" not in self.tables:
            raise StoreError(
                f"this run kept no log-probabilities: {self.about.get('log_probabilities', 'unknown reason')}; "
                "use a run that did, or its weights"
            )
        return self.tables["codes"]

    @property
    def log_probabilities(self) -> Tensor:
        """[N, C] float32 of the mean logits; NaN rows for examples never seen in the last epochs."""
        return decode(self.codes).masked_fill_(self.seen.unsqueeze(1) == 0, math.nan)

    @property
    def seen(self) -> Tensor:
        """[N] int32: how many passes went into `log_probabilities`."""
        self.codes  # noqa: B018 - for its refusal
        return self.tables["seen"]


class Accumulator:
    """Gathers batches and writes them into the tables in bulk: `observe` only copies, about 5 us a call on a CPU."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._pending: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._pending_numbers = 0
        self._limit = _PENDING_ON_CPU
        self._epoch = -1
        self._shape: Any = None
        self._labelled = self._narrow = False
        self._tables: dict[str, Tensor] = {}
        self._examples = 0
        self._epochs = 0
        self.refused = ""
        self.refused_rows = ""

    def begin(self, examples: int | None, epochs: float | None) -> None:
        """Plan the tables for ids 0 ... `examples` - 1. Without either number nothing is kept; `refused` says so."""
        self._pending.clear()
        self._pending_numbers = 0
        self._tables = {}
        self._epoch = -1
        self.refused = self.refused_rows = ""
        if not examples or not epochs:
            missing = "number of examples" if not examples else "number of epochs"
            self.refused = f"the {missing} was not known when training began"
            return
        self._examples, self._epochs = int(examples), math.ceil(epochs)

    def observe(
        self, epoch: int, ids: Tensor, losses: Tensor, output: Tensor, targets: Tensor, valid: Tensor | None
    ) -> None:
        """One batch; no device is waited for. Raises LoopError before `begin`."""
        if self.refused:
            return
        if epoch != self._epoch or self._pending_numbers >= self._limit or output.shape[1:] != self._shape:
            self._turn(epoch, output, targets)
        if valid is None:
            kept = losses.clone()
        else:
            import torch

            kept = torch.where(valid, losses, math.nan)
        # Clones: a compiled model, or a loader, may fill the same memory at the next step.
        if self._narrow:
            self._pending.append((ids.clone(), kept, output.clone(), targets.clone()))
            self._pending_numbers += output.numel()
        else:
            hits = output.argmax(1).eq(targets) if self._labelled else ids
            self._pending.append((ids.clone(), kept, hits.unsqueeze(1), hits))
            self._pending_numbers += len(ids)

    def flush(self) -> None:
        """Move what is pending into the tables. Raises LoopError for ids outside the data set."""
        if not self._pending:
            return
        import torch

        with torch.no_grad():
            columns = [torch.cat(column).cpu() for column in zip(*self._pending, strict=True)]
            self._pending.clear()
            self._pending_numbers = 0
            ids, losses, output, targets = columns
            losses = losses.float()
            good = ~losses.isnan()
            if not bool(good.all()):
                ids, losses, output, targets = ids[good], losses[good], output[good], targets[good]
            if len(ids):
                self._write(ids.long(), losses, output, targets)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tables as they are stored, and a description; ({}, ...) if nothing was observed."""
        import torch

        self.flush()
        if not self._tables:
            return {}, {"records": self.refused or "no batch with ids was observed"}
        stored = {name: self._tables[name] for name in ("loss", "correct")}
        about = {"records": "loss and correct per epoch and example"}
        if "sums" not in self._tables:
            return stored, about | {"log_probabilities": self.refused_rows}
        sums, seen = self._tables["sums"], self._tables["seen"].clone()
        codes = torch.empty(sums.shape, dtype=torch.uint8)
        for start in range(0, len(sums), 65536):
            part = slice(start, start + 65536)
            rows = (sums[part] / seen[part].clamp(min=1).unsqueeze(1)).log_softmax(1)
            broken = rows.isnan().any(1)
            seen[part] *= ~broken
            codes[part] = encode(rows.masked_fill(broken.unsqueeze(1), 0.0))
        about["log_probabilities"] = f"mean logits of the last {LAST_EPOCHS} planned epochs, 0...255 for 0...{FLOOR:g}"
        return stored | {"codes": codes, "seen": seen}, about

    def state_dict(self) -> dict[str, Any]:
        """A copy of the tables (rows of future epochs left out) and what they are about."""
        self.flush()
        rows = self._epoch + 1
        tables = {n: (t[:rows] if n in ("loss", "correct") else t).clone() for n, t in self._tables.items()}
        return {"tables": tables, "epoch": self._epoch, "rows": self.refused_rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, after `begin`."""
        self._pending.clear()
        self._pending_numbers = 0
        if self.refused or not state["tables"]:
            self._tables = {}
            return
        tables = state["tables"]
        if tables["loss"].shape[1] != self._examples:
            raise LoopError(
                f"records continue on the same data: saved for {tables['loss'].shape[1]} examples, "
                f"now {self._examples}; start the run over"
            )
        classes = tables["sums"].shape[1] if "sums" in tables else None
        self.refused_rows = state["rows"]
        self._allocate(classes)
        self._epoch = -1
        for name, table in tables.items():
            self._more_epochs(len(table) if name in ("loss", "correct") else 0)
            self._tables[name][: len(table)] = table
        self._epoch = int(state["epoch"])

    def discard(self) -> None:
        """Remove the mapped files; the tables are gone."""
        self._tables = {}
        for path in self._folder.glob("records.*" + PARTIAL):
            path.unlink()

    def _turn(self, epoch: int, output: Tensor, targets: Tensor) -> None:
        if not self._epochs:
            raise LoopError(
                "begin(about) comes before observe(...), got a batch first; attach the chain inside record(...)"
            )
        self.flush()
        self._epoch = epoch
        self._shape = output.shape[1:]
        self._labelled = output.ndim == 2 and targets.ndim == 1
        self._narrow = self._labelled and output.shape[1] <= CLASSES
        if output.ndim != 2:
            self.refused_rows = f"outputs are not [B, C] but have {output.ndim} dimensions"
        elif not self._labelled:
            self.refused_rows = "targets are not one class an example"
        elif not self._narrow:
            self.refused_rows = f"{output.shape[1]} classes are more than the {CLASSES} that are kept in full"
        self._limit = _PENDING_ON_CPU if output.device.type == "cpu" else _PENDING_ON_DEVICE

    def _write(self, ids: Tensor, losses: Tensor, output: Tensor, targets: Tensor) -> None:
        import torch

        if not self._tables:
            self._allocate(None if self.refused_rows else output.shape[1])
        self._more_epochs(self._epoch + 1)
        low, high = (int(v) for v in ids.aminmax())
        if low < 0 or high >= self._examples:
            raise LoopError(
                f"example ids lie in 0 ... {self._examples - 1}, got {low if low < 0 else high}; "
                "wrap the data set in Indexed(...)"
            )
        self._tables["loss"][self._epoch].scatter_(0, ids, losses)
        if self._labelled:
            hits = output.argmax(1).eq(targets) if self._narrow else targets
            self._tables["correct"][self._epoch].scatter_(0, ids, hits.to(torch.int8))
        if "sums" in self._tables and self._epoch >= self._epochs - LAST_EPOCHS:
            if not self._narrow or output.shape[1] != self._tables["sums"].shape[1]:
                self.refused_rows = "the number of classes changed during training"
                del self._tables["sums"], self._tables["seen"]
                return
            self._tables["sums"].index_add_(0, ids, output.float())
            self._tables["seen"].index_add_(0, ids, torch.ones(len(ids), dtype=torch.int32))

    def _allocate(self, classes: int | None) -> None:
        import torch

        shapes = {
            "loss": ((self._epochs, self._examples), torch.float32, math.nan),
            "correct": ((self._epochs, self._examples), torch.int8, -1),
        }
        if classes is not None:
            shapes["sums"] = ((self._examples, classes), torch.float32, 0)
            shapes["seen"] = ((self._examples, 1), torch.int32, 0)
        total = sum(a * b * dtype.itemsize for (a, b), dtype, _ in shapes.values())
        for name, (shape, dtype, fill) in shapes.items():
            table = self._mapped(name, shape, dtype) if total > MAPPED_BEYOND else torch.empty(shape, dtype=dtype)
            self._tables[name] = table.fill_(fill)
        if classes is not None:
            self._tables["seen"] = self._tables["seen"].squeeze(1)

    def _mapped(self, name: str, shape: tuple[int, int], dtype: Any) -> Tensor:
        import torch

        path = self._folder / f"records.{name}{PARTIAL}"
        size = shape[0] * shape[1]
        with writing(path), open(path, "wb") as file:
            # Claimed now: a disk that fills up later would end the process at a write into the mapping.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
            else:
                file.truncate(size * dtype.itemsize)
        table: Tensor = torch.from_file(str(path), shared=True, size=size, dtype=dtype)
        return table.view(shape)

    def _more_epochs(self, epochs: int) -> None:
        # A loop that goes on after its planned end keeps its records too; the last planned epochs stay what they were.
        import torch

        for name, fill in (("loss", math.nan), ("correct", -1)):
            table = self._tables[name]
            missing = epochs - len(table)
            if missing > 0:
                self._tables[name] = torch.cat([table, table.new_full((missing, table.shape[1]), fill)])
