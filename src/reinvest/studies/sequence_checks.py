"""What of a sequence can be refused before anything is trained: re-use that cannot work, and test data seen before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F

from ..core.errors import InvalidValue, StoreError, unknown
from ..core.recipe import Recipe
from ..core.view import NO_SPLIT, TEST, TRAIN, VALIDATION, TaskView, view_of
from ..loop.session import build_model, build_task
from ..methods.surgery.warm_start import partial_state
from ..reuse.fit import Source, check_data, class_map
from .policies import POLICIES, parsed
from .sequence_plan import SequencePlan

SCRATCH = {"reuse": "scratch"}

BLENDING = ("Mixup", "CutMix")
"""Methods that blend every example of a run: records leave blended ones out, so such a run has no rows."""


def policies_of(plan: SequencePlan, pool: Sequence[Any] = ()) -> dict[str, list[dict[str, Any]]]:
    """{arm: the policy of each position}: the arm's own, its fallback where that cannot apply, scratch at the first.

    pool: the runs from outside. Raises InvalidValue, with the reason, for a position where a policy cannot apply and
    has no fallback that can.
    """
    recipes = [plan.recipe(k, plan.durations[0]) for k in range(plan.length)]
    earlier = [_recipe_of(run) for run in pool]
    found: dict[str, list[dict[str, Any]]] = {}
    for arm, policy in plan.arms.items():
        found[arm] = []
        for k, recipe in enumerate(recipes):
            past = [*earlier, *recipes[:k]]
            found[arm].append(_at(arm, policy, k, recipe, past) if past else dict(SCRATCH))
    return found


def _at(
    arm: str, policy: Mapping[str, Any], position: int, recipe: Recipe, past: Sequence[Recipe | None]
) -> dict[str, Any]:
    name, options = parsed(policy)
    reason = unfit(name, options, recipe, past)
    if not reason:
        return {"reuse": name, **options}
    fallback = options.get("fallback")
    if fallback is not None:
        other, settings = parsed(fallback)
        second = unfit(other, settings, recipe, past)
        if not second:
            length = {"length": options["length"]} if "length" in options else {}
            return {"reuse": other, **settings, **length}
        reason = f"{reason}; and its fallback {other!r}: {second}"
    raise InvalidValue(
        f"a policy applies at every position, got {name!r} of arm {arm!r} at run {position + 1}, where it cannot "
        f"({reason}); give the arm a fallback such as 'fallback: {'warm start' if 'records' in name else 'records'}', or "
        "leave the arm out"
    )


def unfit(name: str, options: Mapping[str, Any], recipe: Recipe, past: Sequence[Recipe | None]) -> str:
    """Why a policy cannot make `recipe` from runs of the recipes `past` (None: unknown); "" if it can."""
    policy = POLICIES[name]
    # Which run will turn out best is not known before: any of them may teach.
    may_teach = past if options.get("choose") == "best" else past[-policy.most(options) :]
    for earlier in may_teach:
        if earlier is None or policy.needs == "nothing":
            continue
        try:
            if "records" in name:
                _refuse_moved(earlier)
            _fits(policy.needs, earlier, recipe, str(options.get("heads", "new")))
        except InvalidValue as error:
            return str(error)
    return ""


def _fits(needs: str, earlier: Recipe, later: Recipe, heads: str) -> None:
    view = _view(_key(later))
    if "rows" in needs and (blending := _blending(earlier)):
        raise InvalidValue(
            f"records hold examples as they are, got {blending}, which blends every example of the run that is to be "
            "re-used; re-use it by a warm start or a clean pass"
        )
    if "weights" in needs:
        _weights_fit(earlier, later, heads)
    known = _view(_key(earlier))
    source = Source(
        f"a run of {earlier.model['name']}",
        known.namespace,
        known.fingerprint,
        known.classes,
        known.class_names,
        known.preprocessing,
        None,
        None if known.roles is None else known.roles(),
    )
    check_data(source, view, by_id="rows" in needs)
    if needs != "weights":
        class_map(source, view, None)
    if "rows" in needs and known.roles is not None and view.roles is not None:
        theirs, ours = known.roles() == TRAIN, view.roles() == TRAIN
        shared = min(len(theirs), len(ours))
        if not bool((theirs[:shared] & ours[:shared]).any()):
            raise InvalidValue(
                "records know some of the training examples, got a run that trained on none of these; keep more of the "
                "older data, look at fewer runs (last: 1), or use another policy"
            )


def _refuse_moved(earlier: Recipe) -> None:
    if _moves_rows(_key(earlier)):
        raise InvalidValue(
            "rows of pixels or tokens are recorded where training views leave them in their place, got augment="
            f"{earlier.task.get('augment')!r}; leave it out, or re-use such a run by a warm start or a clean pass"
        )


@lru_cache(maxsize=64)
def _moves_rows(text: str) -> bool:
    """Whether examples have a label a pixel or token, and training views move those."""
    if not _view(text).moves:
        return False
    values = json.loads(text)
    task = build_task(Recipe(task=values["task"], model=values["model"]))
    *_, targets = next(iter(task.loader("train", values["batch_size"])))
    return bool(targets.ndim > 1)


def _blending(recipe: Recipe) -> str:
    """The method with which no example of a run is seen as it is, "" if there is none."""
    blending = [m for m in recipe.build_methods() if m.name in BLENDING and m.arguments.get("alpha") != 0]
    return blending[0].name if blending else ""


def _weights_fit(earlier: Recipe, later: Recipe, heads: str) -> None:
    tasks = build_task(earlier), build_task(later)
    states = [build_model(r, t, 0).state_dict() for r, t in zip((earlier, later), tasks, strict=True)]
    if heads == "refuse" and any(states[0][n].shape != t.shape for n, t in states[1].items() if n in states[0]):
        raise InvalidValue(
            "heads='refuse' takes runs with the same classes, got another number of them; write heads: new"
        )
    names = [_view(_key(r)).class_names for r in (earlier, later)]
    partial_state(states[0], states[1], old_names=names[0], new_names=names[1])


def _key(recipe: Recipe) -> str:
    return json.dumps({"task": recipe.task, "model": recipe.model, "batch_size": recipe.batch_size})


@lru_cache(maxsize=64)
def _view(text: str) -> TaskView:
    values = json.loads(text)
    task = build_task(Recipe(task=values["task"], model=values["model"]))
    return view_of(task.loader("train", values["batch_size"]))


def _recipe_of(run: Any) -> Recipe | None:
    """The recipe of a stored run; None for a run of an own loop."""
    try:
        return Recipe.from_dict(run.config)
    except (ValueError, TypeError):
        return None


def open_pool(plan: SequencePlan, store: Any) -> list[Any]:
    """The finished runs from outside. Raises InvalidValue for one that did not finish, UnknownName for one unknown."""
    runs = [store.get(reference) for reference in plan.pool]
    for run in runs:
        if run.status != "finished":
            raise InvalidValue(
                f"a pool holds finished runs, got run {run.id!r} ({run.status}); finish it or leave it out"
            )
        if run.seconds is None:
            raise StoreError(f"a teacher's cost is known, got run {run.id!r} without seconds; leave it out of the pool")
    return runs


def check_plan(plan: SequencePlan) -> tuple[str, bool]:
    """(metric, whether higher is better) of a plan whose data are sound.

    Raises UnknownName for a metric that training does not log, and InvalidValue where the test set changes although
    the classes do not, or where a run of the sequence would have trained on the test examples of another.
    """
    from ..evaluation.settings import direction

    recipes = [plan.recipe(k, plan.durations[0]) for k in range(plan.length)]
    task = build_task(recipes[0])
    metric = plan.metric or task.metric
    if metric not in (task.metric, "loss"):
        raise unknown(f"metric of task {recipes[0].task['name']!r}", metric, (task.metric, "loss"))
    _check_splits(plan, recipes)
    higher = bool(task.higher_is_better) if metric == task.metric else direction(metric)
    return metric, higher


def _check_splits(plan: SequencePlan, recipes: Sequence[Recipe]) -> None:
    told = [_view(_key(recipe)).roles for recipe in recipes]
    columns = [roles() for roles in told if roles is not None]
    if len(columns) < len(recipes):
        return
    # Data that really grow have more ids at later positions: the others do not have those at all.
    largest = max(map(len, columns))
    columns = [F.pad(role, (0, largest - len(role)), value=NO_SPLIT) for role in columns]
    seen = torch.zeros(largest, dtype=torch.bool)
    tests = []
    for k, role in enumerate(columns):
        test = role == TEST
        tests.append(test)
        seen |= (role == TRAIN) | (role == VALIDATION)
        if plan.setting != "new classes" and not bool((test == tests[0]).all()):
            raise InvalidValue(
                f"the test set stays along a sequence, got another one for run {k + 1}; change only the training data"
            )
    for k, test in enumerate(tests):
        leaked = int((test & seen).sum())
        if leaked:
            raise InvalidValue(
                f"no run of a sequence sees test data, got {leaked} test examples of run {k + 1} among the training "
                "or validation examples of another; keep one split for the whole sequence"
            )
