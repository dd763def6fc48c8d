"""Layer freezing: the first layers stop learning, ever more of them, and the backward pass ends before them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from torch import nn

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import ROUNDING, number, whole

MOST = 6
"""Slices at most: torch.compile makes a program for each, and gives up after eight."""


def layers_in_order(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each module that has some of its own, in the order of registration.

    A parameter that several modules share belongs to the last of them; modules that are left with none are not listed.
    """
    owner: dict[int, int] = {}
    held = [list(module.parameters(recurse=False)) for module in model.modules()]
    for k, parameters in enumerate(held):
        owner.update((id(p), k) for p in parameters)
    found = [[p for p in parameters if owner[id(p)] == k] for k, parameters in enumerate(held)]
    return [parameters for parameters in found if parameters]


def frozen_layers(progress: float, layers: int, *, start: float = 0.5, share: float = 0.5, stages: int = 5) -> int:
    """How many of the first `layers` layers are frozen at a share `progress` of the run; never the last layer.

    None before `start`. The rest of the run is cut into `stages` equal slices; in slice k = 1 .. stages it is k / stages
    of `share` of the layers, rounded down.
    """
    if progress < start or share == 0.0:
        return 0
    left = 1.0 - start
    now = stages if left == 0.0 else min(stages, 1 + int((progress - start) / left * stages + ROUNDING))
    return min(int(share * now / stages * layers + ROUNDING), layers - 1)


class LayerFreezing(Method):
    """Freezes the first layers, more of them from slice to slice; their backward pass is then saved.

    start: the share of the run, in [0, 1], at which the first ones are frozen. share: of all layers, how many are frozen
    in the last slice, in [0, 1]; 0 is plain training, 1 leaves the last layer alone. stages: from 1 to 6 slices, in which
    the number grows evenly; each is a program of its own to torch.compile. A layer is a module with parameters of its own;
    they count in the order of registration, and time is saved only where that is the order of the forward pass.

    A frozen parameter needs no gradient and has none, so that neither momentum nor weight decay moves it; what the
    optimizer knows of it stays. Norms in frozen layers go on collecting statistics. Parameters that were frozen before are
    not counted in. At the end all parameters need gradients again as before. Under DistributedDataParallel pass
    find_unused_parameters=True to it. Raises InvalidValue for values outside these ranges.
    """

    card = Card(
        title="Layer freezing",
        paper="Brock, Lim, Ritchie, Weston: FreezeOut: Accelerate Training by Progressively Freezing Layers",
        year=2017,
        arxiv="1706.04983",
        phase="weights",
        cost="less than a plain step: the backward pass of the frozen first layers is saved, at most about two thirds of "
        "the time they take",
        breaks="quality: no help for it, and mostly some loss, while a shorter plain run may lose as little; models whose "
        "registration order is not that of the forward pass save no time; DistributedDataParallel needs "
        "find_unused_parameters=True",
        domains=("vision", "language", "tabular", "audio"),
        found="inconclusive, 1.06 times as fast to equal quality (0.991 to 1.13): CIFAR-10 at 16x16 pixels, "
        "ResNet-8, 3 to 24 epochs (claims/layer_freezing.json); the paper saves up to a fifth of the time "
        "on DenseNets and ResNets, at some accuracy on the first, and nothing on VGG",
    )
    horizon = True
    neutral: ClassVar = {"share": 0.0}
    example: ClassVar = {"start": 0.3, "share": 0.8, "stages": 3}
    single = True

    def __init__(self, start: float = 0.5, *, share: float = 0.5, stages: int = 5) -> None:
        self.begin = number(start, "start is a share of the run from 0 to 1", "0.5 is usual", 0, 1)
        self.share = number(share, "share is of the layers, from 0 (plain training) to 1", "0.5 is usual", 0, 1)
        self.stages = whole(stages, f"stages is a whole number from 1 to {MOST}", "5 is usual", 1)
        if stages > MOST:
            raise InvalidValue(f"stages is a whole number from 1 to {MOST}, got {stages!r}; 5 is usual")
        self._layers: list[list[nn.Parameter]] = []
        self._count = 0

    def start(self, context: Context) -> None:
        """Find the layers; where freezing starts at once, freeze the first ones."""
        held = [[p for p in layer if p.requires_grad] for layer in layers_in_order(context.model)]
        self._layers = [layer for layer in held if layer]
        self._count = 0
        self._freeze(self.frozen(context))

    def frozen(self, context: Context) -> int:
        """How many layers are frozen in the next step."""
        return frozen_layers(
            context.progress, len(self._layers), start=self.begin, share=self.share, stages=self.stages
        )

    def _freeze(self, count: int) -> None:
        """Freeze the first `count` layers and no others."""
        low, high = sorted((count, self._count))
        for parameter in (p for layer in self._layers[low:high] for p in layer):
            parameter.requires_grad_(count < self._count)
            # A gradient of zeros is not enough: momentum and weight decay would go on moving the parameter.
            parameter.grad = None
        self._count = count

    def weights(self, context: Context) -> None:
        """Freeze more layers if it is time."""
        count = self.frozen(context)
        if count != self._count:
            self._freeze(count)

    def kind(self, context: Context) -> Hashable:
        """How many layers the next step leaves frozen."""
        return f"{self._count} frozen" if self._count else None

    def finish(self, context: Context) -> None:
        """Let all parameters need gradients again that did so before."""
        self._freeze(0)
        self._layers = []

    def state_dict(self) -> dict[str, Any]:
        """How many layers are frozen."""
        return {"frozen": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises InvalidValue for more layers than there are."""
        if state["frozen"] > max(0, len(self._layers) - 1):
            raise InvalidValue(
                f"frozen layers are some of the model's {len(self._layers)}, got {state['frozen']!r}; load the state into "
                "the same model"
            )
        self._freeze(state["frozen"])
