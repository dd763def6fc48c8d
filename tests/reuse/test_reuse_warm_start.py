"""Recipes that start from an earlier run."""

from __future__ import annotations

import pytest
import torch

from reinvest._testing.compare import differences
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.methods.targets.label_smoothing import LabelSmoothing
from reinvest.reuse.grow import grow
from reinvest.reuse.warm_start import warm_recipe
from reinvest.store import Store
from reinvest.testbed.models.mlp import mlp

PLAIN = Recipe(task="digits", model={"name": "mlp", "hidden": [8]}, duration="6st", batch_size=64)
QUIET = {"device": "cpu", "progress": False, "evaluations": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("warm") / "runs") as opened:
        yield opened


@pytest.fixture(scope="module")
def past(store):
    return train(PLAIN, 0, store, **QUIET)


def test_the_rate_falls_and_the_schedule_stays(past):
    recipe = PLAIN.with_(LabelSmoothing(0.1))
    warm = warm_recipe(recipe, past, keep=0.6, noise=0.4)
    assert warm.optimizer == {**PLAIN.optimizer, "lr": PLAIN.optimizer["lr"] / 3}
    assert warm.schedule == PLAIN.schedule and warm.parents == (past.id,)
    assert warm.methods == (*recipe.methods, {"name": "WarmStart", "run": past.id, "keep": 0.6, "noise": 0.4})
    assert Recipe.from_dict(warm.to_dict()) == warm
    assert warm_recipe(PLAIN, past, rate=1.0).optimizer == PLAIN.optimizer
    named = PLAIN.with_(optimizer="adamw")
    assert warm_recipe(named, past, rate=0.5).optimizer["lr"] == pytest.approx(5e-4), (
        "half of the optimizer's own default"
    )


def test_a_run_starts_where_the_earlier_one_ended(store, past):
    still = PLAIN.with_(optimizer={"name": "sgd", "lr": 1e-30}, duration="1st")
    run = train(warm_recipe(still, past), 1, store, **QUIET)
    assert differences(dict(run.weights()), dict(past.weights())) == []
    assert run.parents == [past.id] and run.reuse == [{"run": past.id, "how": "warm start"}]
    assert run.cost["seconds"] > 0
    scratch = train(still, 1, store, **QUIET)
    wanted = 0.5 * past.weights()["layers.0.weight"] + 0.5 * scratch.weights()["layers.0.weight"]
    mixed = train(warm_recipe(still, past, keep=0.5, noise=0.5), 1, store, **QUIET)
    assert torch.allclose(mixed.weights()["layers.0.weight"], wanted, atol=1e-7)


def test_an_interrupted_warm_run_goes_on_bit_for_bit(store, past, tmp_path):
    """A warm run resumes from its own state, not from its parent's weights."""
    recipe = warm_recipe(PLAIN, past)
    whole = train(recipe, 5, store, **QUIET)
    again = Store(tmp_path / "copy")
    parent = train(PLAIN, 0, again, **QUIET)
    assert parent.id == past.id
    stops = iter([False, False, True])

    def stop(self, step, loss):
        if next(stops, False):
            raise KeyboardInterrupt

    from reinvest.loop import train as loop

    checks, bar = loop.CHECK_EVERY["cpu"], loop.Bar.update
    loop.CHECK_EVERY["cpu"], loop.Bar.update = 1, stop
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, 5, again, checkpoint_seconds=0.0, **QUIET)
    finally:
        loop.CHECK_EVERY["cpu"], loop.Bar.update = checks, bar
    (run,) = (r for r in again.runs() if r.status == "interrupted")
    assert (run.path / "state.pt").exists()
    resumed = train(recipe, 5, again, **QUIET)
    assert resumed.id == run.id and differences(dict(resumed.weights()), dict(whole.weights())) == []


def test_a_grown_net_is_a_run_to_start_from(store, past):
    model = grow(past, mlp(input_shape=(1, 8, 8), classes=10, hidden=[20]))
    with store.record("grown", task="digits", parents=[past], records=False) as writer:
        writer.save_weights(model.state_dict())
    still = PLAIN.with_(model={"name": "mlp", "hidden": [20]}, optimizer={"name": "sgd", "lr": 1e-30}, duration="1st")
    run = train(warm_recipe(still, writer.run), 1, store, **QUIET)
    assert run.quality("accuracy") == pytest.approx(past.quality("accuracy"))


def test_what_cannot_start_is_refused(store, past):
    with pytest.raises(InvalidValue, match=r"hidden \[8\] for 'the default'"):
        warm_recipe(PLAIN.with_(model="mlp"), past)
    with pytest.raises(InvalidValue, match=r"name 'mlp' for 'convnet'"):
        warm_recipe(PLAIN.with_(model="convnet"), past)
    for rate in (0, -1, float("inf"), "third"):
        with pytest.raises(InvalidValue, match="rate is a factor"):
            warm_recipe(PLAIN, past, rate=rate)
    with pytest.raises(InvalidValue, match="WarmStart already"):
        warm_recipe(warm_recipe(PLAIN, past), past)
    with pytest.raises(InvalidValue, match="no store"):
        warm_recipe(PLAIN, past.id)
    with store.lending():
        assert warm_recipe(PLAIN, past.id) == warm_recipe(PLAIN, past)
        with pytest.raises(UnknownName):
            warm_recipe(PLAIN, "ffffffffffffffff")
    with pytest.raises(KeyboardInterrupt), store.record("killed", task="digits") as writer:
        raise KeyboardInterrupt
    with pytest.raises(InvalidValue, match="is interrupted"):
        warm_recipe(PLAIN, writer.run)
    other = train(PLAIN.with_(model={"name": "mlp", "hidden": [9]}), 0, store, **QUIET)
    from reinvest.methods.surgery.warm_start import WarmStart

    with pytest.raises(InvalidValue, match=r"another shape: layers.0.weight \[9, 64\] for \[8, 64\]"):
        train(PLAIN.with_(WarmStart(other)), 3, store, **QUIET)
