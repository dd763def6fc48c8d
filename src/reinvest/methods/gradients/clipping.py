"""Gradient clipping: by joint norm, entry by entry, or by each unit's norm relative to its weights (adaptive)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import number, switch

EPS = 1e-3
"""The norm that a unit's weights have at least, so that units that begin at zero can move."""
USUAL = {"norm": 1.0, "value": 0.5, "adaptive": 0.01}
SMALLEST = 1e-6
"""The norm that a unit's gradient has at least where something is divided by it."""


def clip_gradients(gradients: Sequence[Tensor], *, norm: float | None = None, value: float | None = None) -> None:
    """Clip in place: scale all gradients so that their joint 2-norm is at most `norm`, or bound every entry by `value`.

    gradients: tensors of any shapes; norm, value: above 0, exactly one of them; inf changes nothing. Gives what
    `torch.nn.utils.clip_grad_norm_` and `clip_grad_value_` give. Raises InvalidValue for none or both.
    """
    if (norm is None) == (value is None):
        raise InvalidValue(
            f"gradients are clipped by norm or by value, got norm={norm!r} and value={value!r}; pass one of the two"
        )
    tensors = list(gradients)
    if not tensors or math.inf in (norm, value):
        return
    if value is not None:
        torch._foreach_clamp_min_(tensors, -value)
        torch._foreach_clamp_max_(tensors, value)
        return
    factor = _factor(tensors, norm)
    if len({t.device for t in tensors}) > 1:
        for tensor in tensors:
            tensor.mul_(factor.to(tensor.device))
    else:
        torch._foreach_mul_(tensors, factor)


def _factor(tensors: list[Tensor], norm: float | None) -> Tensor:
    norms = torch.stack([n.to(tensors[0].device) for n in torch._foreach_norm(tensors)])
    total = torch.linalg.vector_norm(norms)
    return (norm / (total + 1e-6)).clamp_(max=1.0)  # type: ignore[no-any-return]


def unit_norms(tensor: Tensor) -> Tensor:
    """The 2-norm of each unit, shaped to broadcast against the tensor: [O, 1, ...] of weights [O, ...], [] below 2-D.

    A unit is a row of a matrix or a filter of a convolution, whose first dimension is the outputs'; a bias, a gain or a
    scalar is one unit as a whole.
    """
    if tensor.ndim < 2:
        return torch.linalg.vector_norm(tensor)  # type: ignore[no-any-return]
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)  # type: ignore[no-any-return]


def clip_to_weights(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], factor: float = 0.01, *, eps: float = EPS
) -> None:
    """Clip in place, unit by unit (`unit_norms`): |g| is at most factor * max(|w|, eps); a smaller one is left alone.

    gradients, weights: lists of equal shapes; factor: above 0, inf changes nothing; eps: from 0 up, where 0 keeps
    units whose weights are zero at zero.
    """
    if not gradients or math.isinf(factor):
        return
    with torch.no_grad():
        norms = [unit_norms(w) for w in weights]
        torch._foreach_clamp_min_(norms, eps)
        torch._foreach_mul_(norms, factor)
        own = [unit_norms(g) for g in gradients]
        torch._foreach_clamp_min_(own, SMALLEST)
        torch._foreach_div_(norms, own)
        torch._foreach_clamp_max_(norms, 1.0)
        torch._foreach_mul_(list(gradients), norms)


