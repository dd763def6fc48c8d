"""Batch norm statistics that fit changed weights again, and how far weights were changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...core.batch import Batch
from ...core.forward import logits_of


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block: no dropout, running statistics left alone; every module's mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def has_statistics(model: nn.Module) -> bool:
    """Whether a module of the model keeps running statistics."""
    return any(_keeps_statistics(m) for m in model.modules())


def _keeps_statistics(module: nn.Module) -> TypeGuard[_BatchNorm]:
    return isinstance(module, _BatchNorm) and module.track_running_stats


def refresh_statistics(model: nn.Module, batches: Iterable[Batch], prefix: str = "") -> int:
    """Give every batch norm the statistics of these batches under the present weights; returns how many it read.

    prefix: only those of the modules whose entries begin so.

    Means over the batches of their means and (unbiased) variances, as torch's momentum=None has it. All other modules
    run in eval mode, and nothing is drawn. Without a batch, statistics stay as they were.
    """
    norms = [m for n, m in model.named_modules() if _keeps_statistics(m) and f"{n}.".startswith(prefix)]
    source = iter(batches)
    first = next(source, None)
    if first is None or not norms:
        return 0
    momenta = [m.momentum for m in norms]
    device = next(model.parameters()).device
    count = 0
    try:
        with evaluating(model), torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for batch in itertools.chain([first], source):
                logits_of(model, batch, device, "batch norm")
                count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return count


def relative_change(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, float]:
    """|after - before| / |before| of every floating entry of a state (0.0 where both are zero)."""
    found = {}
    for name, old in before.items():
        if isinstance(old, Tensor) and old.is_floating_point():
            gap, size = float((after[name] - old).norm()), float(old.norm())
            found[name] = gap / size if size else float(gap > 0)
    return found
