"""WeightStandardization: every filter of a convolution is used with mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ...core.method import Card, Context, Method
from .._check import number, whole
from ._classes import Changed, change_modules, changed_class, restore_modules
from ._replace import warn_of_changed, warn_of_nothing

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NEUTRAL = 1 << 30


def standardize_filters(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """(w - mean) / sqrt(variance + eps) of every filter weight[o], over all its entries; the variance is the biased one.

    weight: [O, I, ...]. The mean is 0 and the standard deviation sqrt(v / (v + eps)), which is 1 where v >> eps.
    """
    return F.layer_norm(weight, weight.shape[1:], eps=eps)


class Standardized(Changed):
    """A convolution that standardizes its filters whenever it is used."""

    own = ("filter_eps",)
    changed_by = "WeightStandardization"
    filter_eps: float
    weight: Tensor
    bias: Tensor | None
    _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, ...] -> what the plain layer gives with standardized filters."""
        return self._conv_forward(input, standardize_filters(self.weight, self.filter_eps), self.bias)


def standardize_convolutions(model: nn.Module, eps: float = 1e-5, min_weights: int = 2) -> dict[str, str]:
    """Let every Conv1d, 2d and 3d standardize its filters, in place: {name: "Old -> New"}.

    Filters of fewer than min_weights entries (one entry would always become 0) stay as they are. Weights, names and
    hooks stay; subclasses have a forward of their own and are left alone, and so are layers that standardize already.
    """

    def choose(_: str, module: nn.Module) -> type[Changed] | None:
        if type(module) not in CONVOLUTIONS or module.weight[0].numel() < min_weights:  # type: ignore[index]
            return None
        return changed_class(type(module), Standardized, "Standardized")

    return change_modules(model, choose, filter_eps=eps)


def fold_standardization(model: nn.Module) -> int:
    """Write the standardized filters into the weights and make the layers plain again; returns how many there were.

    The outputs stay as they are, bit for bit where weights and arithmetic have one precision.
    """
    folded = set()  # weights that several layers share are standardized once
    for module in model.modules():
        if isinstance(module, Standardized) and id(module.weight) not in folded:
            folded.add(id(module.weight))
            module.weight.data = standardize_filters(module.weight.data, module.filter_eps)
    return restore_modules(model, Standardized)


class WeightStandardization(Method):
    """Trains convolutions whose filters are standardized at every use; the gradient goes through the standardization.

    eps: added to the (biased) variance of a filter, above 0. min_weights: filters of fewer entries are left alone, from
    2 up. Names, shapes and entries of state_dict stay: until the end they hold the raw weights, in which optimizer and
    checkpoints work. At the end the standardized filters are written into the weights and the layers are plain, so a
    stored run needs nothing of this method; evaluation is the same before and after.

    Outputs grow by about sqrt(fan-in), so a norm belongs behind every convolution: group norm, or batch norm with small
    batches, as in the paper. `report()` tells until the end what was replaced. Warns if the model has no such
    convolution. Raises InvalidValue for values outside these ranges, Conflict on a compiled model.
    """

    card = Card(
        title="Weight standardization",
        paper="Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and Weight "
        "Standardization",
        year=2019,
        arxiv="1903.10520",
        phase="start",
        cost="one normalisation of all weights per forward pass, whatever the batch: little with large pictures",
        breaks="a convolution without a norm behind it: outputs are sqrt(fan-in) times larger; with batch norm and "
        "large batches there is little to gain; standardizing fills the zeros of pruned weights",
        domains=("vision", "audio"),
        conflicts=("MagnitudePruning", "NMSparsity"),
    )
    revision = 2
    neutral: ClassVar = {"min_weights": NEUTRAL}
    example: ClassVar = {"eps": 0.1}
    changes_model = True
    surgery_order = 1
    single = True

    def __init__(self, eps: float = 1e-5, *, min_weights: int = 2) -> None:
        self.eps = number(eps, "eps is a small number above 0", "1e-5 is usual", 0, 1e9, above=True)
        self.min_weights = whole(min_weights, "min_weights is a whole number from 2 up", "2 is usual", 2)
        self._replaced: dict[str, str] = {}

    def start(self, context: Context) -> None:
        """Let the layers standardize their filters."""
        self._replaced = standardize_convolutions(context.model, self.eps, self.min_weights)
        wide = (m for m in context.model.modules() if isinstance(m, CONVOLUTIONS))
        warn_of_changed(self.name, (m for m in wide if m.weight[0].numel() >= self.min_weights))
        if not self._replaced and self.min_weights < NEUTRAL:
            warn_of_nothing(self.name, f"convolution with filters of {self.min_weights} weights or more")

    def report(self) -> dict[str, Any]:
        """replaced: {name: "Old -> New"}, until the run ends."""
        return {"replaced": dict(self._replaced)}

    def finish(self, context: Context) -> None:
        """Write the standardized filters into plain layers."""
        fold_standardization(context.model)
        self._replaced = {}
