"""Gyro dropout: a fixed set of subnetworks is trained, some at a time, in place of a new one for every example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import example_uniform
from .._check import whole
from ._classes import Changed, change_module, changed_class, restore_modules
from ._replace import warn_of_nothing


def subnetwork_masks(seed: int, name: str, numbers: Tensor, shape: Sequence[int], rate: float) -> Tensor:
    """Which activations the subnetworks `numbers` [n] have after a dropout layer: bool [n, *shape].

    Each is missing with probability `rate`; a function of (seed, name, number, place) alone.
    """
    places = torch.Size(shape).numel()
    kept = example_uniform(seed, f"GyroDropout.{name}", 0, numbers, max(1, places))[:, :places] >= rate
    return kept.view(-1, *shape)


def round_of(step: int, total_steps: int, rounds: int) -> int:
    """The round that a step is in, 0 .. rounds - 1: rounds of equal length, to a step, fill the run."""
    return min(step * rounds // max(1, total_steps), rounds - 1)


class SubnetworkDropout(Changed):
    """A dropout whose examples share the masks of a few subnetworks: row b of B gets number b * n // B of the n."""

    own = ("masks", "source")
    training: bool
    p: float
    masks: Tensor
    source: tuple[int, str, Tensor]
    """Seed, name, and the numbers of the subnetworks whose masks these are."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, ...], masked while training."""
        if not self.training or self.p == 0:
            return input
        if not len(self.masks) or self.masks.shape[1:] != input.shape[1:] or self.masks.device != input.device:
            draw = torch.compiler.disable(self.draw)  # type: ignore[no-untyped-call]
            draw(input.shape[1:], input.device)
        count, rows = len(self.masks), len(input)
        chosen = torch.arange(rows, device=input.device) * count // max(1, rows)
        # The factor is no tensor of a short dtype, in which 1 / 0.9 would be 0.2 per cent off.
        return input * self.masks[chosen] * (1 / (1 - self.p) if self.p < 1 else 0.0)

    def draw(self, shape: Sequence[int], device: torch.device) -> None:
        """Make the masks for examples of this shape."""
        seed, name, numbers = self.source
        self.masks = subnetwork_masks(seed, name, numbers.to(device), shape, self.p)

    def turn(self, numbers: Tensor) -> None:
        """Go over to other subnetworks; the masks keep their place, which a compiled model knows."""
        seed, name, _ = self.source
        self.source = (seed, name, numbers)
        if len(self.masks):
            shape, device = self.masks.shape[1:], self.masks.device
            self.masks.copy_(subnetwork_masks(seed, name, numbers.to(device), shape, self.p))


class Subnetworks:
    """The dropout layers of a model while they share masks.

    `subnetworks` of them are trained, `together` at a time: the run has subnetworks / together rounds of equal length,
    and each subnetwork is trained in one of them, in every iteration, by batch / together examples.

        subnetworks = Subnetworks(model, seed, total_steps)
        ...                               # after each step:
        subnetworks.advance(step)
        ...
        subnetworks.remove()

    Raises InvalidValue unless `subnetworks` is a multiple of `together`.
    """

    def __init__(
        self, model: nn.Module, seed: int, total_steps: int, *, subnetworks: int = 256, together: int = 16
    ) -> None:
        if together < 1 or subnetworks < 1 or subnetworks % together:
            raise InvalidValue(
                f"subnetworks are trained in rounds of {together}, got {subnetworks}; choose a multiple of `together`"
            )
        self.model, self.together, self.total_steps = model, together, total_steps
        self.rounds, self.round = subnetworks // together, 0
        self.replaced: dict[str, str] = {}
        new = changed_class(nn.Dropout, SubnetworkDropout, "Gyro")
        for name, module in model.named_modules():
            # Subclasses have a forward of their own.
            if type(module) is nn.Dropout:
                own = {"masks": torch.empty(0, dtype=torch.bool), "source": (seed, name, self._numbers(0))}
                self.replaced[name] = change_module(module, new, **own)

    def _numbers(self, round_: int) -> Tensor:
        return torch.arange(round_ * self.together, (round_ + 1) * self.together)

    def advance(self, step: int) -> None:
        """After a step, with the number of finished ones: go over to the next round where it begins."""
        self.turn(round_of(step, self.total_steps, self.rounds))

    def turn(self, round_: int) -> None:
        """Go over to a round."""
        if round_ == self.round:
            return
        self.round = round_
        for module in self.model.modules():
            if isinstance(module, SubnetworkDropout):
                module.turn(self._numbers(round_))

    def remove(self) -> None:
        """Make the layers plain dropout again."""
        restore_modules(self.model, SubnetworkDropout)


