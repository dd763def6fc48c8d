"""Gradient clipping: gradients are kept below a norm, or each entry below a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import number


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


class GradientClipping(Method):
    """Clips the gradients of everything the optimizer holds, by joint norm (the default, 1.0) or entry by entry.

    norm: largest joint 2-norm, above 0; inf changes nothing. value: largest absolute entry, above 0; inf changes
    nothing. With a GradScaler the unscaled gradients are clipped. Raises InvalidValue for both, or values not above 0.
    """

    card = Card(
        title="Gradient clipping",
        paper="Pascanu, Mikolov, Bengio: On the difficulty of training Recurrent Neural Networks",
        year=2012,
        arxiv="1211.5063",
        phase="gradients",
        cost="one pass over the gradients for the norm and one to scale them",
        breaks="a bound below the usual norm is a hidden change of the learning rate; with Adam it changes little but "
        "spikes",
        domains=("vision", "language", "tabular", "audio"),
    )
    neutral: ClassVar = {"norm": math.inf}
    example: ClassVar = {"norm": 0.1}

    def __init__(self, norm: float | None = None, *, value: float | None = None) -> None:
        if norm is not None and value is not None:
            raise InvalidValue(
                f"gradients are clipped by norm or by value, got norm={norm!r} and value={value!r}; pass one of the two"
            )
        self.value = (
            None
            if value is None
            else number(value, "value is above 0, up to inf (no clipping)", "0.5 is usual", 0, above=True)
        )
        self.norm: float | None = None
        if value is None:
            norm = 1.0 if norm is None else norm
            self.norm = number(norm, "norm is above 0, up to inf (no clipping)", "1.0 is usual", 0, above=True)

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Clip in place; never skips the step."""
        found = [p.grad for group in context.optimizer.param_groups for p in group["params"] if p.grad is not None]
        clip_gradients(found, norm=self.norm, value=self.value)
        return True
