"""Rows of single epochs, for replay: what a run said of each view it saw in its last epochs, and how to draw it again.

Means over epochs tell what a run thought of an example; a student that sees the very views again needs what was said of
each. Off unless asked for with records={"views": K}: every epoch costs as many bytes as the means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import LoopError
from .codec import FLOOR, encode
from .lastpass import last_of_each
from .tables import Tables

if TYPE_CHECKING:
    from torch import Tensor

Draws = Callable[[], tuple[int, int] | None]


class Views:
    """Fills the tables views uint8 [K, rows, C] and views_known uint8 [K, rows] for the last planned epochs.

    wanted: K, from 1 up; fewer where fewer epochs are planned. `refused` says why nothing is kept.
    """

    names = ("views", "views_known")

    def __init__(self, tables: Tables, wanted: int):
        self._tables, self._wanted = tables, wanted
        self.begin(0, None)

    def begin(self, epochs: int, draws: Draws | None) -> None:
        """Plan for a run of so many epochs. draws() tells (seed, epoch) behind the views of the present epoch."""
        self.count, self._ask = min(self._wanted, epochs), draws
        self._first = epochs - self.count
        self._draws: dict[int, tuple[int, int]] = {}
        self.refused = ""

    def shapes(self, rows: int, classes: int) -> dict[str, tuple[tuple[int, ...], Any, float]]:
        """The tables to allocate."""
        import torch

        per_epoch = (self.count, rows)
        return {"views": ((*per_epoch, classes), torch.uint8, 0), "views_known": (per_epoch, torch.uint8, 0)}

    def turn(self, epoch: int, refused: str) -> None:
        """Batches of an epoch follow; `refused` says why they have no rows ("" if they have)."""
        if refused:
            self.refuse(refused)
        if self.refused or not 0 <= epoch - self._first < self.count:
            return
        found = self._ask() if self._ask is not None else None
        if found is None:
            self.refuse("the loader does not say which (seed, epoch) its views are drawn from, in an attribute `views`")
        else:
            self._draws[epoch - self._first] = found

    def add(self, epoch: int, rows: Tensor, output: Tensor) -> None:
        """Logits [B, C] of examples in the tables' `rows` [B]; of several passes in an epoch the last one counts."""
        slot = epoch - self._first
        if self.refused or "views" not in self._tables or not 0 <= slot < self.count:
            return
        if output.shape[1] != self._tables["views"].shape[2]:
            self.refuse("the number of classes changed during training")
            return
        chosen = last_of_each(rows)
        found = output[chosen].float().contiguous().log_softmax(1)
        good = ~found.isnan().any(1)
        at = rows[chosen][good]
        self._tables["views"][slot][at] = encode(found[good])
        self._tables["views_known"][slot][at] = 1

    def refuse(self, reason: str) -> None:
        """Keep nothing any more."""
        self.refused = self.refused or reason
        self._tables.drop(self.names)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tables as they are stored, epochs that were trained alone, and a description."""
        kept = [k for k in sorted(self._draws) if "views" in self._tables and self._tables["views_known"][k].any()]
        seeds = {self._draws[k][0] for k in kept}
        if self.refused or len(seeds) != 1:
            several = "its epochs' views were drawn from several seeds" if seeds else "its last epochs were not trained"
            return {}, {"views": self.refused or several}
        about = {
            "views": f"logits of every view of the last epochs, 0...255 for 0...{FLOOR:g}",
            "view_seed": str(seeds.pop()),
            "view_epochs": json.dumps([self._draws[k][1] for k in kept]),
        }
        whole = len(kept) == self.count
        return {name: self._tables[name] if whole else self._tables[name][kept] for name in self.names}, about

    def state_dict(self) -> dict[str, Any]:
        """What is not in the tables."""
        draws = [[slot, *draw] for slot, draw in self._draws.items()]
        return {"count": self.count, "refused": self.refused, "draws": draws}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, with the tables restored."""
        self.refused = state["refused"]
        self._draws = {slot: (seed, epoch) for slot, seed, epoch in state["draws"]}


def check_state(views: Views | None, state: Mapping[str, Any] | None) -> None:
    """Raises LoopError where a run goes on with views of another number of epochs than it began with."""
    now = 0 if views is None else views.count
    then = 0 if state is None else state["count"]
    if now != then:
        raise LoopError(
            f"records go on as they began, got views of {now} epochs for a state with {then}; pass the same records=..."
        )
