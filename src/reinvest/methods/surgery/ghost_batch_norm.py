"""GhostBatchNorm: batch norm whose statistics are those of small parts of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import whole
from ._classes import Changed, change_modules, changed_class, restore_modules
from ._replace import warn_of_nothing

UPDATES = ("batch", "ghost")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NEUTRAL = 1 << 30


def ghost_normalize(
    x: Tensor, size: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm of every ghost batch by its own statistics: (normalised x, means [G, C], unbiased variances [G, C]).

    x: [B, C, ...] is cut, in order, into G = max(1, B // size) ghost batches as equal as can be (the first ones are
    longer by one), so that none is smaller than `size` unless the batch itself is.
    """
    count = max(1, len(x) // size)
    dtype = torch.promote_types(x.dtype, torch.float32) if weight is None else weight.dtype
    means, variances = torch.zeros(2, count, x.shape[1], dtype=dtype, device=x.device).unbind(0)
    parts = [
        # With momentum 1 the "running" statistics are those of this ghost batch.
        F.batch_norm(part, means[k], variances[k], weight, bias, training=True, momentum=1.0, eps=eps)
        for k, part in enumerate(x.tensor_split(count))
    ]
    return torch.cat(parts), means, variances


class Ghost(Changed):
    """A batch norm that looks at ghost batches while training; in evaluation it is what it was."""

    own = ("ghost_size", "ghost_updates", "ghost_normalize")
    ghost_size: int
    ghost_updates: str
    ghost_normalize: Callable[..., tuple[Tensor, Tensor, Tensor]]
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    momentum: float | None
    eps: float
    _check_input_dim: Callable[[Tensor], None]

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, ...] -> the same shape."""
        if not self.training or len(input) < 2 * self.ghost_size:
            found: Tensor = super().forward(input)
            return found
        self._check_input_dim(input)
        y, means, variances = self.ghost_normalize(input, self.ghost_size, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                if self.ghost_updates == "batch":
                    means, variances = means.mean(0, keepdim=True), variances.mean(0, keepdim=True)
                for mean, variance in zip(means, variances, strict=True):
                    self.num_batches_tracked.add_(1)
                    self.running_mean.lerp_(mean.to(self.running_mean.dtype), self._share(self.running_mean))
                    self.running_var.lerp_(variance.to(self.running_var.dtype), self._share(self.running_var))
        return y

    def _share(self, like: Tensor) -> Any:
        """The weight of the newest statistics: momentum, or 1/n where there is none (a plain average)."""
        if self.momentum is not None:
            return self.momentum
        assert self.num_batches_tracked is not None
        return (1.0 / self.num_batches_tracked).to(like.dtype)


def _choose(_: str, module: nn.Module) -> type[Changed] | None:
    return changed_class(type(module), Ghost, "Ghost") if type(module) in NORMS else None


def split_batch_norms(model: nn.Module, size: int, updates: str = "batch") -> dict[str, str]:
    """Let every BatchNorm1d, 2d and 3d look at ghost batches, in place: {name: "Old -> New"}.

    Weights, statistics, names and hooks stay. Subclasses (SyncBatchNorm among them) are left alone.
    """
    # Inductor (torch 2.13) gets the gradient of split, normalised and joined pictures before a max pooling wrong, whatever
    # normalises them; so the compiler leaves this to the kernels of eager mode.
    kernel = torch.compiler.disable(ghost_normalize)  # type: ignore[no-untyped-call]
    return change_modules(model, _choose, ghost_size=size, ghost_updates=updates, ghost_normalize=kernel)


def join_batch_norms(model: nn.Module) -> int:
    """Undo `split_batch_norms`; returns how many layers there were."""
    return restore_modules(model, Ghost)


class GhostBatchNorm(Method):
    """Normalises by the statistics of ghost batches of `size` examples in place of the whole batch, while training.

    size: from 1 up, or from 2 for layers that see one value an example and channel. A batch of B examples is cut, in its
    order, into max(1, B // size) ghost batches as equal as can be: none is smaller than `size`, none reaches twice
    that, and a batch below 2 x size is plain batch norm, bit for bit. Evaluation is batch norm's own, and at the end the
    layers are plain again, with their weights and statistics.

    updates: "batch" moves the running statistics once a step, by the layer's momentum, to the mean over ghost batches of
    their means and unbiased variances; "ghost" once per ghost batch in order, as the paper has it, which forgets as
    fast as a momentum of 1 - (1 - momentum)^G would. Parts of an accumulated batch are batches of their own. `report()`
    tells until the end what was replaced; torch.compile breaks its graph at every such layer. Warns if the model has no
    batch norm. Raises InvalidValue for values outside
    these ranges, Conflict on a compiled model.
    """

    card = Card(
        title="Ghost batch norm",
        paper="Hoffer, Hubara, Soudry: Train longer, generalize better: closing the generalization gap in large batch "
        "training of neural networks",
        year=2017,
        arxiv="1705.08741",
        phase="start",
        cost="a batch norm call per ghost batch and a copy of the output: about 1.08 of a ResNet-8 step on a CPU with four "
        "ghosts, more with smaller ones",
        breaks="ghosts of a few examples make statistics too noisy; batches of usual sizes gain little",
        domains=("vision", "audio", "tabular"),
    )
    neutral: ClassVar = {"size": NEUTRAL}
    example: ClassVar = {"size": 4}
    changes_model = True
    surgery_order = 1
    couples_examples = True
    single = True

    def __init__(self, size: int = 32, *, updates: str = "batch") -> None:
        self.size = whole(size, "size is a whole number of examples from 1 up", "32 is usual", 1)
        if updates not in UPDATES:
            raise InvalidValue(
                f"updates is one of {', '.join(map(repr, UPDATES))}, got {updates!r}; choose one of them"
            )
        self.updates = updates
        self._replaced: dict[str, str] = {}

    def start(self, context: Context) -> None:
        """Let the layers look at ghost batches."""
        if self.size >= NEUTRAL:
            return
        self._replaced = split_batch_norms(context.model, self.size, self.updates)
        if not self._replaced:
            warn_of_nothing(self.name, "batch norm")

    def report(self) -> dict[str, Any]:
        """replaced: {name: "Old -> New"}, until the run ends."""
        return {"replaced": dict(self._replaced)}

    def finish(self, context: Context) -> None:
        """Give the layers their own class back."""
        join_batch_norms(context.model)
        self._replaced = {}
