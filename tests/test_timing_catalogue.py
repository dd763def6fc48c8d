"""Every method of the catalogue bears being stepped as the timing block does: any stratum, at any time, many times.

And it does in a stratum what the run does there, whatever was stepped before: as many examples, of that size, as often, and
as many parameters that learn. A method that stays frozen from the end of one round to the beginning of the next would be
timed as cheaper than it is.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from contract_cases import CASES
from contract_setups import CONTRACTS, OwnSetup
from reinvest._testing.library import LibrarySetup
from reinvest.core.names import catalogue
from reinvest.core.recipe import Recipe
from reinvest.evaluation.timing import Stratum, _Runner, steps_of
from reinvest.testing import MethodContract

METHODS = catalogue("method")
EPOCHS = 8
"""Longer than the contract's three, so that windows of progress begin and end between tenths."""


def recipe_of(name: str) -> tuple[Recipe, int]:
    """The method, acting, on the data and model of its contract, and the seed of those data."""
    setup: Any = CONTRACTS.get(name, MethodContract).setup
    if not isinstance(setup, OwnSetup):
        setup = LibrarySetup()
    recipe: Recipe = setup.recipe([METHODS[name](**CASES[name].acting(METHODS[name]))])
    return replace(recipe, duration=f"{EPOCHS}ep"), setup.seed


def orders(strata: Sequence[Stratum]) -> dict[str, list[Stratum]]:
    """As a round of a block has them; backwards through the run; anyhow, for longer than an epoch."""
    anyhow = [s for s in strata for _ in range(3)]
    random.Random(0).shuffle(anyhow)
    return {
        "as in a block": [s for tenth in range(10) for _ in range(4) for s in strata if s[1] == tenth],
        "backwards": [s for s in reversed(strata) for _ in range(2)],
        "anyhow": anyhow,
    }


class Watched:
    """A runner that tells what each step did: shapes of the batches that the model saw, and the parameters that learn."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.runner = _Runner(recipe, seed, torch.device("cpu"), steps_of(recipe, seed))
        self._seen: list[tuple[Any, ...]] = []
        self._uneven = int(any(getattr(m, "uneven", False) for m in self.runner.methods.members))
        self.model = self.runner.session.model
        self.model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, model: Any, args: Any, kwargs: Any) -> None:
        # How many of a batch an uneven method keeps depends on which examples are in it.
        shapes = [tuple(a.shape[self._uneven :]) for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
        self._seen.append((*shapes, torch.is_grad_enabled()))

    def step(self, stratum: Stratum) -> tuple[Any, ...]:
        self._seen.clear()
        self.runner.step(stratum)
        return (*self._seen, sum(p.numel() for p in self.model.parameters() if p.requires_grad))


def in_order(recipe: Recipe, seed: int) -> dict[Stratum, set[tuple[Any, ...]]]:
    """What the steps of each stratum do in a run from its first step to its last."""
    watched = Watched(recipe, seed)
    steps = {n: stratum for stratum, numbers in watched.runner.steps.items() for n in numbers}
    assert sorted(steps) == list(range(steps_of(recipe, seed)))
    found: dict[Stratum, set[tuple[Any, ...]]] = {}
    for number in sorted(steps):
        found.setdefault(steps[number], set()).add(watched.step(steps[number]))
        assert watched.runner.methods.context.step == number + 1
    watched.runner.close()
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_method_bears_being_timed(name: str) -> None:
    recipe, seed = recipe_of(name)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("error")
        usual = in_order(recipe, seed)
        watched = Watched(recipe, seed)
        before = {n: p.detach().clone() for n, p in watched.model.named_parameters()}
        for order, strata in orders(list(watched.runner.counts)).items():
            for stratum in strata:
                assert watched.step(stratum) in usual[stratum], (order, stratum)
        watched.runner.methods.members[0].findings()
        now = dict(watched.model.named_parameters())
        assert all(bool(p.isfinite().all()) for p in now.values())
        assert any(not torch.equal(p, before[n]) for n, p in now.items() if n in before), "no step moved a weight"
        watched.runner.close()
