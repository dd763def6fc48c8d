"""A small training in which a quarter of the labels is wrong, as losses show after an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reinvest.core.streams import example_integers, example_uniform
from reinvest.core.view import TaskView
from reinvest.testing import Setup


@dataclass(frozen=True)
class NoisySetup(Setup):
    """Pictures whose colour tells the class; a quarter of the labels is another class."""

    examples: int = 480
    batch_size: int = 24
    epochs: int = 6
    dropout: float = 0.0
    wrong_share: float = 0.25

    @property
    def wrong(self) -> Tensor:
        """Bool [N]."""
        return (torch.arange(self.examples) * 7) % self.examples < self.wrong_share * self.examples

    @property
    def true_labels(self) -> Tensor:
        """int64 [N]."""
        return example_integers(self.seed, "noisy.y", 0, torch.arange(self.examples), self.classes)[:, 0]

    def data(self) -> tuple[Tensor, Tensor]:
        y = self.true_labels
        x = 0.2 * (example_uniform(self.seed, "noisy.x", 0, torch.arange(self.examples), 192).view(-1, 3, 8, 8) - 0.5)
        colours = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0], [3.0, 3.0, 3.0]])
        x = x + colours[y][:, :, None, None]
        other = (y + 1 + torch.arange(self.examples) % (self.classes - 1)) % self.classes
        return x.to(self.dtype), torch.where(self.wrong, other, y)

    def loader(self, epoch: int, rank: int = 0, ranks: int = 1, *, dicts: bool = False):
        found = super().loader(epoch, rank, ranks, dicts=dicts)
        found.view = TaskView(namespace="noisy", examples=self.examples, classes=self.classes)
        return found
