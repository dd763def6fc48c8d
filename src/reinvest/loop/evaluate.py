"""Quality of a model on a split: outside the clock, without gradients, with the model's mode put back."""

from __future__ import annotations

import torch
from torch import nn

from ..core.criterion import per_example
from ..core.errors import InvalidValue
from ..core.protocols import Task

SPLITS = ("train", "validation", "test")


def evaluate(model: nn.Module, task: Task, split: str = "test", *, batch_size: int = 512) -> dict[str, float]:
    """{metric: mean of the per-example scores, "loss": mean loss} over all examples of a split.

    Selection reads "validation", verdicts read "test". "train" is seen as training sees it: in augmented views, and
    without the rest that fills no batch. Raises InvalidValue for another split.
    """
    if split not in SPLITS:
        raise InvalidValue(f"a split is one of {', '.join(SPLITS)}, got {split!r}; choose one of them")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    scores = torch.zeros((), dtype=torch.float64)
    losses = torch.zeros((), dtype=torch.float64)
    count = 0
    try:
        with torch.no_grad():
            for _, x, y in task.loader(split, batch_size):
                x, y = x.to(device), y.to(device)
                output = model(x)
                scores += task.score(output, y).double().sum().cpu()
                losses += per_example(task.criterion(output, y), y).double().sum().cpu()
                count += len(y)
    finally:
        for module, training in modes:  # one by one: a frozen norm may be in another mode than the rest
            module.training = training
    if count == 0:
        raise InvalidValue(
            f"a split is evaluated on its examples, got an empty {split!r} split of {task.name!r}; give the task one"
        )
    return {task.metric: float(scores / count), "loss": float(losses / count)}
