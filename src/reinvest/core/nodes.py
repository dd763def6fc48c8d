"""Virtual nodes: the equal slices of a batch within which examples may act on each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .batch import Batch, Mix, is_columns, map_container
from .errors import InvalidValue


def split_rows(size: int, parts: int) -> list[slice]:
    """`parts` slices of 0..size-1 in order, the first ones longer by one where it does not divide; never an empty one."""
    if parts > size:
        raise InvalidValue(
            f"a batch is split into at most one part per example, got {parts} parts of {size}; use fewer parts"
        )
    base, extra = divmod(size, parts)
    edges = [k * base + min(k, extra) for k in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def join(batches: list[Batch], whole: Batch) -> Batch:
    """The batches put one after the other again; they came from the slices of `whole`."""
    if len(batches) == 1:
        return batches[0]

    def column(values: list[Any], before: Any) -> Any:
        one = values[0]
        if isinstance(one, Tensor):
            return torch.cat(values) if one.ndim else one
        if one.__class__ not in (list, tuple) or all(v is one for v in values):
            return one  # what has no row for each example is the same object in every slice
        if is_columns(before, len(whole)):
            return type(one)(torch.cat(parts) for parts in zip(*values, strict=True))
        return type(one)(itertools.chain.from_iterable(values))

    first = batches[0]
    leaves = [_leaves(b.container) for b in batches]
    columns = itertools.zip_longest(zip(*leaves, strict=True), _leaves(whole.container))

    def rebuild(_: Any) -> Any:
        values, before = next(columns)
        return column(list(values), before)

    mix = None
    if first.mix is not None:
        mixes = [b.mix for b in batches if b.mix is not None]
        ids = [m.ids for m in mixes if m.ids is not None]
        mix = Mix(
            torch.cat([m.partners for m in mixes]),
            torch.cat([m.coefficients for m in mixes]),
            torch.cat(ids) if len(ids) == len(mixes) else None,
        )
    return Batch(
        column([b.inputs for b in batches], whole.inputs),
        column([b.targets for b in batches], whole.targets),
        column([b.ids for b in batches], whole.ids),
        map_container(first.container, rebuild),
        mix,
        first.moved,
    )


def _leaves(box: Any) -> list[Any]:
    if isinstance(box, Mapping):
        return list(box.values())
    return [box] if isinstance(box, Tensor) else list(box)


def through_nodes(batch: Batch, nodes: tuple[int, ...], prepare: Callable[[Batch, int], Batch]) -> Batch:
    """Apply `prepare(slice, node)` to one equal slice of the batch per virtual node of this process."""
    if len(nodes) == 1:
        return prepare(batch, nodes[0])
    if len(batch) % len(nodes):
        raise InvalidValue(
            f"virtual nodes are equal slices, got a batch of {len(batch)} for {len(nodes)} of them; choose a multiple as batch size"
        )
    return join(
        [prepare(batch.take(rows), node) for rows, node in zip(split_rows(len(batch), len(nodes)), nodes, strict=True)],
        batch,
    )
