"""What of a study can be refused before anything runs: durations without a curve, arms that cannot be told apart."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.duration import Duration
from ..core.errors import InvalidValue, unknown
from ..core.recipe import Recipe
from .looks import levels

MIN_DURATIONS = 4
MAX_STEP = 3.0
LEVEL = 0.05
"""Two-sided error rate of a study."""
SPENDING = "obrien-fleming"
"""Of a study that declares looks and no spending."""


def parse_durations(durations: Any) -> list[Duration]:
    """The durations, or InvalidValue for what is no list of them."""
    if isinstance(durations, (str, bytes, Mapping)) or not isinstance(durations, Sequence):
        raise InvalidValue(
            f"durations is a list of at least {MIN_DURATIONS}, got {durations!r}; write e.g. [5ep, 10ep, 20ep, 40ep]"
        )
    return [Duration.parse(d) for d in durations]


def check_durations(parsed: Sequence[Duration]) -> None:
    """Refuse durations that give no curve."""
    units = {d.unit for d in parsed}
    if "min" in units:
        raise InvalidValue(
            "a study's durations are epochs or steps, got minutes (they would differ between machines); write '10ep' or '3900st'"
        )
    if len(units) > 1 or "" in units:
        raise InvalidValue(
            f"a study's durations share one unit, got {', '.join(map(str, parsed))}; write all of them in ep, or all in st"
        )
    if len({d.amount for d in parsed}) < MIN_DURATIONS:
        raise InvalidValue(
            f"a curve needs at least {MIN_DURATIONS} durations, got {len({d.amount for d in parsed})}; write e.g. [5ep, 10ep, 20ep, 40ep]"
        )
    amounts = sorted(d.amount for d in parsed)
    for a, b in itertools.pairwise(amounts):
        if b > MAX_STEP * a:
            raise InvalidValue(
                f"neighbouring durations differ by at most a factor {MAX_STEP:g}, got {a:g} and {b:g}; put one between them"
            )


def check_looks(looks: Any, seeds: int, spending: Any, *, least: int) -> tuple[tuple[int, ...] | None, str]:
    """The declared looks as a tuple and their spending function, or (None, ""); refuse looks that keep no error rate."""
    if looks is None:
        if spending:
            raise InvalidValue(
                f"spending is shared between looks, got spending {spending!r} without looks; write e.g. looks: [3, 5, {seeds}]"
            )
        return None, ""
    spending = spending or SPENDING
    levels(looks, LEVEL, spending)
    if looks[0] < least:
        raise InvalidValue(
            f"a look is taken at {least} replicates or more, got {list(looks)}; leave out those before {least}"
        )
    if looks[-1] != seeds:
        raise InvalidValue(
            f"the last look is the end of the study, got looks {list(looks)} and seeds {seeds}; write seeds: {looks[-1]}"
        )
    return tuple(looks), spending


def check_systems(names: Any, arms: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of arms that are declared systems-only, each once; refuse what names no arm."""
    if not isinstance(names, (str, list, tuple)):
        raise InvalidValue(
            f"systems_only is a list of arms, got {names!r}; write 'systems_only: true' into the arm that alters speed alone"
        )
    chosen = tuple(dict.fromkeys([names] if isinstance(names, str) else [str(n) for n in names]))
    for name in chosen:
        if name not in arms:
            raise unknown("arm in systems_only", name, arms)
    return chosen


def with_systems(names: Any, arm: str, declared: Any) -> Any:
    """The names with an arm whose mapping declares it (True) or not (False)."""
    if not isinstance(declared, bool):
        raise InvalidValue(
            f"systems_only of an arm is true or false, got {declared!r} for {arm!r}; write one of the two"
        )
    known = [names] if isinstance(names, str) else names
    return [*known, arm] if declared and isinstance(known, (list, tuple)) else known


def check_arms(arms: Mapping[str, Any]) -> None:
    """Refuse what is no arm, what has no name to be found again by, and two arms that are the same."""
    seen: dict[Any, str] = {}
    for name, arm in arms.items():
        _check_arm(name, arm)
        other = seen.setdefault(_same(arm), name)
        if other != name:
            raise InvalidValue(
                f"arms must differ, got the same {_kind(arm)} for {other!r} and {name!r}; change one or leave it out, or for an "
                f"A/A study (the baseline again, with seeds of its own) {_AGAIN[_kind(arm)]}"
            )


_AGAIN = {
    "recipe": "add what does nothing: {methods: [LabelSmoothing: {alpha: 0}]}",
    "command": "add an option that does nothing",
    "callable": "call it from a function of another name",
}
"""How an arm is the baseline again: by what it is runs are found, and two arms may not share theirs."""


def _same(arm: Any) -> tuple[str, Any]:
    if isinstance(arm, Recipe):
        values = {k: v for k, v in arm.to_dict().items() if k != "duration"}
        return "recipe", json.dumps(values, sort_keys=True, default=repr)
    if isinstance(arm, str):
        return "command", arm
    return "callable", (arm.__module__, arm.__qualname__)


def _kind(arm: Any) -> str:
    return "recipe" if isinstance(arm, Recipe) else "command" if isinstance(arm, str) else "callable"


def _check_arm(name: str, arm: Any) -> None:
    if isinstance(arm, Recipe):
        return
    if isinstance(arm, str):
        for hole in ("{duration}", "{seed}"):
            if hole not in arm:
                raise InvalidValue(
                    f"a command arm says where duration and seed go, got {arm!r} for {name!r}; put {hole} into it"
                )
        return
    if not callable(arm):
        raise InvalidValue(
            f"an arm is a Recipe, a callable or a command, got {arm!r} for {name!r}; pass one of the three"
        )
    # Runs are found again by the name and the file of the callable: what it closes over or is bound to is in neither.
    where = getattr(arm, "__qualname__", "<locals>")
    bound = isinstance(arm, functools.partial) or getattr(arm, "__self__", None) is not None
    if bound or "<locals>" in where or "<lambda>" in where:
        raise InvalidValue(
            f"a callable arm is a function whose name says what it does, got {arm!r} for {name!r}; "
            "put it at the top level of a module"
        )
