"""Search spaces: which values of a recipe are tuned, over what, and the recipe that a proposal makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import InvalidValue, ReinvestError, unknown
from ..core.recipe import Recipe

WITH_ARGUMENTS = ("model", "optimizer", "schedule")
PLAIN = ("batch_size", "precision")
FIXED = {
    "task": "the task stays as it is, because arms are compared on one task",
    "duration": "the duration stays as it is, because trials of one length share a budget",
}


@dataclass(frozen=True)
class Range:
    """Every number from low to high, both included; log: drawn evenly on a log scale; whole: whole numbers only."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def ends(self) -> tuple[float, float]:
        """What has to make a recipe for the others to do so."""
        return self.low, self.high


@dataclass(frozen=True)
class Choices:
    """One of these plain values; no order is assumed."""

    values: tuple[Any, ...]

    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values


Axis = Range | Choices
Space = Mapping[str, Axis]
"""What is tuned by its dotted path: "batch_size", "optimizer.lr", "methods.LabelSmoothing.alpha"."""


def read_space(arm: str, declared: Any, recipe: Recipe) -> dict[str, Axis]:
    """The space of an arm from plain values: {path: list of choices, or {low, high, log}}.

    A range is of whole numbers where both ends are. Raises InvalidValue or UnknownName for a path that the recipe lacks and
    for a value that makes no recipe.
    """
    if not isinstance(declared, Mapping):
        raise InvalidValue(
            f"the space of an arm is a mapping from a recipe's field to its values, got {declared!r} for {arm!r}; "
            "write 'optimizer.lr: {low: 0.05, high: 1.0, log: true}'"
        )
    if not declared:
        raise InvalidValue(
            f"the space of an arm has at least one tuned value, got none for {arm!r}; "
            "write 'optimizer.lr: {low: 0.05, high: 1.0, log: true}'"
        )
    space = {str(path): _axis(str(path), values) for path, values in declared.items()}
    for path, axis in space.items():
        for value in axis.ends():
            _check(arm, recipe, path, value)
    return space


def space_to_dict(space: Space) -> dict[str, Any]:
    """The plain values that `read_space` takes."""
    return {path: _plain(axis) for path, axis in space.items()}


