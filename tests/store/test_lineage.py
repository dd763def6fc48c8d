"""Which runs a run was made from: known from its first step on, by whole ids, whatever way a method names them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reinvest.core.chain import Methods
from reinvest.methods.losses.distillation import Distill
from reinvest.methods.losses.weighting import Weighting
from reinvest.methods.select.curriculum import Curriculum
from reinvest.methods.select.subset import Subset
from reinvest.methods.surgery.warm_start import WarmStart
from reinvest.store import Run, Store
from teaching import FACTS, Rows, columns, other, still
from toy_loops import net, own_loop

WAYS = {
    "warm start": (WarmStart, "warm start"),
    "subset": (lambda run: Subset(run, 0.5), "data"),
    "curriculum": (Curriculum, "data"),
    "weighting": (Weighting, "data"),
    "distillation": (Distill, "records"),
}


@pytest.fixture
def past(store: Store) -> Run:
    with store.record("past", task="toy", facts=FACTS) as writer:
        model = other()
        own_loop(Methods(), model, Rows(*columns()), epochs=2, optimizer=still(model))
        writer.save_weights(model.state_dict())
    return writer.run


def test_the_parents_of_an_own_loop_are_known_while_it_runs(store: Store, past: Run) -> None:
    chain, model, loader = Methods(WarmStart(past)), net(), Rows(*columns())
    with (
        store.record("child", task="toy", facts=FACTS) as writer,
        chain.attach(model, still(model), duration="1ep", data=loader, seed=0),
    ):
        told = json.loads((writer.path / "run.json").read_text())
        assert told["parents"] == [past.id] and told["reuse"] == [{"run": past.id, "how": "warm start"}]
        with Store(store.path) as another:
            assert another.get(writer.id).parents == [past.id]
            assert another.gc(delete=True, where=f"id={past.id}").kept == {past.id: "has children"}
        assert past.path.exists()
        for x, y in chain.batches(loader):
            chain.loss(model(x), y).backward()
            chain.step()
    assert store.verify() == []


@pytest.mark.parametrize("way", WAYS)
def test_a_run_named_by_the_beginning_of_its_id_is_a_parent_by_its_whole_id(store: Store, past: Run, way: str) -> None:
    make, how = WAYS[way]
    method: Any = make(past.id[:9])
    with store.record("child", task="toy", facts=FACTS) as writer:
        own_loop(Methods(method), net(), Rows(*columns()), epochs=1)
    child = store.get(writer.id)
    assert child.parents == [past.id] and child.reuse == [{"run": past.id, "how": how}]
    assert [(depth, run.id) for depth, run in store.tree()] == [(0, past.id), (1, child.id)]
    assert store.gc(where=f"id={past.id}").kept == {past.id: "has children"}


def test_one_run_named_twice_is_one_parent(store: Store, past: Run) -> None:
    with store.record("child", task="toy", facts=FACTS, parents=[past]) as writer:
        own_loop(Methods(Subset([past.id[:9], past.id, past.id[:12]], 0.5)), net(), Rows(*columns()), epochs=1)
    assert writer.run.parents == [past.id] and writer.run.reuse == [{"run": past.id, "how": "data"}]
