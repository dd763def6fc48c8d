"""A part of an earlier run's weights under a new head, and the run that must not lend any."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
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
    with pytest.raises(InvalidValue, match="got 'body.'; they begin with head, trunk"):
        attached(encoder(3), WarmStart(encoder(4).state_dict(), only="body."))


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
    with pytest.raises(InvalidValue, match="weights of a finished one, got run .* \\(diverged\\)"):
        bad = train(recipe.with_(optimizer={"name": "sgd", "lr": 1e30}), 0, store, **QUIET)
        train(recipe.with_(WarmStart(bad)), 1, store, **QUIET)