def applied(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with these values at their paths. Raises what a recipe raises for a value that it cannot have."""
    changes: dict[str, Any] = {}
    for path, value in values.items():
        field, name, argument = _parts(path)
        if field == "methods":
            listed = changes.get("methods", list(recipe.methods))
            place = _place(recipe, name)
            changes["methods"] = [{**m, argument: value} if k == place else m for k, m in enumerate(listed)]
        elif argument:
            changes[field] = {**changes.get(field, getattr(recipe, field)), argument: value}
        else:
            changes[field] = value
    return recipe.with_(**changes) if changes else recipe


def short_name(spec: Mapping[str, Any]) -> str:
    """A method's name without its module."""
    return str(spec["name"]).rpartition(":")[2]


def _axis(path: str, values: Any) -> Axis:
    if isinstance(values, (list, tuple)):
        if len(values) < 2:
            raise InvalidValue(f"a tuned value has two choices or more, got {list(values)} for {path}; add one")
        if any(one == other for k, one in enumerate(values) for other in values[:k]):
            raise InvalidValue(f"a tuned value has different choices, got {list(values)} for {path}; keep each once")
        return Choices(tuple(values))
    if not isinstance(values, Mapping):
        raise InvalidValue(
            f"a tuned value has a list of choices or {{low: ..., high: ...}}, got {values!r} for {path}; write one of the two"
        )
    for name in values:
        if name not in ("low", "high", "log"):
            raise unknown(f"setting of the range {path}", name, ("low", "high", "log"))
    for name in ("low", "high"):
        if name not in values:
            raise InvalidValue(f"a range has a low and a high end, got {dict(values)} for {path}; add '{name}:'")
    return _range(path, values["low"], values["high"], values.get("log", False))


def _range(path: str, low: Any, high: Any, log: Any) -> Range:
    for end in (low, high):
        if not isinstance(end, (int, float)) or isinstance(end, bool) or not math.isfinite(end):
            raise InvalidValue(f"the ends of a range are numbers, got {end!r} for {path}; write for example 0.1")
    if not isinstance(log, bool):
        raise InvalidValue(f"log is true or false, got {log!r} for {path}; write one of the two")
    if not low < high:
        raise InvalidValue(f"a range has low below high, got low {low!r} and high {high!r} for {path}; exchange them")
    if log and low <= 0:
        raise InvalidValue(
            f"a range on a log scale has low above 0, got {low!r} for {path}; leave out log, or raise low"
        )
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(low, high, log=log, whole=whole)


def _plain(axis: Axis) -> Any:
    if isinstance(axis, Choices):
        return list(axis.values)
    return {"low": axis.low, "high": axis.high, **({"log": True} if axis.log else {})}


def _check(arm: str, recipe: Recipe, path: str, value: Any) -> None:
    field, name, _ = _parts(path)
    if field == "methods":
        _place(recipe, name)
    try:
        applied(recipe, {path: value})
    except ReinvestError as error:
        raise InvalidValue(
            f"every value of a space makes a recipe, got {path} = {value!r} of arm {arm!r} ({str(error).rstrip('.')}); "
            "change the space"
        ) from None


def _parts(path: str) -> tuple[str, str, str]:
    """(field, name of a method or "", argument or "")."""
    field, dot, rest = path.partition(".")
    if field in FIXED:
        raise InvalidValue(f"{FIXED[field]}, got {path!r}; leave it out of the space")
    if field == "methods":
        name, _, argument = rest.rpartition(".")
        if not name or not argument:
            raise InvalidValue(f"an argument of a method is methods.NAME.ARGUMENT, got {path!r}; name both")
        return field, name.rpartition(":")[2], argument
    if field in PLAIN:
        if dot:
            raise InvalidValue(f"{field} has no arguments, got {path!r}; write {field}")
        return field, "", ""
    if field not in WITH_ARGUMENTS:
        raise unknown("recipe field that can be tuned", field, (*WITH_ARGUMENTS, *PLAIN, "methods"))
    if not rest:
        raise InvalidValue(
            f"one argument of {field} is tuned at a time, got {path!r}; write {field}.{'lr' if field == 'optimizer' else 'name'}"
        )
    return field, "", rest


def _place(recipe: Recipe, name: str) -> int:
    places = list(_places(recipe, name))
    if not places:
        raise unknown("method of the arm's recipe", name, (short_name(m) for m in recipe.methods))
    if len(places) > 1:
        raise InvalidValue(
            f"an argument is tuned in one method of that name, got {len(places)} of {name!r}; leave one of them out"
        )
    return places[0]


def _places(recipe: Recipe, name: str) -> Iterator[int]:
    return (k for k, m in enumerate(recipe.methods) if short_name(m) == name)


def resolved_space(space: Space, recipe: Recipe, find: Callable[[str], str]) -> dict[str, Axis]:
    """A copy whose choices name runs by their full ids, find(reference), as a resolved recipe does."""
    out: dict[str, Axis] = {}
    for path, axis in space.items():
        field, name, argument = _parts(path)
        if field == "methods" and isinstance(axis, Choices):
            made = [applied(recipe, {path: value}).resolved(find) for value in axis.values]
            axis = Choices(tuple(m.methods[_place(m, name)][argument] for m in made))
        out[path] = axis
    return out


def at_edge(axis: Axis, value: Any, share: float = 0.05) -> bool:
    """Whether a value lies in the first or last `share` of its range, so that the best may lie beyond; never for choices."""
    if isinstance(axis, Choices):
        return False
    low, high, at = (math.log(v) if axis.log else float(v) for v in (axis.low, axis.high, value))
    return not share <= (at - low) / (high - low) <= 1.0 - share
