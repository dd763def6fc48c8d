"""Cutout: a square hole in every picture."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import example_integers, stream
from .._check import number

RULE = "length is a share of the shorter side from 0.0 (no hole) to 1.0, or whole pixels from 0 up"
REMEDY = "0.25 or 8 are usual"


def hole_pixels(length: float, height: int, width: int) -> int:
    """The hole's side in pixels: an int is taken as pixels, a float as a share of the shorter side."""
    return length if isinstance(length, int) else round(length * min(height, width))


def cut_out(x: Tensor, length: float, centres: Tensor, value: float = 0.0) -> Tensor:
    """A square hole around each centre, clipped at the border.

    x: pictures [B, C, H, W]; length: side of the hole, as a share of the shorter side (float in [0, 1]) or in pixels
    (int); centres: row and column, int64 [B, 2], inside the picture. A hole of n pixels covers rows r - n//2 up to
    r - n//2 + n, less what lies outside. Returns a new tensor of the same shape.
    Raises InvalidValue for anything but [B, C, H, W], and for centres of another shape.
    """
    if x.ndim != 4 or centres.shape != (len(x), 2):
        raise InvalidValue(
            f"cut_out takes pictures [B, C, H, W] and centres [B, 2], got {list(x.shape)} and {list(centres.shape)}; "
            "reshape them"
        )
    height, width = x.shape[-2:]
    pixels = hole_pixels(length, height, width)
    if pixels == 0:
        return x
    first = centres.to(x.device) - pixels // 2
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    down = (rows >= first[:, :1]) & (rows < first[:, :1] + pixels)
    across = (columns >= first[:, 1:]) & (columns < first[:, 1:] + pixels)
    return x.masked_fill((down[:, :, None] & across[:, None, :])[:, None], value)


class Cutout(Method):
    """Fills a square of every picture with `value`; uniform centres, so that holes at the border are smaller.

    length: side of the square, a share of the shorter side (float, 0.0 nothing to 1.0) or pixels (int, 0 nothing).
    value: what the hole holds (0 is the mean of normalised pictures). With example ids the centre belongs to (epoch,
    id), whatever batch the example is in; without ids to its place in the batch.
    Raises InvalidValue for a length or value outside its range.
    """

    card = Card(
        title="Cutout",
        paper="DeVries, Taylor: Improved Regularization of Convolutional Neural Networks with Cutout",
        year=2017,
        arxiv="1708.04552",
        phase="augment",
        cost="one masked copy of the inputs; a hole does not make a convolution cheaper",
        breaks="little or no gain for models that are well tuned or regularised otherwise, and in runs short enough "
        "to underfit",
        domains=("vision",),
        found="inconclusive, 1.03 times as fast to equal quality (0.835 to 1.30): CamVid at 60x80 pixels, U-Net "
        "of width 8, 4 to 32 epochs (claims/cutout_camvid.json); with labels in the hole left as they are; "
        "the paper's gain is on CIFAR in long runs",
    )
    neutral: ClassVar = {"length": 0.0}
    example: ClassVar = {"length": 0.5}
    single = True

    def __init__(self, length: float = 0.25, *, value: float = 0.0) -> None:
        if isinstance(length, int) and not isinstance(length, bool):
            number(length, RULE, REMEDY, 0)
            self.length: float = length
        else:
            self.length = number(length, RULE, REMEDY, 0, 1)
        self.value = number(
            value,
            "value is the finite number that fills the hole",
            "0.0 is the mean of normalised pictures",
            -math.inf,
            math.inf,
            above=True,
            below=True,
        )

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The same pictures, each with its hole."""
        if self.length == 0:
            return batch
        x = batch.images("Cutout")
        return batch.with_inputs(cut_out(x, self.length, hole_centres(batch, x, context, "Cutout"), self.value))


def hole_centres(batch: Batch, x: Tensor, context: Context, who: str) -> Tensor:
    """Uniform centres int64 [B, 2] for pictures x: those of (epoch, id), or of the place in the batch without ids.

    who: the method that draws, so that two methods draw different places.
    """
    height, width = x.shape[-2:]
    if batch.ids is not None:
        return torch.cat(
            [
                example_integers(context.seed, f"{who}.{axis}", context.epoch, batch.ids, high)
                for axis, high in (("row", height), ("column", width))
            ],
            dim=1,
        )
    draws = stream(context.seed, who, context.epoch, context.step, node=context.world[0])
    return torch.stack([draws.integers(height, len(x)), draws.integers(width, len(x))], dim=1)
