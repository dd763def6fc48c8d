"""How the built-in models grow: their groups of channels, read off the names of their entries."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..core.errors import InvalidValue
from ..core.streams import stream
from .grow import Group, Growth, origins

State = Mapping[str, Tensor]


def growth_of(old: State, model: nn.Module) -> Growth:
    """What makes the net of state `old` into this built-in model. Raises InvalidValue for other models."""
    kind = type(model).__name__
    if kind not in READY:
        raise InvalidValue(
            f"models that grow by themselves are {', '.join(READY)}, got {kind}; pass groups=[Group(...), ...]"
        )
    try:
        return READY[kind](old, model.state_dict())
    except (KeyError, IndexError):
        raise InvalidValue(
            f"the built-in {kind} grows from a state of its own kind, got one with {', '.join(list(old)[:5])}; "
            "pass groups=[...]"
        ) from None


def mlp(old: State, new: State) -> Growth:
    """Hidden layers wider, and further ones behind them as identities."""
    was, now = (
        sorted(int(n.split(".")[1]) for n in s if n.startswith("layers.") and n.endswith(".weight")) for s in (old, new)
    )
    if len(now) < len(was):
        raise InvalidValue(f"a net grows, got {len(now)} layers for {len(was)}; give at least as many hidden layers")
    kept, added = was[:-1], now[len(was) - 1 : -1]
    names = [f"layers.{k}" for k in [*kept, now[-1]]]
    groups = [Group([one], [two]) for one, two in itertools.pairwise(names)]
    return Growth(groups, {f"layers.{now[-1]}": f"layers.{was[-1]}"}, [f"layers.{k}" for k in added])


def convnet(old: State, new: State) -> Growth:
    """Three convolutions in a row, then the head."""
    convs = [f"features.{k}.0" for k in range(3)]
    readers = [*convs[1:], "head"]
    return Growth([Group([c], [r], [f"{c[:-1]}1"]) for c, r in zip(convs, readers, strict=True)])


def resnet9(old: State, new: State) -> Growth:
    """Convolutions in a row, two of them followed by a residual pair that writes to the same channels."""
    one, two, three, four = "features.0.0", "features.1.0.0", "features.3.0.0", "features.4.0.0"
    groups = [Group([one], [two], ["features.0.1"]), Group([three], [four], ["features.3.0.1"])]
    for entry, pair, reader in ((two, "features.2.layers", three), (four, "features.5.layers", "head")):
        inner, outer = f"{pair}.0.0", f"{pair}.1.0"
        groups.append(Group([inner], [outer], [f"{pair}.0.1"]))
        groups.append(Group([entry, outer], [inner, reader], [f"{entry[:-1]}1", f"{pair}.1.1"]))
    return Growth(groups)


def resnet(old: State, new: State) -> Growth:
    """Wider streams, whose zero channels between stages keep their places, and further blocks that begin silent."""
    depth, deeper = (
        (1 + max((int(n.split(".")[1]) for n in s if n.startswith("blocks.")), default=-1)) // 3 for s in (old, new)
    )
    if deeper < depth:
        raise InvalidValue(f"a net grows, got {deeper} blocks a stage for {depth}; give at least as many")
    groups: list[Group] = []
    renamed: dict[str, str] = {}
    added: list[str] = []
    silent: list[str] = []
    streams = _stream_origins(old, new, depth, deeper)
    for stage in range(3):
        first = stage * deeper
        mapped = [f"blocks.{first + k}" for k in range(depth)]
        for k, name in enumerate(mapped):
            renamed |= {f"{name}.{m}": f"blocks.{stage * depth + k}.{m}" for m in ("conv1", "bn1", "conv2", "bn2")}
            groups.append(Group([f"{name}.conv1"], [f"{name}.conv2"], [f"{name}.bn1"]))
        for name in (f"blocks.{first + k}" for k in range(depth, deeper)):
            added += [f"{name}.{m}" for m in ("conv1", "bn1", "conv2", "bn2")]
            silent.append(f"{name}.bn2")
        stem = stage == 0
        readers = [f"{name}.conv1" for name in (mapped if stem else mapped[1:])]
        readers.append("head" if stage == 2 else f"blocks.{first + deeper}.conv1")
        writers = [*(["conv"] if stem else []), *(f"{name}.conv2" for name in mapped)]
        norms = [*(["bn"] if stem else []), *(f"{name}.bn2" for name in mapped)]
        groups.append(Group(writers, readers, norms, streams[stage]))
    return Growth(groups, renamed, silent=silent, added=added)


def _stream_origins(old: State, new: State, depth: int, deeper: int) -> list[Tensor]:
    """Of each stage's channels where they come from: a shortcut puts zeros below and above those of the stage before."""
    draws = stream(0, "grow resnet", 0)
    sizes = [
        [len(s[f"blocks.{stage * d}.conv2.weight"]) for stage in range(3)] for s, d in ((old, depth), (new, deeper))
    ]
    found = [origins(sizes[0][0], sizes[1][0], draws)]
    for stage in (1, 2):
        (was, before), (now, _) = ((s[stage] - s[stage - 1], s[stage - 1]) for s in sizes)
        below = origins(was // 2, now // 2, draws)
        above = origins(was - was // 2, now - now // 2, draws) + was // 2 + before
        found.append(torch.cat([below, found[-1] + was // 2, above]))
    return found


READY: dict[str, Callable[[State, State], Growth]] = {
    "MLP": mlp,
    "ConvNet": convnet,
    "CifarResNet": resnet,
    "ResNet9": resnet9,
}
"""Class name of a built-in model -> how it grows."""
