"""SqueezeExcite: channels weighed by what the whole picture says of them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.method import Card, Context, Method
from ...core.streams import Stream, stream
from .._check import whole
from ._replace import mend_optimizer, warn_of_changed, warn_of_nothing


def excite(x: Tensor, reduce: Tensor, expand: Tensor) -> Tensor:
    """x * sigmoid(expand relu(reduce z)), z the mean of every channel.

    x: [B, C, H, W]; reduce: [C / r, C]; expand: [C, C / r]; no biases, as in the paper.
    """
    gates = torch.sigmoid(F.linear(F.relu(F.linear(x.mean((2, 3)), reduce)), expand))
    return x * gates[:, :, None, None]


class Excitation(nn.Module):
    """The two weights of `excite` for C channels, drawn as He normal, so that the gates start near a half."""

    def __init__(self, channels: int, reduction: int, draws: Stream) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce = nn.Parameter(draws.normal(hidden * channels).view(hidden, channels) * math.sqrt(2 / channels))
        self.expand = nn.Parameter(draws.normal(channels * hidden).view(channels, hidden) * math.sqrt(2 / hidden))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same, every channel multiplied by its gate."""
        return excite(x, self.reduce, self.expand)


class SqueezeExciteConv2d(nn.Conv2d):
    """A convolution followed by an excitation; its own weight and bias keep their names."""

    changed_by = "SqueezeExcite"
    excitation: Excitation

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W'] of the plain layer, weighed."""
        weighed: Tensor = self.excitation(super().forward(input))
        return weighed


def add_excitations(model: nn.Module, draws: Stream, *, min_channels: int = 128, reduction: int = 16) -> dict[str, str]:
    """Put an excitation after every Conv2d with at least min_channels outputs, in place: {name: "Old -> New"}.

    The module objects stay, and with them hooks and names; the new weights are "<name>.excitation.reduce" and
    ".expand". Subclasses of Conv2d have a forward of their own and are left alone.
    """
    done = {}
    for name, module in list(model.named_modules()):
        if type(module) is nn.Conv2d and module.out_channels >= min_channels:
            added = Excitation(module.out_channels, reduction, draws).to(module.weight.device, module.weight.dtype)
            module.excitation = added.train(module.training)
            module.__class__ = SqueezeExciteConv2d
            done[name] = "Conv2d -> SqueezeExciteConv2d"
    return done


class SqueezeExcite(Method):
    """Multiplies every channel of a convolution's output by sigmoid(W2 relu(W1 z)), z the channels' means.

    min_channels: convolutions with at least so many output channels, from 1 up. reduction: how many times smaller the
    layer in between is, from 1 up (at least one unit is left). The new weights join the optimizer's group of their
    convolution and are drawn from the run's own stream. This is not an identity at the start: gates begin near 0.5, so
    the output is about halved, which a norm behind the convolution takes back and a net without norms feels.

    The model keeps the blocks and their weights at the end: call `add_excitations` before loading them elsewhere, and
    attach before wrapping the model in DistributedDataParallel, which must know all weights. `report()` tells until the
    end what was replaced. Warns if no convolution is that wide. Raises InvalidValue for values outside these ranges,
    Conflict on a compiled model.
    """

    card = Card(
        title="Squeeze-and-excitation",
        paper="Hu, Shen, Albanie, Sun, Wu: Squeeze-and-Excitation Networks",
        year=2017,
        arxiv="1709.01507",
        phase="start",
        cost="little arithmetic, but two more passes over the activations of every replaced layer: about 1.2 of a ResNet-8 "
        "step on a CPU if all convolutions have one; 2 C^2 / reduction more weights a layer",
        breaks="many narrow layers: the passes over memory cost more than the gates bring; a model rebuilt from its "
        "recipe has no place for the new weights",
        domains=("vision",),
    )
    revision = 2
    neutral: ClassVar = {"min_channels": 1 << 30}
    example: ClassVar = {"min_channels": 6, "reduction": 2}
    changes_model = True
    single = True

    def __init__(self, min_channels: int = 128, *, reduction: int = 16) -> None:
        self.min_channels = whole(min_channels, "min_channels is a whole number from 1 up", "128 is usual", 1)
        self.reduction = whole(reduction, "reduction is a whole number from 1 up", "16 is usual", 1)
        self._replaced: dict[str, str] = {}

    def start(self, context: Context) -> None:
        """Add the blocks, and their weights to the optimizer."""
        model = context.model
        before = dict(model.named_parameters())
        draws = stream(context.seed, self.name, 0)
        self._replaced = add_excitations(model, draws, min_channels=self.min_channels, reduction=self.reduction)
        mend_optimizer(context.optimizer, before, model)
        wide = (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.out_channels >= self.min_channels)
        warn_of_changed(self.name, wide)
        neutral = self.min_channels == self.neutral["min_channels"]
        if not neutral and not any(isinstance(m, SqueezeExciteConv2d) for m in model.modules()):
            warn_of_nothing(self.name, f"convolution with {self.min_channels} channels or more")

    def report(self) -> dict[str, Any]:
        """replaced: {name: "Old -> New"}, until the run ends."""
        return {"replaced": dict(self._replaced)}

    def finish(self, context: Context) -> None:
        """Forget the report; the model keeps its blocks."""
        self._replaced = {}
