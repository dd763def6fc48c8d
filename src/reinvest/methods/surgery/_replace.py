"""Replacing modules of a model in place, and keeping an optimizer that was built before on the model's parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import nn

from ...core.chain import NoEffectWarning
from ...core.errors import InvalidValue

Make = Callable[[str, nn.Module], nn.Module | None]
"""(name, module) -> what takes its place, or None to leave it."""


def replace_modules(model: nn.Module, make: Make) -> dict[str, str]:
    """Put what `make` returns in the place of modules: {name: "Old -> New"}, in the order of the model.

    A module that sits in several places is made anew once and shared again. Neither what was replaced nor what was put
    in is looked into. The new module takes over training or evaluation mode, and the device and dtype of the old one's
    first parameter. Raises InvalidValue where the model itself would have to be replaced, or a module has hooks, which
    would be lost.
    """
    done: dict[str, str] = {}
    made: dict[int, nn.Module | None] = {}
    kept: list[nn.Module] = []  # so that an id stays that of one module

    def visit(parent: nn.Module, prefix: str) -> None:
        for key, child in list(parent._modules.items()):
            if child is None:
                continue
            name = f"{prefix}{key}"
            if id(child) not in made:
                made[id(child)] = _fitted(make(name, child), child, name)
                kept.append(child)
                new = made[id(child)]
                if new is None:
                    visit(child, f"{name}.")
            new = made[id(child)]
            if new is not None:
                parent._modules[key] = new
                done[name] = f"{type(child).__name__} -> {type(new).__name__}"

    if make("", model) is not None:
        raise InvalidValue(
            f"modules are replaced inside a model, got a model that is itself a {type(model).__name__}; "
            "wrap it: torch.nn.Sequential(model)"
        )
    visit(model, "")
    return done


def _fitted(new: nn.Module | None, old: nn.Module, name: str) -> nn.Module | None:
    if new is None:
        return None
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(old, kind) for kind in hooks):
        raise InvalidValue(
            f"a module that is replaced loses its hooks, got hooks on {name!r}; register them after attach"
        )
    first = next(old.parameters(), None)
    if first is not None:
        new.to(first.device, first.dtype if first.is_floating_point() else None)
    return new.train(old.training)


def mend_optimizer(optimizer: torch.optim.Optimizer, before: Mapping[str, nn.Parameter], model: nn.Module) -> None:
    """Let the optimizer hold what the model holds: parameters that are gone leave their groups, new ones come in.

    before: `dict(model.named_parameters())` from before the surgery. A new parameter joins the group of a gone one of the
    same name, else of a gone one of the nearest enclosing module, else of the nearest that stayed, else the last group.
    State of what is gone is dropped. Parameters that the optimizer did not hold before are not its business.
    """
    now = dict(model.named_parameters())
    group_of = {id(p): k for k, group in enumerate(optimizer.param_groups) for p in group["params"]}
    present = {id(p) for p in now.values()}
    known = {id(p) for p in before.values()}
    homes = {name: group_of[id(p)] for name, p in before.items() if id(p) in group_of}
    gone = {name: k for name, k in homes.items() if id(before[name]) not in present}
    removed = {id(before[name]) for name in gone}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in removed]
    for name in gone:
        optimizer.state.pop(before[name], None)
    for name, parameter in now.items():
        held_out = name in before and name not in homes
        if id(parameter) not in known and id(parameter) not in group_of and not held_out:
            optimizer.param_groups[_home(name, gone, homes, len(optimizer.param_groups) - 1)]["params"].append(
                parameter
            )


def _home(name: str, gone: Mapping[str, int], homes: Mapping[str, int], last: int) -> int:
    if name in gone:
        return gone[name]
    parts = name.split(".")
    for known in (gone, homes):
        for length in range(len(parts) - 1, 0, -1):
            start = ".".join(parts[:length]) + "."
            found = next((k for other, k in known.items() if other.startswith(start)), None)
            if found is not None:
                return found
    return last


def warn_of_nothing(method: str, wanted: str) -> None:
    """Say that the surgery found nothing to do: "the model has no <wanted>, so <method> had no effect"."""
    warnings.warn(f"the model has no {wanted}, so {method} had no effect", NoEffectWarning, stacklevel=3)
