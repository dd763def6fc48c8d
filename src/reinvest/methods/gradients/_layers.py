"""The weights that pruning may touch: those of linear and convolutional layers, found or named."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ...core.errors import InvalidValue

SHOWN = 8
"""Names listed in a refusal before the rest is counted."""


def patterns_of(layers: Any) -> tuple[str, ...] | None:
    """The argument `layers`, checked: None, or names of layers in which * stands for anything."""
    if layers is None:
        return None
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
        raise InvalidValue(
            f"layers is a list of names or patterns of layers, or None, got {layers!r}; write ['blocks.*.fc1']"
        )
    if not all(isinstance(name, str) for name in layers):
        raise InvalidValue(f"layers are named by text, got {layers!r}; write ['blocks.*.fc1']")
    return tuple(layers)


def prunable(model: nn.Module, patterns: Sequence[str] | None, who: str, *, ends: bool) -> dict[str, nn.Parameter]:
    """{name of the layer: its weight} of linear and convolutional layers, in the order of the model.

    patterns: names of layers, * for anything; None for all of them, without the first and the last one if ends is
    False. Biases, norms and embeddings are never among them; a weight that several layers share comes once, and one
    that is tied to an embedding only if it is named. Raises InvalidValue where nothing is found, for a pattern that
    matches no layer, and for a named weight that is tied to an embedding.
    """
    tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        fits = isinstance(module, (nn.Linear, _ConvNd)) and not isinstance(module, _ConvTransposeNd)
        # A parametrized weight is computed anew at every use, so it cannot be written to.
        if fits and isinstance(module._parameters.get("weight"), nn.Parameter):
            found[name] = module._parameters["weight"]
    known = list(found)
    if patterns is None:
        chosen = {n: p for n, p in found.items() if id(p) not in tied and (ends or n not in (known[0], known[-1]))}
    else:
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise InvalidValue(
                    f"{who} works on linear and convolutional layers of the model, got layers with {pattern!r}, which "
                    f"matches none of {_listed(known)}; name one of them"
                )
        chosen = {n: p for n, p in found.items() if any(fnmatchcase(n, pattern) for pattern in patterns)}
        shared = [n for n, p in chosen.items() if id(p) in tied]
        if shared:
            raise InvalidValue(
                f"{who} leaves embeddings alone, got layers with {shared[0]!r}, whose weight is an embedding's too; "
                "leave it out or untie it"
            )
    if not chosen:
        between = "" if ends else " between its first and its last"
        raise InvalidValue(
            f"{who} needs linear or convolutional layers{between}, got a model with {_listed(known)}; name them in layers"
        )
    once: dict[int, str] = {}
    for name, weight in chosen.items():
        once.setdefault(id(weight), name)
    return {name: chosen[name] for name in once.values()}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(map(repr, names[:SHOWN])) + more) if names else "none"
