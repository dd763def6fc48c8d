"""Replacing modules of a model in place, and keeping an optimizer that was built before on the model's parameters."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

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
    would be lost; the model is whole then.
    """
    done: dict[str, str] = {}
    made: dict[int, nn.Module | None] = {}
    kept: list[nn.Module] = []  # so that an id stays that of one module
    places: list[
        tuple[nn.Module, str, nn.Module]
    ] = []  # filled only when all is made: a refusal leaves the model whole

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
                places.append((parent, key, new))
                done[name] = f"{type(child).__name__} -> {type(new).__name__}"

    if make("", model) is not None:
        raise InvalidValue(
            f"modules are replaced inside a model, got a model that is itself a {type(model).__name__}; "
            "wrap it: torch.nn.Sequential(model)"
        )
    visit(model, "")
    for parent, key, new in places:
        parent._modules[key] = new
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
    same name, else of a gone one of the nearest enclosing module (its weight that of a weight, its bias that of a bias),
    else of the nearest that stayed, else the last group. State of what is gone is dropped. Parameters that the optimizer
    did not hold before, and what takes their place, are not its business.
    """
    now = dict(model.named_parameters())
    group_of = {id(p): k for k, group in enumerate(optimizer.param_groups) for p in group["params"]}
    present, known = {id(p) for p in now.values()}, {id(p) for p in before.values()}
    homes = {name: group_of.get(id(p)) for name, p in before.items()}
    gone = {name: k for name, k in homes.items() if id(before[name]) not in present}
    stayed = {name: k for name, k in homes.items() if k is not None}
    removed = {id(before[name]) for name in gone}
    for group in optimizer.param_groups:
        names = group.get("param_names")
        if names is not None:
            group["param_names"] = [n for n, p in zip(names, group["params"], strict=True) if id(p) not in removed]
        group["params"] = [p for p in group["params"] if id(p) not in removed]
    for name in gone:
        optimizer.state.pop(before[name], None)
    for name, parameter in now.items():
        if id(parameter) in known or id(parameter) in group_of:
            continue
        home = _home(name, homes, gone, stayed, len(optimizer.param_groups) - 1)
        if home is not None:
            group = optimizer.param_groups[home]
            group["params"].append(parameter)
            if "param_names" in group:
                group["param_names"].append(name)


def _home(
    name: str,
    homes: Mapping[str, int | None],
    gone: Mapping[str, int | None],
    stayed: Mapping[str, int | None],
    last: int,
) -> int | None:
    """The group of a new parameter; None if what it takes the place of was in none."""
    if name in homes:
        return homes[name]
    parts = name.split(".")
    for known in (gone, stayed):
        for length in range(len(parts) - 1, 0, -1):
            start = ".".join(parts[:length]) + "."
            under = {other: k for other, k in known.items() if other.startswith(start)}
            if under:
                alike = {o: k for o, k in under.items() if o.rpartition(".")[2] == parts[-1]}
                return next(iter((alike or under).values()))
    return last


def warn_of_changed(method: str, layers: Iterable[nn.Module]) -> None:
    """Say which of the layers that the method looks for belong to another one already (their class names it)."""
    others = Counter(str(m.changed_by) for m in layers if getattr(m, "changed_by", method) != method)
    for other, count in others.items():
        warnings.warn(
            f"{method} leaves {count} layer{'s' if count > 1 else ''} alone that {other} has changed; use one of the two "
            "if that is not meant",
            NoEffectWarning,
            stacklevel=3,
        )


def warn_of_nothing(method: str, wanted: str) -> None:
    """Say that the surgery found nothing to do: "the model has no <wanted>, so <method> had no effect"."""
    warnings.warn(f"the model has no {wanted}, so {method} had no effect", NoEffectWarning, stacklevel=3)
