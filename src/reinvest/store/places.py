"""Where an example's rows lie: tables hold the training examples alone, which may be few of a data set's ids."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.view import TaskView

MOST_POSITIONS = 4096
"""Most pixels of an example that have a row, unless a stride is given."""


def places_of(view: TaskView | None, examples: int) -> Tensor | None:
    """For each id 0 ... `examples` - 1 its row among the training examples, -1 for others: int32 [N].

    None where the loader does not say which examples are trained on, or where these are nearly all of them.
    """
    import torch

    from ..core.view import TRAIN

    if view is None or view.roles is None:
        return None
    try:
        trained = view.roles().cpu() == TRAIN
    except Exception:  # the run matters more than what its loader fails to tell; the records say so when written
        return None
    count = int(trained.sum())
    if trained.shape != (examples,) or not 0 < count < 0.9 * examples:
        return None
    places = torch.full((examples,), -1, dtype=torch.int32)
    places[trained] = torch.arange(count, dtype=torch.int32)
    return places


def spread_out(rows: Tensor, places: Tensor, fill: float, *, dimension: int = 0) -> Tensor:
    """Rows of the training examples as rows of all ids along `dimension`; `fill` for the others."""
    shape = list(rows.shape)
    shape[dimension] = len(places)
    whole = rows.new_full(shape, fill)
    ids = (places >= 0).nonzero().flatten()
    whole.index_copy_(dimension, ids, rows.index_select(dimension, places[ids].long()))
    return whole


def stride_for(space: tuple[int, ...]) -> int:
    """The smallest stride that leaves at most `MOST_POSITIONS` places."""
    stride = 1
    while math.prod(-(-length // stride) for length in space) > MOST_POSITIONS:
        stride += 1
    return stride
