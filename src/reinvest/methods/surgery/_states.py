"""One model's weights put into another: which entries belong together, and which rows of a head that has grown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...core.errors import InvalidValue

WRAPPERS = ("_orig_mod.", "module.")
"""What torch.compile and DistributedDataParallel put before every name."""
SHOWN = 5
"""Names listed in a refusal before the rest is counted."""


class Partial(NamedTuple):
    """Old values in a new model's shapes; `fresh_rows` names the rows [k] of head entries that stayed fresh."""

    state: dict[str, Tensor]
    fresh_rows: dict[str, Tensor]


def partial_state(
    old: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    *,
    old_names: Sequence[str] | None = None,
    new_names: Sequence[str] | None = None,
) -> Partial:
    """The old state for a model whose state is `fresh`, where only the classes may differ.

    Entries whose first dimension alone differs are heads: rows of known classes are copied, by class name where both
    lists are known, else by number (a head that grew), and the others stay as they are in `fresh`. The same names in
    another order move the rows of the last layer that has one row per class. Entries that share memory in `fresh`
    (tied weights) need one value only. Neither state is changed.

    Raises InvalidValue, naming the keys, for entries that are missing, unexpected or of another shape, and for fewer
    classes without names.
    """
    old = _fill_ties(_bare(old, fresh), fresh)
    missing, extra = [n for n in fresh if n not in old], [n for n in old if n not in fresh]
    unlike = [n for n in fresh if n in old and old[n].shape != fresh[n].shape]
    foreign = [n for n in unlike if old[n].ndim == 0 or old[n].shape[1:] != fresh[n].shape[1:]]
    sizes = {(len(old[n]), len(fresh[n])) for n in unlike if n not in foreign}
    named = old_names is not None and new_names is not None
    another = named and bool(sizes - {(len(old_names or ()), len(new_names or ()))})
    if missing or extra or foreign or another or len(sizes) > 1:
        refuse_keys(missing, extra, unlike, old, fresh)
    origin = _origin(old_names, new_names) if named else None
    if not named and sizes:
        ((before, after),) = sizes
        if after < before:
            raise InvalidValue(
                f"a head with fewer classes is filled by class name, got {before} classes for {after} and no names; "
                "give the task and the earlier run class names"
            )
        origin = torch.tensor([*range(before), *[-1] * (after - before)])
    state = {n: old[n] for n in fresh}
    rows: dict[str, Tensor] = {}
    if origin is not None:
        known = origin.ge(0)
        for name in unlike or _head(fresh, old_names or (), new_names or ()):
            made = fresh[name].detach().clone()
            made[known.to(made.device)] = old[name].to(made.device, made.dtype)[origin[known].to(made.device)]
            state[name] = made
            if not bool(known.all()):
                rows[name] = torch.nonzero(~known).flatten()
    return Partial(state, rows)


