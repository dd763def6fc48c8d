"""SWA: the equal mean of weights taken at stated times in the last share of the run, for evaluation and as its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.errors import InvalidValue
from ...core.method import Card, Context
from .lawa import LAWA


def add_to_mean(mean: Sequence[Tensor], values: Sequence[Tensor], count: int) -> None:
    """mean <- mean + (values - mean) / count, in place: the mean of `count` lists of tensors, these the newest.

    count: from 1 (a copy of the values, bit for bit) up. The mean of equal tensors is that tensor bit for bit. Values
    may be of lower precision than the mean. Raises InvalidValue for a count below 1.
    """
    if count < 1:
        raise InvalidValue(f"a mean is of 1 value or more, got count={count!r}; count the newest one too")
    with torch.no_grad():
        if count == 1:
            torch._foreach_copy_(list(mean), list(values))
            return
        converted = [v.to(m.dtype) for m, v in zip(mean, values, strict=True)]
        torch._foreach_lerp_(list(mean), converted, 1.0 / count)


class SWA(LAWA):
    """Averages all weights and floating buffers that are taken from `start` on; `averaged()` and the result use the mean.

    start: the share of the run, in [0, 1], from which weights are taken; 1.0 takes the final ones alone, which is plain
    training. every: the distance between the times, a duration such as "1ep", "100st" or "0.05" (a share of the run),
    above 0; times are counted back from the end of the run, so that the final weights are always among them. Until the
    first time evaluation sees the model's own weights. Unlike LAWA, whose window of the newest few slides along, every
    one of them stays in the mean with the same share, and memory is one copy however many there are. At the end of the
    run, however it ends, the model holds the mean. Running statistics of batch norm are averaged like weights, which is
    near but not exact: the paper takes them again with a pass over the data, as
    `reinvest.reuse.average.recompute_norms` does.

    It has no learning rate of its own: the loop's schedule sets the rate, and a second hand on it would be overwritten at
    the next step. Take a schedule that keeps the rate up while weights are averaged, such as "constant", or "linear" with
    final=0.2. Raises InvalidValue for values outside these ranges, and for a distance in minutes.
    """

    card = Card(
        title="SWA (stochastic weight averaging)",
        paper="Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging Weights Leads to Wider Optima and Better "
        "Generalization",
        year=2018,
        arxiv="1803.05407",
        phase="weights",
        cost="nothing on most steps; one pass over the weights at each time and one copy of them in memory",
        breaks="where the learning rate decays to zero the weights that are averaged are nearly equal and nothing is "
        "gained; a start so early that training has not settled keeps bad weights in the mean for good; averaged batch "
        "norm statistics are approximate",
        domains=("vision", "language", "tabular", "audio"),
        conflicts=("EMA", "LAWA"),
        references=("2209.14981",),
    )
    revision = 2
    horizon = True
    neutral: ClassVar = {"start": 1.0}
    example: ClassVar = {"start": 0.3, "every": "2st"}

    def __init__(self, start: float = 0.75, *, every: str | float = "1ep") -> None:
        super().__init__(last=1, every=every, start=start)
        self._count = 0

    def start(self, context: Context) -> None:
        """Note which tensors are averaged and how many steps lie between the times."""
        super().start(context)
        self._count = 0

    def weights(self, context: Context) -> None:
        """Take the weights into the mean if it is time."""
        if not self.due(context.step, context.total_steps):
            return
        if not self._mean:
            self._mean = [torch.empty_like(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in self._current]
        self._count += 1
        add_to_mean(self._mean, self._current, self._count)

    def finish(self, context: Context) -> None:
        """Put the mean into the model, so that what is saved is what was evaluated."""
        super().finish(context)
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        """A copy of the mean, in the model's order, and of how many weights it is the mean."""
        return {"mean": [t.clone() for t in self._mean], "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises InvalidValue for the mean of another model."""
        if state["count"] and [t.shape for t in state["mean"]] != [t.shape for t in self._current]:
            raise InvalidValue(
                f"a mean fits the model it was taken of, got other shapes than its {len(self._current)} tensors; "
                "load it into the same model"
            )
        self._mean = [m.to(t.device, copy=True) for m, t in zip(state["mean"], self._current, strict=False)]
        self._count = state["count"]
