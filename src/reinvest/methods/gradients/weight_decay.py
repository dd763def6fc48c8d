"""Decoupled weight decay: weights shrink by themselves, beside the gradient's step and not through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.errors import Conflict
from ...core.method import Card, Context, Method
from .._check import number, switch


def decay_weights(weights: Sequence[Tensor], rate: float | Tensor, decay: float) -> None:
    """w <- w * (1 - rate * decay), in place. rate: the learning rate of the step; decay: from 0 (nothing) up."""
    if weights and decay > 0.0:
        with torch.no_grad():
            torch._foreach_mul_(list(weights), 1.0 - rate * decay)


class DecoupledWeightDecay(Method):
    """Multiplies weights by 1 - rate * decay before each step of the optimizer: SGD becomes SGDW, Adam becomes AdamW.

    decay: from 0 (plain training) up. rate is the learning rate of the parameter's group in that step, so that decay
    follows the schedule, as in torch's AdamW; the paper's own factor, which follows the schedule but not the peak rate,
    is decay * peak rate. matrices_only: leaves parameters with fewer than two dimensions (biases, gains) alone.
    Parameters without a gradient in a step are left alone, and so is everything in a step that a scaler skips.

    Raises Conflict, as training begins, for an optimizer that decays weights itself, InvalidValue for values outside
    these ranges.
    """

    card = Card(
        title="Decoupled weight decay (SGDW, AdamW)",
        paper="Loshchilov, Hutter: Decoupled Weight Decay Regularization",
        year=2017,
        arxiv="1711.05101",
        phase="gradients",
        cost="one pass over the weights per step",
        breaks="a decay that was tuned for the gradient's form (L2) is another number here; before norms it acts as a "
        "schedule of the effective rate more than as a penalty; the masks of N:M sparsity hide the weights that are to "
        "decay, so give the optimizer weight_decay there",
        domains=("vision", "language", "tabular", "audio"),
        conflicts=("NMSparsity",),
    )
    neutral: ClassVar = {"decay": 0.0}
    example: ClassVar = {"decay": 0.5}
    single = True

    def __init__(self, decay: float = 0.01, *, matrices_only: bool = True) -> None:
        self.decay = number(
            decay, "decay is finite, from 0 (plain training) up", "0.01 to 0.1 are usual", 0, math.inf, below=True
        )
        self.matrices_only = switch(matrices_only, "matrices_only")
        self._expected = False
        self._hook: Any = None

    def start(self, context: Context) -> None:
        """Refuse a second decay, and stand before the optimizer's step."""
        self._expected = False
        if self.decay == 0.0:
            return
        own = [g["weight_decay"] for g in context.optimizer.param_groups if g.get("weight_decay")]
        if own:
            raise Conflict(
                f"weights decay once, got {type(context.optimizer).__name__} with weight_decay={own[0]!r} beside {self!r}; "
                "give the optimizer weight_decay=0"
            )
        # Not in a phase: the optimizer alone knows whether a scaler lets it step.
        self._hook = context.optimizer.register_step_pre_hook(self._before_step)

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Let the coming step decay; never skips it."""
        self._expected = True
        return True

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self._expected:
            return
        self._expected = False
        # A fused optimizer is called for skipped steps too, and looks at this by itself.
        skipped = getattr(optimizer, "found_inf", None)
        for group in optimizer.param_groups:
            held = [p for p in group["params"] if p.grad is not None and (p.ndim > 1 or not self.matrices_only)]
            rate = group["lr"] if skipped is None else group["lr"] * (1.0 - skipped.squeeze())
            decay_weights(held, rate, self.decay)

    def finish(self, context: Context) -> None:
        """Leave the optimizer as it was."""
        if self._hook is not None:
            self._hook.remove()
        self._expected, self._hook = False, None
