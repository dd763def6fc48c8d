"""Selective backprop: a cheap forward pass finds the examples that are worth a full step."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...core.batch import Batch
from ...core.criterion import check_losses, per_example
from ...core.errors import InvalidValue
from ...core.forward import logits_of
from ...core.method import Card, Context, Method
from ...core.streams import Stream, stream
from .._check import number, whole
from ..augment.progressive_resizing import resize_images

KEEP = "keep is the share of a batch to train on, above 0, up to 1 (all of it)"


def kept_count(size: int, keep: float, least: int = 0) -> int:
    """How many of `size` examples are kept: keep x size, rounded down, but `least`.

    Raises InvalidValue where none would be left.
    """
    # 0.29 * 100 is 28.999...; such a product means 29.
    count = max(least, math.floor(keep * size + 1e-9))
    if count < 1:
        raise InvalidValue(
            f"a batch keeps at least one example, got keep={keep!r} of {size}; raise keep or the batch size"
        )
    return count


def select_by_loss(losses: Tensor, keep: float, draws: Stream, least: int = 0) -> Tensor:
    """Draw the rows to keep, without replacement, with weight u^(1/keep - 1) for the loss of rank percentile u.

    losses: [B], any float; keep in (0, 1]: 1 keeps every row, small values nearly always the highest losses. Returns
    int64 [floor(keep x B)], or `least` rows if those are more, in ascending order, on the CPU. Raises InvalidValue for
    keep outside (0, 1], losses that are not [B], and a count below one.
    """
    number(keep, KEEP, "0.5 is usual", 0, 1, above=True)
    if losses.ndim != 1:
        raise InvalidValue(
            f"selection needs one loss per example [B], got shape {list(losses.shape)}; build them with "
            "reduction='none'"
        )
    size = len(losses)
    count = kept_count(size, keep, least)
    if count == size:
        return torch.arange(size)
    # An exponential race: first come, at rates equal to the weights, is a weighted draw without replacement.
    percentiles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    uniforms = draws.uniform(size).double() + 2.0**-25
    arrival = torch.log(-torch.log1p(-uniforms)) - (1.0 / keep - 1.0) * torch.log(percentiles)
    ranks = torch.argsort(arrival, stable=True)[:count]
    by_loss = torch.argsort(losses.detach(), stable=True).cpu()
    return by_loss[ranks].sort().values


@contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Evaluate without a trace: eval mode and no gradients; modes, buffers and torch's generators are put back."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    cuda = sorted({b.device.index for b in model.parameters() if b.device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training
            for buffer, value in buffers:
                buffer.copy_(value)


class Precision:
    """A hook before a model's forward passes, which notes the autocast around those that train it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.noted: tuple[bool, torch.dtype] | None = None

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        if module.training:
            self.noted = torch.is_autocast_enabled(self.kind), torch.get_autocast_dtype(self.kind)


