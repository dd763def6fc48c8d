"""N:M structured sparsity: at most N of every M consecutive weights are left, by a decaying mask or structure."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import ROUNDING, number, whole
from ._layers import patterns_of, prunable

DECAYS = ("exponential", "linear", "structure", "geometric", "none")
RULES = ("ste", "scaled", "sr-ste")
LAST = 1e-3
"""The factor at which the exponential decay arrives before the mask becomes hard."""
STRENGTH = 2e-4
"""SR-STE's pull on what is masked, as published."""


class Stage(NamedTuple):
    """What the forward pass uses: phase "dense", "decay" or "hard", the factor on masked weights, and the pattern."""

    phase: str
    factor: float
    n: int
    m: int


def _groups(weight: Tensor, m: int) -> Tensor:
    """[groups, m]: m consecutive inputs of one output (and one place of a filter)."""
    return weight.detach().movedim(1, -1).reshape(-1, m)


def nm_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """True at the n largest magnitudes of every m consecutive inputs: bool, shaped like the weight [O, I, ...].

    Exactly n in every group: where magnitudes are equal the earlier input is kept. I must be a multiple of m, and n lie
    in 1 .. m; raises InvalidValue otherwise.
    """
    if not 1 <= n <= m:
        raise InvalidValue(f"of every m weights 1 to m are kept, got n={n!r} and m={m!r}; choose n at most m")
    if weight.ndim < 2 or weight.shape[1] % m:
        raise InvalidValue(
            f"groups of {m} inputs need weights [O, I, ...] with I a multiple of {m}, got {list(weight.shape)}; "
            "choose another m or leave the layer out"
        )
    order = _groups(weight, m).abs().argsort(dim=1, descending=True, stable=True)
    kept = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :n], True)
    shape = weight.detach().movedim(1, -1).shape
    return kept.view(shape).movedim(-1, 1).contiguous()


def nm_counts(weight: Tensor, m: int) -> Tensor:
    """How many of every m consecutive inputs are not zero: int64 [groups]."""
    return _groups(weight, m).ne(0).sum(1)


def nm_stages(n: int, m: int, decay: str) -> list[tuple[int, int]]:
    """The patterns (n, m) of a decaying structure, from the loosest to the wanted one.

    "structure" keeps the groups: m-1, m/2, m/4, ... n of m. "geometric" keeps the ratio: 8n of 8m, 4n of 4m, 2n of 2m,
    n of m. Any other decay has the wanted pattern alone. Raises InvalidValue where m / n is no power of two that
    "structure" could halve.
    """
    if decay == "geometric":
        return [(k * n, k * m) for k in (8, 4, 2, 1)]
    if decay != "structure" or n == m:
        return [(n, m)]
    halvings = math.log2(m / n)
    if halvings != int(halvings):
        raise InvalidValue(
            f"a structure that decays by halves needs m / n to be a power of two, got n={n!r} and m={m!r}; "
            "take decay='exponential'"
        )
    return [(k, m) for k in dict.fromkeys([m - 1, *(m >> k for k in range(1, int(halvings) + 1))])]


def nm_stage(
    progress: float, n: int, m: int, *, decay: str = "exponential", dense: float = 0.1, until: float = 0.7
) -> Stage:
    """What holds at a share `progress` of the run: dense before `dense`, the hard n:m mask from `until` on.

    Between them the factor on masked weights falls from 1 ("linear": to 0; "exponential": to 0.001 by equal ratios), or
    the patterns of `nm_stages` follow each other in equal slices; "none" is hard from `dense` on.
    """
    if progress < dense:
        return Stage("dense", 1.0, m, m)
    if progress >= until or decay == "none":
        return Stage("hard", 0.0, n, m)
    done = (progress - dense) / (until - dense)
    if decay in ("exponential", "linear"):
        return Stage("decay", LAST**done if decay == "exponential" else 1.0 - done, n, m)
    stages = nm_stages(n, m, decay)
    return Stage("decay", 0.0, *stages[min(int(done * len(stages) + ROUNDING), len(stages) - 1)])


