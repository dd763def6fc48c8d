"""Small training loops for the contract tests: with a chain, by hand with plain functions, and plain."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.batch import ID_KEY
from ..core.chain import Methods
from ..core.method import Method
from ..core.streams import example_integers, example_uniform, stream

Example = tuple[Tensor, Tensor, Tensor]


class TinyNet(nn.Module):
    """A convolutional net with a max pooling, a strided convolution and global pooling: any picture size from 4 x 4."""

    def __init__(self, classes: int, *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[B, 3, H, W] -> logits [B, classes]."""
        logits: Tensor = self.head(self.dropout(self.body(pixel_values).mean((2, 3))))
        return logits


class EpochLoader:
    """One epoch of global batches in the order of (seed, epoch), or this rank's equal slice of each."""

    indexed = True

    def __init__(self, setup: Setup, epoch: int, rank: int, ranks: int, *, dicts: bool) -> None:
        self.setup, self.epoch, self.rank, self.ranks, self.dicts = setup, epoch, rank, ranks, dicts
        self.examples = setup.examples

    def __len__(self) -> int:
        return self.setup.examples // self.setup.batch_size

    def __iter__(self) -> Iterator[Any]:
        x, y = self.setup.data()
        order = stream(self.setup.seed, "order", self.epoch).permutation(self.setup.examples)
        own = self.setup.batch_size // self.ranks
        for k in range(len(self)):
            begin = k * self.setup.batch_size + self.rank * own
            ids = order[begin : begin + own]
            yield {"pixel_values": x[ids], "labels": y[ids], ID_KEY: ids} if self.dicts else (ids, x[ids], y[ids])


