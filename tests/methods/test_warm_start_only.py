"""A part of an earlier run's weights under a new head, and the run that must not lend any."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from warm_nets import Loader, data, mlp, started, state_of

from reinvest._testing.compare import differences
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue, StoreError
from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.methods.surgery.warm_start import WarmStart
from reinvest.store import Store

QUIET = {"device": "cpu", "progress": False, "evaluations": 1}


def encoder(outputs: int) -> nn.Module:
    model = nn.Sequential()
    model.add_module("trunk", nn.Linear(6, 5))
    model.add_module("head" if outputs == 4 else "other", nn.Linear(5, outputs))
    return model


def attached(model: nn.Module, method: WarmStart) -> dict[str, torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = [(torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64))]
    with Methods(method).attach(model, optimizer, duration="1st", data=data, seed=0):
        return {n: t.clone() for n, t in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore::reinvest.NoEffectWarning")
def test_only_takes_what_begins_so_and_leaves_the_rest_fresh():
    old, new = encoder(4), encoder(3)
    fresh = {n: t.clone() for n, t in new.state_dict().items()}
    found = attached(new, WarmStart(old.state_dict(), only="trunk."))
    for name, value in found.items():
        wanted = old.state_dict()[name] if name.startswith("trunk.") else fresh[name]
        assert torch.equal(value, wanted), name


@pytest.mark.filterwarnings("ignore::reinvest.NoEffectWarning")
def test_without_it_another_head_is_refused_by_name():
    with pytest.raises(InvalidValue, match=r"missing: other\.weight.*unexpected: head\.weight"):
        attached(encoder(3), WarmStart(encoder(4).state_dict()))


def test_a_beginning_that_nothing_has_lists_those_there_are():
    with pytest.raises(InvalidValue, match=r"got 'body\.'; they begin with head, trunk"):
        attached(encoder(3), WarmStart(encoder(4).state_dict(), only="body."))


def test_own_weights_are_held_to_the_same_beginning():
    with pytest.raises(InvalidValue, match=r"got 'body\.'; they begin with 0, 2, 4"):
        started(mlp(1), WarmStart(None, keep=0.5, only="body."))


@pytest.mark.parametrize("options", [{"keep": 0.5, "noise": 0.2}, {"keep": 0.3}, {"keep": 0.0, "noise": 0.5}])
@pytest.mark.parametrize("run", [True, False])
def test_what_is_not_taken_stays_fresh_however_the_rest_is_changed(options, run):
    old, model = state_of(mlp(1)), mlp(2)
    fresh = state_of(model)
    found, report = started(model, WarmStart(old if run else None, only="0.", **options))
    assert all(torch.equal(found[n], fresh[n]) for n in fresh if not n.startswith("0."))
    assert report["layers"]["4.weight"] == 0.0 < report["layers"]["0.weight"]
    whole, _ = started(mlp(2), WarmStart(old if run else None, **options))
    assert torch.equal(found["0.weight"], whole["0.weight"]) and torch.equal(found["0.bias"], whole["0.bias"])


def test_norms_that_are_not_taken_keep_their_fresh_statistics():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3), nn.BatchNorm1d(3))
    fresh = state_of(model)
    found, _ = started(model, WarmStart({n: t + 1 for n, t in fresh.items()}, keep=0.5, only="1."))
    assert (
        differences({n: t for n, t in found.items() if n[0] != "1"}, {n: t for n, t in fresh.items() if n[0] != "1"})
        == []
    )
    assert torch.equal(found["1.weight"], fresh["1.weight"] + 1)
    x, _ = data()
    assert torch.allclose(found["1.running_mean"], model[0](x).mean(0), atol=1e-6)


@pytest.mark.parametrize("heads", ["new", "refuse"])
def test_a_width_is_no_number_of_classes_and_nothing_taken_grows(heads):
    old = nn.Sequential()
    old.add_module("trunk", nn.Linear(6, 4))
    new = nn.Sequential()
    new.add_module("trunk", nn.Linear(6, 6))
    with pytest.raises(InvalidValue, match=r"another shape: trunk.weight \[4, 6\] for \[6, 6\], trunk.bias \[4\] for"):
        attached(new, WarmStart(old.state_dict(), only="trunk.", heads=heads))


def test_an_entry_of_the_beginning_that_is_missing_is_named():
    old = state_of(mlp(1))
    del old["0.bias"]
    with pytest.raises(InvalidValue, match=r"missing: 0\.bias"):
        started(mlp(2), WarmStart(old, only="0."))


def test_a_tied_weight_is_taken_under_both_names():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.embedding(x))

    torch.manual_seed(0)
    old, model = state_of(Tied()), Tied()
    fresh = state_of(model)
    ids = torch.arange(5)
    for given in (old, {"head.weight": old["head.weight"]}):
        found, _ = started(model, WarmStart(given, keep=0.5, only="embedding."), Loader(ids, ids))
        assert torch.equal(found["embedding.weight"], 0.5 * old["embedding.weight"])
        assert torch.equal(found["head.weight"], found["embedding.weight"])
        assert torch.equal(found["head.bias"], fresh["head.bias"])


class Finished:
    """A run of other class names, as a warm start sees it."""

    id, status, training = "feedfeedfeedfeed", "finished", {"data": {"class_names": ["a", "b", "c"]}}

    def __init__(self, state):
        self.state, self.parents, self.reuse = state, [], []

    def weights(self):
        return dict(self.state)

    def records(self):
        raise StoreError("no records; a toy")


def test_a_head_that_is_taken_follows_its_classes_by_name_and_a_trunk_takes_no_notice_of_them():
    old, model = state_of(mlp(1)), mlp(2)
    loader = Loader(*data(), class_names=("c", "a", "b"))
    found, _ = started(model, WarmStart(Finished(old), only="4."), loader)
    assert torch.equal(found["4.weight"], old["4.weight"][[2, 0, 1]])
    with pytest.raises(InvalidValue, match="heads='refuse' takes runs with the same classes"):
        started(mlp(2), WarmStart(Finished(old), only="4.", heads="refuse"), loader)
    for heads in ("new", "refuse"):
        model = mlp(2)
        fresh = state_of(model)
        found, _ = started(model, WarmStart(Finished(old), only="0.", heads=heads), loader)
        assert differences(found, {n: (old if n.startswith("0.") else fresh)[n] for n in fresh}) == []


def test_only_is_text():
    with pytest.raises(InvalidValue, match="only is the beginning of the names to take, got 3"):
        WarmStart(None, only=3)


def test_a_run_that_trained_on_the_test_examples_lends_no_weights(tmp_path):
    store = Store(tmp_path / "runs")
    recipe = Recipe(task="digits", model="mlp", duration="3st", batch_size=32)
    cheat = train(recipe.with_(task={"name": "digits", "test_on": "validation"}), 0, store, **QUIET)
    honest = train(recipe, 0, store, **QUIET)
    # What is the test split there is part of the validation split here: the honest run has seen it.
    with pytest.raises(InvalidValue, match="has not seen the student's test examples, got 1"):
        train(recipe.with_(WarmStart(honest), task={"name": "digits", "test_on": "validation"}), 1, store, **QUIET)
    assert train(recipe.with_(WarmStart(cheat)), 1, store, **QUIET).status == "finished"


def test_an_unfinished_run_lends_no_weights(tmp_path):
    store = Store(tmp_path / "runs")
    recipe = Recipe(task="digits", model="mlp", duration="3st", batch_size=32)
    with pytest.raises(InvalidValue, match=r"weights of a finished one, got run .* \(diverged\)"):
        bad = train(recipe.with_(optimizer={"name": "sgd", "lr": 1e30}), 0, store, **QUIET)
        train(recipe.with_(WarmStart(bad)), 1, store, **QUIET)
