"""Batches keep the loader's own type, and examples keep their ids through DataLoader and subsets."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from reinvest.core.batch import ID_KEY, Batch, Indexed, find_ids, unpack
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue, MissingIds, ReinvestError
from toy_loops import examples, net, own_loop, sgd
from toys import Keep, Notebook, Shift, Weigh

Pair = namedtuple("Pair", ["image", "label"])


def first(data: Any, *methods: Any) -> Any:
    chain, model = Methods(*methods), net()
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        return next(iter(chain.batches(data)))


class Rows(Dataset[Any]):
    """Dicts, as Hugging Face data sets give them."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": torch.full((3,), i), "attention_mask": torch.ones(3), "labels": i % 4}


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        return self.embedding(input_ids).mean(1)


# --- containers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tuple, list])
def test_tuples_and_lists_keep_their_type(kind: Any) -> None:
    x, y = torch.randn(6, 6), torch.arange(6) % 4
    got = first([kind([x, y])])
    assert type(got) is kind and torch.equal(got[0], x) and torch.equal(got[1], y)


def test_named_tuples_keep_their_type_and_names() -> None:
    got = first([Pair(torch.randn(6, 6), torch.arange(6) % 4)], Keep(2))
    assert type(got) is Pair and got.image.shape == (2, 6) and got.label.tolist() == [0, 1]


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_mappings_keep_their_type_less_the_id(kind: Any) -> None:
    item = kind({ID_KEY: torch.arange(6), "x": torch.randn(6, 6), "y": torch.arange(6) % 4, "note": "kept"})
    got = first([item], Keep(2))
    assert type(got) is kind and set(got.keys()) == {"x", "y", "note"}
    assert got["x"].shape == (2, 6) and got["y"].tolist() == [0, 1] and got["note"] == "kept"
    assert ID_KEY in item, "the loader's own object was changed"


def test_elements_beyond_input_and_target_are_selected_along() -> None:
    x, y, extra = torch.randn(6, 6), torch.arange(6) % 4, torch.arange(6) * 10
    a, b, c = first([(x, y, extra)], Keep(3))
    assert len(a) == len(b) == 3 and c.tolist() == [0, 10, 20]


def test_a_model_takes_the_batch_as_keywords() -> None:
    data = DataLoader(Indexed(Rows()), batch_size=4)
    chain, model = Methods(Weigh()), Reader()
    sizes = []
    with Notebook() as notebook, chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for batch in chain.batches(data, parts=2):
            assert type(batch) is dict and set(batch) == {"input_ids", "attention_mask", "labels"}
            sizes.append(len(batch["labels"]))
            chain.loss(model(**batch), batch["labels"]).backward()
            chain.step()
    assert sizes == [2, 2, 2, 2, 1, 1]
    assert torch.cat([row[1] for row in notebook.rows]).tolist() == list(range(10))


def test_a_batch_that_is_only_inputs_passes_through() -> None:
    x = torch.randn(6, 6)
    assert torch.equal(first([x]), x)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_ids_through_a_data_loader(workers: int) -> None:
    data = DataLoader(Indexed(examples(20)), batch_size=6, num_workers=workers)
    assert find_ids(data) == (True, 20)
    with Notebook() as notebook:
        own_loop(Methods(), net(), data, epochs=1)
    assert torch.cat([row[1] for row in notebook.rows]).tolist() == list(range(20))
    assert all(row[1].dtype == torch.int64 for row in notebook.rows)


def test_ids_are_positions_in_the_whole_data_set_also_in_subsets() -> None:
    data = DataLoader(Subset(Subset(Indexed(examples(20)), range(4, 16)), [3, 0, 5]), batch_size=2)
    with Notebook() as notebook:
        own_loop(Methods(), net(), data, epochs=1)
    assert torch.cat([row[1] for row in notebook.rows]).tolist() == [7, 4, 9]
    assert find_ids(data) == (True, 20)


def test_several_indexed_sets_in_one_are_refused() -> None:
    joined: Any = ConcatDataset([Indexed(examples(5)), Indexed(examples(6))])
    with pytest.raises(ReinvestError, match=r"Indexed\(ConcatDataset|ids"):
        first(DataLoader(joined, batch_size=2))
    whole = DataLoader(Indexed(ConcatDataset([examples(5), examples(6)])), batch_size=3)  # type: ignore[list-item]
    assert find_ids(whole) == (True, 11)
    first(whole, Shift())


def test_without_ids_nothing_is_guessed() -> None:
    plain = DataLoader(examples(20), batch_size=6)  # type: ignore[arg-type]
    assert find_ids(plain) == (False, None)
    with pytest.raises(MissingIds, match="Indexed"):
        first(plain, Shift())
    integers = [(torch.arange(6), torch.arange(6) % 4)]  # an integer first element is no id
    x, _ = first(integers)
    assert torch.equal(x, torch.arange(6))


