"""A run that is refused before its first step leaves nothing in the store; one that has begun is kept."""

import pytest
import torch

import reinvest as ri
from reinvest.core.errors import InvalidValue


@pytest.fixture
def store(tmp_path):
    return ri.Store(tmp_path / "runs")


def folders(store):
    return sorted(p.name for p in store.path.joinpath("runs").iterdir())


def test_a_warm_start_that_is_refused_at_the_start_leaves_no_run(store):
    old = ri.train(ri.Recipe(task="digits", model={"name": "mlp", "hidden": [8]}, duration="4st"), 0, store)
    other = ri.Recipe(task="digits", model={"name": "mlp", "hidden": [9]}, duration="4st")
    with pytest.raises(InvalidValue):
        ri.train(other.with_(ri.WarmStart(old.id)), 0, store)
    assert [run.id for run in store.runs()] == [old.id]
    assert folders(store) == [old.id]


def test_the_refused_recipe_can_be_trained_once_it_is_mended(store):
    recipe = ri.Recipe(task="digits", model={"name": "mlp", "hidden": [8]}, duration="4st")
    old = ri.train(recipe, 0, store)
    with pytest.raises(InvalidValue), store.record("mine", task="digits", seed=3):
        raise InvalidValue("the rule, the value, the remedy")
    with store.record("mine", task="digits", seed=3) as run:
        assert not run.resumed
        run.log(split="test", step=1, epoch=0, accuracy=0.5)
    assert {r.name for r in store.runs()} == {"mine", old.name}


def test_what_has_begun_is_kept_as_interrupted(store):
    with pytest.raises(InvalidValue), store.record("mine", task="digits") as run:
        run.log(split="train", step=1, epoch=0, loss=0.5)
        raise InvalidValue("the rule, the value, the remedy")
    with pytest.raises(InvalidValue), store.record("other", task="digits") as run:
        run.save_weights({"w": torch.zeros(2)})
        raise InvalidValue("the rule, the value, the remedy")
    assert sorted((r.name, r.status) for r in store.runs()) == [("mine", "interrupted"), ("other", "interrupted")]


def test_errors_of_others_keep_the_run(store):
    with pytest.raises(KeyError), store.record("mine", task="digits"):
        raise KeyError("a fault of the loop")
    assert [r.status for r in store.runs()] == ["interrupted"]


def test_a_resumed_run_is_never_removed(store):
    with pytest.raises(KeyError), store.record("mine", task="digits") as run:
        run.save_state({"step": 3})
        raise KeyError("killed")
    with pytest.raises(InvalidValue), store.record("mine", task="digits") as run:
        assert run.resumed
        raise InvalidValue("the rule, the value, the remedy")
    assert [r.status for r in store.runs()] == ["interrupted"]