class GyroDropout(Method):
    """Replaces nn.Dropout by a fixed set of subnetworks, of which some are trained at a time (experimental).

    subnetworks: how many masks there are in all, a multiple of `together`, from 1 (one network with units missing) up,
    where many are as good as plain dropout; None changes nothing. together: how many of them share a batch, from 1 up;
    a run has subnetworks / together rounds, and each subnetwork is trained in one of them. The authors take 256 and 16
    for LeNet and AlexNet, 1024 and 8 for ResNet-18 and BERT.

    Each layer keeps its own rate, and drops single activations of an example, of whatever shape; in evaluation it does
    nothing. Which mask an example gets depends on its place in what the model is given, so that parts of a batch, and
    processes, divide the masks each among their own examples; batches smaller than `together` use some of the masks
    only. Dropout inside attention (a number there, not a layer) stays as it is. The layers are plain dropout again at
    the end. Warns if the model has no nn.Dropout. Raises InvalidValue for values outside these ranges, Conflict on a
    compiled model.
    """

    card = Card(
        title="Gyro dropout",
        paper="none on arXiv: Lee, Kim, Oh, Kim, Jeung, Noh, Seo: Gyro Dropout: Maximizing Ensemble Effect in Neural "
        "Network Training, MLSys 2022",
        year=2022,
        arxiv="none",
        phase="start",
        cost="about that of plain dropout: masks are looked up, and drawn once a round",
        breaks="networks without dropout; small batches and short runs, in which a subnetwork sees few examples; it is a "
        "regularizer with no saving of its own, and has been tried by its authors only",
        domains=("vision", "language"),
        experimental=True,
    )
    horizon = True
    neutral: ClassVar = {"subnetworks": None}
    example: ClassVar = {"subnetworks": 12, "together": 4}
    changes_model = True
    single = True

    def __init__(self, subnetworks: int | None = 256, *, together: int = 16) -> None:
        self.together = whole(together, "together is a whole number of subnetworks from 1", "16 is usual", 1)
        rule = f"subnetworks are a multiple of together={self.together}, or None"
        if subnetworks is not None and whole(subnetworks, rule, "256 is usual", 1) % self.together:
            raise InvalidValue(f"{rule}, got {subnetworks!r}; each is trained in one round of {self.together}")
        self.subnetworks = subnetworks
        self._now: Subnetworks | None = None

    def start(self, context: Context) -> None:
        """Replace the dropout layers of the model."""
        self._now = None
        if self.subnetworks is None:
            return
        self._now = Subnetworks(
            context.model,
            context.seed,
            context.total_steps,
            subnetworks=self.subnetworks,
            together=self.together,
        )
        if not self._now.replaced:
            warn_of_nothing("GyroDropout", "nn.Dropout")

    def weights(self, context: Context) -> None:
        """Go over to the next subnetworks where a round is over."""
        if self._now is not None:
            self._now.advance(context.step)

    def state_dict(self) -> dict[str, Any]:
        """The round."""
        return {} if self._now is None else {"round": self._now.round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on in that round."""
        if self._now is not None:
            self._now.turn(state["round"])

    def report(self) -> dict[str, Any]:
        """What was replaced, {"replaced": {name: "Old -> New"}}, until the run ends; {} before it."""
        return {} if self._now is None else {"replaced": dict(self._now.replaced)}

    def finish(self, context: Context) -> None:
        """Make the layers plain dropout again."""
        if self._now is not None:
            self._now.remove()
        self._now = None
