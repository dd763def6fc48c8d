"""Layer-wise learning rates: each layer learns by a factor more slowly than the one above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import number
from ._replace import warn_of_nothing

SHOWN = 5
"""Names listed in a refusal before the rest is counted."""


def depths(model: nn.Module, layers: Sequence[str] | None = None) -> list[list[str]]:
    """Names of the model's parameters by depth, from the bottom to the top, in the order of registration.

    By itself: a numbered block ("encoder.layer.3.", "blocks.0.") is one depth, with everything in it; what stands
    between numbered blocks is one depth together (embeddings; a last norm with the head); parameters of a depth
    without any matrix (a norm that stands alone) join the depth below. layers: patterns of parameter names, * for
    anything, one a depth from the bottom up; the first one that fits holds, and parameters that fit none are the top.
    Raises InvalidValue for a pattern that fits no parameter.
    """
    named = dict(model.named_parameters())
    if layers is None:
        return _merged(_blocks(named), named)
    found: list[list[str]] = [[] for _ in range(len(layers) + 1)]
    for name in named:
        found[next((k for k, pattern in enumerate(layers) if fnmatchcase(name, pattern)), len(layers))].append(name)
    for pattern, names in zip(layers, found, strict=False):
        if not names:
            some = ", ".join(map(repr, list(named)[:SHOWN]))
            raise InvalidValue(
                f"a depth's pattern fits parameters of the model, got {pattern!r}, which fits none that is left of "
                f"{len(named)} ({some}, ...); write names with *, from the bottom up"
            )
    return [names for names in found if names]


def _blocks(named: Mapping[str, Tensor]) -> list[list[str]]:
    found: list[list[str]] = []
    last: str | None = None
    for name in named:
        parts = name.split(".")
        number_at = next((k for k, part in enumerate(parts) if part.isdecimal()), None)
        block = "" if number_at is None else ".".join(parts[: number_at + 1])
        if block != last:
            found.append([])
        found[-1].append(name)
        last = block
    return found


def _merged(groups: list[list[str]], named: Mapping[str, Tensor]) -> list[list[str]]:
    found: list[list[str]] = []
    for names in groups:
        if found and (all(named[n].ndim < 2 for n in names) or all(named[n].ndim < 2 for n in found[-1])):
            found[-1].extend(names)
        else:
            found.append(list(names))
    return found


def layer_factors(depth: Sequence[Sequence[str]], decay: float) -> dict[str, float]:
    """{name: decay ** (depths above it)}: 1 at the top, and `decay` times the next one's at every depth below."""
    return {name: decay ** (len(depth) - 1 - k) for k, names in enumerate(depth) for name in names}


def split_groups(groups: Sequence[dict[str, Any]], factors: Mapping[Tensor, float]) -> list[dict[str, Any]]:
    """The optimizer's groups, split by factor, each with its rate times its factor; parameters without one have 1."""
    found = []
    for group in groups:
        by_factor: dict[float, list[Tensor]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(factors.get(parameter, 1.0), []).append(parameter)
        found += [{**group, "params": held, "lr": group["lr"] * factor} for factor, held in by_factor.items()]
    return found


class LayerwiseRates(Method):
    """Multiplies the learning rate of each layer by decay ** (layers above it), beside any schedule.

    decay: in (0, 1]; 1 is plain training, 0.8 is usual for fine-tuning a small encoder. layers: None finds the depths
    (see `depths`), or patterns of parameter names from the bottom up; what fits none is the top and learns at the full
    rate. Where a weight is tied, its first place counts.

    The optimizer's groups are split for the length of its own step and are whole at any other time, so that schedules and
    checkpoints see them as they were built. Weight decay that goes with the rate (AdamW's, DecoupledWeightDecay's) is
    scaled with it. Warns if all parameters have one depth. Raises InvalidValue for values outside these ranges, and for
    patterns that fit nothing.
    """

    card = Card(
        title="Layer-wise learning rates (discriminative fine-tuning)",
        paper="Howard, Ruder: Universal Language Model Fine-tuning for Text Classification",
        year=2018,
        arxiv="1801.06146",
        phase="start",
        cost="none in arithmetic; the optimizer works group by group, a few tens of small calls more per step",
        breaks="training from scratch, whose lower layers have everything to learn; models whose order of registration "
        "is not that of depth need `layers`; optimizers whose steps do not go with the rate (rate-free ones)",
        domains=("vision", "language"),
        references=("2003.10555",),
    )
    neutral: ClassVar = {"decay": 1.0}
    example: ClassVar = {"decay": 0.5}
    single = True
    after_surgery = True

    def __init__(self, decay: float = 0.8, *, layers: list[str] | None = None) -> None:
        self.decay = number(
            decay, "decay is a factor above 0 and up to 1 (plain training)", "0.8 is usual", 0, 1, above=True
        )
        self.layers = None if layers is None else _patterns(layers)
        self._factors: dict[Tensor, float] = {}
        self._report: dict[str, float] = {}
        self._whole: list[dict[str, Any]] = []
        self._hooks: list[Any] = []
        self._inside = 0

    def start(self, context: Context) -> None:
        """Give every parameter its factor, and stand around the optimizer's step."""
        self._factors, self._report, self._whole, self._hooks, self._inside = {}, {}, [], [], 0
        if self.decay == 1.0:
            return
        found = depths(context.model, self.layers)
        if len(found) < 2:
            warn_of_nothing(self.name, "second layer")
            return
        self._report = layer_factors(found, self.decay)
        named = dict(context.model.named_parameters())
        self._factors = {named[name]: factor for name, factor in self._report.items()}
        self._hooks = [
            context.optimizer.register_step_pre_hook(self._split),
            context.optimizer.register_step_post_hook(self._join),
        ]

    def _split(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        # An optimizer whose step calls that of its base class runs the hooks once for each.
        self._inside += 1
        if self._inside > 1:
            return
        self._whole = list(optimizer.param_groups)
        optimizer.param_groups[:] = split_groups(self._whole, self._factors)

    def _join(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Put the groups together again; what the optimizer counts in a group goes with them."""
        self._inside -= 1
        if self._inside:
            return
        split = iter(list(optimizer.param_groups))
        for group in self._whole:
            left = {id(p) for p in group["params"]}
            while left:
                part = next(split)
                left -= {id(p) for p in part["params"]}
                group.update({k: v for k, v in part.items() if k not in ("params", "lr")})
        optimizer.param_groups[:] = self._whole
        self._whole = []

    def report(self) -> dict[str, Any]:
        """{"rates": {parameter: factor on its rate}} until the run ends; {} before it, and where there is nothing to do."""
        return {"rates": dict(self._report)} if self._report else {}

    def finish(self, context: Context) -> None:
        """Leave the optimizer as it was, also where its step broke."""
        for hook in self._hooks:
            hook.remove()
        if self._whole:
            context.optimizer.param_groups[:] = self._whole
        self._factors, self._report, self._whole, self._hooks, self._inside = {}, {}, [], [], 0


def _patterns(layers: Any) -> tuple[str, ...]:
    fits = isinstance(layers, (list, tuple)) and bool(layers)
    if not fits or not all(isinstance(name, str) for name in layers):
        raise InvalidValue(
            f"layers is a list of patterns of parameter names, or None, got {layers!r}; write ['embed*', 'blocks.0.*']"
        )
    return tuple(layers)
