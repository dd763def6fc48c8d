"""Quality of a model on a split: outside the clock, without gradients, with the model's mode put back."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..core.criterion import per_example
from ..core.errors import InvalidValue
from ..core.protocols import Task

SPLITS = ("train", "validation", "test")
BATCH = 512
"""Examples shown to the model at once, unless the task has an `evaluation_batch`."""


class Measure(Protocol):
    """A metric of a whole split that is no mean of scores of its examples: mean IoU, per-class or per-token means."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """One more batch: raw outputs and targets as the loader has them, on the model's device."""
        ...

    def compute(self) -> dict[str, float]:
        """The values by name over all batches so far; the task's metric is one of them."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A task with a measure of its own."""

    def measure(self) -> Measure:
        """A new, empty measure."""
        ...


class MeanScore:
    """The measure of all other tasks: the mean of `task.score` over the examples."""

    def __init__(self, task: Task) -> None:
        self._task, self._count = task, 0
        self._total = torch.zeros((), dtype=torch.float64)

    def update(self, output: Tensor, target: Tensor) -> None:
        """Adds the scores [B]."""
        self._total += self._task.score(output, target).double().sum().cpu()
        self._count += len(target)

    def compute(self) -> dict[str, float]:
        """{metric: mean}."""
        return {self._task.metric: float(self._total / self._count)}


def evaluate(model: nn.Module, task: Task, split: str = "test", *, batch_size: int | None = None) -> dict[str, float]:
    """{metric: value, "loss": mean loss} over all examples of a split.

    The metric is the mean of the per-example scores, or what the task's `measure()` computes (several values perhaps).
    batch_size: default the task's `evaluation_batch`, else 512. Selection reads "validation", verdicts read "test".
    "train" is seen as training sees it: in augmented views, and without the rest that fills no batch.
    Raises InvalidValue for another split, and for a measure that leaves the task's metric out.
    """
    if split not in SPLITS:
        raise InvalidValue(f"a split is one of {', '.join(SPLITS)}, got {split!r}; choose one of them")
    measure: Measure = task.measure() if isinstance(task, Measured) else MeanScore(task)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    losses = torch.zeros((), dtype=torch.float64)
    count = 0
    try:
        with torch.no_grad():
            for _, x, y in task.loader(split, _batch(task, batch_size)):
                x, y = x.to(device), y.to(device)
                output = model(x)
                measure.update(output, y)
                losses += per_example(task.criterion(output, y), y).double().sum().cpu()
                count += len(y)
    finally:
        for module, training in modes:  # one by one: a frozen norm may be in another mode than the rest
            module.training = training
    if count == 0:
        raise InvalidValue(
            f"a split is evaluated on its examples, got an empty {split!r} split of {task.name!r}; give the task one"
        )
    return {**_checked(measure.compute(), task), "loss": float(losses / count)}


def _batch(task: Task, batch_size: int | None) -> int:
    return int(getattr(task, "evaluation_batch", BATCH)) if batch_size is None else batch_size


def _checked(values: dict[str, float], task: Task) -> dict[str, float]:
    if task.metric not in values or "loss" in values:
        raise InvalidValue(
            f"a task's measure computes its metric ({task.metric!r}) and no 'loss' of its own, "
            f"got {', '.join(values) or 'nothing'} from {task.name!r}; name the task's metric after one of its values"
        )
    return values
