"""Net2Net (Chen, Goodfellow, Shlens 2016, arXiv 1511.05641): a larger net that begins by computing the same.

Wider: a layer's new channels copy old ones, and whoever reads a channel divides its weights among the copies. Deeper:
new layers begin as the identity. Outputs agree up to rounding (1e-5 in float32). A `Group` names the layers that
share one set of channels: those that write it, the batch norms on the way, and those that read it. In a residual net
all layers that write to one stream belong to one group.

    class Net(nn.Module): conv1, bn1, conv2, bn2, head = ...       # conv1 -> bn1 -> conv2 -> bn2 -> mean -> head
    groups = [Group(["conv1"], ["conv2"], ["bn1"]), Group(["conv2"], ["head"], ["bn2"])]
    grow(past.weights(), Net(width=64), groups)                    # or in place: widen(model, groups[0], 64)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.errors import InvalidValue, unknown
from ..core.protocols import find_run
from ..core.streams import Stream, stream

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SHARES = ("even", "random")


@dataclass(frozen=True)
class Group:
    """Layers that share one set of channels, by module name.

    producers write the channels (Linear or convolution), norms (batch norm) act on them one by one, consumers read
    them; a linear consumer behind a flattened picture reads several values a channel. origin: for each new channel
    the old one it copies, all of which must occur; left out, the first are the old ones and the rest is drawn.
    """

    producers: Sequence[str]
    consumers: Sequence[str]
    norms: Sequence[str] = ()
    origin: Tensor | None = None


@dataclass(frozen=True)
class Growth:
    """What `grow` does with a model: groups to widen and, for a deeper net, where the old and new layers are.

    renamed: new module name -> old one, for modules that moved. identity: new layers that begin as the identity (square
    Linear or odd convolution; behind a ReLU, or it changes what passes). silent: new norms at the end of a residual
    branch, whose weight and bias begin at zero. added: other new modules, which keep their fresh weights.
    """

    groups: Sequence[Group]
    renamed: Mapping[str, str] = field(default_factory=dict)
    identity: Sequence[str] = ()
    silent: Sequence[str] = ()
    added: Sequence[str] = ()


def grow(
    source: Any,
    model: nn.Module,
    groups: Growth | Sequence[Group] | None = None,
    *,
    seed: int = 0,
    shares: str = "even",
    noise: float = 0.0,
) -> nn.Module:
    """Fill the larger `model`, in place, so that it computes what the smaller net of `source` computes; returns it.

    source: a Run, the id of one in a lending store, or a state (names to tensors). groups: what is shared (see
    `Group`); left out for the built-in models mlp, convnet, resnet8/20/56 and resnet9, wider or deeper. shares "even"
    divides what a copied channel gives evenly among the copies, which then stay equal for as long as training treats
    them alike; "random" divides it unevenly and is just as exact. noise: standard deviation of what is added to the
    copies' own weights, relative to that of their layer, from 0 (exact); above 0 outputs change.
    Draws come from a stream of `seed`. A recipe starts from a grown net through a run that keeps it:
    `with store.record("grown", task=..., parents=[past]) as run: run.save_weights(model.state_dict())`.

    Raises InvalidValue for a narrower model, grouped convolutions, norms other than batch norm and entries that no
    group covers; UnknownName for layers that the model does not have.
    """
    old = dict(source) if isinstance(source, Mapping) else find_run(source, "grow").weights()
    if groups is None:
        from ._ready import growth_of

        groups = growth_of(old, model)
    growth = groups if isinstance(groups, Growth) else Growth(tuple(groups))
    _check_options(shares, noise)
    draws = stream(seed, "grow", 0)
    fresh = model.state_dict()
    state = _moved(old, fresh, growth)
    for group in growth.groups:
        _check(model, group)
        spread(state, group, _width(fresh, group), draws, shares=shares, noise=noise)
    for name in growth.identity:
        state |= {f"{name}.{n}": t for n, t in _identity(model.get_submodule(name), name).items()}
    for name in growth.silent:
        state |= {f"{name}.{n}": torch.zeros_like(fresh[f"{name}.{n}"]) for n in ("weight", "bias")}
    unlike = [f"{n} {list(state[n].shape)} for {list(t.shape)}" for n, t in fresh.items() if state[n].shape != t.shape]
    if unlike:
        raise InvalidValue(
            f"every layer that grows belongs to a group, got other shapes for {', '.join(unlike[:5])}; "
            "name the producers, norms and consumers of these channels"
        )
    model.load_state_dict(state)
    return model


def widen(
    model: nn.Module,
    group: Group,
    width: int,
    *,
    seed: int = 0,
    shares: str = "even",
    noise: float = 0.0,
) -> None:
    """Give the group's channels another, larger `width`, in place: parameters are replaced, so build the optimizer after.

    Options as in `grow`. Raises InvalidValue for a smaller width, UnknownName for layers that the model does not have.
    """
    _check_options(shares, noise)
    _check(model, group)
    state = {n: t.detach() for n, t in model.state_dict().items()}
    spread(state, group, width, stream(seed, "grow", 0), shares=shares, noise=noise)
    for name in (*group.producers, *group.consumers, *group.norms):
        layer = model.get_submodule(name)
        for kind, held in (("parameter", layer._parameters), ("buffer", layer._buffers)):
            for own, tensor in held.items():
                if tensor is None or f"{name}.{own}" not in state:
                    continue
                new = state[f"{name}.{own}"]
                held[own] = nn.Parameter(new, tensor.requires_grad) if kind == "parameter" else new
        # A batch norm without weights has statistics of the same length.
        sizes = [state[e] for e in (f"{name}.weight", f"{name}.running_mean") if e in state]
        if sizes:
            _tell_sizes(layer, sizes[0])


def deepen(layers: nn.Sequential, after: int, *, norm: bool = False) -> None:
    """Insert an identity layer (and, with `norm`, an identity batch norm) and a ReLU after the ReLU at place `after`.

    The new layer is of the kind and width of the last one before it: Linear, or a convolution of kernel 3. Outputs stay
    in eval mode; a new batch norm normalises once the model trains, so its statistics are to be taken again
    (`reinvest.reuse.average.recompute_norms`). Raises InvalidValue where there is no ReLU, behind which alone a ReLU
    changes nothing, or no layer before it.
    """
    if not 0 <= after < len(layers) or not isinstance(layers[after], nn.ReLU):
        got = type(layers[after]).__name__ if 0 <= after < len(layers) else f"place {after} of {len(layers)}"
        raise InvalidValue(f"an identity layer goes in behind a ReLU, got {got}; give the place of a ReLU")
    before = next((m for m in reversed(list(layers)[:after]) if isinstance(m, LAYERS)), None)
    if before is None:
        raise InvalidValue(f"a new layer is made like the one before it, got none before place {after}; insert later")
    weight = before.weight
    options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype, "bias": before.bias is not None}
    width = weight.shape[0]
    made: nn.Module
    if isinstance(before, nn.Linear):
        made = nn.utils.skip_init(nn.Linear, width, width, **options)  # type: ignore[no-untyped-call]
    else:
        made = nn.utils.skip_init(type(before), width, width, 3, padding=1, **options)  # type: ignore[no-untyped-call]
    made.load_state_dict(_identity(made, "the new layer"))
    new: list[nn.Module] = [made]
    if norm:
        kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[weight.ndim]
        bn = kind(width, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            bn.weight.fill_((1 + bn.eps) ** 0.5)
        new.append(bn.train(before.training))
    for k, module in enumerate([*new, nn.ReLU()]):
        layers.insert(after + 1 + k, module)


# ---- the arithmetic ------------------------------------------------------------------------------------------------


def origins(old: int, new: int, draws: Stream) -> Tensor:
    """For each of `new` channels the old one it copies: the old ones in order, then drawn ones. int64 [new]."""
    if new < old or (new and not old):
        raise InvalidValue(f"a net grows, got {new} channels for {old}; give a width of at least the old one")
    return torch.cat([torch.arange(old), draws.integers(old, new - old)]) if new > old else torch.arange(old)


def spread(
    state: dict[str, Tensor],
    group: Group,
    width: int,
    draws: Stream,
    *,
    shares: str = "even",
    noise: float = 0.0,
) -> None:
    """Widen a group's entries in a state, in place of the old ones (tensors are replaced, not written to)."""
    old_width = _width(state, group)
    origin = origins(old_width, width, draws) if group.origin is None else group.origin
    if len(origin) != width or set(origin.tolist()) != set(range(old_width)):
        raise InvalidValue(
            f"every old channel has a copy among the new ones, got an origin of {len(origin)} for {width} channels of "
            f"{old_width}; name each old channel at least once"
        )
    copies = torch.ones(width)
    if shares == "random":
        copies = 0.5 + draws.uniform(width)
    share = copies.double() / torch.zeros(old_width).double().index_add_(0, origin, copies.double())[origin]
    is_copy = torch.ones(width, dtype=torch.bool)
    is_copy[[int((origin == k).nonzero()[0]) for k in range(old_width)]] = False
    for name in group.producers:
        for entry in (f"{name}.weight", f"{name}.bias"):
            if entry in state:
                old = state[entry]
                made = old[origin.to(old.device)]
                if noise and entry.endswith("weight") and bool(is_copy.any()):
                    drawn = draws.normal(made[is_copy].numel()).view(made[is_copy].shape).to(made)
                    made[is_copy.to(made.device)] += noise * old.std() * drawn
                state[entry] = made
    for name in group.norms:
        for entry in ("weight", "bias", "running_mean", "running_var"):
            if f"{name}.{entry}" in state:
                old = state[f"{name}.{entry}"]
                state[f"{name}.{entry}"] = old[origin.to(old.device)]
    for name in group.consumers:
        old = state[f"{name}.weight"]
        values = old.shape[1] // old_width
        if values * old_width != old.shape[1]:
            raise InvalidValue(
                f"a consumer reads whole channels, got {name} with {old.shape[1]} inputs for {old_width} channels; "
                "name the layer that reads them"
            )
        by_channel = old.reshape(old.shape[0], old_width, values, *old.shape[2:])[:, origin.to(old.device)]
        factor = share.to(old.device).view(1, width, *[1] * (by_channel.ndim - 2))
        made = (by_channel.double() * factor).to(old.dtype)
        state[f"{name}.weight"] = made.reshape(old.shape[0], width * values, *old.shape[2:])


