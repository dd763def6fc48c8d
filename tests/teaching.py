"""Teachers, loaders and loops for the tests of distillation: what a teacher says is known, and so is every loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reinvest.core.chain import Methods
from reinvest.core.method import Method
from reinvest.core.recipe import Recipe
from reinvest.core.view import TaskView
from reinvest.store import Run, Store
from toy_loops import examples, net, own_loop

FACTS: dict[str, Any] = {"hardware": {"device": "none", "threads": 1}, "software": {"torch": "2.13.0"}}
QUIET: dict[str, Any] = {"device": "cpu", "progress": False, "evaluations": 1}
STEP = 12 / 255
"""Quantisation of recorded log-probabilities."""
CLASSES = 4
DOUBLE = torch.float64


def kl(student: Tensor, teacher: Tensor, temperature: float = 1.0, dim: int = 1) -> Tensor:
    """T^2 x sum over classes of p_t (log p_t - log p_s), written out."""
    p = (teacher / temperature).softmax(dim)
    q = (student / temperature).softmax(dim)
    return temperature**2 * (p * (p.log() - q.log())).sum(dim)


def columns(count: int = 45, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The toy examples as x [N, 6] and y [N]."""
    x, y = (torch.stack(column) for column in zip(*examples(count, dtype=dtype), strict=True))
    return x, y


def other(seed: int = 11, *, classes: int = CLASSES, dtype: Any = None, **more: Any) -> nn.Module:
    """A teacher: the toy net with other weights."""
    model = net(classes=classes, **more)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model.to(dtype) if dtype else model


class Counted(nn.Module):
    """A teacher that writes down its calls: inputs, mode and whether gradients were on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.inputs: list[Tensor] = []
        self.modes: list[tuple[bool, bool]] = []

    @property
    def calls(self) -> int:
        return len(self.inputs)

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach().clone())
        self.modes.append((any(m.training for m in self.modules()), torch.is_grad_enabled()))
        return self.inner(x)


class Rows:
    """A loader of (ids, x, y) that says what it is about; the same order in every epoch."""

    indexed = True

    def __init__(self, x: Tensor, y: Tensor, ids: Sequence[int] | None = None, *, batch: int = 9, **view: Any) -> None:
        self.x, self.y, self.batch = x, y, batch
        self.ids = torch.arange(len(y)) if ids is None else torch.as_tensor(list(ids))
        self.examples = len(y)
        self.view = TaskView(**({"namespace": "toy", "examples": len(y), "classes": CLASSES} | view))

    def __len__(self) -> int:
        return math.ceil(len(self.ids) / self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for ids in self.ids.split(self.batch):
            yield ids, self.x[ids], self.y[ids]


def still(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer that moves nothing."""
    return torch.optim.SGD(model.parameters(), lr=0.0)


def recorded(
    store: Store,
    loader: Any,
    model: nn.Module | None = None,
    *methods: Method,
    epochs: int = 8,
    name: str = "teacher",
    records: bool | dict[str, int] = True,
    seed: int = 0,
) -> Run:
    """A finished run of an own loop whose records are what `model` says, since nothing moves."""
    model = model or other()
    with store.record(name, task="toy", facts=FACTS, records=records, seed=seed) as writer:
        own_loop(Methods(*methods), model, loader, epochs=epochs, optimizer=still(model))
    return writer.run


def losses_of(
    *methods: Method,
    total: int,
    seed: int = 0,
    model: nn.Module | None = None,
    batch: tuple[Tensor, Tensor] | None = None,
) -> list[float]:
    """The loss at each of `total` steps on one batch, with a model that does not move."""
    model = model or net(dtype=DOUBLE)
    item = batch or columns(7, DOUBLE)
    chain, found = Methods(*methods), []
    loader = [item] * total
    with chain.attach(model, still(model), duration=f"{total}st", data=loader, seed=seed):
        for x, y in chain.batches(loader):
            loss = chain.loss(model(x), y)
            loss.backward()
            chain.step()
            found.append(loss.item())
    return found


def plain_loss(model: nn.Module | None = None, batch: tuple[Tensor, Tensor] | None = None) -> float:
    """The loss of `losses_of` without methods."""
    x, y = batch or columns(7, DOUBLE)
    return F.cross_entropy((model or net(dtype=DOUBLE))(x), y, reduction="none").mean().item()


def implied(*methods: Method, loader: Any, classes: int = CLASSES, epochs: int = 1, seed: int = 0) -> dict[int, Tensor]:
    """What each example is taught in the last epoch: the target distribution [C] by id, read off the gradient.

    Cross-entropy and KL at temperature 1 have the gradient (p_student - target) / B at the logits, so with a constant
    weight of 1 the teacher's distribution comes out, and the label's where the plain loss is used.
    """
    chain, model, found = Methods(*methods), nn.Linear(1, 1), {}
    with chain.attach(model, still(model), duration=f"{epochs}ep", data=loader, seed=seed):
        for _ in range(epochs):
            for _, y in chain.batches(loader):
                ids = chain._now.batch.ids.tolist()
                output = torch.zeros(len(y), classes, requires_grad=True)
                chain.loss(output, y).backward()
                chain.step()
                found |= dict(zip(ids, 1 / classes - len(y) * output.grad, strict=True))
    return found


def table(found: dict[int, Tensor], ids: Sequence[int] | Tensor) -> Tensor:
    """The rows of `implied` for these ids: [k, C]."""
    return torch.stack([found[int(i)] for i in ids])


def small(examples: int = 200, duration: str = "8ep", model: Any = "mlp", **task: Any) -> Recipe:
    """A recipe on the first training digits: four steps an epoch for 200 of them."""
    model = {"name": "mlp", "hidden": [8]} if model == "mlp" else model
    task = {"name": "digits", "train_examples": examples, **task}
    return Recipe(task=task, model=model, duration=duration, batch_size=50)


def epoch(task: Any, size: int = 50) -> Any:
    """The training batches of one epoch of a task."""
    return task.loader("train", size, seed=3)
