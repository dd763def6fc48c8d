"""Virtual nodes: equal slices of a batch, treated apart and joined again in order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinvest.core.batch import Batch, Mix, unpack
from reinvest.core.errors import InvalidValue
from reinvest.core.nodes import join, split_rows, through_nodes


@given(st.integers(1, 200), st.integers(1, 200))
def test_slices_cover_the_rows_in_order_and_differ_by_one_at_most(size: int, parts: int) -> None:
    if parts > size:
        with pytest.raises(InvalidValue):
            split_rows(size, parts)
        return
    rows = split_rows(size, parts)
    assert [i for piece in rows for i in range(size)[piece]] == list(range(size))
    lengths = [len(range(size)[piece]) for piece in rows]
    assert len(rows) == parts and max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)


def items(kind: str) -> Any:
    ids, x, y = torch.arange(6), torch.randn(6, 2), torch.arange(6) % 2
    return {
        "dict": {"reinvest_id": ids, "x": x, "y": y, "note": "kept"},
        "fields": {"x": x, "y": y, "paths": list("abcdef"), "kinds": ["p", "q"], "columns": [x, y, ids]},
        "tuple": (ids, x, y, ids * 10),
        "list": [ids, x, y],
    }[kind]


@pytest.mark.parametrize("kind", ["dict", "fields", "tuple", "list"])
def test_splitting_and_joining_gives_the_batch_back(kind: str) -> None:
    batch = unpack(items(kind), indexed=True)
    batch.mix = Mix(batch.targets.flip(0), torch.linspace(0, 1, 6))
    nodes: list[int] = []

    def prepare(part: Batch, node: int) -> Batch:
        nodes.append(node)
        assert len(part) == 2
        return part

    back = through_nodes(batch, (3, 4, 5), prepare)
    assert nodes == [3, 4, 5]
    assert torch.equal(back.inputs, batch.inputs) and torch.equal(back.targets, batch.targets)
    assert back.ids is None if batch.ids is None else torch.equal(back.ids, batch.ids)  # type: ignore[arg-type]
    assert back.mix is not None and torch.equal(back.mix.partners, batch.mix.partners)
    assert torch.equal(back.mix.coefficients, batch.mix.coefficients)
    old, new = batch.package(), back.package()
    assert type(old) is type(new) and len(old) == len(new)
    for a, b in zip(*((list(v.values()) if isinstance(v, dict) else list(v)) for v in (old, new)), strict=True):
        one, other = (v if isinstance(v, list) else [v] for v in (a, b))
        for c, d in zip(one, other, strict=True):
            assert torch.equal(c, d) if isinstance(c, torch.Tensor) else c == d


def test_boxes_of_an_example_are_not_taken_for_columns() -> None:
    boxes = [torch.full((2, 4), float(i)) for i in range(4)]
    batch = unpack({"x": torch.randn(4, 2), "y": torch.arange(4), "boxes": boxes}, indexed=False)
    back = through_nodes(batch, (0, 1), lambda part, node: part).package()["boxes"]
    assert [b.shape[0] for b in back] == [2] * 4 and [float(b[0, 0]) for b in back] == [0, 1, 2, 3]


def test_selection_inside_the_slices() -> None:
    batch = unpack(items("tuple"), indexed=True)
    kept = through_nodes(batch, (0, 1), lambda part, node: part.take(slice(0, node + 1)))
    assert kept.ids is not None and kept.ids.tolist() == [0, 3, 4] and kept.package()[2].tolist() == [0, 30, 40]


def test_slices_must_be_equal() -> None:
    with pytest.raises(InvalidValue, match=r"6.*4"):
        through_nodes(unpack(items("tuple"), indexed=True), (0, 1, 2, 3), lambda part, node: part)


def test_one_batch_joins_to_itself() -> None:
    batch = unpack(items("tuple"), indexed=True)
    assert join([batch], batch) is batch
