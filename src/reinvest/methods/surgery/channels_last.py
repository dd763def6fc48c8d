"""ChannelsLast: weights and pictures laid out with the channels next to each other in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.method import Card, Context, Method
from .._check import switch
from ._replace import warn_of_nothing

LAYOUT = torch.channels_last


def lay_out_weights(model: nn.Module) -> list[str]:
    """Give every 4-dimensional parameter and buffer the layout channels_last, in place; the names of those that changed.

    Values, shapes and the parameter objects stay; a weight of 1 x 1 pixels has that layout already.
    """
    changed = []
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.ndim == 4 and not value.is_contiguous(memory_format=LAYOUT):
            value.data = value.data.contiguous(memory_format=LAYOUT)
            changed.append(name)
    return changed


def restore_layout(model: nn.Module, names: Iterable[str], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Undo `lay_out_weights`: what it named, and the optimizer's state of it, is contiguous in the usual way again."""
    known = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in names:
        value = known.get(name)
        if value is None:  # another method has taken it out of the model since
            continue
        value.data = value.data.contiguous()
        if value.grad is not None:
            value.grad = value.grad.contiguous()
        state = optimizer.state.get(value, {}) if optimizer is not None else {}
        for key, moment in state.items():
            if isinstance(moment, Tensor) and moment.ndim == 4:
                state[key] = moment.contiguous()


def lay_out_pictures(x: Any) -> Any:
    """Pictures [B, C, H, W] with the layout channels_last; anything else as it is."""
    return x.contiguous(memory_format=LAYOUT) if isinstance(x, Tensor) and x.ndim == 4 else x


def _lay_out_inputs(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(lay_out_pictures, args)), {name: lay_out_pictures(x) for name, x in kwargs.items()}


class ChannelsLast(Method):
    """Lays the weights of convolutions, and the pictures that reach the model, out as channels_last.

    weights: convert 4-dimensional parameters and buffers when training begins. inputs: convert every 4-dimensional
    tensor that the model is called with, where it is called (a hook on the model): after all methods that make pictures,
    after the transfer to the device, and for evaluation too. False for both changes nothing. Values are the same and
    results equal up to the order of summation; layers in between keep the layout that reaches them. At the end the hook
    is gone, and weights and the optimizer's moments are laid out as before; `report()` tells until then which weights
    were converted. Warns if the model has no weight to convert. Raises
    InvalidValue for anything but True and False, Conflict on a compiled model.
    """

    card = Card(
        title="Channels-last memory format",
        paper="none: a layout of torch.Tensor (its memory format tutorial), not a published method",
        year=2020,
        arxiv="none",
        phase="start",
        cost="one copy of every batch; about 0.8 of a ResNet-8 step on one CPU thread; meant for half precision on tensor cores",
        breaks="a layer without a kernel for the layout copies back and forth and is slower: measure it",
        domains=("vision",),
        found="better, 1.14 times as fast to equal quality (1.06 to 1.22): CIFAR-10 at 16x16 pixels, ResNet-8, 3 "
        "to 24 epochs (claims/channels_last.json); outputs are the plain layout's but for rounding, so what "
        "is won is time per step",
    )
    neutral: ClassVar = {"weights": False, "inputs": False}
    example: ClassVar = {}
    changes_model = True
    surgery_order = 1

    def __init__(self, weights: bool = True, inputs: bool = True) -> None:
        self.convert_weights = switch(weights, "weights")
        self.convert_inputs = switch(inputs, "inputs")
        self._changed: list[str] = []
        self._hook: Any = None

    def start(self, context: Context) -> None:
        """Lay the weights out, and see to the inputs."""
        if self.convert_weights and not any(p.ndim == 4 for p in context.model.parameters()):
            warn_of_nothing(self.name, "4-dimensional weight")
        self._changed = lay_out_weights(context.model) if self.convert_weights else []
        if self.convert_inputs:
            self._hook = context.model.register_forward_pre_hook(_lay_out_inputs, with_kwargs=True)

    def report(self) -> dict[str, Any]:
        """replaced: {name of a weight: "contiguous -> channels_last"}, until the run ends."""
        return {"replaced": dict.fromkeys(self._changed, "contiguous -> channels_last")}

    def finish(self, context: Context) -> None:
        """Remove the hook; lay weights and moments out as they were."""
        if self._hook is not None:
            self._hook.remove()
        restore_layout(context.model, self._changed, context.optimizer)
        self._changed, self._hook = [], None