class NMSparsity(Method):
    """Trains towards at most n non-zero of every m consecutive inputs of each output; the result has exactly that.

    n, m: 1 <= n <= m; n = m is plain training. layers: names of layers, in which * stands for anything; None takes all
    linear and convolutional ones but the first and the last (the input layer and the head). Their number of inputs
    (of a convolution: input channels per group) must be a multiple of m. Biases, norms, embeddings are never masked.

    dense, until: shares of the run, 0 <= dense <= until <= 1: plain training before `dense`, the hard mask from `until`
    on (until = 1 leaves the fine-tuning out, which costs accuracy). decay says what happens between: the factor on
    masked weights falls ("exponential" to 0.001, "linear" to 0), or the pattern tightens ("structure", "geometric": see
    `nm_stages`), or the mask is hard at once from `dense` on ("none"). The mask is that of the current dense weights,
    taken anew at every `refresh_every`-th step (from 1 up).

    gradient: "ste" hands the gradient to all dense weights as it is; "scaled" multiplies that of masked weights by the
    factor, as differentiation through the mask does; "sr-ste" (decay="none" only) adds `strength` (from 0 up) times the
    dense weight to that of masked weights.

    Between steps the model holds the weights that the forward pass uses; the dense ones are kept beside it and are in
    the model only while the optimizer steps, whose momentum and weight decay so act on them. `averaged()` and the result
    use the hard mask, whatever the stage. Raises InvalidValue for values outside these ranges, for layers that are not
    there, and for numbers of inputs that m does not divide.
    """

    card = Card(
        title="N:M structured sparsity with a decaying mask",
        paper="Kao, Yazdanbakhsh, Subramanian, Agrawal, Evci, Krishna: Training Recipe for N:M Structured Sparsity with "
        "Decaying Pruning Mask",
        year=2022,
        arxiv="2209.07617",
        phase="gradients",
        cost="a sort of the masked layers' weights at each refresh, two copies of them a step, and one copy in memory; "
        "forward and backward stay dense, so training is not faster: only 2:4 runs faster, at inference, on some GPUs",
        breaks="a decay that ends when the learning rate is nearly zero, and no fine-tuning with the hard mask, cost "
        "points of accuracy; Adam's second moments taken under masks are poor; weight decay shrinks masked weights too "
        "and so changes later masks; averaged weights have no pattern",
        domains=("vision", "language"),
        conflicts=("EMA", "LAWA", "SWA"),
        references=("2402.04744", "2102.04010", "2302.01172"),
    )
    horizon = True
    neutral: ClassVar = {"n": 4, "m": 4}
    example: ClassVar = {"n": 1, "m": 2, "dense": 0.2, "until": 0.7}
    single = True

    def __init__(
        self,
        n: int = 2,
        m: int = 4,
        *,
        layers: list[str] | None = None,
        decay: str = "exponential",
        dense: float = 0.1,
        until: float = 0.7,
        gradient: str = "ste",
        strength: float = STRENGTH,
        refresh_every: int = 1,
    ) -> None:
        self.m = whole(m, "m is a whole number from 1 up", "4 is what hardware knows", 1)
        self.n = whole(n, "n is a whole number from 1 to m", "2 of 4 is what hardware knows", 1)
        if n > m:
            raise InvalidValue(f"n is at most m, got n={n!r} and m={m!r}; 2 of 4 is what hardware knows")
        self.layers = patterns_of(layers)
        for what, value, choices in (("decay", decay, DECAYS), ("gradient", gradient, RULES)):
            if value not in choices:
                listed = ", ".join(map(repr, choices))
                raise InvalidValue(f"{what} is one of {listed}, got {value!r}; choose one of them")
        self.decay, self.gradient = decay, gradient
        self.dense = number(dense, "dense is a share of the run from 0 to below 1", "0.1 is usual", 0, 1, below=True)
        self.until = number(until, "until is a share of the run from 0 to 1", "0.7 is usual", 0, 1)
        if self.until < self.dense:
            raise InvalidValue(
                f"the dense share ends before the hard mask begins, got dense={dense!r} and until={until!r}; raise until"
            )
        if gradient == "sr-ste" and decay != "none":
            raise InvalidValue(
                f"'sr-ste' belongs to a mask that is hard at once, got gradient={gradient!r} and decay={decay!r}; "
                "pass decay='none', or gradient='ste'"
            )
        self.strength = number(strength, "strength is from 0 up", "0.0002 is usual", 0, math.inf, below=True)
        if gradient != "sr-ste" and strength != STRENGTH:
            raise InvalidValue(f"strength belongs to 'sr-ste', got {strength!r} with {gradient!r}; leave it out")
        self.refresh_every = whole(refresh_every, "refresh_every is a number of steps from 1 up", "1 is usual", 1)
        nm_stages(self.n, self.m, decay)
        self._weights: list[nn.Parameter] = []
        self._dense: list[Tensor] = []
        self._masks: list[Tensor] = []
        self._stage = Stage("dense", 1.0, self.m, self.m)
        self._dense_inside, self._depth = False, 0
        self._hooks: list[Any] = []

    def stage(self, step: int, total_steps: int) -> Stage:
        """What holds when `step` steps are done."""
        progress = step / max(1, total_steps)
        return nm_stage(progress, self.n, self.m, decay=self.decay, dense=self.dense, until=self.until)

    def start(self, context: Context) -> None:
        """Find the layers; where there is no dense share, mask them."""
        self._weights, self._dense, self._masks, self._dense_inside, self._depth = [], [], [], False, 0
        self._stage = Stage("dense", 1.0, self.m, self.m)
        if self.n == self.m:
            return
        found = prunable(context.model, self.layers, self.name, ends=False)
        widest = max(m for _, m in nm_stages(self.n, self.m, self.decay))
        for name, weight in found.items():
            if weight.shape[1] % widest:
                raise InvalidValue(
                    f"the inputs of a layer come in groups of {widest}, got {weight.shape[1]} of them in {name!r}; choose "
                    "another m or decay, or name the layers in layers"
                )
        self._weights = list(found.values())
        self._dense = [w.detach().clone() for w in self._weights]
        self._move_to(context.step, context.total_steps)
        self._hooks = [
            context.optimizer.register_step_pre_hook(self._before_step),
            context.optimizer.register_step_post_hook(self._after_step),
        ]

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """The optimizer works on the dense weights."""
        # An optimizer whose step calls that of its base class runs the hooks once for each.
        self._depth += 1
        if self._depth > 1:
            return
        self._dense_inside = True
        if self._stage.phase != "dense":
            _write(self._weights, self._dense)

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Under a scaler a fused optimizer decides by itself, on the device, whether to step: `weights` may not follow."""
        self._depth -= 1
        if not self._depth and getattr(optimizer, "found_inf", None) is not None:
            self._take()
            self._show()

    def _take(self) -> None:
        """Keep what the optimizer made of the dense weights."""
        if self._dense_inside:
            self._dense_inside = False
            _write(self._dense, self._weights)

    def _show(self) -> None:
        """Put into the model what the forward pass uses."""
        phase, factor, *_ = self._stage
        if phase == "dense":
            return
        _write(self._weights, [_effective(w, m, factor) for w, m in zip(self._dense, self._masks, strict=True)])

    def _move_to(self, step: int, total_steps: int) -> None:
        """The stage after `step` steps, its masks, and its weights in the model."""
        before, self._stage = self._stage, self.stage(step, total_steps)
        if self._stage.phase != "dense":
            first = math.ceil(self.dense * total_steps)
            due = (step - first) % self.refresh_every == 0
            if due or not self._masks or (before.n, before.m) != (self._stage.n, self._stage.m):
                self._masks = [nm_mask(w, self._stage.n, self._stage.m) for w in self._dense]
        self._show()

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Change the gradients of masked weights by the rule; never skips the step."""
        if self.gradient == "ste" or self._stage.phase == "dense":
            return True
        with torch.no_grad():
            for weight, dense, mask in zip(self._weights, self._dense, self._masks, strict=True):
                if weight.grad is None:
                    continue
                if self.gradient == "scaled":
                    weight.grad.copy_(_effective(weight.grad, mask, self._stage.factor))
                else:
                    weight.grad.add_(dense.masked_fill(mask, 0.0), alpha=self.strength)
        return True

    def weights(self, context: Context) -> None:
        """Keep the new dense weights, and put the masked ones of the next stage into the model."""
        if self._weights:
            self._take()
            self._move_to(context.step, context.total_steps)

    def kind(self, context: Context) -> Hashable:
        """The phase after the next step, and whether the masks are taken anew."""
        if self.n == self.m:
            return None
        phase = self.stage(context.step + 1, context.total_steps).phase
        first = math.ceil(self.dense * context.total_steps)
        fresh = phase != "dense" and (context.step + 1 - first) % self.refresh_every == 0
        return f"{phase}, refreshed" if fresh else phase

    def _hard(self) -> list[Tensor]:
        wanted = self._stage.phase != "dense" and (self._stage.n, self._stage.m) == (self.n, self.m)
        masks = self._masks if wanted else [nm_mask(w, self.n, self.m) for w in self._dense]
        return [_effective(w, m, 0.0) for w, m in zip(self._dense, masks, strict=True)]

    def averages(self) -> list[tuple[Tensor, Tensor]]:
        """(weight, its hard-masked values) of every masked layer."""
        return list(zip(self._weights, self._hard(), strict=True))

    def finish(self, context: Context) -> None:
        """Leave the hard-masked weights in the model."""
        for hook in self._hooks:
            hook.remove()
        self._take()
        _write(self._weights, self._hard())
        self._weights, self._dense, self._masks, self._hooks, self._depth = [], [], [], [], 0
        self._stage = Stage("dense", 1.0, self.m, self.m)

    def state_dict(self) -> dict[str, Any]:
        """The dense weights, the masks and the stage."""
        return {
            "dense": [w.clone() for w in self._dense],
            "masks": [m.clone() for m in self._masks],
            "stage": list(self._stage),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises InvalidValue for the weights of other layers."""
        if [w.shape for w in state["dense"]] != [w.shape for w in self._weights]:
            raise InvalidValue(
                f"dense weights fit the layers that they belong to, got other shapes than those of {len(self._weights)} "
                "layers; load them into the same model"
            )
        _write(self._dense, [w.to(own.device) for w, own in zip(state["dense"], self._dense, strict=True)])
        self._masks = [m.to(w.device) for m, w in zip(state["masks"], self._dense, strict=False)]
        self._stage = Stage(*state["stage"])
        _write(self._weights, self._dense)
        self._show()


def _effective(weight: Tensor, mask: Tensor, factor: float) -> Tensor:
    """w where the mask is True, factor * w elsewhere; factor 0 gives zeros even where w is not finite."""
    return torch.where(mask, weight, 0.0 if factor == 0.0 else weight * factor)


def _write(into: list[Any], values: list[Any]) -> None:
    if into:
        with torch.no_grad():
            torch._foreach_copy_(into, values)
