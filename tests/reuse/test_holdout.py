"""Irreducible losses: of examples that a run was not trained on, by its model as it is evaluated."""

from __future__ import annotations

import dataclasses
import types

import pytest
import torch
from torch.nn import functional as F

from reinvest.core import names
from reinvest.core.errors import InvalidValue, StoreError
from reinvest.core.view import TRAIN, TaskView
from reinvest.loop.session import build_task
from reinvest.loop.train import train
from reinvest.methods.select.reducible_loss import ReducibleLossSelection
from reinvest.methods.surgery.warm_start import WarmStart
from reinvest.reuse.fit import ReuseWarning
from reinvest.reuse.holdout import read_holdout
from reinvest.reuse.models import model_of
from reinvest.reuse.selection import read_scores
from reinvest.store import Store
from teaching import QUIET, small


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """(store, runs on digits 0..199 and 200..399 of the training split)."""
    with Store(tmp_path_factory.mktemp("halves") / "runs") as store:
        yield store, train(small(), 0, store, **QUIET), train(small(400, train_start=200), 0, store, **QUIET)


def context_of(recipe, **changed):
    view = build_task(recipe).loader("train", 50).view
    view = dataclasses.replace(view, **changed)
    return types.SimpleNamespace(task=view, device=torch.device("cpu"), criterion=view.criterion)


def ids_of(recipe):
    return build_task(recipe).splits["train"]


def test_they_are_the_losses_of_the_other_model(halves):
    _, one, _ = halves
    recipe = small(400, train_start=200)
    assert names.resolve("scores", "holdout") is read_holdout
    context = context_of(recipe)
    found = read_holdout([one], context)
    ids = ids_of(recipe)
    assert set((~found.isnan()).nonzero()[:, 0].tolist()) == set(ids.tolist())
    model, wanted = model_of(one, context), torch.zeros(len(found))
    for own, x, y in build_task(recipe).clean(64, ids):
        wanted[own] = F.cross_entropy(model(x), y, reduction="none").detach()
    assert torch.allclose(found[ids], wanted[ids], atol=1e-5)


def test_two_runs_on_a_half_each_look_at_each_others(halves):
    _, one, two = halves
    context = context_of(small(400))
    both = read_holdout([one, two], context)
    first, second = read_holdout([one], context), read_holdout([two], context)
    old, new = ids_of(small()), ids_of(small(400, train_start=200))
    assert first[old].isnan().all() and second[new].isnan().all()
    assert torch.equal(both[old], second[old]) and torch.equal(both[new], first[new])


def test_a_run_that_was_trained_on_all_examples_is_refused(halves):
    _, one, _ = halves
    with pytest.raises(InvalidValue, match=r"trained on all 200; train one on others, or use source='records'"):
        read_holdout([one], context_of(small()))
    assert not read_scores([one], context_of(small()), loss="last")[ids_of(small())].isnan().any()


def test_what_a_run_was_made_from_counts_as_seen(halves):
    store, one, _ = halves
    warm = train(small(400, train_start=200).with_(WarmStart(one.id)), 0, store, **QUIET)
    with pytest.raises(InvalidValue, match="trained on all 200"):
        read_holdout([warm], context_of(small()))


def test_an_origin_that_is_gone_is_told_of(halves, tmp_path):
    """What it was trained on cannot be left out, so losses of memorised examples may be among the irreducible ones."""
    with Store(tmp_path / "runs") as store:
        origin = train(small(), 0, store, **QUIET)
        warm = train(small(400, train_start=200).with_(WarmStart(origin.id)), 0, store, **QUIET)
        context = context_of(small())
        with pytest.raises(InvalidValue, match="trained on all 200"):
            read_holdout([warm], context)
        origin.path.rename(tmp_path / "elsewhere")
        with pytest.warns(ReuseWarning, match=f"'{warm.id}' was made from '{origin.id}', which is gone"):
            assert read_holdout([warm], context).isfinite().any()


def test_what_cannot_be_looked_at_is_refused(halves):
    store, one, _ = halves
    recipe = small(400, train_start=200)
    with pytest.raises(InvalidValue, match="does not offer them"):
        read_holdout([one], context_of(recipe, clean=None))
    with pytest.raises(InvalidValue, match="does not offer them"):
        read_holdout([one], types.SimpleNamespace(task=TaskView()))
    leaking = context_of(recipe)
    roles = leaking.task.roles().clone()
    roles[ids_of(small())] = 3
    with pytest.raises(InvalidValue, match="test examples, got 200"):
        read_holdout([one], context_of(recipe, roles=lambda: roles, fingerprint="other"))
    with store.record("mute", task="digits", facts={}, records=False, seed=0) as writer:
        pass
    with pytest.raises((StoreError, InvalidValue)):
        read_holdout([writer.run], context_of(recipe))


def test_a_recipe_selects_by_a_run_on_other_examples(halves):
    store, one, _ = halves
    recipe = small(400, "3ep", train_start=200).with_(ReducibleLossSelection(one.id, keep=0.2))
    assert recipe.parents == (one.id,)
    made = train(recipe, 0, store, **QUIET)
    assert made.status == "finished" and made.reuse == [{"run": one.id, "how": "data"}]
    seen = (~made.records().loss.isnan()).sum(1).tolist()
    assert seen == [40, 40, 40], "a fifth of each of four batches of 50"
    roles = made.records().roles
    assert int((roles == TRAIN).sum()) == 200
    free = train(small(200, "3ep").with_(ReducibleLossSelection(one.id, keep=0.2, source="records")), 0, store, **QUIET)
    assert free.status == "finished"
