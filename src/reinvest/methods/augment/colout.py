"""ColOut: random rows and columns are dropped, so that every picture shrinks a little."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import Stream, stream
from .._check import number
from ._maps import change_all


def lines_kept(side: int, share: float) -> int:
    """Rows (or columns) left of `side` where `share` of them, in [0, 1), is dropped: rounded down, at least one."""
    # A product such as 0.9 * 10 may lie a rounding error below a whole number.
    return max(1, math.floor((1.0 - share) * side + 1e-9))


def draw_lines(side: int, share: float, draws: Stream) -> Tensor:
    """Which rows (or columns) are kept: int64 [lines_kept(side, share)], ascending; each subset is equally likely."""
    return draws.permutation(side)[: lines_kept(side, share)].sort().values


def keep_lines(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pictures or label maps [B, ..., H, W] cut down to the given rows and columns, int64 [h] and [w].

    Raises InvalidValue for anything with less than two dimensions beside the batch.
    """
    if x.ndim < 3:
        raise InvalidValue(f"keep_lines takes pictures or maps [B, ..., H, W], got {list(x.shape)}; reshape them")
    if len(rows) < x.shape[-2]:
        x = x.index_select(-2, rows.to(x.device))
    return x.index_select(-1, columns.to(x.device)) if len(columns) < x.shape[-1] else x


class ColOut(Method):
    """Drops random rows and columns of every picture; one draw a batch, the rest keeps its order.

    rows, columns: shares that are dropped, in [0, 1); 0 drops nothing, near 1 one line is left. Of n lines
    floor((1 - share) * n) stay, so pictures have one size throughout and (1 - rows) * (1 - columns) of their pixels.
    Label maps [B, H, W] lose the same lines. The model must take any size (global pooling), and sees whole pictures
    only in evaluation. Raises InvalidValue for shares outside the range, for inputs that are no floating pictures and
    for maps of another size.
    """

    card = Card(
        title="ColOut",
        paper="none: introduced in the library Composer (MosaicML), whose method card is its only description",
        year=2021,
        arxiv="none",
        phase="augment",
        cost="a copy of the pixels that stay; 0.72 of the pixels with the defaults, steps of convolutional nets with "
        "them",
        breaks="about 0.2 points lost on ImageNet and 1 on CIFAR-10 by its own card; models with a fixed input size; no "
        "gain where loading is the bottleneck; adds little to other methods that shrink pictures; records of single "
        "pixels do not fit pictures that lost lines",
        domains=("vision",),
    )
    neutral: ClassVar = {"rows": 0.0, "columns": 0.0}
    example: ClassVar = {"rows": 0.25, "columns": 0.5}
    single = True

    def __init__(self, rows: float = 0.15, columns: float = 0.15) -> None:
        self.rows, self.columns = (
            number(value, f"{what} is a share from 0 (none dropped) to below 1", "0.15 is usual", 0, 1, below=True)
            for what, value in (("rows", rows), ("columns", columns))
        )

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The same pictures without some of their lines."""
        if self.rows == self.columns == 0.0:
            return batch
        x = batch.images("ColOut")
        # One draw for all virtual nodes, so that an example's view does not depend on how the batch is shared out.
        draws = stream(context.seed, "ColOut", context.epoch, context.step)
        rows, columns = (
            draw_lines(side, share, draws).to(x.device)
            for side, share in zip(x.shape[-2:], (self.rows, self.columns), strict=True)
        )
        return change_all(batch, lambda pictures: keep_lines(pictures, rows, columns), "ColOut")
