"""LAWA: the mean of the latest snapshots of the weights, for evaluation and as the run's result."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.duration import Duration
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import ROUNDING, number, whole
from ._tensors import averaged_tensors


def mean_tensors(snapshots: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The mean of k lists of floating tensors, place by place; 16-bit ones are kept in 32 bits.

    Taken in float64 as a running mean, so that the mean of k equal tensors is that tensor bit for bit.
    """
    means = []
    for values in zip(*snapshots, strict=True):
        mean = values[0].detach().double()
        for k, value in enumerate(values[1:], start=2):
            mean = mean + (value.detach().double() - mean) / k
        means.append(mean.to(torch.promote_types(values[0].dtype, torch.float32)))
    return means


class LAWA(Method):
    """Averages the latest snapshots of weights and finite floating buffers; `averaged()` and the result use the mean.

    last: how many snapshots, from 1 (the newest snapshot itself). every: the distance between them, a duration such as
    "1ep", "100st" or "0.05" (a share of the run), above 0; they are counted back from the end of the run, so that the
    last one is its final weights. start: the share of the run, in [0, 1], before which none is taken; until the first
    one, evaluation sees the model's own weights. Each snapshot is a copy of the weights in memory. At the end of the
    run, however it ends, the model holds the mean. Running statistics of batch norm are averaged like weights, which is
    near but not exact: `reinvest.reuse.average.recompute_norms` takes them again.
    Raises InvalidValue for values outside these ranges, and for a distance in minutes.
    """

    card = Card(
        title="LAWA (mean of the latest checkpoints)",
        paper="Kaddour: Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging",
        year=2022,
        arxiv="2209.14981",
        phase="weights",
        cost="nothing on most steps; a copy of the weights and a mean over `last` copies at each snapshot, and that memory",
        breaks="snapshots far apart, early in training or at a high rate lie in different places, whose mean is none; "
        "where the learning rate decays to zero it adds little; averaged batch norm statistics are approximate",
        domains=("vision", "language", "tabular", "audio"),
        conflicts=("EMA",),
        references=("2502.06761",),
    )
    revision = 2
    horizon = True
    neutral: ClassVar = {"last": 1, "every": "1st"}
    example: ClassVar = {"last": 3, "every": "2st"}

    def __init__(self, last: int = 5, every: str | float = "1ep", *, start: float = 0.0) -> None:
        self.last = whole(last, "last is a number of snapshots from 1 up", "5 is usual", 1)
        self.every = Duration.parse(every)
        if self.every.amount <= 0 or self.every.unit == "min":
            raise InvalidValue(
                f"every is a positive duration in steps, epochs or a share of the run, got {every!r}; write '1ep'"
            )
        self.begin = number(start, "start is a share of the run from 0 to 1", "0.5 leaves the first half out", 0, 1)
        self._current: list[Tensor] = []
        self._snapshots: list[list[Tensor]] = []
        self._mean: list[Tensor] = []
        self._distance = 0

    def start(self, context: Context) -> None:
        """Note which tensors are averaged and how many steps lie between snapshots."""
        self._current = averaged_tensors(context.model)
        self._snapshots, self._mean = [], []
        self._distance = max(1, self.every.steps(context.steps_per_epoch, context.total_steps))

    def due(self, step: int, total_steps: int) -> bool:
        """Whether a snapshot is taken when `step` steps are done."""
        return step >= self.begin * total_steps - ROUNDING and (total_steps - step) % self._distance == 0

    def weights(self, context: Context) -> None:
        """Take a snapshot if one is due, and the mean of the latest."""
        if self.due(context.step, context.total_steps):
            self._snapshots = [*self._snapshots, [t.detach().clone() for t in self._current]][-self.last :]
            self._mean = mean_tensors(self._snapshots)

    def kind(self, context: Context) -> Hashable:
        """ "snapshot" where the next step takes one."""
        return "snapshot" if self.due(context.step + 1, context.total_steps) else None

    def averages(self) -> list[tuple[Tensor, Tensor]]:
        """(model tensor, mean) of every weight and floating buffer; nothing before the first snapshot."""
        return list(zip(self._current, self._mean, strict=True)) if self._mean else []

    def finish(self, context: Context) -> None:
        """Put the mean into the model, so that what is saved is what was evaluated."""
        with torch.no_grad():
            for current, mean in self.averages():
                current.copy_(mean)
        self._current, self._snapshots, self._mean, self._distance = [], [], [], 0

    def state_dict(self) -> dict[str, Any]:
        """The snapshots, in the model's order."""
        return {"snapshots": [list(s) for s in self._snapshots]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises InvalidValue for the snapshots of another model."""
        shapes = [t.shape for t in self._current]
        if any([t.shape for t in s] != shapes for s in state["snapshots"]):
            raise InvalidValue(
                f"snapshots fit the model they were taken of, got other shapes than its {len(shapes)} tensors; "
                "load them into the same model"
            )
        self._snapshots = [[t.to(c) for t, c in zip(s, self._current, strict=True)] for s in state["snapshots"]]
        self._mean = mean_tensors(self._snapshots) if self._snapshots else []
