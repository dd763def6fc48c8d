"""What a run saw of every example in every epoch: tables [N, E], an example a row, filled while training goes on.

Three bytes an example and epoch by default: the loss as float16 (to a part in 2,000, below 6e-5 to 3e-8; larger ones than
65,504 become that) and the class that the model said, which is more than whether it was right. Beyond 255 classes, and for many labels an
example, only the latter is kept. A row lies together, so that one example's trajectory is one read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from .tables import Tables

TABLES = ("loss", "correct", "predicted", "margin")
"""Names of the tables that have a column an epoch."""
NOT_SEEN = 255
"""In the table of predictions: the example was not seen in that epoch."""
PRECISIONS = ("float16", "float32")
MARGIN_ONE_LABEL = "margins are kept for one label an example"


@dataclass(frozen=True)
class Asked:
    """What records a run keeps. views: epochs whose rows are kept for replay; margins: of every epoch; loss: its type."""

    kept: bool = True
    views: int = 0
    margins: bool = False
    loss: str = "float16"


def asked(records: bool | Mapping[str, Any]) -> Asked:
    """What `records=` asks for: a bool, or a dict of "views" (whole number from 1), "margins" (bool), "loss" (a type).

    Raises InvalidValue for anything else, UnknownName for another key or type.
    """
    if isinstance(records, bool):
        return Asked(kept=records)
    if not isinstance(records, Mapping) or not records:
        raise InvalidValue(
            "records is True, False or a dict of what to keep beyond the usual, such as {'views': 3, 'margins': True}, "
            f"got {records!r}; True is usual"
        )
    for name in records:
        if name not in ("views", "margins", "loss"):
            raise unknown("kind of record", str(name), ("views", "margins", "loss"))
    views, margins, loss = records.get("views"), records.get("margins", False), records.get("loss", "float16")
    if "views" in records and (not isinstance(views, int) or isinstance(views, bool) or views < 1):
        raise InvalidValue(
            "views is a whole number from 1 up (the last epochs whose rows are kept for replay), got "
            f"{views!r}; {{'views': 3}} is usual"
        )
    if not isinstance(margins, bool):
        raise InvalidValue(
            f"margins is True or False, got {margins!r}; True keeps each example's margin in every epoch"
        )
    if loss not in PRECISIONS:
        raise unknown("type of stored losses", str(loss), PRECISIONS)
    return Asked(True, views or 0, margins, loss)


class History:
    """Fills the tables of `TABLES` that a kind of batch has; the tables themselves belong to the accumulator."""

    def __init__(self, tables: Tables, asked: Asked):
        self._tables, self._asked = tables, asked

    def shapes(self, rows: int, epochs: int, kind: str, classes: int) -> dict[str, tuple[tuple[int, ...], Any, float]]:
        """The tables to allocate, for batches of a kind (see `accumulate`) and outputs of so many classes (0: unknown)."""
        import torch

        size = (rows, epochs)
        found: dict[str, tuple[tuple[int, ...], Any, float]] = {
            "loss": (size, getattr(torch, self._asked.loss), math.nan)
        }
        if kind == "mean" and 0 < classes <= NOT_SEEN:
            found["predicted"] = (size, torch.uint8, NOT_SEEN)
        elif kind == "dense":
            found["correct"] = (size, torch.float16, math.nan)
        else:
            found["correct"] = (size, torch.int8, -1)
        if self._asked.margins and kind in ("mean", "wide"):
            found["margin"] = (size, torch.float16, math.nan)
        return found

    def lengthen(self, epochs: int) -> None:
        """Room for so many epochs: a loop that goes on after its planned end keeps its records too."""
        import torch

        fills = {"loss": math.nan, "correct": -1, "predicted": NOT_SEEN, "margin": math.nan}
        for name in self.present:
            table = self._tables[name]
            missing = epochs - table.shape[1]
            if missing > 0:
                fill = math.nan if table.is_floating_point() else fills[name]
                self._tables[name] = torch.cat([table, table.new_full((len(table), missing), fill)], dim=1)

    @property
    def present(self) -> list[str]:
        """Names of the tables that there are."""
        return [name for name in TABLES if name in self._tables]

    def write(self, epoch: int, rows: Tensor, losses: Tensor) -> None:
        """Losses [B] of the examples in `rows` [B]; NaN for those without a label."""
        half = self._tables["loss"].element_size() == 2
        self._put("loss", epoch, rows, within(losses) if half else losses)

    def answers(self, epoch: int, rows: Tensor, said: Tensor, right: Tensor) -> None:
        """Classes that the model said, int64 [B], and whether they are right [B], 1 or 0, -1 for no label."""
        import torch

        if "predicted" in self._tables and int(said.max()) >= NOT_SEEN:
            self._forget_predictions()
        if "predicted" in self._tables:
            self._put("predicted", epoch, rows, said.to(torch.uint8))
        else:
            self.shares(epoch, rows, right)

    def shares(self, epoch: int, rows: Tensor, right: Tensor) -> None:
        """Whether an answer is right [B], -1 for no label, or the share of an example's positions that are, NaN for none.

        Shares find no place in a table of whole numbers.
        """
        table = self._tables.get("correct")
        if table is not None and (table.is_floating_point() or not right.is_floating_point()):
            self._put("correct", epoch, rows, right.to(table.dtype))

    def margins(self, epoch: int, rows: Tensor, margins: Tensor) -> None:
        """Margins [B]: the logit of the label less the largest other one."""
        if "margin" in self._tables:
            self._put("margin", epoch, rows, within(margins))

    def _put(self, name: str, epoch: int, rows: Tensor, values: Tensor) -> None:
        table = self._tables[name]
        table.select(1, epoch).scatter_(0, rows, values.to(table.dtype))

    def _forget_predictions(self) -> None:
        """A net that grew beyond 255 classes: from now on only whether it was right."""
        import torch

        said, labels = self._tables["predicted"], self._tables["labels"]
        right = (said == labels.unsqueeze(1)).to(torch.int8).masked_fill_(said == NOT_SEEN, -1)
        self._tables.allocate({"correct": (tuple(said.shape), torch.int8, -1)})
        self._tables["correct"].copy_(right)
        self._tables.drop(("predicted",))


def within(values: Tensor) -> Tensor:
    """Finite values brought into the range of float16; infinities and NaN stay."""
    import torch

    most = torch.finfo(torch.float16).max
    return torch.where(values.isinf(), values, values.clamp(-most, most))
