"""Runs whose quality and cost are formulas, and a store that holds them: what a study must find is known."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reinvest.core.recipe import Recipe
from reinvest.evaluation.timing import ArmTiming, Block, steps_of
from reinvest.loop.session import run_identity
from reinvest.studies.sequence_cost import PLAIN, Prices, price_name, shape_of
from reinvest.studies.sequence_plan import SequencePlan

FACTS: dict[str, Any] = {"hardware": {"device": "none", "threads": 1}, "software": {"torch": "2.13.0"}}
STEP = 0.01
"""Seconds of a plain step on the fakes' own clock."""

PLAN: dict[str, Any] = {
    "title": "Planted",
    "base": {
        "task": {"name": "digits", "train_examples": 128},
        "model": {"name": "mlp", "hidden": [8]},
        "batch_size": 64,
        "optimizer": {"name": "sgd", "lr": 0.1},
    },
    "positions": 3,
    "arms": {"scratch": {"reuse": "scratch"}, "records": {"reuse": "records"}},
    "durations": ["40st", "80st", "160st", "320st"],
    "sequences": 5,
}


def plan_of(**changes: Any) -> SequencePlan:
    """`PLAN` with changes (None removes a field)."""
    return SequencePlan.from_dict({k: v for k, v in {**PLAN, **changes}.items() if v is not None})


class FakeRun:
    """What a study reads of a run."""

    def __init__(
        self, recipe: Recipe, seed: int, quality: float, *, once: float = 0.0, status: str = "finished"
    ) -> None:
        self.identity = run_identity(recipe, seed)
        self.id, self.seed, self.status = self.identity[:16], seed, status
        self.steps = steps_of(recipe)
        self.seconds: float | None = self.steps * STEP + once
        self.cost: dict[str, Any] = {"one_off_seconds": once} if once else {}
        self.config, self.facts, self.value = recipe.to_dict(), FACTS, quality
        self.parents = list(recipe.parents)

    def quality(self, metric: str, split: str = "test") -> float:
        assert (metric, split) == ("accuracy", "test")
        return self.value


class FakeStore:
    """Finds runs by identity and by id."""

    def __init__(self, path: Path) -> None:
        self.path, self.runs = path, dict[str, FakeRun]()

    def find(self, identity: str, *, status: Any) -> FakeRun | None:
        run = self.runs.get(identity)
        return run if run is not None and run.status in status else None

    def get(self, run: str) -> FakeRun:
        return next(r for r in self.runs.values() if r.id.startswith(run))

    def put(self, run: FakeRun) -> FakeRun:
        self.runs[run.identity] = run
        return run

    @contextlib.contextmanager
    def lending(self) -> Iterator[FakeStore]:
        yield self


class Trainer:
    """Trains by formula: quality(recipe, steps) plus noise drawn from the seed; counts what it was asked for."""

    def __init__(
        self,
        quality: Callable[[Recipe, int], float],
        *,
        noise: float = 0.0,
        once: float = 0.0,
        diverges: Callable[[Recipe, int], bool] = lambda recipe, seed: False,
        stop_after: int | None = None,
    ) -> None:
        self.quality, self.noise, self.once, self.diverges, self.stop_after = quality, noise, once, diverges, stop_after
        self.calls: list[tuple[str, int]] = []

    def __call__(self, recipe: Recipe, seed: int, store: FakeStore) -> FakeRun:
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((recipe.canonical(), seed))
        drawn = float(np.random.default_rng(seed).standard_normal())
        value = self.quality(recipe, steps_of(recipe)) + self.noise * drawn
        status = "diverged" if self.diverges(recipe, seed) else "finished"
        return store.put(FakeRun(recipe, seed, value, once=self.once if recipe.methods else 0.0, status=status))


def curve(steps: float) -> float:
    """Accuracy after so many plain steps."""
    return 0.97 - 0.20 * (steps / 40) ** -0.6


def taught(recipe: Recipe) -> bool:
    """Whether a recipe re-uses anything."""
    return bool(recipe.methods)


def planted(speedup: float) -> Callable[[Recipe, int], float]:
    """Runs that re-use are as good as plain ones of `speedup` times their steps."""
    return lambda recipe, steps: curve(steps * (speedup if taught(recipe) else 1.0))


def priced(
    plan: SequencePlan,
    ratios: dict[str, float],
    variance: float = 1e-6,
    each: float = 0.002,
    teachers: Callable[[str], Any] = lambda run: None,
) -> Prices:
    """A timing block in which a step of the recipe that has `method` costs `ratio` times a plain one."""
    blocks = {}
    for k in range(plan.length):
        plain = plan.recipe(k, plan.durations[0])
        arms = {PLAIN: ArmTiming({("", 0): each}, each, 0.0, 0.0, 9.0)}
        for name, ratio in ratios.items():
            arms[name] = ArmTiming({("", 0): each * ratio}, each * ratio, math.log(ratio), variance, 7.0)
        blocks[shape_of(plain)] = Block(10, "cpu", 1.0, arms, [])
    return Prices(blocks, {}, teachers)


def name_of(plan: SequencePlan, arm: str, position: int = 1) -> str:
    """Name in the block of an arm's follower."""
    from reinvest.studies.policies import apply

    class Stand:
        id = "0" * 16

    plain = plan.recipe(position, plan.durations[0])
    return price_name(apply(plan.arms[arm], plain, [Stand()]), plain, lambda run: None)
