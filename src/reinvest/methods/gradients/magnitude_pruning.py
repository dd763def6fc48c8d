"""Gradual magnitude pruning: the smallest weights are set to zero for good, ever more of them along a cubic."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.duration import Duration
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import ROUNDING, number
from ._layers import patterns_of, prunable

SCOPES = ("global", "layer")


def cubic_sparsity(done: float, final: float) -> float:
    """The share of pruned weights when a share `done` of the pruning time is over: final * (1 - (1 - done) ** 3).

    done: clipped to [0, 1]; final: in [0, 1]. 0 at the beginning, `final` exactly at the end, fast first.
    """
    return final * (1.0 - (1.0 - min(max(done, 0.0), 1.0)) ** 3)


def prune_smallest(weights: Sequence[Tensor], count: int, pruned: Sequence[Tensor] | None = None) -> list[Tensor]:
    """True at the `count` smallest magnitudes of all weights together: bool tensors, shaped like the weights.

    count: 0 (none) to the number of weights (all); exactly so many are chosen, the earlier ones where magnitudes are
    equal. pruned: what was pruned before stays pruned and counts. Nothing is changed in place. Raises InvalidValue for
    a count outside its range.
    """
    total = sum(w.numel() for w in weights)
    if not 0 <= count <= total:
        raise InvalidValue(f"of {total} weights 0 to {total} are pruned, got count={count!r}; choose one in between")
    device = weights[0].device if weights else None
    sizes = torch.cat([w.detach().abs().flatten().to(device, torch.float32) for w in weights] or [torch.empty(0)])
    if pruned is not None:
        # Below every magnitude, so that a live weight that happens to be zero does not take a pruned one's place.
        sizes = sizes.masked_fill(torch.cat([p.flatten().to(device) for p in pruned]), -1.0)
    chosen = torch.zeros(len(sizes), dtype=torch.bool, device=sizes.device)
    chosen[sizes.argsort(stable=True)[:count]] = True
    parts = torch.split(chosen, [w.numel() for w in weights])
    return [part.view(w.shape).to(w.device) for part, w in zip(parts, weights, strict=True)]


class MagnitudePruning(Method):
    """Sets the smallest weights to zero for good, so that a share `sparsity` of them is pruned in the end.

    sparsity: in [0, 1); 0 is plain training. start, end: shares of the run, 0 <= start <= end <= 1, between which the
    share rises along `cubic_sparsity`; start = end prunes at once. every: the time between prunings, a duration such as
    "100st", "1ep" or "0.01" (a share of the run), above 0; there is always one at `end`. scope: "global" compares the
    weights of all layers with each other, "layer" prunes the same share of each. layers: names of layers, in which *
    stands for anything; None takes all linear and convolutional ones. Biases, norms and embeddings are never pruned.

    At each pruning exactly round(share * number of weights) are pruned, and what is pruned stays so: its gradient is
    zero, and it is set to zero again after every step, whatever momentum and weight decay did to it. Weights stay dense
    tensors with zeros in them. Rewinding (iterative pruning from early weights) is not included: it takes several whole
    runs. Raises InvalidValue for values outside these ranges, for a time in minutes, and for layers that are not there.
    """

    card = Card(
        title="Gradual magnitude pruning",
        paper="Zhu, Gupta: To prune, or not to prune: exploring the efficacy of pruning for model compression",
        year=2017,
        arxiv="1710.01878",
        phase="gradients",
        cost="a sort of all weights at each pruning, three passes over them at every step; nothing runs faster, in "
        "training or after it, without kernels for sparse weights",
        breaks="saves no training time; pruning that ends when the learning rate is nearly zero leaves no time to "
        "recover; a network that was trained as long without pruning is the fair comparison; averages of weights that "
        "were taken before the last pruning bring pruned weights back",
        domains=("vision", "language"),
        conflicts=("EMA", "LAWA", "SWA", "NMSparsity"),
        references=("2210.03044", "2210.13738"),
    )
    revision = 2
    horizon = True
    neutral: ClassVar = {"sparsity": 0.0}
    example: ClassVar = {"sparsity": 0.7, "start": 0.1, "end": 0.8, "every": "2st"}
    single = True

    def __init__(
        self,
        sparsity: float = 0.8,
        *,
        start: float = 0.1,
        end: float = 0.75,
        every: str | float = 0.01,
        scope: str = "global",
        layers: list[str] | None = None,
    ) -> None:
        self.sparsity = number(
            sparsity,
            "sparsity is the pruned share, from 0 (plain training) to below 1",
            "0.8 is usual",
            0,
            1,
            below=True,
        )
        self.begin = number(start, "start is a share of the run from 0 to 1", "0.1 is usual", 0, 1)
        self.end = number(end, "end is a share of the run from 0 to 1", "0.75 is usual", 0, 1)
        if self.end < self.begin:
            raise InvalidValue(f"pruning ends after it starts, got start={start!r} and end={end!r}; raise end")
        self.every = Duration.parse(every)
        if self.every.amount <= 0 or self.every.unit == "min":
            raise InvalidValue(
                f"every is a positive duration in steps, epochs or a share of the run, got {every!r}; write '100st'"
            )
        if scope not in SCOPES:
            raise InvalidValue(f"scope is 'global' or 'layer', got {scope!r}; choose one of the two")
        self.scope, self.layers = scope, patterns_of(layers)
        self._weights: list[nn.Parameter] = []
        self._pruned: list[Tensor] = []
        self._first = self._last = self._distance = 0
        self._hooks: list[Any] = []

    def start(self, context: Context) -> None:
        """Find the layers and the times; where everything is pruned at once before the first step, prune."""
        self._weights, self._pruned = [], []
        if self.sparsity == 0.0:
            return
        self._weights = list(prunable(context.model, self.layers, self.name, ends=True).values())
        self._pruned = [torch.zeros_like(w, dtype=torch.bool) for w in self._weights]
        self._hooks = [
            w.register_post_accumulate_grad_hook(self._mask_of(i))  # type: ignore[no-untyped-call]
            for i, w in enumerate(self._weights)
            if w.requires_grad
        ]
        self._distance = max(1, self.every.steps(context.steps_per_epoch, context.total_steps))
        self._first, self._last = (
            math.ceil(share * context.total_steps - ROUNDING) for share in (self.begin, self.end)
        )
        if self.due(context.step):
            self._prune(context.step)

    def due(self, step: int) -> bool:
        """Whether weights are pruned when `step` steps are done."""
        if not self._weights or not self._first <= step <= self._last:
            return False
        return step == self._last or (step - self._first) % self._distance == 0

    def share(self, step: int) -> float:
        """The share of weights that is to be pruned when `step` steps are done."""
        time = self._last - self._first
        return cubic_sparsity((step - self._first) / time if time else float(step >= self._first), self.sparsity)

    def _prune(self, step: int) -> None:
        share, one = self.share(step), [(self._weights, self._pruned)]
        groups = one if self.scope == "global" else [([w], [p]) for w, p in zip(*one[0], strict=True)]
        self._pruned = [
            mask
            for weights, pruned in groups
            for mask in prune_smallest(weights, round(share * sum(w.numel() for w in weights)), pruned)
        ]
        self._zero(self._weights)

    def _zero(self, tensors: Sequence[Tensor | None]) -> None:
        with torch.no_grad():
            for tensor, pruned in zip(tensors, self._pruned, strict=True):
                if tensor is not None:
                    tensor.masked_fill_(pruned, 0.0)

    def _mask_of(self, i: int) -> Callable[[Tensor], None]:
        """Pruned weights have no gradient as soon as there is one: SAM's climb and norms of gradients come before
        `gradients`."""

        def mask(weight: Tensor) -> None:
            if weight.grad is not None and self._pruned:
                with torch.no_grad():
                    weight.grad.masked_fill_(self._pruned[i], 0.0)

        return mask

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Pruned weights have no gradient, also where it came in another way than a backward pass; never skips the step."""
        self._zero([w.grad for w in self._weights])
        return True

    def weights(self, context: Context) -> None:
        """Set pruned weights to zero again, and prune more if it is time."""
        if self.due(context.step):
            self._prune(context.step)
        else:
            self._zero(self._weights)

    def kind(self, context: Context) -> Hashable:
        """ "pruning" where the next step prunes."""
        return "pruning" if self.due(context.step + 1) else None

    def finish(self, context: Context) -> None:
        """Forget the model, which keeps its zeros."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._weights, self._pruned = [], []
        self._first = self._last = self._distance = 0

    def state_dict(self) -> dict[str, Any]:
        """What is pruned, in the model's order."""
        return {"pruned": [p.clone() for p in self._pruned]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises InvalidValue for the masks of other layers."""
        if [p.shape for p in state["pruned"]] != [w.shape for w in self._weights]:
            raise InvalidValue(
                f"masks fit the layers that they were made for, got other shapes than those of {len(self._weights)} "
                "layers; load them into the same model"
            )
        self._pruned = [p.to(w.device, copy=True) for p, w in zip(state["pruned"], self._weights, strict=True)]
