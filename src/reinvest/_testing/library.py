"""The contract's data and model as a task and a model that the library's own loop can be given by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..core.criterion import cross_entropy
from ..core.recipe import Recipe
from ..core.streams import key
from .loops import Setup, TinyNet

FACTORIES = f"{__package__}.library"
OPTIMIZER = {"name": "sgd", "lr": 0.1, "momentum": 0.9}


class _Split:
    """Batches of one split from batch `start` on."""

    indexed = True

    def __init__(self, batches: Any, examples: int, start: int) -> None:
        self._batches, self.examples, self.start = batches, examples, start

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return islice(iter(self._batches), self.start, None)


class ContractTask:
    """The data of a `Setup`; validation and test are its first and second batch."""

    name = "contract"
    metric = "accuracy"
    higher_is_better = True
    fingerprint = "0123456789abcdef"

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        x, _ = setup.data()
        self.classes, self.input_shape, self.test_examples = setup.classes, tuple(x.shape[1:]), setup.batch_size

    def loader(self, split: str, batch_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0) -> _Split:
        """Batches (ids [B], x [B, ...], y [B])."""
        if split == "train":
            assert (batch_size, seed) == (self.setup.batch_size, self.setup.seed)
            return _Split(self.setup.loader(epoch), self.setup.examples, start)
        x, y = self.setup.data()
        ids = torch.arange(self.setup.batch_size) + (self.setup.batch_size if split == "test" else 0)
        return _Split([(ids, x[ids], y[ids])], self.setup.examples, start)

    def criterion(self, output: Tensor, target: Tensor) -> Tensor:
        """Losses [B]."""
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """1 for a correct class, else 0: [B]."""
        return (output.argmax(1) == target).float()


def task() -> ContractTask:
    """The task of the default setup."""
    return ContractTask(Setup())


def model(*, input_shape: Sequence[int], classes: int) -> nn.Module:
    """The model of the default setup."""
    assert math.prod(input_shape) == 192
    return TinyNet(classes, batch_norm=Setup.batch_norm, dropout=Setup.dropout)


@dataclass(frozen=True)
class LibrarySetup(Setup):
    """The default setup, begun as the library's loop begins: weights and dropout from named streams."""

    def model(self) -> nn.Module:
        """The model that `train` would build."""
        with torch.random.fork_rng():
            torch.manual_seed(key(self.seed, "init") >> 1)
            return TinyNet(self.classes, batch_norm=self.batch_norm, dropout=self.dropout)

    def seed_dropout(self) -> None:
        """Seed the generator as `train` does."""
        torch.manual_seed(key(self.seed, "dropout") >> 1)

    def recipe(self, methods: Sequence[Any]) -> Recipe:
        """The recipe of the same training."""
        return Recipe(
            task=f"{FACTORIES}:task",
            model=f"{FACTORIES}:model",
            duration=f"{self.epochs}ep",
            batch_size=self.batch_size,
            optimizer=OPTIMIZER,
            schedule="constant",
            methods=tuple(methods),
        )
