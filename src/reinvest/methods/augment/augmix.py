"""AugMix: chains of operations on each picture, mixed with each other and with the picture itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.method import Card, Context, Method
from ...core.streams import example_uniform, stream
from .._check import number, switch, whole
from ._operations import GEOMETRIC, beside, bounds, check_range, operate, refuse_maps

LARGEST = 10.0
DEEPEST = 3
MIXED = (
    "auto_contrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The paper's operations: without colour, contrast, brightness and sharpness, which its test of robustness varies."""


def mixed_names(geometry: bool = True) -> tuple[str, ...]:
    """The operations that chains are made of: all 9, or the 4 that leave every pixel in its place; "identity" is last."""
    return (*(name for name in MIXED if geometry or name not in GEOMETRIC), "identity")


def draws_needed(width: int) -> int:
    """Uniforms that `aug_mix` takes for a picture: 1 + a weight, a length and three operations with strengths a chain."""
    return 1 + width * (2 + 2 * DEEPEST)


def aug_mix(
    x: Tensor,
    drawn: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    severity: float = 3.0,
    depth: int = 0,
    geometry: bool = True,
) -> Tensor:
    """m * (chains, mixed by weights from a flat Dirichlet) + (1 - m) * own, m uniform: pictures [B, C, H, W].

    drawn: uniforms in [0, 1), float32 [B, draws_needed(width)]. severity in (0, 10]: an operation's strength is uniform
    from 0.01 up to severity / 10. depth: operations of a chain, 0 for 1 to 3 with equal chances. low, high: the range of
    the values, [C] or [1]. x stays as it was.
    """
    names, rows = mixed_names(geometry), len(x)
    drawn = drawn.to(x.device)
    width = (drawn.shape[1] - 1) // (2 + 2 * DEEPEST)
    # All chains at once, picture by picture of the first chain, then of the second.
    of_chain = drawn[:, 1:].view(rows, width, -1).transpose(0, 1).reshape(width * rows, -1)
    chains = x.repeat(width, 1, 1, 1)
    lengths = 1 + (of_chain[:, 1] * DEEPEST).long() if depth == 0 else torch.full_like(of_chain[:, 1], depth).long()
    for k in range(DEEPEST):
        kind, size = of_chain[:, 2 + 2 * k] * (2 * (len(names) - 1)), of_chain[:, 3 + 2 * k]
        sign = 1 - 2 * (kind.long() % 2)
        strengths = sign * torch.lerp(size.new_tensor(0.01), size.new_tensor(max(0.01, severity / LARGEST)), size)
        choices = torch.where(lengths > k, kind.long() // 2, len(names) - 1)
        chains = operate(chains, names, choices, strengths, low, high)
    # Equal shares of a Dirichlet distribution are exponentials over their sum.
    parts = torch.log1p(-of_chain[:, 0]).neg().clamp(min=1e-12).view(width, rows)
    weights = (parts / parts.sum(0)).to(x.dtype).view(width, rows, 1, 1, 1)
    mixed = (chains.view(width, *x.shape) * weights).sum(0)
    return torch.lerp(x, mixed, drawn[:, 0].to(x.dtype).view(-1, 1, 1, 1))


class AugMix(Method):
    """Mixes every picture with chains of random operations on it: m x (mixed chains) + (1 - m) x own.

    width: chains of a picture, whole number; 0 changes nothing. severity: strength of the operations, above 0 up to 10;
    each one's is uniform from 0.1 to it, on RandAugment's scale. depth: operations of a chain, 1 to 3, or 0 for 1 to 3
    drawn. Weights come from a flat Dirichlet distribution, m is uniform: the paper's alpha = 1. Operations:
    auto_contrast, equalize, posterize, rotate, solarize, shear_x, shear_y, translate_x, translate_y, as in RandAugment.
    geometry: False leaves out the five that move pixels; needed for label maps. value_range: [low, high] of the inputs,
    numbers or one a channel; None takes the smallest and largest values of the task's first 512 training examples. With
    example ids the draws belong to (epoch, id); without ids to the place in the batch. The paper's second part, a loss
    for the consistency of three views (Jensen-Shannon), is not in it.
    Raises InvalidValue for values outside these ranges, for inputs that are no floating pictures, for label maps with
    geometry, and where the range is neither given nor to be found.
    """

    card = Card(
        title="AugMix, without its consistency loss",
        paper="Hendrycks, Mu, Cubuk, Zoph, Gilmer, Lakshminarayanan: AugMix: A Simple Data Processing Method to Improve "
        "Robustness and Uncertainty",
        year=2019,
        arxiv="1912.02781",
        phase="augment",
        cost="3 x width passes over the pictures (3 x width x 8 on a GPU, where every operation sees every picture) and "
        "memory for width copies of the batch",
        breaks="meant for robustness to corrupted pictures more than for accuracy on clean ones; the paper's full gain "
        "needs the consistency loss, which triples the cost of a step; hurts short runs, which underfit anyway",
        domains=("vision",),
    )
    revision = 2
    neutral: ClassVar = {"width": 0}
    example: ClassVar = {"width": 2, "severity": 8.0, "value_range": [-0.5, 1.5]}
    single = True

    def __init__(
        self,
        width: int = 3,
        severity: float = 3.0,
        *,
        depth: int = 0,
        geometry: bool = True,
        value_range: Any = None,
    ) -> None:
        self.width = whole(width, "width is a whole number of chains from 0 (none) up", "3 is usual", 0)
        self.severity = number(severity, "severity is a number above 0, up to 10", "3 is usual", 0, LARGEST, above=True)
        rule = f"depth is a whole number from 1 to {DEEPEST}, or 0 (drawn)"
        self.depth = whole(depth, rule, "0 is usual", 0)
        number(depth, rule, "0 is usual", 0, DEEPEST)
        self.geometry = switch(geometry, "geometry")
        self.value_range = check_range(value_range)
        self._bounds: tuple[Tensor, Tensor] | None = None
        self._seconds = 0.0

    def start(self, context: Context) -> None:
        """Find the range of the values."""
        if self.width:
            low, high, self._seconds = bounds(self.value_range, context, "AugMix")
            self._bounds = low, high

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The same pictures, mixed with what the chains make of them."""
        if not self.width:
            return batch
        refuse_maps(batch, self.geometry, "AugMix")
        assert self._bounds is not None
        self._bounds = low, high = beside(self._bounds, batch.inputs)
        count = draws_needed(self.width)
        if batch.ids is not None:
            drawn = example_uniform(context.seed, "AugMix", context.epoch, batch.ids, count)
        else:
            draws = stream(context.seed, "AugMix", context.epoch, context.step, node=context.world[0])
            drawn = draws.uniform(count * len(batch)).view(len(batch), count)
        return batch.with_inputs(
            aug_mix(batch.inputs, drawn, low, high, severity=self.severity, depth=self.depth, geometry=self.geometry)
        )

    def one_off(self) -> float:
        """Seconds that looking at the first training examples took."""
        return self._seconds

    def finish(self, context: Context) -> None:
        """Forget the range."""
        self._bounds, self._seconds = None, 0.0
