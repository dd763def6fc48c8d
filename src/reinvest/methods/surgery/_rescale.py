"""What a warm start may do to old weights besides shrinking them: DASH, FIRE, and batch norm statistics that fit again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...core.batch import Batch
from ...core.criterion import check_losses, per_example
from ...core.forward import logits_of

CHUNK = 5000
"""Examples whose mean gradient is one term of DASH's running average."""
SMOOTHING = 0.3
"""Weight of the newest chunk in that average."""


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


# ---- DASH ----------------------------------------------------------------------------------------------------------


def descent_directions(
    model: nn.Module,
    batches: Iterable[Batch],
    criterion: Callable[[Tensor, Tensor], Tensor],
    names: Iterable[str],
    *,
    chunk: int = CHUNK,
    smoothing: float = SMOOTHING,
) -> dict[str, Tensor]:
    """A running average of the negative gradient over chunks of the data, by name; the model is not changed.

    Each chunk of at least `chunk` examples (the last may have fewer) gives the mean gradient of its losses in eval
    mode; average <- (1 - smoothing) * average - smoothing * gradient, from zero. Parameters that the loss does not
    reach keep zeros, those that are frozen are left out, tied ones are equal. Nothing is drawn.
    """
    wanted = set(names)
    aliases = {n: p for n, p in model.named_parameters(remove_duplicate=False) if n in wanted and p.requires_grad}
    held = {id(p): p for p in aliases.values()}
    device = next(model.parameters()).device
    average, total = ({key: torch.zeros_like(p) for key, p in held.items()} for _ in range(2))
    count = 0

    def close() -> None:
        for key, running in average.items():
            running.mul_(1 - smoothing).sub_(total[key], alpha=smoothing / count)
            total[key].zero_()

    with evaluating(model), torch.enable_grad():
        for batch in batches:
            output = logits_of(model, batch, device, "DASH")
            targets = batch.targets.to(device)
            losses = per_example(check_losses(criterion(output, targets), len(output), criterion), targets)
            found = torch.autograd.grad(losses.sum(), list(held.values()), allow_unused=True)
            for key, gradient in zip(held, found, strict=True):
                if gradient is not None:
                    total[key].add_(gradient)
            count += len(output)
            if count >= chunk:
                close()
                count = 0
        if count:
            close()
    return {name: average[id(p)] for name, p in aliases.items()}


def dash_scales(weight: Tensor, direction: Tensor, keep: float) -> Tensor:
    """Factors in [keep, 1] that shrink a weight where the loss does not ask for it: clamp(cosine, keep, 1).

    The cosine between weight and direction (the negative gradient) is taken per neuron: rows of a matrix [out, in],
    slices [out, in, ...] of a convolution, the whole of a vector. Returns a tensor that broadcasts against `weight`.
    A slice parallel to the direction keeps its length; one that is zero, or has no gradient, gets `keep`.
    """
    one, two = ((t.flatten(2) if weight.ndim > 2 else t).double() for t in (weight, direction))
    norms = torch.linalg.vector_norm(one, dim=-1, keepdim=True) * torch.linalg.vector_norm(two, dim=-1, keepdim=True)
    cosine = (one * two).sum(-1, keepdim=True) / norms.clamp(min=1e-300)
    # A cosine of 1 - 1e-16 is one: rounding must not shorten a row that is parallel.
    cosine = torch.where(cosine > 1 - 1e-12, torch.ones_like(cosine), cosine)
    scales = cosine.clamp(min=keep, max=1.0).to(weight.dtype)
    return scales.view(*weight.shape[:2], *[1] * (weight.ndim - 2)) if weight.ndim > 2 else scales


# ---- FIRE ----------------------------------------------------------------------------------------------------------


def nearest_isometry(matrix: Tensor, *, iterations: int = 40, tolerance: float = 1e-6) -> Tensor:
    """The matrix of the same shape with all singular values 1 that is nearest in the Frobenius norm: U V' of U S V'.

    Cubic Newton-Schulz iteration, X <- 1.5 X - 0.5 X X'X, from X / |X|, until no singular value that grows is off by
    more than `tolerance`, at most `iterations` times; each one brings small singular values up by a factor of 1.5, so
    those below 1e-6 of the largest stay short of 1, and zeros stay zero. A zero matrix is returned as it is.
    """
    norm = torch.linalg.vector_norm(matrix)
    if not bool(norm > 0):
        return matrix.clone()
    wide = matrix.shape[0] < matrix.shape[1]
    x: Tensor = (matrix / norm).transpose(0, 1) if wide else matrix / norm
    for _ in range(iterations):
        step = 0.5 * (x - x @ (x.transpose(0, 1) @ x))
        x = x + step
        if float(step.abs().max()) < tolerance:
            break
    return x.transpose(0, 1) if wide else x


def fire_weight(weight: Tensor) -> Tensor:
    """A layer's weight [out, in, ...] as scaled isometries: each matrix [out, in], one per kernel position, projected.

    Scaled by sqrt(out / in) / kernel positions, so that a layer keeps the size of what passes through it.
    """
    positions = weight[0, 0].numel()
    flat = weight.reshape(*weight.shape[:2], positions).to(torch.promote_types(weight.dtype, torch.float32))
    done = torch.stack([nearest_isometry(flat[..., k]) for k in range(positions)], dim=-1)
    done *= (weight.shape[0] / weight.shape[1]) ** 0.5 / positions
    return done.view(weight.shape).to(weight.dtype)


# ---- batch norm ----------------------------------------------------------------------------------------------------


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
