"""What is around a model: torch.compile, DistributedDataParallel, and the processes that train together."""

from __future__ import annotations

import torch
from torch import nn

from .errors import Conflict


def inner_module(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's and DistributedDataParallel's wrappers."""
    inside = _unwrap(model)
    return model if inside is None else inner_module(inside)


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile wraps the model, or was called on it in place."""
    if getattr(model, "_orig_mod", None) is not None or getattr(model, "_compiled_call_impl", None) is not None:
        return True
    inside = _unwrap(model)
    return inside is not None and is_compiled(inside)


def _unwrap(model: nn.Module) -> nn.Module | None:
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return model.module  # type: ignore[no-any-return]
    return getattr(model, "_orig_mod", None)


def averaged_parameters(model: nn.Module) -> tuple[nn.Parameter, ...] | None:
    """The parameters whose gradients a DistributedDataParallel around the model averages; None where there is none."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return tuple(model.module.parameters())
    inside = _unwrap(model)
    return None if inside is None else averaged_parameters(inside)


def refuse_unaveraged(averaged: tuple[nn.Parameter, ...] | None, inner: nn.Module, method: str) -> None:
    """Raises Conflict if the module has trainable parameters that the wrapper around it has never seen."""
    if averaged is None:
        return
    known = {id(p) for p in averaged}
    if any(p.requires_grad and id(p) not in known for p in inner.parameters()):
        raise Conflict(
            f"{method} puts new parameters into the model, got one that DistributedDataParallel wraps already and would "
            "not average them over the processes; attach to the bare model first, then wrap it"
        )


def ranks() -> tuple[int, int]:
    """(rank, number of ranks) of torch.distributed, (0, 1) without it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def relative_count(count: int, device: torch.device) -> float:
    """This process's `count` over the mean of all processes': what its mean weighs where counts differ."""
    total = torch.tensor([float(count)], dtype=torch.float32, device=device)
    torch.distributed.all_reduce(total)
    return count * torch.distributed.get_world_size() / float(total)
