"""A stored run's model, built again from the recipe it was trained with."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from ..core import names
from ..core.chain import Methods, NoEffectWarning
from ..core.errors import InvalidValue
from ..core.method import Context
from ..core.protocols import current_recorder
from ..core.recipe import Recipe, identity
from ..store.forks import parts_of


def model_of(run: Any, context: Context) -> nn.Module:
    """A run's model with its weights, in eval mode, on the student's device; built from the recipe it was trained with.

    Raises InvalidValue for a run of an own loop, whose model only its author can build, and where the weights do not
    fit the model any more.
    """
    spec = run.config.get("model") if isinstance(run.config, dict) else None
    if not isinstance(spec, dict) or "name" not in spec or "task" not in run.config:
        raise InvalidValue(
            f"the model of a run is built from its recipe, got run {run.id!r} of an own loop; build the model, load "
            "run.weights() into it and pass the model, or use source='records'"
        )
    weights = run.weights()
    known = run.training.get("data") or {}
    factory = names.resolve("model", spec["name"])
    arguments = {k: v for k, v in spec.items() if k != "name"}
    classes = known.get("classes") or context.task.classes
    with torch.random.fork_rng():
        model: nn.Module = factory(input_shape=_input_shape(context), classes=classes, **arguments)
    as_trained = ":" not in spec["name"] or _is_as_trained(run, model)
    operate(model, run)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InvalidValue(
            f"a run's weights fit the model of its recipe, got run {run.id!r} and {spec['name']!r}, which do not "
            f"({reason}); restore the code that it was trained with"
        ) from None
    if not as_trained:
        raise InvalidValue(
            f"a run's model is built by the code that it was trained with, got {spec['name']!r}, which has changed since "
            f"run {run.id!r}; restore that code, or use source='records'"
        )
    return model.to(context.device).eval().requires_grad_(False)


def operate(model: nn.Module, run: Any) -> None:
    """Make the changes to the model, in place, that the methods of the run's recipe had made when its weights were saved."""
    recipe = Recipe.from_dict(run.config)
    surgery = [method for method in recipe.build_methods() if method.changes_model]
    if not surgery:
        return
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    token = current_recorder.set(None)  # this is no part of the run that is being recorded
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore", NoEffectWarning)
            with Methods(*surgery).attach(
                model, optimizer, duration="1st", data=[0], seed=recipe.seed_of("methods", run.seed)
            ):
                pass
    finally:
        current_recorder.reset(token)


def _is_as_trained(run: Any, model: nn.Module) -> bool:
    """Whether recipe, code and model still make the run's identity."""
    layout = [(n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in model.state_dict().items()]
    fingerprint = (run.training.get("data") or {}).get("fingerprint") or ""
    recipe = Recipe.from_dict(run.config)
    parents = tuple({*parts_of(run), *recipe.parents})
    return bool(identity(recipe, run.seed, fingerprint=fingerprint, layout=layout, parents=parents) == run.identity)


def _input_shape(context: Context) -> tuple[int, ...]:
    if context.task.clean is None:
        raise InvalidValue(
            "building a run's model needs the shape of the inputs, got a loader that does not tell; "
            "build the model yourself, load run.weights() and pass the model"
        )
    _, x, _ = next(iter(context.task.clean(1)))
    return tuple(x.shape[1:])
