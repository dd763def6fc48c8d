"""Seeds for single sources of randomness: each decides its own draws and no others, and identities stay as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.recipe import SOURCES, Recipe
from reinvest.loop.session import Session, run_identity
from reinvest.loop.train import train
from reinvest.store import Store


def dropping(*, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A small model that draws while it trains."""
    size = torch.Size(input_shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, classes))


RECIPE = Recipe(
    task={"name": "digits", "train_examples": 200, "augment": "crop-flip"},
    model="test_source_seeds:dropping",
    duration="2ep",
    batch_size=50,
    methods=["Mixup"],
)


def first_batch(recipe: Recipe, seed: int) -> dict[str, Any]:
    """What each source but the dropout gave for the first batch."""
    session = Session(recipe, seed)
    with session.attached() as methods:
        ids, x, _ = next(iter(session.loader(0, 0)))
        drawn = methods.context.seed
    rows = ids.argsort()
    return {"init": session.model[1].weight.detach(), "order": ids, "augment": x[rows], "methods": drawn}  # type: ignore[index,union-attr]


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def weights(recipe: Recipe, seed: int, store: Store) -> dict[str, Tensor]:
    run = train(recipe, seed, store, device="cpu", progress=False, evaluations=1)
    return {name: tensor.clone() for name, tensor in run.weights().items()}


def test_without_seeds_the_text_of_a_recipe_is_as_it_always_was() -> None:
    assert '"seeds"' not in RECIPE.canonical() and "seeds" not in RECIPE.to_dict()
    assert RECIPE.with_(seeds={}).canonical() == RECIPE.canonical()
    assert run_identity(RECIPE.with_(seeds={}), 3) == run_identity(RECIPE, 3)
    fixed = RECIPE.with_(seeds={"order": 7, "init": 3})
    assert json.loads(fixed.canonical())["seeds"] == {"init": 3, "order": 7}
    assert Recipe.from_dict(json.loads(json.dumps(fixed.to_dict()))) == fixed
    assert run_identity(fixed, 3) != run_identity(RECIPE, 3)


@pytest.mark.parametrize("source", [s for s in SOURCES if s != "dropout"])
def test_a_source_of_its_own_seed_draws_as_a_run_of_that_seed_and_leaves_the_others(source: str) -> None:
    plain, other = first_batch(RECIPE, 3), first_batch(RECIPE, 7)
    mixed = first_batch(RECIPE.with_(seeds={source: 7}), 3)
    for name in plain:
        if name == "augment" and source == "order":
            continue  # other examples come first, so there is nothing to set side by side
        if name == source == "augment":
            assert not same(mixed[name], plain[name])
        else:
            assert same(mixed[name], other[name] if name == source else plain[name]), name
            assert not same(plain[name], other[name]), name


def test_views_of_an_example_are_those_of_the_seed_for_views_whatever_the_order() -> None:
    def view(recipe: Recipe, seed: int) -> dict[int, Tensor]:
        session = Session(recipe, seed)
        found: dict[int, Tensor] = {}
        with session.attached():
            for ids, x, _ in session.loader(1, 0):
                found |= dict(zip(ids.tolist(), x, strict=True))
        return found

    own, kept = view(RECIPE, 3), view(RECIPE.with_(seeds={"augment": 3}), 8)
    assert sorted(own) == sorted(kept) and all(torch.equal(own[k], kept[k]) for k in own)
    assert not all(torch.equal(own[k], x) for k, x in view(RECIPE, 8).items())


def test_with_every_source_fixed_runs_of_different_seeds_are_bit_for_bit_the_same(tmp_path: Path) -> None:
    fixed = RECIPE.with_(seeds=dict.fromkeys(SOURCES, 5))
    with Store(tmp_path) as store:
        first, again, plain = weights(fixed, 0, store), weights(fixed, 1, store), weights(RECIPE, 5, store)
        assert len(store.runs()) == 3, "the seed still names the run"
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]) and torch.equal(tensor, plain[name]), name


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_left_free_makes_runs_differ(source: str, tmp_path: Path) -> None:
    free = RECIPE.with_(seeds={name: 5 for name in SOURCES if name != source})
    with Store(tmp_path) as store:
        first, other = weights(free, 0, store), weights(free, 1, store)
    assert not all(torch.equal(tensor, other[name]) for name, tensor in first.items())


@pytest.mark.parametrize("value", [3, ["init"], "init", {"init": 1.5}, {"order": True}, {"order": None}])
def test_what_is_no_seed_for_a_source_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"seeds (are|is) .*, got .*; write"):
        RECIPE.with_(seeds=value)


def test_unknown_sources_list_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"'initial'.*did you mean 'init'.*augment, dropout, init, methods, order"):
        RECIPE.with_(seeds={"initial": 1})


def test_a_task_that_cannot_be_told_its_views_refuses_a_seed_for_them() -> None:
    session = Session(RECIPE.with_(seeds={"augment": 1}), 0)
    with session.attached():
        own = session.task.loader

        class Task:
            def loader(self, split: str, batch_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0) -> Any:
                return own(split, batch_size, seed=seed, epoch=epoch, start=start)

        session.task = Task()  # type: ignore[assignment]
        with pytest.raises(
            InvalidValue, match=r"needs a task whose loader takes views=\(seed, epoch\).*leave augment out"
        ):
            session.loader(0, 0)
