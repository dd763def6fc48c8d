"""Which runs a spread is over: named, filtered or found by their recipe, all of one recipe and one test set."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import DataError, InvalidValue, ReinvestError
from ..core.recipe import Recipe
from ..evaluation.settings import direction
from ..loop.session import build_task
from ..loop.train import full_id
from .outcome_runs import LeftOut, by_same_code, decided, fingerprint_of, one_a_seed, one_recipe

ENDED = ("finished", "diverged")
LEAVE = "leave it out, or name the recipe with --recipe (recipe=...)"


@dataclass(frozen=True)
class Chosen:
    """Runs of one recipe, or of one own loop, by seed. finished, diverged: those that count; left: those that do not, and
    why. recipe: None of an own loop."""

    finished: tuple[Any, ...]
    diverged: tuple[Any, ...] = ()
    left: tuple[LeftOut, ...] = ()
    recipe: Recipe | None = None

    @property
    def model(self) -> str:
        """The model's name, of an own loop the run's."""
        return str(self.recipe.model["name"] if self.recipe is not None else self.finished[0].name)

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.finished[0].task)


def choose(store: Any, *, runs: Sequence[str] = (), where: str | None = None, recipe: Recipe | None = None) -> Chosen:
    """The runs that are named (beginnings of ids do), that a filter finds, or that are of a recipe: one of the three.

    Runs that a filter or recipe finds and that did not end, or were trained by other code than the newest, are left out
    and named. Raises InvalidValue for fewer than 2 finished runs, for several recipes, for a named run that did not end,
    UnknownName for an unknown run, DataError for different test sets.
    """
    if sum((bool(runs), where is not None, recipe is not None)) != 1:
        raise InvalidValue(
            f"a spread is over runs that are named, or filtered, or of a recipe, got {len(runs)} names, filter {where!r} and "
            f"{'a' if recipe is not None else 'no'} recipe; give one of the three"
        )
    if recipe is not None:
        found = of_recipe(store, recipe)
    else:
        found = list({r.id: r for r in (map(store.get, runs) if runs else store.runs(where=where))}.values())
    for run in found if runs else ():
        if run.status not in ENDED:
            raise InvalidValue(
                f"a spread is over runs that ended, got run {run.id!r}, which is {run.status}; train it to its end or leave it out"
            )
    left = [LeftOut(run.id, run.seed, run.status) for run in found if run.status not in ENDED]
    ended, twice = one_a_seed([run for run in found if run.status in ENDED])
    return sorted_out(ended, [*left, *twice], strict=bool(runs))


def of_recipe(store: Any, recipe: Recipe) -> list[Any]:
    """All runs of a recipe in a store, whatever became of them."""
    wanted = recipe.resolved(functools.partial(full_id, store))
    key = wanted.canonical(), tuple(sorted(wanted.parents))
    found = []
    for run in store.runs(task=wanted.task["name"]):
        try:
            if decided(run) == key:
                found.append(run)
        except ReinvestError:
            continue  # an own loop, or a factory that is gone
    return found


def sorted_out(ended: Sequence[Any], left: Sequence[LeftOut] = (), *, strict: bool = False) -> Chosen:
    """The finished and the diverged of runs that ended; strict: runs of other code are refused, not left out."""
    finished = sorted((run for run in ended if run.status == "finished"), key=lambda run: (run.seed, run.id))
    if len(finished) < 2:
        raise InvalidValue(
            f"a spread is over 2 finished runs or more (5 are advised), got {len(finished)}; train the recipe with more seeds"
        )
    recipe = _one_kind(ended)
    _one_test_set(finished)
    if recipe is not None:
        newest = max(finished, key=lambda run: run.created)
        finished, others = _same_code(newest, finished)
        if others and (strict or len(finished) < 2):
            raise InvalidValue(
                f"a spread is over runs that were trained by the same code, got run {others[0].run!r} by other code than run "
                f"{newest.id!r}; leave it out, and train more seeds with today's code"
            )
        left = [*left, *others]
    return Chosen(tuple(finished), tuple(run for run in ended if run.status == "diverged"), tuple(left), recipe)


def _same_code(newest: Any, runs: list[Any]) -> tuple[list[Any], list[LeftOut]]:
    try:
        return by_same_code(newest, runs)
    except ReinvestError:
        return runs, []  # data or a factory are gone, and only what was logged can be told


def _one_kind(runs: Sequence[Any]) -> Recipe | None:
    """The recipe of runs, which is one; None of runs of one own loop."""
    loops = [not {"task", "model"} <= set(run.config) for run in runs]
    if not any(loops):
        one_recipe(runs, LEAVE)
        return Recipe.from_dict(runs[0].config)
    configs = [{name: value for name, value in run.config.items() if name != "seed"} for run in runs]
    keys = [
        json.dumps([run.task, config, sorted(run.parents)], sort_keys=True)
        for run, config in zip(runs, configs, strict=True)
    ]
    other = next((run for run, key in zip(runs, keys, strict=True) if key != keys[0]), None)
    if other is not None:
        raise InvalidValue(
            f"these runs are of one loop with one set of settings, all but the seed, got run {other.id!r} with others than run "
            f"{runs[0].id!r}; leave it out"
        )
    return None


def _one_test_set(runs: Sequence[Any]) -> None:
    known = [(run, fingerprint_of(run)) for run in runs if fingerprint_of(run)]
    for run, fingerprint in known[1:]:
        if fingerprint != known[0][1]:
            raise DataError(
                f"a spread is over one test set, got run {run.id!r} on other data or splits than run {known[0][0].id!r} "
                "(another fingerprint); leave it out"
            )


def metric_of(chosen: Chosen, metric: str | None, split: str) -> tuple[str, bool, int | None]:
    """The metric that is compared, whether higher is better, and the number of examples of the split (None: not known)."""
    if chosen.recipe is None:
        known = list(chosen.finished[0].last.get(split, {}))
        if metric is None and len(known) != 1:
            raise InvalidValue(
                f"runs of an own loop are compared by one metric, got {', '.join(known) or 'none'} on {split}; name it with "
                "--metric"
            )
        name = metric or known[0]
        return name, direction(name), None
    task = build_task(chosen.recipe)
    name = metric or task.metric
    size = task.test_examples if split == "test" else len(getattr(task, "splits", {}).get(split, ()))
    return name, task.higher_is_better if name == task.metric else direction(name), int(size) or None