@dataclass(frozen=True)
class Setup:
    """What a contract test trains: data, model, optimizer and length. Subclass it for other kinds of data."""

    seed: int = 3
    epochs: int = 3
    examples: int = 48
    batch_size: int = 16
    classes: int = 4
    batch_norm: bool = True
    dropout: float = 0.25
    dtype: torch.dtype = torch.float32

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * (self.examples // self.batch_size)

    def plain(self) -> Setup:
        """The same without batch norm and dropout: what must not depend on how a batch is split."""
        return replace(self, batch_norm=False, dropout=0.0)

    def data(self) -> tuple[Tensor, Tensor]:
        """All inputs [N, 3, 8, 8] and targets [N]: noise whose channels depend on the class."""
        ids = torch.arange(self.examples)
        y = example_integers(self.seed, "contract.y", 0, ids, self.classes)[:, 0]
        x = example_uniform(self.seed, "contract.x", 0, ids, 192).view(-1, 3, 8, 8) - 0.5
        x[:, 0] += (y.float() / self.classes)[:, None, None]
        x[:, 1, ::2] += (y % 2).float()[:, None, None]
        return x.to(self.dtype), y

    def model(self) -> nn.Module:
        """A model with weights drawn from the seed."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return TinyNet(self.classes, batch_norm=self.batch_norm, dropout=self.dropout).to(self.dtype)

    def seed_dropout(self) -> None:
        """Seed torch's generator, from which dropout draws."""
        torch.manual_seed(self.seed)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of the run."""
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def loader(self, epoch: int, rank: int = 0, ranks: int = 1, *, dicts: bool = False) -> EpochLoader:
        """The batches of an epoch, or one rank's slice of them."""
        return EpochLoader(self, epoch, rank, ranks, dicts=dicts)


class ChainLoop:
    """An own loop around a chain of methods."""

    def __init__(
        self,
        setup: Setup,
        methods: Sequence[Method],
        *,
        parts: int = 1,
        nodes: int | None = None,
        ranks: tuple[int, int] = (0, 1),
        dicts: bool = False,
        scaler: Any = None,
        backend: str | None = None,
        average: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self.setup, self.parts, self.ranks, self.dicts = setup, parts, ranks, dicts
        self.scaler, self.average = scaler, average
        self.chain = Methods(*methods, virtual_nodes=nodes)
        self.model = setup.model()
        self.optimizer = setup.optimizer(self.model)
        surgery = any(m.changes_model for m in methods)
        self.forward: Any = self.model
        if backend is not None:
            self.forward = torch.compile(self.model, backend=backend)
        self.attached_to = self.model if surgery else self.forward

    @contextlib.contextmanager
    def attached(self) -> Iterator[ChainLoop]:
        """The chain attached to this loop, with the generator that dropout draws from seeded."""
        self.setup.seed_dropout()
        with self.chain.attach(
            self.attached_to,
            self.optimizer,
            duration=f"{self.setup.epochs}ep",
            data=self.setup.loader(0, *self.ranks),
            seed=self.setup.seed,
            scaler=self.scaler,
        ):
            yield self

    def train(self, until: int | None = None) -> ChainLoop:
        """Steps up to number `until`, or to the end of the run."""
        chain = self.chain
        last = chain.context.total_steps if until is None else until
        while chain.context.step < last:
            loader = self.setup.loader(chain.next_batch[0], *self.ranks, dicts=self.dicts)
            for batch in chain.batches(loader, parts=self.parts):
                self._step(batch)
                if chain.context.step >= last:
                    break
        with chain.averaged():
            pass
        return self

    def _step(self, batch: Any) -> None:
        x, y = (batch["pixel_values"], batch["labels"]) if self.dicts else batch

        def evaluate() -> None:
            loss = self.chain.loss(self.forward(x), y)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            if self.average is not None:
                self.average(self.model)

        if self.chain.needs_closure:
            self.chain.step(evaluate)
        else:
            evaluate()
            self.chain.step()

    def run(self) -> ChainLoop:
        """Attach and train to the end."""
        with self.attached():
            self.train()
        return self

    def result(self) -> dict[str, Any]:
        """Weights, buffers and optimizer state, copied."""
        return outcome(self.model, self.optimizer)

    def save(self) -> bytes:
        """A checkpoint, as it would be written to a file."""
        whole = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "chain": self.chain.state_dict(),
            "generator": torch.get_rng_state(),
        }
        written = io.BytesIO()
        torch.save(whole, written)
        return written.getvalue()

    def load(self, written: bytes) -> None:
        """Continue from `save()`."""
        whole = torch.load(io.BytesIO(written), weights_only=True)
        self.model.load_state_dict(whole["model"])
        self.optimizer.load_state_dict(whole["optimizer"])
        self.chain.load_state_dict(whole["chain"])
        torch.set_rng_state(whole["generator"])


class HandLoop:
    """A loop written by hand, with places for a method's functions. As it is, it is the plain loop."""

    mean_first = False
    """Whether the loss is F.cross_entropy's own mean instead of the mean of the losses per example."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.model = setup.model()
        self.optimizer = setup.optimizer(self.model)
        self.epoch = self.step = 0

    @property
    def progress(self) -> float:
        """The share of the run that is done."""
        return self.step / self.setup.total_steps

    def start(self) -> None:
        """Before the first step."""

    def batch(self, ids: Tensor, x: Tensor, y: Tensor) -> Example:
        """Select and augment."""
        return ids, x, y

    def targets(self, y: Tensor, output: Tensor) -> Tensor:
        """Change targets."""
        return y

    def losses(self, losses: Tensor, output: Tensor, ids: Tensor, x: Tensor) -> Tensor:
        """Change the losses per example."""
        return losses

    def gradients(self, again: Callable[[], None]) -> None:
        """Change gradients."""

    def weights(self) -> None:
        """After the optimizer's step."""

    def finish(self) -> None:
        """After the last step."""

    def run(self) -> HandLoop:
        """Train to the end."""
        self.setup.seed_dropout()
        self.start()
        for epoch in range(self.setup.epochs):
            self.epoch = epoch
            for batch in self.setup.loader(epoch):
                ids, x, y = self.batch(*batch)
                before = torch.get_rng_state()

                def evaluate(ids: Tensor = ids, x: Tensor = x, y: Tensor = y) -> None:
                    output = self.model(x)
                    wanted = self.targets(y, output)
                    if self.mean_first:
                        loss = F.cross_entropy(output, wanted)
                    else:
                        losses = F.cross_entropy(output, wanted, reduction="none")
                        loss = self.losses(losses, output, ids, x).mean()
                    loss.backward()  # type: ignore[no-untyped-call]

                def again(evaluate: Callable[[], None] = evaluate, before: Tensor = before) -> None:
                    after, buffers = torch.get_rng_state(), [b.clone() for b in self.model.buffers()]
                    self.optimizer.zero_grad()
                    torch.set_rng_state(before)
                    evaluate()
                    torch.set_rng_state(after)
                    for buffer, value in zip(self.model.buffers(), buffers, strict=True):
                        buffer.copy_(value)

                evaluate()
                self.gradients(again)
                self.optimizer.step()
                self.step += 1
                self.weights()
                self.optimizer.zero_grad()
        self.finish()
        return self

    def result(self) -> dict[str, Any]:
        """Weights, buffers and optimizer state, copied."""
        return outcome(self.model, self.optimizer)


class MeanFirstLoop(HandLoop):
    """The ordinary loop, whose loss is a mean to begin with."""

    mean_first = True


def outcome(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Weights, buffers and optimizer state, copied."""
    values = {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()}
    written = io.BytesIO()
    torch.save(values, written)
    found: dict[str, Any] = torch.load(io.BytesIO(written.getvalue()), weights_only=True)
    return found
