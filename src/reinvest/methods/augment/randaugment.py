"""RandAugment: a few operations drawn for each picture, all of one magnitude."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.method import Card, Context, Method
from ...core.streams import example_integers, stream
from .._check import number, switch, whole
from ._operations import GEOMETRIC, OPERATIONS, beside, bounds, check_range, operate, refuse_maps

LARGEST = 10.0


def operation_names(geometry: bool = True) -> tuple[str, ...]:
    """The operations that are drawn from: all 14, or the 9 that leave every pixel in its place."""
    return tuple(name for name in OPERATIONS if geometry or name not in GEOMETRIC)


def rand_augment(
    x: Tensor, drawn: Tensor, magnitude: float, low: Tensor, high: Tensor, geometry: bool = True
) -> Tensor:
    """Pictures [B, C, H, W] after drawn.shape[1] operations each, one after the other; x stays as it was.

    drawn: int64 [B, N] in [0, 2 K) for K operations: d // 2 is the operation, d % 2 its sign. magnitude in [0, 10].
    low, high: the range of the values, [C] or [1].
    """
    names = operation_names(geometry)
    strengths = (1 - 2 * (drawn % 2)).to(torch.float32) * (magnitude / LARGEST)
    for k in range(drawn.shape[1]):
        x = operate(x, names, drawn[:, k] // 2, strengths[:, k], low, high)
    return x


class RandAugment(Method):
    """Changes every picture by `operations` random operations of one `magnitude`.

    operations: how many, one after the other, whole number; 0 changes nothing. magnitude: from 0 (only auto_contrast
    and equalize act) to 10 (rotation by 30 degrees, shear 0.3, shift by 0.45 of a side, factors 0.1 or 1.9, 4 of 8 bits,
    everything inverted); signs are drawn. Operations: identity, auto_contrast, equalize, rotate, solarize, color,
    posterize, contrast, brightness, sharpness, shear_x, shear_y, translate_x, translate_y. geometry: False leaves out
    the five that move pixels; needed for label maps. value_range: [low, high] of the inputs, numbers or one a channel;
    None takes the smallest and largest values of the task's first 512 training examples. Values beyond it are clipped
    where an operation acts. With example ids the draws belong to (epoch, id); without ids to the place in the batch.
    Raises InvalidValue for values outside these ranges, for inputs that are no floating pictures, for label maps with
    geometry, and where the range is neither given nor to be found.
    """

    card = Card(
        title="RandAugment",
        paper="Cubuk, Zoph, Shlens, Le: RandAugment: Practical automated data augmentation with a reduced search space",
        year=2019,
        arxiv="1909.13719",
        phase="augment",
        cost="on a CPU a pass over the pictures for each of the operations a picture gets; on a GPU every operation "
        "sees every picture, 13 passes each, so that the device is never waited for",
        breaks="hurts short runs, which underfit anyway; shears are about the middle and pixels are the nearest ones; "
        "magnitudes of public code, where 0 is strong for some operations, mean something else",
        domains=("vision",),
        references=("1805.09501",),
    )
    revision = 2
    neutral: ClassVar = {"operations": 0}
    example: ClassVar = {"operations": 2, "magnitude": 9.0, "value_range": [-0.5, 1.5]}
    single = True

    def __init__(
        self, operations: int = 2, magnitude: float = 9.0, *, geometry: bool = True, value_range: Any = None
    ) -> None:
        self.operations = whole(operations, "operations is a whole number from 0 (none) up", "2 is usual", 0)
        self.magnitude = number(magnitude, "magnitude is a number from 0 to 10", "9 is usual", 0, LARGEST)
        self.geometry = switch(geometry, "geometry")
        self.value_range = check_range(value_range)
        self._bounds: tuple[Tensor, Tensor] | None = None
        self._seconds = 0.0

    def start(self, context: Context) -> None:
        """Find the range of the values."""
        if self.operations:
            low, high, self._seconds = bounds(self.value_range, context, "RandAugment")
            self._bounds = low, high

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The same pictures, changed."""
        if not self.operations:
            return batch
        refuse_maps(batch, self.geometry, "RandAugment")
        assert self._bounds is not None
        self._bounds = low, high = beside(self._bounds, batch.inputs)
        kinds, count = 2 * len(operation_names(self.geometry)), self.operations
        if batch.ids is not None:
            drawn = example_integers(context.seed, "RandAugment", context.epoch, batch.ids, kinds, count)
        else:
            draws = stream(context.seed, "RandAugment", context.epoch, context.step, node=context.world[0])
            drawn = torch.stack([draws.integers(kinds, len(batch)) for _ in range(count)], dim=1)
        return batch.with_inputs(rand_augment(batch.inputs, drawn, self.magnitude, low, high, self.geometry))

    def one_off(self) -> float:
        """Seconds that looking at the first training examples took."""
        return self._seconds

    def finish(self, context: Context) -> None:
        """Forget the range."""
        self._bounds, self._seconds = None, 0.0
