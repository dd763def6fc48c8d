"""Comparisons of states, and of what a method leaves behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy
import torch
from torch import Tensor, nn

HOOKS = (
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in nested dicts, lists and tuples."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        yield f"{path}/length", len(value)
        for k, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{k}")
    else:
        yield path, value


def differences(a: Any, b: Any) -> list[str]:
    """The paths at which two nested values are not equal, tensors bit for bit."""
    left, right = dict(leaves(a)), dict(leaves(b))
    found = sorted(set(left) ^ set(right))
    for path in left.keys() & right.keys():
        one, two = left[path], right[path]
        if isinstance(one, Tensor) and isinstance(two, Tensor):
            equal = one.dtype == two.dtype and torch.equal(one, two)
        else:
            equal = bool(one == two)
        if not equal:
            found.append(path)
    return found


def distance(a: Any, b: Any) -> float:
    """The largest absolute difference between the floating tensors of two nested values of equal layout."""
    left, right = dict(leaves(a)), dict(leaves(b))
    assert left.keys() == right.keys(), sorted(left.keys() ^ right.keys())
    gaps = [
        float((one - right[path]).abs().max())
        for path, one in left.items()
        if isinstance(one, Tensor) and one.is_floating_point() and one.numel()
    ]
    return max(gaps, default=0.0)


def traces(model: nn.Module, optimizer: torch.optim.Optimizer, *, surgery: bool) -> dict[str, Any]:
    """Hooks, attributes, buffers and flags of a model and its optimizer; without types and attributes after surgery."""
    found: dict[str, Any] = {"grad": torch.is_grad_enabled(), "default": str(torch.get_default_dtype())}
    for name, module in model.named_modules():
        about: dict[str, Any] = {hooks: len(getattr(module, hooks, ())) for hooks in HOOKS}
        about["training"] = module.training
        if not surgery:
            about["type"] = type(module).__name__
            about["attributes"] = sorted(vars(module))
            about["buffers"] = sorted(n for n, _ in module.named_buffers(recurse=False))
        found[f"module {name}"] = about
    for name, parameter in model.named_parameters():
        found[f"parameter {name}"] = [
            parameter.requires_grad,
            parameter.grad is None,
            sorted(vars(parameter)),
            len(parameter._backward_hooks or ()),
        ]
    found["saved"] = list(model.state_dict())
    found["optimizer"] = sorted(vars(optimizer))
    found["groups"] = [sorted(group) for group in optimizer.param_groups]
    return found


def generators() -> list[Any]:
    """The states of the global generators of torch, Python and NumPy, in a form that can be compared."""
    numbers = numpy.random.get_state(legacy=False)
    return [torch.get_rng_state(), repr(random.getstate()), repr(numbers)]
