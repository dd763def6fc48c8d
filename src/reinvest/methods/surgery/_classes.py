"""Giving modules of a model another class in place, and giving them back their own: objects, names and hooks stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn


class Changed(nn.Module):
    """Base of classes that modules get for a while; `own` names the attributes that come with it."""

    plain: ClassVar[type[nn.Module]]
    own: ClassVar[tuple[str, ...]] = ()


_made: dict[tuple[object, object], type[Changed]] = {}


def changed_class(plain: type[nn.Module], changed: type[Changed], prefix: str) -> type[Changed]:
    """A class that does as `changed` says and is otherwise `plain`, made once."""
    if (plain, changed) not in _made:
        about = {"plain": plain, "__module__": changed.__module__, "__doc__": changed.__doc__}
        _made[plain, changed] = type(f"{prefix}{plain.__name__}", (changed, plain), about)
    return _made[plain, changed]


def change_module(module: nn.Module, new: type[Changed], **own: Any) -> str:
    """Give the module its new class and what comes with it; "Old -> New"."""
    said = f"{type(module).__name__} -> {new.__name__}"
    for name, value in own.items():
        setattr(module, name, value)
    module.__class__ = new
    return said


def change_modules(
    model: nn.Module, choose: Callable[[str, nn.Module], type[Changed] | None], **own: Any
) -> dict[str, str]:
    """Change every module for which `choose` names a class: {name: "Old -> New"}, in the order of the model."""
    done = {}
    for name, module in list(model.named_modules()):
        new = choose(name, module)
        if new is not None:
            done[name] = change_module(module, new, **own)
    return done


def restore_modules(model: nn.Module, changed: type[Changed]) -> int:
    """Give back their classes to modules changed by `changed` and take away what came with it; returns how many."""
    count = 0
    for module in model.modules():
        if isinstance(module, changed) and "plain" in vars(type(module)):
            for name in changed.own:
                delattr(module, name)
            module.__class__ = module.plain  # type: ignore[assignment]
            count += 1
    return count
