"""What an ablation trains: a recipe with and without each of its methods, as many combinations as a budget buys."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.chain import Methods
from ..core.duration import Duration
from ..core.errors import InvalidValue, unknown
from ..core.recipe import Recipe

PLAIN, ALL = "plain", "all"
QUESTIONS = ("on top", "alone", "together")
"""What is asked, in the order in which a budget is spent: what a method adds to all the others, what it does alone, and
whether two of them do more or less together than each alone."""

Members = frozenset[int]
"""Which of the studied methods are in, by number."""


@dataclass(frozen=True)
class AblationPlan:
    """The arms of an ablation.

    recipe: with all methods. positions: of the studied ones in its methods; names: theirs, the same name twice is
    numbered. arms: {arm: members}, "plain" (none of them) first and "all" second. pairs: those whose interaction is
    asked. alone: whether each is tried alone. left_out: what the budget did not buy, in words.
    """

    recipe: Recipe
    positions: tuple[int, ...]
    names: tuple[str, ...]
    arms: Mapping[str, Members]
    pairs: tuple[tuple[int, int], ...]
    alone: bool
    left_out: tuple[str, ...] = ()

    def recipe_of(self, arm: str) -> Recipe:
        """The recipe of an arm: methods that are not studied are in all of them."""
        members = self.arms[arm]
        gone = {p for k, p in enumerate(self.positions) if k not in members}
        return replace(self.recipe, methods=tuple(m for p, m in enumerate(self.recipe.methods) if p not in gone))

    def arm_of(self, members: Iterable[int]) -> str:
        """The name of the arm with these methods. Raises KeyError where it is not planned."""
        wanted = frozenset(members)
        for name, found in self.arms.items():
            if found == wanted:
                return name
        raise KeyError(sorted(wanted))

    @property
    def everything(self) -> Members:
        """All studied methods."""
        return frozenset(range(len(self.names)))


def ablation_plan(
    recipe: Recipe,
    *,
    methods: Sequence[str] | None = None,
    questions: Sequence[str] = QUESTIONS,
) -> AblationPlan:
    """The plan without a budget: every question about every studied method.

    methods: names of those to study (default: all of the recipe's); the others stay in every arm. questions: of
    `QUESTIONS`; "on top" is always asked. Raises InvalidValue for fewer than two methods, UnknownName for a name that the
    recipe lacks, and what the chain raises for methods that exclude each other: before anything is trained.
    """
    if not isinstance(recipe, Recipe):
        raise InvalidValue(f"an ablation is of a recipe, got {recipe!r}; write ri.Recipe(task='digits', methods=[...])")
    for question in questions:
        if question not in QUESTIONS:
            raise unknown("question of an ablation", question, QUESTIONS)
    Methods(*recipe.build_methods())
    positions = _positions(recipe, methods)
    names = _names(recipe, positions)
    if len(names) < 2:
        raise InvalidValue(
            f"an ablation takes two methods or more apart, got {', '.join(names) or 'none'}; add methods to the recipe, or "
            "compare one with the plain recipe (reinvest compare)"
        )
    alone = "alone" in questions or "together" in questions
    pairs = tuple(itertools.combinations(range(len(names)), 2)) if "together" in questions else ()
    return _planned(recipe, positions, names, pairs, alone)


def within(plan: AblationPlan, hours: float, cost: Callable[[AblationPlan], float]) -> AblationPlan:
    """The plan cut down to `hours`: pairs go first, the last ones before the first, then the methods alone.

    cost: hours that a plan takes. Raises InvalidValue where not even the first question fits.
    """
    if not isinstance(hours, (int, float)) or isinstance(hours, bool) or not hours > 0:
        raise InvalidValue(f"the budget of an ablation is a number of hours above 0, got {hours!r}; write hours=2")
    build = (plan.recipe, plan.positions, plan.names)
    least = _planned(*build, (), False)
    needed = cost(least)
    if needed > hours:
        raise InvalidValue(
            f"an ablation trains at least the plain recipe, the whole one and the whole one without each method, got a "
            f"budget of {hours:g} h for about {needed:.3g} h; allow that, or take fewer seeds, shorter durations or fewer methods"
        )
    for pairs, alone in (*((plan.pairs[:n], True) for n in range(len(plan.pairs), -1, -1)), ((), False)):
        if alone and not plan.alone:
            continue
        cut = _planned(*build, pairs, alone)
        if cost(cut) <= hours:
            lost = [f"{plan.names[i]} with {plan.names[j]}" for i, j in plan.pairs[len(pairs) :]]
            left = [f"the pairs {', '.join(lost)}"] if lost else []
            if plan.alone and not alone:
                left.append("each method alone")
            return replace(cut, left_out=tuple(f"{what}: beyond the budget of {hours:g} h" for what in left))
    return least


def durations_of(recipe: Recipe) -> tuple[str, ...]:
    """An eighth, a quarter, a half and the whole of the recipe's duration. Raises InvalidValue for minutes."""
    whole = Duration.parse(recipe.duration)
    if whole.unit == "min":
        raise InvalidValue(
            f"durations of an ablation are epochs or steps, got {recipe.duration!r}; write the recipe's duration as 20ep"
        )
    parts = [whole.amount / 8, whole.amount / 4, whole.amount / 2, whole.amount]
    if whole.unit == "st":
        parts = [max(1, round(p)) for p in parts]
    return tuple(str(Duration(p, whole.unit)) for p in parts)


def _planned(
    recipe: Recipe,
    positions: tuple[int, ...],
    names: tuple[str, ...],
    pairs: tuple[tuple[int, int], ...],
    alone: bool,
) -> AblationPlan:
    whole = frozenset(range(len(names)))
    wanted = [frozenset(), whole, *(whole - {k} for k in sorted(whole))]
    wanted += [frozenset({k}) for k in sorted(whole)] if alone else []
    wanted += [frozenset(pair) for pair in pairs]
    arms = {_label(members, names): members for members in dict.fromkeys(wanted)}
    return AblationPlan(recipe, positions, names, arms, pairs, alone)


def _label(members: Members, names: Sequence[str]) -> str:
    if len(members) in (0, len(names)):
        return ALL if members else PLAIN
    if len(members) > 2 and len(members) == len(names) - 1:
        return f"without {next(n for k, n in enumerate(names) if k not in members)}"
    return " + ".join(names[k] for k in sorted(members))


def _positions(recipe: Recipe, methods: Sequence[str] | None) -> tuple[int, ...]:
    listed = [_short(m) for m in recipe.methods]
    if methods is None:
        return tuple(range(len(listed)))
    if isinstance(methods, str):
        methods = [methods]
    for name in methods:
        if name not in listed:
            raise unknown("method of the recipe", str(name), listed)
    return tuple(k for k, name in enumerate(listed) if name in methods)


def _short(spec: Mapping[str, Any]) -> str:
    return str(spec["name"]).rpartition(":")[2]


def _names(recipe: Recipe, positions: Sequence[int]) -> tuple[str, ...]:
    plain = [_short(recipe.methods[p]) for p in positions]
    seen: dict[str, int] = {}
    out = []
    for name in plain:
        seen[name] = seen.get(name, 0) + 1
        out.append(f"{name} ({seen[name]})" if plain.count(name) > 1 else name)
    return tuple(out)