class GradientClipping(Method):
    """Clips the gradients of everything the optimizer holds, by joint norm (the default, 1.0), by entry or by unit.

    norm: largest joint 2-norm, above 0; inf changes nothing. value: largest absolute entry, above 0; inf changes
    nothing. adaptive: largest ratio of a unit's gradient norm to its weight norm, above 0 (0.01 is usual); inf changes
    nothing. A unit is a row of a matrix, a filter of a convolution, or a whole bias or gain; weight norms count as eps
    (from 0 up) at least. The last linear or convolutional layer in the order of registration is taken for the output
    layer, which adaptive clipping leaves alone unless head is True; weights tied to it are left alone with it.
    With a GradScaler the unscaled gradients are clipped. Raises InvalidValue for more than one of the three bounds,
    for values outside these ranges, and for eps or head without adaptive.
    """

    card = Card(
        title="Gradient clipping",
        paper="Pascanu, Mikolov, Bengio: On the difficulty of training Recurrent Neural Networks; adaptive: Brock, De, "
        "Smith, Simonyan: High-Performance Large-Scale Image Recognition Without Normalization (2021)",
        year=2012,
        arxiv="1211.5063",
        phase="gradients",
        cost="one pass over the gradients for the norm and one to scale them; adaptive: also one over the weights, "
        "and some ten small operations a tensor",
        breaks="a bound below the usual norm is a hidden change of the learning rate; with Adam it changes little but "
        "spikes; adaptive was made for networks without normalization and large batches, and its best factor falls "
        "as the batch grows",
        domains=("vision", "language", "tabular", "audio"),
        references=("2102.06171",),
        found="inconclusive, 1.06 times as fast to equal quality (0.980 to 1.14): CIFAR-10 at 16x16 pixels, "
        "ResNet-8, 3 to 24 epochs (claims/clipping.json); of adaptive=0.16, which was made for networks "
        "without normalization",
    )
    neutral: ClassVar = {"norm": math.inf}
    example: ClassVar = {"norm": 0.1}

    def __init__(
        self,
        norm: float | None = None,
        *,
        value: float | None = None,
        adaptive: float | None = None,
        eps: float = EPS,
        head: bool = False,
    ) -> None:
        given = {n: v for n, v in (("norm", norm), ("value", value), ("adaptive", adaptive)) if v is not None}
        if len(given) > 1:
            raise InvalidValue(
                f"gradients are clipped by norm, by value or by unit (adaptive), got "
                f"{' and '.join(f'{n}={v!r}' for n, v in given.items())}; pass one of them"
            )
        bounds = {
            n: number(v, f"{n} is above 0, up to inf (no clipping)", f"{USUAL[n]} is usual", 0, above=True)
            for n, v in (given or {"norm": 1.0}).items()
        }
        self.norm, self.value, self.adaptive = (bounds.get(n) for n in USUAL)
        self.eps = number(eps, "eps is a finite norm from 0 up", "0.001 is usual", 0, math.inf, below=True)
        self.head = switch(head, "head")
        if self.adaptive is None and (self.eps != EPS or self.head):
            raise InvalidValue(
                f"eps and head belong to adaptive clipping, got eps={eps!r} and head={head!r} without adaptive; "
                "pass adaptive=0.01 or leave them out"
            )
        self._left: list[nn.Parameter] = []
        self._transposed: dict[Tensor, int] = {}

    def start(self, context: Context) -> None:
        """Find the output layer, and the layers whose outputs are not their first dimension."""
        self._left, self._transposed = [], {}
        if self.adaptive is None:
            return
        layers = [m for m in context.model.modules() if isinstance(m, (nn.Linear, _ConvNd))]
        if layers and not self.head:
            self._left = list(layers[-1].parameters())
        self._transposed = {m.weight: m.groups for m in layers if isinstance(m, _ConvTransposeNd)}

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Clip in place; never skips the step."""
        held = [p for group in context.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.adaptive is None:
            clip_gradients([p.grad for p in held], norm=self.norm, value=self.value)
            return True
        left = {id(p) for p in self._left}
        held = [p for p in held if id(p) not in left]
        weights = [view for p in held for view in self._units_first(p, p)]
        gradients = [view for p in held for view in self._units_first(p, p.grad)]
        clip_to_weights(gradients, weights, self.adaptive, eps=self.eps)
        return True

    def _units_first(self, parameter: nn.Parameter, tensor: Tensor) -> list[Tensor]:
        """The tensor as views with units in dimension 0: transposed convolutions are [inputs, outputs / groups, ...]."""
        groups = self._transposed.get(parameter)
        tensor = tensor.detach()
        return [tensor] if groups is None else [part.transpose(0, 1) for part in tensor.chunk(groups)]

    def finish(self, context: Context) -> None:
        """Forget the model."""
        self._left, self._transposed = [], {}