class SelectiveBackprop(Method):
    """Between `start` and `end` of the run, trains on the share `keep` of each batch, chosen by loss on small pictures.

    start, end: shares of the run in [0, 1], start <= end. keep: share of the batch, in (0, 1]; 1 keeps all. scale:
    relative side of the pictures in the scoring pass, in (0, 1]; 1 scores at full size (and any input). period: every
    period-th step is a plain one on the whole batch; 0 has no plain steps, 2 alternates. The scoring pass runs in eval
    mode (running statistics and no dropout), under the autocast of the last training pass (none before the first), and
    leaves modes, buffers and torch's generator as they were. Each virtual
    node keeps the same count, and of a short batch one example at least. Raises InvalidValue for values outside these
    ranges, where the share of the run's first batch is no example, and below scale 1 for label maps and for inputs
    that are no pictures.
    """

    card = Card(
        title="Selective backprop",
        paper="Jiang, Wong, Zhou, Andersen, Dean, Ganger, Joshi, Kaminsky, Kozuch, Lipton, Pillai: "
        "Accelerating Deep Learning by Focusing on the Biggest Losers",
        year=2019,
        arxiv="1910.00762",
        phase="select",
        cost="(scale^2 + 3 keep) / 3 of a selecting step: 0.58 at keep 0.5 and scale 0.5, 0.83 at scale 1",
        breaks="wrong labels have high losses and are chosen; batch norm sees smaller batches; not unbiased",
        domains=("vision",),
        found="inconclusive, 0.946 times as fast to equal quality (0.876 to 1.02): CIFAR-10 at 16x16 pixels, "
        "ResNet-8, 3 to 24 epochs (claims/selective_backprop.json); the paper is up to 3.5 times as fast to "
        "a target error, in long runs; from the first step on at 32x32 pixels 0.80 (0.71 to 0.90)",
    )
    revision = 2
    neutral: ClassVar = {"keep": 1.0}
    example: ClassVar = {"start": 0.2, "end": 0.9, "keep": 0.5, "period": 3}
    couples_examples = True

    def __init__(
        self, start: float = 0.5, end: float = 0.9, *, keep: float = 0.5, scale: float = 0.5, period: int = 2
    ) -> None:
        self.begin = number(start, "start is a share of the run from 0 to 1", "0.5 is usual", 0, 1)
        self.end = number(end, "end is a share of the run from 0 to 1", "0.9 is usual", 0, 1)
        if self.begin > self.end:
            raise InvalidValue(f"selection starts before it ends, got start={start!r} and end={end!r}; swap them")
        self.horizon = self.begin > 0.0 or self.end < 1.0
        self.keep = number(keep, KEEP, "0.5 is usual", 0, 1, above=True)
        self.scale = number(
            scale, "scale is a relative side above 0, up to 1 (full size)", "0.5 is usual", 0, 1, above=True
        )
        self._began = False
        self._precision: Precision | None = None
        self._hook: RemovableHandle | None = None
        self.period = whole(period, "period is 0 (no plain steps) or a whole number from 2 up", "2 alternates", 0)
        if period == 1:
            raise InvalidValue(
                "period is 0 (no plain steps) or a whole number from 2 up, got 1 (no selecting steps); 2 alternates"
            )

    def start(self, context: Context) -> None:
        """No batch has been seen; the model's training passes will tell their precision."""
        self._began = False
        if self._acts() and torch.amp.is_autocast_available(context.device.type):
            self._precision = Precision(context.device.type)
            self._hook = context.model.register_forward_pre_hook(self._precision)

    def _acts(self) -> bool:
        """Whether any step selects."""
        return self.keep < 1.0 and self.begin < self.end

    def selects(self, context: Context) -> bool:
        """Whether the next step trains on a selection."""
        plain = self.period and context.step % self.period == self.period - 1
        return self.keep < 1.0 and self.begin <= context.progress < self.end and not plain

    def select(self, batch: Batch, context: Context) -> Batch:
        """The kept examples, in their order."""
        size = len(batch)
        if not self._began:
            # The first batch is a whole one, unless another method thinned it; later ones may be short.
            self._began = True
            if self._acts():
                kept_count(size, self.keep, least=int(batch.thinned))
                self._refuse(batch)
        if not self.selects(context) or kept_count(size, self.keep, least=1) == size:
            return batch
        return batch.take(self.choose(self.scores(batch, context), batch, context))

    def choose(self, losses: Tensor, batch: Batch, context: Context) -> Tensor:
        """The rows to keep, int64 and ascending, by the losses [B] of the scoring pass."""
        draws = stream(context.seed, "SelectiveBackprop", context.epoch, context.step, node=context.world[0])
        return select_by_loss(losses, self.keep, draws, least=1)

    def scores(self, batch: Batch, context: Context) -> Tensor:
        """The losses [B] of the model as it is, on pictures of the reduced size."""
        device, targets = context.device, batch.targets
        if not isinstance(targets, Tensor):
            raise InvalidValue(
                f"{self.name} chooses by loss and needs targets [B, ...], got {type(targets).__name__}; let the "
                "loader yield them"
            )
        self._refuse(batch)
        with looking(context.model):
            low, dtype = self._noted()
            # `batches` is called outside the loop's own autocast.
            with nullcontext() if dtype is None else torch.autocast(device.type, dtype, low):
                output = logits_of(context.model, batch.with_inputs(self._small(batch.inputs)), device, self.name)
            if low:
                output = output.float()  # losses in half precision would have many ties
            targets = targets.to(device)
            losses = check_losses(context.criterion(output, targets), len(targets), context.criterion)
        return per_example(losses, targets)

    def _noted(self) -> tuple[bool, torch.dtype | None]:
        """Whether the last training pass ran under autocast, and its dtype; None before the first."""
        return (None if self._precision is None else self._precision.noted) or (False, None)

    def _refuse(self, batch: Batch) -> None:
        """Raises InvalidValue for batches of which no small copy can be scored."""
        if self.scale == 1.0:
            return
        x, targets = batch.inputs, batch.targets
        if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point():
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InvalidValue(
                f"{self.name} scores small copies of floating pictures [B, C, H, W], got {got} with "
                f"scale={self.scale}; set scale=1.0"
            )
        if isinstance(targets, Tensor) and targets.ndim > 2 and targets.shape[-2:] == x.shape[-2:]:
            raise InvalidValue(
                f"{self.name} scores small copies of the pictures and leaves targets alone, got label maps "
                f"{list(targets.shape)} with scale={self.scale}; set scale=1.0"
            )

    def _small(self, x: Any) -> Any:
        if self.scale == 1.0:
            return x
        height, width = (max(1, round(side * self.scale)) for side in x.shape[-2:])
        return resize_images(x, (height, width))

    def kind(self, context: Context) -> Hashable:
        """ "selecting" or "plain"."""
        return "selecting" if self.selects(context) else "plain"

    def finish(self, context: Context) -> None:
        """Take the hook off the model."""
        if self._hook is not None:
            self._hook.remove()
        self._began, self._precision, self._hook = False, None, None

    def state_dict(self) -> dict[str, Any]:
        """Whether the run's first batch is over, and the autocast of the last training pass."""
        low, dtype = self._noted()
        return {"began": self._began, "autocast": [low, None if dtype is None else str(dtype).removeprefix("torch.")]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self._began, (low, dtype) = state["began"], state["autocast"]
        if self._precision is not None and dtype is not None:
            self._precision.noted = (low, getattr(torch, dtype))
