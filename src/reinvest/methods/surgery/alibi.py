"""ALiBi: attention scores fall linearly with distance, in place of learned positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import number, switch
from ._replace import mend_optimizer, warn_of_nothing


def alibi_slopes(heads: int) -> Tensor:
    """The slope of each head: float32 [heads]; 2^(-8/heads * i) for i = 1 .. heads where heads is a power of two.

    Otherwise those of the next smaller power of two, then every second slope of twice as many heads, from the first on.
    Raises InvalidValue for less than one head.
    """
    if not isinstance(heads, int) or isinstance(heads, bool) or heads < 1:
        raise InvalidValue(f"heads are a whole number from 1, got {heads!r}; pass the attention's number of heads")
    power = 1 << (heads.bit_length() - 1)
    exponents = [8 * i / power for i in range(1, power + 1)]
    exponents += [8 * i / (2 * power) for i in range(1, 2 * (heads - power), 2)]
    return torch.tensor([2.0**-e for e in exponents], dtype=torch.float32)


def linear_bias(slopes: Tensor, length: int, *, causal: bool) -> Tensor:
    """What is added to the scores [query, key] before their softmax: -slope * |query - key|, [heads, length, length].

    slopes: [heads]. causal: later keys are hidden by minus infinity; otherwise the bias is the same in both directions.
    """
    place = torch.arange(length, device=slopes.device)
    distance = (place[:, None] - place).to(slopes.dtype)
    bias = distance.abs() * -slopes[:, None, None]
    return bias.masked_fill(distance < 0, -math.inf) if causal else bias


class LinearBias(nn.Module):
    """The bias of an attention: `linear_bias` for the lengths that training uses, made once, and for longer ones anew.

    Nothing of it is learned or saved. The table is no buffer: methods that average buffers would average its minus
    infinities, which makes NaN of them.
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor, length: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.register_buffer("slopes", slopes, persistent=False)
        self.table = linear_bias(slopes, length, causal=causal)

    def forward(self, length: int) -> Tensor:
        """[heads, length, length]."""
        if length > self.table.shape[-1]:
            return linear_bias(self.slopes, length, causal=self.causal)
        if self.table.device != self.slopes.device:
            self.table = self.table.to(self.slopes.device)
        return self.table[:, :length, :length]


def _attentions(model: nn.Module) -> Iterator[tuple[str, Any, int, bool]]:
    """(name, module, heads, causal) of what has a place for a bias."""
    for name, module in model.named_modules():
        heads, causal = getattr(module, "heads", None), getattr(module, "causal", None)
        if isinstance(heads, int) and isinstance(causal, bool) and hasattr(module, "score_bias"):
            yield name, module, heads, causal


def _holders(model: nn.Module) -> list[tuple[str, nn.Module, nn.Parameter]]:
    """(name, module, its learned positions) of the modules around attentions."""
    return [
        (f"{name}.positions".lstrip("."), module, table)
        for name, module in model.named_modules()
        if isinstance(table := module._parameters.get("positions"), nn.Parameter)
        and any(True for _ in _attentions(module))
    ]


def replace_positions(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    strength: float = 1.0,
    keep_positions: bool = False,
) -> dict[str, str]:
    """Give the model's attentions linear biases and take its learned positions away, in place: {name: "old -> new"}.

    An attention is a module with attributes `heads`, `causal` and `score_bias`: None, or a module that gives for a
    length T what is added to its scores, [heads, T, T]; those that have a bias already are left alone. Positions are
    the parameter `positions` [T, width] of a module around such attentions, for which None means none; they leave the
    optimizer too. strength: factor on all slopes.
    """
    before = dict(model.named_parameters())
    holders = _holders(model)
    length = max((len(table) for _, _, table in holders), default=0)
    done: dict[str, str] = {}
    made: dict[tuple[int, bool], LinearBias] = {}
    for name, module, heads, causal in list(_attentions(model)):
        if strength == 0 or module.score_bias is not None:
            continue
        if (heads, causal) not in made:
            home = next(module.parameters(), torch.empty(0))
            slopes = (alibi_slopes(heads) * strength).to(home.device, home.dtype)
            made[heads, causal] = LinearBias(slopes, length, causal=causal)
        module.score_bias = made[heads, causal]
        done[name] = f"no bias -> {heads} slopes, {'causal' if causal else 'symmetric'}"
    if not keep_positions:
        for name, holder, table in holders:
            holder.register_parameter("positions", None)
            done[name] = f"{len(table)} learned positions -> none"
    if optimizer is not None:
        mend_optimizer(optimizer, before, model)
    return done


class ALiBi(Method):
    """Takes learned positions away; instead each head's scores fall linearly with the distance between tokens.

    The head's slope is 2^(-8/heads * i); an attention in both directions has the same bias on both sides. strength:
    factor on all slopes, from 0 (no bias: a model that is told nothing of places) up; 1 is the paper's, and more makes
    heads look at nearer tokens only. keep_positions: True leaves the learned positions beside the biases; with
    strength=0 nothing changes.

    Works on the models gpt, bert and bert_classifier, and on any model that has the same places (`replace_positions`);
    there is no place in torch's own nn.MultiheadAttention or in models of the library transformers. The table of
    positions is removed, from the optimizer too, so the model then reads inputs of any length, and its weights fit
    models that had `replace_positions` only. It stays so at the end. Warns if the model has nothing to replace.
    Raises InvalidValue for values outside these ranges, Conflict on a compiled model.
    """

    card = Card(
        title="ALiBi (attention with linear biases)",
        paper="Press, Smith, Lewis: Train Short, Test Long: Attention with Linear Biases Enables Input Length "
        "Extrapolation",
        year=2021,
        arxiv="2108.12409",
        phase="start",
        cost="the bias is read in every attention, which rules out kernels without one: about a tenth of a step of gpt "
        "with 128 tokens on a CPU; the gain is to be had by training on shorter sequences",
        breaks="text in which far tokens matter as much as near ones; the paper's form is causal, the symmetric one for "
        "models in both directions is not in it; bfloat16 knows distances over 256 to 0.4 per cent only",
        domains=("language",),
        found="mixed, 1.29 times as fast to equal quality (1.21 to 1.38): books by bytes, gpt of width 64, 200 to "
        "1,600 steps (claims/alibi.json); the paper saves by training on shorter sequences, which was not "
        "tried",
    )
    neutral: ClassVar = {"strength": 0.0, "keep_positions": True}
    example: ClassVar = {}
    changes_model = True
    single = True

    def __init__(self, strength: float = 1.0, *, keep_positions: bool = False) -> None:
        self.strength = number(
            strength, "strength is a finite factor from 0 on all slopes", "1.0 is the paper's", 0, 1e6
        )
        self.keep_positions = switch(keep_positions, "keep_positions")
        self._report: dict[str, Any] = {}

    def start(self, context: Context) -> None:
        """Put the biases in and take the positions out."""
        self._report = {}
        if self.strength == 0 and self.keep_positions:
            return
        done = replace_positions(
            context.model, context.optimizer, strength=self.strength, keep_positions=self.keep_positions
        )
        self._report = {"replaced": done}
        if not done and not any(isinstance(m, LinearBias) for m in context.model.modules()):
            warn_of_nothing("ALiBi", "attention with a place for a bias (attributes heads, causal, score_bias)")

    def report(self) -> dict[str, Any]:
        """What was replaced, {"replaced": {name: "old -> new"}}, until the run ends; {} before it."""
        return dict(self._report)

    def finish(self, context: Context) -> None:
        """Forget the report; the model stays as it is."""
        self._report = {}
