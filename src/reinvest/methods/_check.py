"""Checks of constructor arguments, and class targets as probabilities; shared by the methods."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core.criterion import IGNORE
from ..core.errors import InvalidValue

ROUNDING = 1e-9
"""Shares of a run this close are the same: added before rounding down, taken off before rounding up."""


def number(
    value: Any, rule: str, remedy: str, low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> float:
    """`value` as a float from low to high; above / below leave that end out.

    Raises InvalidValue: rule, value, remedy.
    """
    ok = isinstance(value, (int, float)) and not isinstance(value, bool)
    if ok:
        ok = (value > low if above else value >= low) and (value < high if below else value <= high)
    if not ok:
        raise InvalidValue(f"{rule}, got {value!r}; {remedy}")
    return float(value)


def whole(value: Any, rule: str, remedy: str, low: int) -> int:
    """`value` as an int from low up. Raises InvalidValue: rule, value, remedy."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InvalidValue(f"{rule}, got {value!r}; {remedy}")
    return value


def switch(value: Any, name: str) -> bool:
    """`value` if it is True or False. Raises InvalidValue otherwise."""
    if not isinstance(value, bool):
        raise InvalidValue(f"{name} is True or False, got {value!r}; pass one of the two")
    return value


def class_probabilities(targets: Tensor, output: Tensor, on: float = 1.0, off: float = 0.0) -> Tensor:
    """Class numbers [B, ...] as a table [B, C, ...]: `on` at the class, `off` elsewhere, 0 where the target is -100.

    output: logits [B, C, ...]. The table has output's precision, at least float32. Raises InvalidValue for logits
    with the classes in another place and for class numbers outside 0 .. C-1.
    """
    dtype = output.dtype if output.dtype == torch.float64 else torch.float32
    if targets.ndim == 1 and output.ndim == 2 and len(targets) == len(output) and output.device.type == "cpu":
        try:
            # On a CPU an ignored example (-100) raises here, which is cheaper than looking for one at every step.
            return torch.full(output.shape, off, dtype=dtype).scatter_(1, targets.unsqueeze(1), on)
        except RuntimeError:
            pass
    if output.ndim < 2 or targets.shape != (output.shape[0], *output.shape[2:]):
        raise InvalidValue(
            f"class targets [B, ...] belong to logits [B, C, ...] with the classes in dimension 1, got targets "
            f"{list(targets.shape)} and logits {list(output.shape)}; pass output.movedim(-1, 1) if the classes come "
            "last"
        )
    targets = targets.long()  # as a byte -100 would be class 156
    ignored = targets == IGNORE
    places = targets.masked_fill(ignored, 0).unsqueeze(1)
    classes = output.shape[1]
    if output.device.type == "cpu" and (int(places.min()) < 0 or int(places.max()) >= classes):
        raise InvalidValue(
            f"class numbers lie in 0 .. {classes - 1} (-100 is ignored), got {int(targets.min())} to "
            f"{int(targets.max())}; "
            "check the labels and the number of outputs of the model"
        )
    table = torch.full(output.shape, off, dtype=dtype, device=output.device).scatter_(1, places, on)
    return table.masked_fill_(ignored.unsqueeze(1), 0.0)


def earlier_runs(run: Any) -> list[Any]:
    """The earlier runs that an argument names, a Run, an id or a list of them, as a list; [] for None.

    Raises InvalidValue for anything else.
    """
    listed = list(run) if isinstance(run, (list, tuple)) else [] if run is None else [run]
    for one in listed:
        if not (isinstance(one, str) and one) and not hasattr(one, "records"):
            raise InvalidValue(
                f"an earlier run is a Run or its id, got {one!r}; pass for example store.best(task=..., metric=...)"
            )
    return listed
