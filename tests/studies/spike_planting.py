"""Methods that plant a spike in a recipe's training: an update that goes too far, inputs that explode."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch

from reinvest.core.batch import Batch
from reinvest.core.method import Card, Context, Method


def _card(phase: str) -> Card:
    return Card("planted", "none: a test", 2020, "none", phase, "none", "nothing", ("any",))


class Leap(Method):
    """gradients: in one step they are many times as large, after those listed before have looked at them."""

    card = _card("gradients")
    neutral: ClassVar = {"step": -1}

    def __init__(self, step: int = 60, factor: float = 100.0) -> None:
        self.step, self.factor = step, factor

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Enlarge."""
        if context.step == self.step:
            for p in context.model.parameters():
                if p.grad is not None:
                    p.grad *= self.factor
        return True


class Spoiled(Method):
    """augment: some examples are shown many times as bright, and turned round, from an epoch on."""

    card = _card("augment")
    needs_ids = True
    neutral: ClassVar = {"epoch": 1000}

    def __init__(self, ids: tuple[int, ...] = (), epoch: int = 3, factor: float = 40.0) -> None:
        self.ids, self.epoch, self.factor = tuple(ids), epoch, factor

    def augment(self, batch: Batch, context: Context) -> Batch:
        """Enlarge."""
        if context.epoch < self.epoch:
            return batch
        hit = torch.isin(batch.need_ids("Spoiled"), torch.tensor(self.ids))
        shape = (-1,) + (1,) * (batch.inputs.ndim - 1)
        return batch.with_inputs(torch.where(hit.view(shape), -self.factor * batch.inputs, batch.inputs))


class Refuse(Method):
    """gradients: of a run with one seed every batch is skipped from a step on, as a scaler does that has diverged."""

    card = _card("gradients")

    def __init__(self, seed: int = 1, step: int = 50) -> None:
        self.seed, self.step = seed, step

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Skip."""
        return context.seed != self.seed or context.step < self.step


class Stop(Method):
    """weights: interrupts training once, after a step, as Ctrl-C would."""

    card = _card("weights")
    neutral: ClassVar = {"step": -1}
    asked: ClassVar[bool] = False

    def __init__(self, step: int = 70) -> None:
        self.step = step

    def weights(self, context: Context) -> None:
        """Interrupt."""
        if context.step == self.step and Stop.asked:
            Stop.asked = False
            raise KeyboardInterrupt
