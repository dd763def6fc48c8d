"""Layer and group norm in the dtype of autocast, which otherwise computes them in float32."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.method import Card, Context, Method
from .._check import switch
from ._replace import warn_of_nothing


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype of the autocast around this call on x's device; None outside one, and for dtypes that it leaves alone."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind) if x.dtype in (torch.float32, torch.bfloat16, torch.float16) else None


def _lowered(x: Tensor, module: nn.LayerNorm | nn.GroupNorm, dtype: torch.dtype) -> tuple[Tensor, Any, Any]:
    weight, bias = (None if p is None else p.to(dtype) for p in (module.weight, module.bias))
    return x.to(dtype), weight, bias


class LowPrecisionLayerNorm(nn.LayerNorm):
    """A layer norm whose input, weights and output have the dtype of autocast; the plain one outside autocast."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., *normalized_shape] -> the same shape."""
        dtype = autocast_dtype(input)
        if dtype is None:
            return super().forward(input)
        x, weight, bias = _lowered(input, self, dtype)
        with torch.autocast(input.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class LowPrecisionGroupNorm(nn.GroupNorm):
    """A group norm whose input, weights and output have the dtype of autocast; the plain one outside autocast."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, ...] -> the same shape."""
        dtype = autocast_dtype(input)
        if dtype is None:
            return super().forward(input)
        x, weight, bias = _lowered(input, self, dtype)
        with torch.autocast(input.device.type, enabled=False):
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def lower_norms(model: nn.Module, *, layer: bool = True, group: bool = True) -> dict[str, str]:
    """Let the model's LayerNorm and GroupNorm compute in the dtype of autocast, in place: {name: "Old -> New"}.

    The module objects stay, and with them parameters, hooks, names and state_dict keys: only their class changes.
    Subclasses have a forward of their own and are left as they are.
    """
    new: dict[type[nn.Module], type[nn.Module]] = {}
    if layer:
        new[nn.LayerNorm] = LowPrecisionLayerNorm
    if group:
        new[nn.GroupNorm] = LowPrecisionGroupNorm
    done: dict[str, str] = {}
    for name, module in model.named_modules():
        kind = new.get(type(module))
        if kind is not None:
            done[name] = f"{type(module).__name__} -> {kind.__name__}"
            module.__class__ = kind
    return done


class LowPrecisionNorm(Method):
    """Computes layer norm and group norm in the dtype of autocast (bfloat16, float16); nothing changes outside autocast.

    layer, group: which of the two; False for both changes nothing. On CUDA torch's autocast casts the input of both to
    float32 and hands on a float32 result, which costs memory traffic twice. On a CPU it leaves both alone, so they
    compute in the dtype that arrives: the method then acts only on float32 inputs, such as a residual stream. Inside,
    torch's kernels take mean and variance in float32 either way; what is rounded is input, weights and output.

    Parameters and state_dict keys stay as they were, the changed classes stay at the end. Norms of other classes
    (RMSNorm, batch norm, subclasses) are left alone. Warns if the model has neither. Raises InvalidValue for anything
    but True and False, Conflict on a compiled model.
    """

    card = Card(
        title="Low-precision layer and group norm",
        paper="none: a method of MosaicML's library Composer",
        year=2022,
        arxiv="none",
        phase="start",
        cost="less than nothing on a GPU under autocast, where it saves reading and writing in float32; nothing to gain "
        "without autocast, and next to nothing on a CPU",
        breaks="activations beyond the range of float16, which a residual stream can reach; a residual stream that is "
        "normed at its end loses bits of small differences",
        domains=("language", "vision", "audio"),
    )
    neutral: ClassVar = {"layer": False, "group": False}
    example: ClassVar = {}
    changes_model = True
    surgery_order = 1
    single = True

    def __init__(self, *, layer: bool = True, group: bool = True) -> None:
        self.layer, self.group = switch(layer, "layer"), switch(group, "group")
        self._report: dict[str, Any] = {}

    def start(self, context: Context) -> None:
        """Change the norms of the model."""
        self._report = {}
        if not (self.layer or self.group):
            return
        done = lower_norms(context.model, layer=self.layer, group=self.group)
        self._report = {"replaced": done}
        kinds = [("LayerNorm", self.layer, LowPrecisionLayerNorm), ("GroupNorm", self.group, LowPrecisionGroupNorm)]
        wanted = tuple(kind for _, on, kind in kinds if on)
        if not done and not any(isinstance(m, wanted) for m in context.model.modules()):
            warn_of_nothing("LowPrecisionNorm", " or ".join(name for name, on, _ in kinds if on))

    def report(self) -> dict[str, Any]:
        """What was replaced, {"replaced": {name: "Old -> New"}}, until the run ends; {} before it."""
        return dict(self._report)

    def finish(self, context: Context) -> None:
        """Forget the report; the model stays as it is."""
        self._report = {}