def _identity(layer: nn.Module, name: str) -> dict[str, Tensor]:
    weight = getattr(layer, "weight", None)
    square = isinstance(layer, LAYERS) and weight is not None and weight.shape[0] == weight.shape[1]
    if square and not isinstance(layer, nn.Linear):
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        same = all(2 * p == k - 1 for p, k in zip(layer.padding, layer.kernel_size, strict=True) if isinstance(p, int))
        square = same and layer.padding != "valid" and max(layer.stride) == 1 and layer.groups == 1
        square = square and all(k % 2 for k in layer.kernel_size) and max(layer.dilation) == 1
    if not square:
        raise InvalidValue(
            f"a layer that begins as the identity has as many outputs as inputs, and a convolution an odd kernel, "
            f"padding to match and stride 1, got {name} ({layer}); choose another shape"
        )
    assert isinstance(weight, Tensor)
    made = {"weight": torch.zeros_like(weight.detach())}
    middle = tuple(k // 2 for k in weight.shape[2:])
    for k in range(weight.shape[0]):
        made["weight"][(k, k, *middle)] = 1.0
    bias = getattr(layer, "bias", None)
    if isinstance(bias, Tensor):
        made["bias"] = torch.zeros_like(bias.detach())
    return made


# ---- checks --------------------------------------------------------------------------------------------------------


def _check_options(shares: str, noise: float) -> None:
    if shares not in SHARES:
        raise InvalidValue(f"shares is 'even' or 'random', got {shares!r}; choose one of the two")
    if not isinstance(noise, (int, float)) or isinstance(noise, bool) or not 0 <= noise < float("inf"):
        raise InvalidValue(f"noise is a factor from 0, got {noise!r}; 0.0 keeps the outputs, 0.01 is little")


def _check(model: nn.Module, group: Group) -> None:
    modules = dict(model.named_modules())
    wanted: list[tuple[Sequence[str], Callable[[nn.Module], bool], str]] = [
        (group.producers, _is_layer, "producers are Linear or convolution layers in one group"),
        (group.consumers, _is_layer, "consumers are Linear or convolution layers in one group"),
        (group.norms, lambda m: isinstance(m, _BatchNorm), "norms are batch norms, which treat channels one by one"),
    ]
    for names, fits, rule in wanted:
        if isinstance(names, str):
            raise InvalidValue(f"a group lists names, got the text {names!r}; write [{names!r}]")
        for name in names:
            if name not in modules:
                raise unknown("layer", name, (n for n in modules if n))
            if not fits(modules[name]):
                raise InvalidValue(f"{rule}, got {name} ({modules[name]}); grow another layer")
    if not group.producers or not group.consumers:
        raise InvalidValue(
            f"a group has producers and consumers, got {group}; name who writes and who reads the channels"
        )


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, LAYERS) and getattr(module, "groups", 1) == 1


