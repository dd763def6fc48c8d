"""A recipe that starts from an earlier run's weights: at a lower peak rate, with the whole schedule again."""

from __future__ import annotations

import inspect
import json
from typing import Any

from ..core.errors import InvalidValue
from ..core.protocols import find_run
from ..core.recipe import Recipe, optimizer_class
from ..methods.surgery.warm_start import WarmStart


def warm_recipe(recipe: Recipe, run: Any, *, rate: float = 1 / 3, **options: Any) -> Recipe:
    """The recipe with `WarmStart(run, **options)` and its learning rate multiplied by `rate`.

    run: a finished Run, or its id inside a store that lends its runs. rate: factor, above 0, on the peak of the
    learning rate (1.0 leaves it); the schedule stays as it is, so that the rate is warmed up and decays again. options:
    those of WarmStart (keep, noise, heads, norms, only).

    The models are compared by name and arguments (shapes are checked when training begins); a run of an own loop, whose
    settings name no model, is taken. Raises InvalidValue for a run that has not finished or trained another model,
    saying what differs, for a rate that is not above 0, and for a recipe that has a warm start already.
    """
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < float("inf"):
        raise InvalidValue(f"rate is a factor above 0 on the learning rate, got {rate!r}; 1/3 is usual, 1.0 leaves it")
    if any(m["name"] == "WarmStart" for m in recipe.methods):
        raise InvalidValue(
            f"a run starts from one set of weights, got a recipe with a WarmStart already ({recipe!r}); take it out"
        )
    found = find_run(run, "warm_recipe")
    if found.status != "finished":
        raise InvalidValue(
            f"a run starts from the weights of a finished one, got run {found.id!r}, which is {found.status}; "
            "finish it, or choose another"
        )
    _refuse_other_model(recipe, found)
    lr = recipe.optimizer.get("lr")
    if lr is None:
        lr = inspect.signature(optimizer_class(recipe.optimizer["name"])).parameters["lr"].default
    return recipe.with_(WarmStart(found.id, **options), optimizer={**recipe.optimizer, "lr": lr * rate})


def _refuse_other_model(recipe: Recipe, run: Any) -> None:
    spec = run.config.get("model")
    if spec is None:
        return
    old, new = (_canonical(recipe, model) for model in (spec, recipe.model))
    unlike = sorted(k for k in {*old, *new} if old.get(k, "the default") != new.get(k, "the default"))
    if unlike:
        pairs = ", ".join(f"{k} {old.get(k, 'the default')!r} for {new.get(k, 'the default')!r}" for k in unlike)
        raise InvalidValue(
            f"weights start the model that they were trained in, got run {run.id!r} with {pairs}; "
            "use its model, grow it (reinvest.reuse.grow), or distil from it"
        )


def _canonical(recipe: Recipe, model: Any) -> dict[str, Any]:
    """A model's spec without the arguments that are defaults."""
    found: dict[str, Any] = json.loads(Recipe(task=recipe.task, model=model).canonical())["model"]
    return found
