"""Sharpness-aware minimisation: the gradient is taken where the loss is highest in a small neighbourhood."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ...core.errors import LoopError
from ...core.method import Card, Context, Method
from .._check import number, whole


def climb(weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float = 0.05) -> bool:
    """Move weights in place by rho along the joint gradient direction: w + rho * g / |g|.

    weights, gradients: lists of equal shapes; rho: distance in weight space, from 0 up. The scale of the gradients
    does not matter. Returns False, and moves nothing, where the gradients are not finite or all zero.
    """
    tensors = list(gradients)
    if not tensors:
        return False
    device = tensors[0].device
    norm = float(torch.linalg.vector_norm(torch.stack([n.float().to(device) for n in torch._foreach_norm(tensors)])))
    if not 0.0 < norm < float("inf"):
        return False
    with torch.no_grad():
        torch._foreach_add_(list(weights), tensors, alpha=rho / norm)
    return True


class SAM(Method):
    """Takes the gradient at w + rho * g / |g| instead of at w, at every `interval`-th step.

    rho: distance in weight space, from 0 (plain training) up. interval: 1 evaluates every batch twice, k every k-th.
    Needs `step(closure)`. The second evaluation uses the same batch, targets and dropout masks and leaves buffers and
    records alone; weights are then put back exactly. If the first gradients are not finite the step is skipped.
    Raises InvalidValue for values outside these ranges.
    """

    card = Card(
        title="Sharpness-aware minimisation",
        paper="Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization for Efficiently Improving "
        "Generalization",
        year=2020,
        arxiv="2010.01412",
        phase="gradients",
        cost="1 + 1 / interval times a plain step, and one copy of the weights",
        breaks="twice the time per step buys more from plain training where runs are short; needs a closure and whole "
        "batches",
        domains=("vision", "language"),
        references=("2205.14083",),
        found="worse, 0.477 times as fast to equal quality (0.448 to 0.508): CIFAR-10 at 16x16 pixels, ResNet-8, "
        "3 to 24 epochs (claims/sam.json); the paper's gain is at equal epochs, where it takes twice the "
        "time",
    )
    neutral: ClassVar = {"rho": 0.0}
    example: ClassVar = {"rho": 0.5, "interval": 2}
    needs_closure = True

    def __init__(self, rho: float = 0.05, *, interval: int = 1) -> None:
        self.rho = number(
            rho, "rho is a finite distance from 0 (plain training) up", "0.05 is usual", 0, float("inf"), below=True
        )
        self.interval = whole(
            interval, "interval is a whole number of steps from 1 (every step) up", "1 or 10 are usual", 1
        )

    def acts(self, context: Context) -> bool:
        """Whether the next step evaluates twice."""
        return self.rho > 0.0 and context.step % self.interval == 0

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Replace the gradients by those at the climbed point; False where the first ones are not finite."""
        if not self.acts(context):
            return True
        if again is None:
            raise LoopError(
                "SAM evaluates every batch twice and needs a closure, got none; write methods.step(closure)"
            )
        held = [p for group in context.optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in held]
        kept = [p.detach().clone() for p in held]
        if not climb(held, gradients, self.rho):
            # All zero is a plain step; not finite is none at all.
            return all(bool(torch.isfinite(g).all()) for g in gradients)
        try:
            again()
        finally:
            with torch.no_grad():
                torch._foreach_copy_(held, kept)
        return True

    def kind(self, context: Context) -> Hashable:
        """ "two passes" or "one pass"."""
        return "two passes" if self.acts(context) else "one pass"