def _width(state: Mapping[str, Tensor], group: Group) -> int:
    found = {len(state[f"{name}.weight"]) for name in group.producers}
    if len(found) != 1:
        raise InvalidValue(
            f"the producers of a group write the same channels, got widths {sorted(found)} of "
            f"{', '.join(group.producers)}; put them into groups of their own"
        )
    return found.pop()


def _moved(old: Mapping[str, Tensor], fresh: Mapping[str, Tensor], growth: Growth) -> dict[str, Tensor]:
    """The old entries under their names in the new model, the new modules' as they are there."""
    new: Collection[str] = {*growth.identity, *growth.silent, *growth.added}
    state, used, missing = {}, set(), []
    for entry, tensor in fresh.items():
        module, _, leaf = entry.rpartition(".")
        name = f"{growth.renamed.get(module, module)}.{leaf}".lstrip(".")
        # A module whose old weights went to another place has none, although the name is there.
        taken = module in growth.renamed.values() and module not in growth.renamed
        if module in new or taken or name not in old:
            state[entry] = tensor.detach().clone()
            missing += [] if module in new else [entry]
        else:
            state[entry] = old[name].detach().to(tensor.device, tensor.dtype)
            used.add(name)
    left = [n for n in old if n not in used]
    if missing or left:
        raise InvalidValue(
            f"a grown net has the layers of the old one and those said to be new, got no old weights for "
            f"{', '.join(missing[:5]) or 'none'} and no place for {', '.join(left[:5]) or 'none'}; "
            "name moved layers in Growth(renamed=...) and new ones in Growth(identity=..., silent=..., added=...)"
        )
    return state


def _tell_sizes(layer: nn.Module, weight: Tensor) -> None:
    """Let a layer know the sizes of its new weight, as repr shows them."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, _BatchNorm):
        layer.num_features = len(weight)
    elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        layer.out_channels, layer.in_channels = weight.shape[:2]
