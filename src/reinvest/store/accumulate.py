"""Gathering per-example records while a chain trains, at next to no cost: `observe` copies, tables are filled in bulk.

What each kind of batch leaves (see `records` for the tables):

    mean    one label an example, up to 1,000 classes: mean logits of the last 3 planned epochs
    wide    one label, more classes: rows of the last pass, the largest classes only
    dense   a label per token or pixel: the same per position; earlier epochs leave loss and share correct only
    other   anything else: losses

Rows of the last pass are taken from the last whole epoch on, so that every example has one. Where no example was seen
as it is (all were blended, say), the tables are empty but for what the loader said of its data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import LoopError
from .codec import FLOOR, encode
from .described import of_data
from .history import MARGIN_ONE_LABEL, Asked, History
from .lastpass import LastPass, check_range
from .places import places_of, stride_for
from .tables import Tables
from .views import Draws, Views, check_state

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.view import TaskView

LAST_EPOCHS = 3
CLASSES = 1000
"""Widest rows of log-probabilities that are kept in full as means over epochs."""
UNSEEN = "all examples were blended or moved, or had no class labels"
_PENDING_ON_CPU, _PENDING_ON_DEVICE = 1 << 16, 1 << 24


class Accumulator:
    """Gathers batches and writes them into the tables in bulk: `observe` only copies, about 5 us a call on a CPU."""

    stride: int | None = None
    """Rows of every so many-th pixel in each direction; None: the smallest with at most 4,096 pixels."""

    def __init__(self, folder: Path, asked: Asked | None = None):
        """asked: what is kept beyond the usual."""
        self._folder, self._asked = folder, asked or Asked()
        self._tables = Tables(folder)
        self._history = History(self._tables, self._asked)
        self._views = Views(self._tables, self._asked.views) if self._asked.views else None
        self._pending: list[tuple[Tensor, ...]] = []
        self._pending_numbers = 0
        self._limit = _PENDING_ON_CPU
        self._epoch = -1
        self._shape: Any = None
        self._kind = ""
        self._axis = 1
        self._used_stride = 1
        self._last: LastPass | None = None
        self._adding = False
        self._view: TaskView | None = None
        self._ignored: tuple[int, ...] = ()
        self._examples = self._rows = self._epochs = self._first_of_last = self._outside = 0
        self._places: Tensor | None = None
        self.refused = ""
        self.refused_rows = ""

    def begin(
        self, examples: int | None, epochs: float | None, view: TaskView | None = None, draws: Draws | None = None
    ) -> None:
        """Plan the tables for ids 0 ... `examples` - 1. Without either number nothing is kept; `refused` says so.

        epochs: planned length, 2.5 for two and a half. view: what the loader says of its data; stored with the tables.
        draws() tells (seed, epoch) of the draws behind the present epoch's views, None where the loader does not say.
        """
        self._clear()
        self._view = view
        self.refused = self.refused_rows = ""
        if not examples or not epochs:
            missing = "number of examples" if not examples else "number of epochs"
            self.refused = f"the {missing} was not known when training began"
            return
        self._examples, self._epochs = int(examples), math.ceil(epochs)
        if self._views is not None:
            self._views.begin(self._epochs, draws)
        self._places, self._outside = places_of(view, self._examples), 0
        self._rows = self._examples if self._places is None else int(self._places.max()) + 1
        self._first_of_last = max(0, math.floor(epochs) - 1)
        criterion = getattr(view, "criterion", None)
        found = getattr(criterion, "ignore_index", getattr(criterion, "keywords", {}).get("ignore_index"))
        self._ignored = (found,) if isinstance(found, int) else ()

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
        if self._kind == "mean":
            self._pending.append((ids.clone(), kept, targets.clone(), output.clone()))
            self._pending_numbers += output.numel()
            return
        self._pending_numbers += len(ids)
        if self._kind == "wide":
            more = (_margins(output, targets),) if self._asked.margins else ()
            self._pending.append((ids.clone(), kept, targets.clone(), output.argmax(1).eq(targets), *more))
            if self._adding and self._last is not None:
                self._last.add(ids, output, ~kept.isnan())
        elif self._kind == "dense":
            means = self._means(targets, output.shape[self._axis])
            hits = (output.argmax(self._axis).eq(targets) & means).flatten(1).sum(1)
            self._pending.append((ids.clone(), kept, hits / means.flatten(1).sum(1)))
            if self._adding and self._last is not None:
                known = self._thinned(means, means.ndim - 1).flatten(1) & ~kept.isnan().unsqueeze(1)
                self._last.add(ids, self._positions(output), known)
        else:
            self._pending.append((ids.clone(), kept))

    def flush(self) -> None:
        """Move what is pending into the tables. Raises LoopError for ids outside the data set."""
        import torch

        if self._pending:
            with torch.no_grad():
                columns = [torch.cat(column).cpu() for column in zip(*self._pending, strict=True)]
                self._pending.clear()
                self._pending_numbers = 0
                columns[1] = columns[1].float()
                good = ~columns[1].isnan()
                if not bool(good.all()):
                    columns = [column[good] for column in columns]
                columns[0] = self._place(columns[0])
                inside = columns[0] >= 0
                if not bool(inside.all()):
                    self._outside += int((~inside).sum())
                    columns = [column[inside] for column in columns]
                if len(columns[0]):
                    self._write(*columns)
        if self._last is not None:
            self._last.flush()
            self.refused_rows = self._last.refused or self.refused_rows

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tables as they are stored, and a description; ({}, ...) if neither examples nor data are known."""
        self.flush()
        if self._last is not None:
            self._last.close()
            self.refused_rows = self._last.refused or self.refused_rows
        if "loss" not in self._tables:
            if self.refused or self._view is None:
                return {}, {"records": self.refused or "no batch with ids was observed"}
            self._kind, self.refused_rows = "wide", self.refused_rows or UNSEEN
            self._allocate(())
        stored = {name: self._tables[name] for name in (*self._history.present, "labels") if name in self._tables}
        columns, about = of_data(self._view, self._examples)
        about["order"] = "an example a row"
        if self._asked.margins and "margin" not in stored:
            about["margins"] = MARGIN_ONE_LABEL
        if self._places is not None:
            columns["places"] = self._places
        if self._outside:
            about["outside"] = f"{self._outside} passes over examples outside the training split were not kept"
        stored, about = stored | columns, {"records": "loss and correct per epoch and example"} | about
        if "sums" in self._tables:
            rows, more = self._mean_rows()
        elif self._last is not None and self._last.decided and not self.refused_rows:
            rows, more = self._last_rows(self._last)
        else:
            reason = self.refused_rows or "training ended before its last epoch, or no position had a label"
            rows, more = {}, {"log_probabilities": reason}
        if self._views is not None:
            views, how = self._views.stored()
            rows, more = rows | views, more | how
        return stored | rows, about | more

    def state_dict(self) -> dict[str, Any]:
        """A copy of the tables (rows of future epochs left out) and what they are about."""
        self.flush()
        done, history = self._epoch + 1, self._history.present
        tables = {n: (t[:, :done] if n in history else t).clone() for n, t in self._tables.items()}
        state = {"tables": tables, "epoch": self._epoch, "rows": self.refused_rows, "stride": self._used_stride}
        state |= {"outside": self._outside} | ({} if self._views is None else {"views": self._views.state_dict()})
        return state | {"last": None if self._last is None else self._last.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, after `begin`."""
        self._clear()
        if self.refused or not (state["tables"] or state.get("last")):
            return
        tables = state["tables"]
        if tables and tables["loss"].shape[0] != self._rows:
            raise LoopError(
                f"records continue on the same data: saved for {tables['loss'].shape[0]} examples, "
                f"now {self._rows}; start the run over"
            )
        check_state(self._views, state.get("views"))
        self.refused_rows = state["rows"]
        self._used_stride, self._outside = int(state.get("stride", 1)), int(state.get("outside", 0))
        self._tables.allocate({n: (tuple(t.shape), t.dtype, 0.0) for n, t in tables.items()})
        for name, table in tables.items():
            self._tables[name].copy_(table)
        self._history.lengthen(self._epochs)
        if state.get("last"):
            self._last = self._new_last(tuple(state["last"]["shape"]))
            self._last.load_state_dict(state["last"])
        if self._views is not None:
            self._views.load_state_dict(state["views"])
        self._epoch = int(state["epoch"])

    def _place(self, ids: Tensor) -> Tensor:
        """The row of each id on the CPU, -1 for ids that have none. Raises LoopError for ids outside the data set."""
        ids = ids.long()
        check_range(ids, self._examples)
        return ids if self._places is None else self._places[ids].long()

    def discard(self) -> None:
        """Remove the mapped files; the tables are gone."""
        self._tables.discard()

    def _clear(self) -> None:
        self._pending.clear()
        self._pending_numbers = 0
        self._tables.clear()
        self._last = None
        self._epoch, self._shape, self._kind = -1, None, ""

    # ---- what a batch is ---------------------------------------------------------------------------------------

    def _turn(self, epoch: int, output: Tensor, targets: Tensor) -> None:
        if not self._epochs:
            raise LoopError(
                "begin(about) comes before observe(...), got a batch first; attach the chain inside record(...)"
            )
        self.flush()
        self._epoch, self._shape = epoch, output.shape[1:]
        self._limit = _PENDING_ON_CPU if output.device.type == "cpu" else _PENDING_ON_DEVICE
        self._kind, reason = self._kind_of(output, targets)
        if self._kind != "mean" and "sums" in self._tables:
            reason = reason or "the number of classes changed during training"
        if reason:
            self._refuse_rows(reason)
        if self._views is not None:
            few = f"only one label an example and at most {CLASSES:,} classes have rows of every epoch"
            self._views.turn(epoch, "" if self._kind == "mean" else reason or few)
        self._adding = self._kind in ("wide", "dense") and epoch >= self._first_of_last and not self.refused_rows
        if self._adding:
            self._plan_last(output, targets)

    def _kind_of(self, output: Tensor, targets: Tensor) -> tuple[str, str]:
        """The kind, and why it has no rows ("" if it has)."""
        if targets.is_floating_point():
            return "other", "targets are not classes"
        if output.ndim == 2 and targets.ndim == 1:
            return "mean" if output.shape[1] <= CLASSES else "wide", ""
        if output.ndim < 3 or targets.ndim != output.ndim - 1:
            return "other", (
                f"outputs of {output.ndim} dimensions are no class scores for targets of {targets.ndim} dimensions"
            )
        from ..core.criterion import classes_second

        self._axis = 1 if classes_second(output, targets) is output else -1
        moved = bool(getattr(self._view, "moves", False))
        return "dense", "training views move pixels or tokens against the stored example" if moved else ""

    def _plan_last(self, output: Tensor, targets: Tensor) -> None:
        if self._kind == "dense" and targets.ndim > 2:
            self._used_stride = self.stride or stride_for(targets.shape[1:])
        shape = tuple((output if self._kind == "wide" else self._positions(output[:1])).shape[1:])
        if self._last is None:
            self._last = self._new_last(shape)
        elif self._last.shape != shape:
            self._refuse_rows(f"rows of shape {list(self._last.shape)} and {list(shape)} cannot share one table")

    def _new_last(self, shape: tuple[int, ...]) -> LastPass:
        return LastPass(self._tables, self._folder, self._rows, shape, self._place)

    def _refuse_rows(self, reason: str) -> None:
        self.refused_rows = self.refused_rows or reason
        self._adding = False
        self._tables.drop(("sums", "seen"))
        if self._last is not None:
            self._last.refuse(reason)

    def _means(self, targets: Tensor, classes: int) -> Tensor:
        """Which positions have a class: bool as targets."""
        means = (targets >= 0) & (targets < classes)
        for label in self._ignored:
            means &= targets != label
        return means

    def _thinned(self, values: Tensor, dimensions: int) -> Tensor:
        """Every stride-th place along the dimensions after the first."""
        s = self._used_stride
        return values if s == 1 else values[(slice(None), *[slice(None, None, s)] * dimensions)]

    def _positions(self, output: Tensor) -> Tensor:
        """Dense output as rows [B, P, C] of the stride grid."""
        rows = output.movedim(self._axis, -1)
        return self._thinned(rows, rows.ndim - 2).flatten(1, -2)

    # ---- tables ------------------------------------------------------------------------------------------------

    def _write(self, ids: Tensor, losses: Tensor, *columns: Tensor) -> None:
        import torch

        if "loss" not in self._tables:
            self._allocate(columns)
        self._history.lengthen(self._epoch + 1)
        if columns:  # the loss of an example without any label is 0, and says nothing
            losses = losses.masked_fill(columns[0].isnan() if self._kind == "dense" else columns[0] < 0, math.nan)
        self._history.write(self._epoch, ids, losses)
        if self._kind == "dense":
            self._history.shares(self._epoch, ids, columns[0])
        if self._kind not in ("mean", "wide") or "labels" not in self._tables:
            return
        targets, output, *margins = columns
        # Labels first: a table of predictions that has to be given up is judged by them.
        self._tables["labels"].scatter_(0, ids, targets.to(torch.int32).clamp(min=-1))
        if self._kind == "mean":
            said = output.argmax(1)
            self._history.answers(self._epoch, ids, said, _right(said.eq(targets), targets))
            margins = [_margins(output, targets)] if self._asked.margins else []
        else:
            self._history.shares(self._epoch, ids, _right(output, targets))
        for margin in margins:
            self._history.margins(self._epoch, ids, margin)
        if self._views is not None and self._kind == "mean":
            self._views.add(self._epoch, ids, output)
        if "sums" in self._tables and self._epoch >= self._epochs - LAST_EPOCHS:
            if output.shape[1:] != self._tables["sums"].shape[1:]:
                self._refuse_rows("the number of classes changed during training")
                return
            self._tables["sums"].index_add_(0, ids, output.float())
            self._tables["seen"].index_add_(0, ids, torch.ones(len(ids), dtype=torch.int32))

    def _allocate(self, columns: tuple[Tensor, ...]) -> None:
        import torch

        classes = columns[1].shape[1] if self._kind == "mean" else 0
        shapes = self._history.shapes(self._rows, self._epochs, self._kind, classes)
        if self._kind in ("mean", "wide"):
            shapes["labels"] = ((self._rows,), torch.int32, -1)
        if self._kind == "mean" and not self.refused_rows:
            shapes["sums"] = ((self._rows, columns[1].shape[1]), torch.float32, 0)
            shapes["seen"] = ((self._rows,), torch.int32, 0)
            if self._views is not None:
                shapes |= self._views.shapes(self._rows, columns[1].shape[1])
        self._tables.allocate(shapes)

    def _mean_rows(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        import torch

        sums, seen = self._tables["sums"], self._tables["seen"].clone()
        codes = torch.empty(sums.shape, dtype=torch.uint8)
        for start in range(0, len(sums), 65536):
            part = slice(start, start + 65536)
            rows = (sums[part] / seen[part].clamp(min=1).unsqueeze(1)).log_softmax(1)
            broken = rows.isnan().any(1)
            seen[part] *= ~broken
            codes[part] = encode(rows.masked_fill(broken.unsqueeze(1), 0.0))
        said = f"mean logits of the last {LAST_EPOCHS} planned epochs, 0...255 for 0...{FLOOR:g}"
        about = {"log_probabilities": said, "classes": str(codes.shape[1]), "kept_mass": "1.0"}
        return {"codes": codes, "seen": seen}, about

    def _last_rows(self, last: LastPass) -> tuple[dict[str, Tensor], dict[str, str]]:
        *positions, classes = last.shape
        how = "all classes" if last.top is None else f"the {last.top} largest of {classes} classes"
        about = {
            "log_probabilities": f"logits of the last pass, {how}, 0...255 for 0...{FLOOR:g}",
            "classes": str(classes),
            "kept_mass": repr(last.kept_mass()),
        }
        if positions:
            about |= {"positions": str(positions[0]), "stride": str(self._used_stride)}
        return {name: self._tables[name] for name in last.names}, about


def _right(same: Tensor, targets: Tensor) -> Tensor:
    """Whether an answer is the label [B]: 1 or 0, -1 where there is no label."""
    import torch

    return same.to(torch.int8).masked_fill(targets < 0, -1)


def _margins(output: Tensor, targets: Tensor) -> Tensor:
    from ..core.criterion import margins_of

    return margins_of(output, targets)
