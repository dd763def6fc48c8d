"""StripCut: a strip across the whole picture is taken out, so that the picture shrinks; later a hole that stays."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue, unknown
from ...core.method import Card, Context, Method
from ...core.streams import Stream, stream
from .._check import number, whole
from ._maps import change_all
from .cutout import cut_out, hole_centres

AXES = ("random", "rows", "columns")
SHARES = {"random": 2, "rows": 5, "columns": 5}
"""How many shares above 0 the strips take in turn: with full size that is at most six sizes of pictures."""


def strip_pixels(side: int, share: float, multiple: int) -> int:
    """The strip's width in pixels: `share` of `side` to the nearest multiple of `multiple`, less than the whole side."""
    return min(math.floor(side * share / multiple + 0.5), (side - 1) // multiple) * multiple


def strip_cut(x: Tensor, first: int, pixels: int, axis: str) -> Tensor:
    """Pictures or label maps [B, ..., H, W] without the `pixels` rows (or columns) from number `first` on.

    The two sides are joined: what is left is in its old order, and one seam appears. axis: "rows" takes a strip of the
    full width, "columns" one of the full height. Raises InvalidValue for a strip that does not lie inside or is all.
    """
    if axis not in AXES[1:]:
        raise unknown("axis", axis, AXES[1:])
    at = x.ndim - (2 if axis == "rows" else 1)
    side = x.shape[at]
    if not (0 <= first <= side - pixels and 0 <= pixels < side):
        raise InvalidValue(
            f"a strip lies inside the picture and leaves some of it, got {pixels} {axis} from {first} of {side}; "
            "choose a smaller one"
        )
    if pixels == 0:
        return x
    return torch.cat([x.narrow(at, 0, first), x.narrow(at, first + pixels, side - first - pixels)], dim=at)


def strip_share(progress: float, strip: float = 0.25, switch: float = 0.6, shares: int = 2) -> float:
    """The strip's share of the side at a progress in [0, 1]: in steps from `strip` down to 0 at `switch`.

    The steps are the multiples of strip / shares that are nearest to the straight line, so that the mean share up to
    `switch` is strip / 2.
    """
    if progress >= switch:
        return 0.0
    return strip * math.floor((1.0 - progress / switch) * shares + 0.5) / shares


class StripCut(Method):
    """Takes a strip out of every picture in the first part of the run, then Cutout's square, at last nothing.

    strip: share of the side that the first strips take, in [0, 1); 0 none. It falls in steps to 0 at `switch`. hole:
    side of Cutout's square from there on, a share of the shorter side in [0, 1], 0 none. switch, finetune: where the
    strips end and how much of the end of the run is left plain; shares of the run in [0, 1], together at most 1. axis:
    "rows" (strips of full width), "columns" (full height) or "random" (drawn each step). multiple: strips are multiples
    of so many pixels. One strip a batch; label maps [B, H, W] lose the same strip, while a hole leaves them alone. At
    most six sizes are used. The model must take any size (global pooling).
    Raises InvalidValue for values outside these ranges, for inputs that are no floating pictures, for maps of another
    size, and where even the first strip rounds to nothing.
    """

    card = Card(
        title="Strip cut, then Cutout",
        paper="none: a proposal of this project's sources without published figures; the hole is that of DeVries, "
        "Taylor: Improved Regularization of Convolutional Neural Networks with Cutout",
        year=2017,
        arxiv="none",
        phase="augment",
        cost="a step with a strip of share p costs about 1 - p of a plain one in convolutional nets; the mean share up "
        "to `switch` is strip / 2",
        breaks="models with a fixed input size (flattened heads, position tables); no gain where loading is the "
        "bottleneck; adds little to other methods that shrink pictures; regularises, so it hurts runs that underfit; "
        "records of single pixels do not fit pictures that lost a strip",
        domains=("vision",),
        references=("1708.04552",),
        found="worse, 0.912 times as fast to equal quality (0.850 to 0.974): CIFAR-10 at 16x16 pixels, ResNet-8, "
        "3 to 24 epochs (claims/strip_cut.json); there is no published figure to compare with",
    )
    revision = 2
    horizon = True
    neutral: ClassVar = {"strip": 0.0, "hole": 0.0}
    example: ClassVar = {"strip": 0.5, "hole": 0.5, "multiple": 2}
    single = True

    def __init__(
        self,
        strip: float = 0.25,
        switch: float = 0.6,
        *,
        finetune: float = 0.1,
        hole: float = 0.25,
        axis: str = "random",
        multiple: int = 8,
    ) -> None:
        self.strip = number(
            strip, "strip is a share of the side from 0 (none) to below 1", "0.25 is usual", 0, 1, below=True
        )
        self.switch = number(switch, "switch is a share of the run from 0 to 1", "0.6 is usual", 0, 1)
        self.finetune = number(finetune, "finetune is a share of the run from 0 to 1", "0.1 is usual", 0, 1)
        if self.switch + self.finetune > 1.0:
            raise InvalidValue(
                f"switch and finetune are shares of one run and sum to at most 1, got {switch!r} and {finetune!r}; "
                "shorten one of them"
            )
        self.hole = number(
            hole, "hole is a share of the shorter side from 0 (none) to 1", "0.25 or 0.5 are usual", 0, 1
        )
        if axis not in AXES:
            raise InvalidValue(f"axis is one of {', '.join(map(repr, AXES))}, got {axis!r}; choose one of them")
        self.axis = axis
        self.multiple = whole(multiple, "multiple is a whole number of pixels from 1 up", "8 is usual", 1)

    def share(self, progress: float) -> float:
        """The strip's share of the side at a progress in [0, 1]."""
        return strip_share(progress, self.strip, self.switch, SHARES[self.axis])

    def _draw(self, context: Context) -> tuple[str, Stream]:
        """The axis of this step, and the stream from which the place comes; equal on all virtual nodes."""
        draws = stream(context.seed, "StripCut", 0, context.step)
        return (AXES[1 + (draws.number() < 0.5)] if self.axis == "random" else self.axis), draws

    def augment(self, batch: Batch, context: Context) -> Batch:
        """Smaller pictures early in the run, pictures with a hole later."""
        progress = context.progress
        if progress >= self.switch:
            if self.hole == 0.0 or progress >= 1.0 - self.finetune:
                return batch
            x = batch.images("StripCut")
            return batch.with_inputs(cut_out(x, self.hole, hole_centres(batch, x, context, "StripCut")))
        share = self.share(progress)
        if share == 0.0:
            return batch
        axis, draws = self._draw(context)
        side = batch.images("StripCut").shape[-2 if axis == "rows" else -1]
        pixels = strip_pixels(side, share, self.multiple)
        if pixels == 0:
            if strip_pixels(side, self.strip, self.multiple) == 0:
                raise InvalidValue(
                    f"a strip is a multiple of {self.multiple} pixels above 0, got {self.strip:g} of {side} {axis}; "
                    "take a smaller multiple or a larger strip"
                )
            return batch
        first = math.floor(draws.number() * (side - pixels + 1))
        return change_all(batch, lambda pictures: strip_cut(pictures, first, pixels, axis), "StripCut")

    def kind(self, context: Context) -> Hashable:
        """What the step takes out: a share of "rows" or "columns", "hole" or None (plain)."""
        progress = context.progress
        if progress >= self.switch:
            return "hole" if self.hole and progress < 1.0 - self.finetune else None
        share = self.share(progress)
        return f"{share:.3g} of the {self._draw(context)[0]}" if share else None