def whole_state(old: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> Partial:
    """The old state, where it fits entry by entry. Raises InvalidValue naming the keys that do not."""
    old = _fill_ties(_bare(old, fresh), fresh)
    missing, extra = [n for n in fresh if n not in old], [n for n in old if n not in fresh]
    unlike = [n for n in fresh if n in old and old[n].shape != fresh[n].shape]
    if missing or extra or unlike:
        refuse_keys(missing, extra, unlike, old, fresh)
    return Partial({n: old[n] for n in fresh}, {})


def beginning(fresh: Mapping[str, Tensor], prefix: str) -> set[str]:
    """The names of `fresh` that begin so, and those of the weights tied to them; all of them for ""."""
    places = {_place(t) for n, t in fresh.items() if n.startswith(prefix)}
    return {n for n, t in fresh.items() if n.startswith(prefix) or _place(t) in places}


def part_state(
    old: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    prefix: str,
    *,
    old_names: Sequence[str] | None = None,
    new_names: Sequence[str] | None = None,
    reorder: bool = True,
) -> Partial:
    """The fresh state with the old entries whose names begin with `prefix`, each of its old shape.

    A head among them whose classes are the old ones in another order or under other names is filled by class name
    (reorder=False: refused); a head that is not among them may have any classes. Neither state is changed.

    Raises InvalidValue if no old name begins so, and naming entries that are missing, unexpected or of another shape.
    """
    old = _fill_ties(_bare(old, fresh), fresh)
    if not any(n.startswith(prefix) for n in old):
        tops = sorted({n.partition(".")[0] for n in old})
        raise InvalidValue(
            f"'only' is how some of the old names begin, got {prefix!r}; they begin with {_listed(tops)}"
        )
    taken = beginning(fresh, prefix)
    mixed = {n: t for n, t in fresh.items() if n not in taken}
    mixed |= {n: t for n, t in old.items() if n in taken or n.startswith(prefix)}
    whole = whole_state(mixed, fresh)
    named = old_names is not None and new_names is not None and len(old_names) == len(new_names)
    if not named or _origin(old_names, new_names) is None or taken.isdisjoint(_last(fresh, new_names or ())):
        return whole
    if not reorder:
        refuse_classes(old_names or (), new_names or ())
    return partial_state(mixed, fresh, old_names=old_names, new_names=new_names)


def refuse_classes(old_names: Sequence[str], new_names: Sequence[str]) -> None:
    """Raise InvalidValue for other classes, where heads are to be the old ones."""
    raise InvalidValue(
        f"heads='refuse' takes runs with the same classes, got {len(old_names)} old ones for "
        f"{len(new_names)}, or another order; pass heads='new'"
    )


def refuse_keys(
    missing: Sequence[str],
    extra: Sequence[str],
    unlike: Sequence[str],
    old: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
) -> None:
    """Raise InvalidValue for old weights that do not belong to the new model."""
    shapes = [f"{n} {list(old[n].shape)} for {list(fresh[n].shape)}" for n in unlike]
    parts = [
        f"{what}: {_listed(names)}"
        for what, names in (("missing", missing), ("unexpected", extra), ("another shape", shapes))
        if names
    ]
    raise InvalidValue(
        f"weights fit the model that they were trained in, but for the rows of new classes, got {'; '.join(parts)}; "
        "start from a run of the same model, grow the old one (reinvest.reuse.grow), or distil from it"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _bare(old: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The old state without the prefix of a wrapper that the new model does not have."""
    state = dict(old)
    for prefix in WRAPPERS:
        if state and all(n.startswith(prefix) for n in state) and not any(n.startswith(prefix) for n in fresh):
            state = {n.removeprefix(prefix): t for n, t in state.items()}
    return state


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if tensor.numel() else (id(tensor),)


def _fill_ties(old: dict[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The old state with a value under every name of a tied weight, of which a file may hold one only."""
    known = {_place(t): old[n] for n, t in fresh.items() if n in old}
    return old | {n: known[_place(t)] for n, t in fresh.items() if n not in old and _place(t) in known}


def _origin(old_names: Sequence[str] | None, new_names: Sequence[str] | None) -> Tensor | None:
    """For each new class its row in the old head, -1 for none; None where nothing moves."""
    where = {name: k for k, name in enumerate(old_names or ())}
    if list(old_names or ()) == list(new_names or ()):
        return None
    return torch.tensor([where.get(name, -1) for name in new_names or ()])


def _head(state: Mapping[str, Tensor], old_names: Sequence[str], new_names: Sequence[str]) -> list[str]:
    """The entries of the last layer that has one row per class, and those tied to them; none where no row moves."""
    last = _last(state, new_names)
    if not last or len(old_names) != len(new_names):
        # A head with rows to spare: the classes that both know may already have the same rows.
        if all(a == b for a, b in zip(old_names, new_names, strict=False)):
            return []
        raise InvalidValue(
            "classes that changed places are moved in the layer that has one row per class, got "
            f"{len(old_names)} old and {len(new_names)} new names and no such layer; give the new model one output per class"
        )
    return last


def _last(state: Mapping[str, Tensor], names: Sequence[str]) -> list[str]:
    """The entries of the last layer that has one row per name, and those tied to them."""
    matching = [n for n, t in state.items() if t.ndim and len(t) == len(names)]
    layer = matching[-1].rpartition(".")[0] if matching else ""
    own = [n for n in matching if n.rpartition(".")[0] == layer]
    places = {_place(state[n]) for n in own}
    return [n for n in matching if n in own or _place(state[n]) in places]


# ---- which entries are which ---------------------------------------------------------------------------------------


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: torch's own kinds, and classes called so whose parameters are vectors."""
    own = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    vectors = all(p.ndim <= 1 for p in module.parameters(recurse=False))
    return isinstance(module, own) or ("norm" in type(module).__name__.lower() and vectors)


def layer_weights(model: nn.Module, *, norms: bool = False) -> set[str]:
    """Names of the weights and biases of all layers but norms (unless asked for), tied ones under each name.

    Buffers are never among them.
    """
    held = {
        id(parameter)
        for module in model.modules()
        if norms or not is_norm(module)
        for parameter in module.parameters(recurse=False)
    }
    return {name for name, p in model.named_parameters(remove_duplicate=False) if id(p) in held}
