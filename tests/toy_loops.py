"""Small models, data and loops for the tests of the chain: what everybody would write by hand, and the same with a chain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reinvest.core.batch import Indexed
from reinvest.core.chain import Methods


def examples(count: int = 45, features: int = 6, classes: int = 4, dtype: torch.dtype = torch.float32) -> list[Any]:
    """(x, y) pairs, the same every time."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, features, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(classes, (count,), generator=generator)
    return list(zip(x, y, strict=True))


def net(
    features: int = 6, classes: int = 4, *, dropout: float = 0.0, norm: bool = False, dtype: Any = None
) -> nn.Module:
    """A small network with fixed initial weights; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        norms = [nn.BatchNorm1d(8)] if norm else []
        model = nn.Sequential(nn.Linear(features, 8), *norms, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, classes))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.5)
    return model.to(dtype) if dtype else model


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def own_loop(
    methods: Methods,
    model: nn.Module,
    loader: Any,
    *,
    epochs: int = 2,
    parts: int = 1,
    optimizer: Any = None,
    closure: bool = False,
    **more: Any,
) -> torch.optim.Optimizer:
    """The three calls, as a user writes them; returns the optimizer."""
    optimizer = optimizer or sgd(model)
    with methods.attach(model, optimizer, duration=f"{epochs}ep", data=loader, **({"seed": 0} | more)):
        for _ in range(epochs):
            for x, y in methods.batches(loader, parts):
                if closure:

                    def evaluate(x: Tensor = x, y: Tensor = y) -> None:
                        methods.loss(model(x), y).backward()

                    methods.step(evaluate)
                else:
                    methods.loss(model(x), y).backward()
                    methods.step()
    return optimizer


def plain_loop(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    epochs: int = 2,
    optimizer: Any = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> torch.optim.Optimizer:
    """The loop without the library."""
    optimizer = optimizer or sgd(model)
    for _ in range(epochs):
        for x, y in loader:
            loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    return optimizer


def averaged_last(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="none").mean()


def tensors(tree: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested containers with its path."""
    if isinstance(tree, Tensor):
        yield "", tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from ((f"{key}.{path}", t) for path, t in tensors(value))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from ((f"{i}.{path}", t) for path, t in tensors(value))


def same_bits(a: Any, b: Any) -> bool:
    """Whether two trees hold the same tensors, bit for bit (NaN equals NaN)."""
    left, right = list(tensors(a)), list(tensors(b))
    return [n for n, _ in left] == [n for n, _ in right] and all(
        s.dtype == t.dtype and s.shape == t.shape and s.numpy(force=True).tobytes() == t.numpy(force=True).tobytes()
        for (_, s), (_, t) in zip(left, right, strict=True)
    )


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


def loader(batch_size: int = 7, *, indexed: bool = False, dtype: torch.dtype = torch.float32) -> DataLoader[Any]:
    """`examples` in batches, with or without ids."""
    data: Any = examples(dtype=dtype)
    return DataLoader(Indexed(data) if indexed else data, batch_size=batch_size)


def batches(count: int = 6, bad: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Batches of seven; batch `bad` holds an infinite input."""
    rows = examples(count * 7)
    made = []
    for i in range(count):
        x, y = (torch.stack(column) for column in zip(*rows[i * 7 : i * 7 + 7], strict=True))
        if i == bad:
            x[2, 0] = float("inf")
        made.append((x, y))
    return made
