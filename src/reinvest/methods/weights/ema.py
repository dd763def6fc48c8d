"""Exponential moving average of the weights, for evaluation and as the run's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.duration import Duration
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import number
from ._tensors import averaged_tensors


def update_average(average: Sequence[Tensor], current: Sequence[Tensor], decay: float) -> None:
    """average <- decay * average + (1 - decay) * current, in place, tensor by tensor.

    decay in [0, 1]: 0 copies the current values bit for bit, 1 keeps the average as it is.
    """
    with torch.no_grad():
        if decay == 0.0:
            torch._foreach_copy_(list(average), list(current))
        else:
            torch._foreach_lerp_(list(average), list(current), 1.0 - decay)


def decay_of(half_life_steps: float) -> float:
    """The decay with which a value's weight halves in that many steps: 0.5 ** (1 / steps)."""
    return float(0.5 ** (1.0 / half_life_steps))


class EMA(Method):
    """Averages weights and floating buffers over the run; `averaged()` and the result use the average.

    half_life: a duration such as "100st", "5ep" or "0.05" (a share of the run, so that it scales with the run), above
    0. decay: per step, in [0, 1), instead of half_life; 0 is the current weights bit for bit. Floating buffers (batch
    norm's running statistics) are averaged like weights; others, and those that hold an infinity (masks), keep the model's
    current value. Averages of 16-bit
    weights are kept in 32 bits. At the end of the run, however it ends, the model holds the average.
    Raises InvalidValue for both, for values outside these ranges, and for a half-life in minutes.
    """

    card = Card(
        title="Exponential moving average of weights",
        paper="Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging (1992, no arXiv); "
        "as used here: Tarvainen, Valpola: Mean teachers are better role models",
        year=2017,
        arxiv="1703.01780",
        phase="weights",
        cost="one pass over the weights per step and one copy of them in memory",
        breaks="a half-life near the length of the run keeps the untrained start in the average; "
        "adds little where the learning rate decays to zero",
        domains=("vision", "language", "tabular", "audio"),
        found="inconclusive, 1.03 times as fast to equal quality (0.971 to 1.10): CIFAR-10 at 16x16 pixels, "
        "ResNet-8, 3 to 24 epochs (claims/ema.json); the rate decays to zero here, where an average has "
        "little to add",
    )
    revision = 2
    neutral: ClassVar = {"decay": 0.0}
    example: ClassVar = {"half_life": "3st"}

    def __init__(self, half_life: str | float | None = None, *, decay: float | None = None) -> None:
        if half_life is not None and decay is not None:
            raise InvalidValue(
                f"an average has a half-life or a decay, got half_life={half_life!r} and decay={decay!r}; pass one of "
                "the two"
            )
        self.decay = (
            None
            if decay is None
            else number(
                decay, "decay is per step, from 0 (the current weights) to below 1", "0.99 is usual", 0, 1, below=True
            )
        )
        self.half_life = Duration.parse("0.05" if half_life is None else half_life)
        if self.half_life.amount <= 0 or self.half_life.unit == "min":
            raise InvalidValue(
                f"a half-life is a positive duration in steps, epochs or a share of the run, got {half_life!r}; write "
                "'100st'"
            )
        self.horizon = self.decay is None and not self.half_life.unit
        self._decay = 0.0
        self._current: list[Tensor] = []
        self._average: list[Tensor] = []
        self._short = False

    def start(self, context: Context) -> None:
        """Copy the weights and fix the decay per step."""
        self._decay = self.decay_per_step(context)
        self._current = averaged_tensors(context.model)
        self._average = [t.detach().to(torch.promote_types(t.dtype, torch.float32), copy=True) for t in self._current]
        self._short = any(a.dtype != t.dtype for a, t in zip(self._average, self._current, strict=True))

    def decay_per_step(self, context: Context) -> float:
        """The decay of this run, in [0, 1)."""
        if self.decay is not None:
            return self.decay
        return decay_of(max(1, self.half_life.steps(context.steps_per_epoch, context.total_steps)))

    def weights(self, context: Context) -> None:
        """Move the average towards the weights after the step."""
        current = self._current
        if self._short:
            current = [t.detach().to(a.dtype) for t, a in zip(self._current, self._average, strict=True)]
        update_average(self._average, current, self._decay)

    def averages(self) -> list[tuple[Tensor, Tensor]]:
        """(model tensor, average) of every weight and floating buffer."""
        return list(zip(self._current, self._average, strict=True))

    def finish(self, context: Context) -> None:
        """Put the average into the model, so that what is saved is what was evaluated."""
        with torch.no_grad():
            for current, average in self.averages():
                current.copy_(average)
        self._current, self._average, self._decay, self._short = [], [], 0.0, False

    def state_dict(self) -> dict[str, Any]:
        """A copy of the averages, in the model's order."""
        return {"average": [t.clone() for t in self._average]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises InvalidValue for the averages of another model."""
        shapes = [list(t.shape) for t in state["average"]]
        if shapes != [list(t.shape) for t in self._average]:
            raise InvalidValue(
                f"averages fit the model they were taken of, got {len(shapes)} tensors for {len(self._average)}, "
                "or other shapes; load them into the same model"
            )
        for own, value in zip(self._average, state["average"], strict=True):
            own.copy_(value)