def test_indexed_adds_the_id_to_tuples_lists_and_dicts() -> None:
    x, y = torch.randn(3, 2), torch.arange(3)
    item = Indexed(TensorDataset(x, y))[2]
    assert len(item) == 3 and int(item[0]) == 2 and torch.equal(item[1], x[2]) and item[2] == 2
    assert Indexed(Rows())[3][ID_KEY] == 3
    assert list(Indexed([Pair(1.0, 2)])[0]) == [0, 1.0, 2]  # (id, x, y) for every kind of tuple
    assert len(Indexed(Rows())) == 10


def test_streams_have_no_stable_ids() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from examples(5)

    with pytest.raises(InvalidValue, match="length"):
        Indexed(Endless())


def test_a_negative_index_is_the_same_example() -> None:
    data = Indexed(examples(5))
    assert int(data[-1][0]) == 4


def test_an_example_without_a_target_gets_an_id_too() -> None:
    assert Indexed([1.0, 2.0])[1] == (1, 2.0)


# --- the value -------------------------------------------------------------------------------------------------------


def batch(size: int = 4) -> Batch:
    x = torch.arange(size * 3.0).view(size, 3)
    return unpack((torch.arange(size) + 10, x, torch.arange(size)), indexed=True)


def test_unpack_and_package_are_inverse_but_for_the_id() -> None:
    one = batch()
    assert one.ids is not None and one.ids.tolist() == [10, 11, 12, 13]
    x, y = one.package()
    assert torch.equal(x, one.inputs) and torch.equal(y, one.targets)


@pytest.mark.parametrize(
    "rows",
    [torch.tensor([3, 0]), torch.tensor([True, False, False, True]), slice(0, 2)],
    ids=["index", "mask", "slice"],
)
def test_take_selects_everything_that_has_rows_and_leaves_the_original_alone(rows: Any) -> None:
    one = batch()
    taken = one.take(rows)
    assert torch.equal(taken.inputs, one.inputs[rows]) and torch.equal(taken.targets, one.targets[rows])
    assert torch.equal(taken.ids, one.ids[rows])  # type: ignore[index,arg-type]
    assert [t.shape[0] for t in taken.package()] == [2, 2]
    assert one.inputs.shape == (4, 3)


class Named(Dataset[Any]):
    """Pictures with a path and a box each, as torch's own collate function makes batches of them."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"x": torch.full((6,), float(i)), "y": i % 4, "path": f"{i}.png", "box": (i, 10.0 * i, 2 * i, 3 * i)}


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("nodes", [None, 2])
def test_lists_of_a_batch_go_with_its_examples(size: int, nodes: int | None) -> None:
    data = DataLoader(Named(), batch_size=size)
    chain, model = Methods(Keep(2), virtual_nodes=nodes), net()
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for batch in chain.batches(data, parts=2):
            assert type(batch["path"]) is list and type(batch["box"]) is list
            assert batch["path"] == [f"{int(row[0])}.png" for row in batch["x"]]
            assert [column.tolist() for column in batch["box"]] == [
                (batch["x"][:, 0] * k).tolist() for k in (1, 10, 2, 3)
            ]
            assert len(batch["path"]) == (nodes or 1)
            chain.loss(model(batch["x"]), batch["y"]).backward()
            chain.step()


@pytest.mark.parametrize(
    "rows",
    [torch.tensor([3, 0]), torch.tensor([True, False, False, True]), slice(1, 3)],
    ids=["index", "mask", "slice"],
)
def test_lists_and_tuples_with_an_item_an_example_are_selected_and_others_are_not(rows: Any) -> None:
    wanted = torch.arange(4)[rows].tolist()
    fields = {
        "words": ["a", "b", "c", "d"],
        "pair": ("a", "b", "c", "d"),
        "boxes": [torch.zeros(k, 4) for k in range(4)],
        "classes": ["cat", "dog", "eel"],
        "name": "four",
        "size": Pair(1, 2),
    }
    taken = unpack({"x": torch.zeros(4, 3), **fields}, indexed=False).take(rows).package()
    assert taken["words"] == ["abcd"[i] for i in wanted] and taken["pair"] == tuple("abcd"[i] for i in wanted)
    assert [len(b) for b in taken["boxes"]] == wanted
    assert taken["classes"] is fields["classes"] and taken["name"] == "four" and taken["size"] == Pair(1, 2)


def test_with_inputs_is_what_the_loop_receives() -> None:
    one = batch()
    other = one.with_inputs(one.inputs + 1)
    assert torch.equal(other.package()[0], one.inputs + 1) and torch.equal(one.package()[0], one.inputs)


def test_need_ids_names_who_needs_them() -> None:
    with pytest.raises(MissingIds, match=r"Cutout.*Indexed"):
        unpack((torch.zeros(2, 3), torch.zeros(2)), indexed=False).need_ids("Cutout")


@pytest.mark.parametrize("inputs", [torch.zeros(2, 3), torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "text"])
def test_images_refuses_what_is_no_floating_picture(inputs: Any) -> None:
    with pytest.raises(InvalidValue, match="Cutout"):
        unpack((inputs, torch.zeros(2)), indexed=False).images("Cutout")
    good = torch.zeros(2, 3, 4, 4)
    assert unpack((good, torch.zeros(2)), indexed=False).images("Cutout") is good
