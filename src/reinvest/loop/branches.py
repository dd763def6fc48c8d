"""One run that stands for several durations: where it is read or kept, and shorter runs that begin in the middle of it.

With a cyclic rate the end of every cycle stands for a run of that length. With a constant rate and a cool-down, a shorter
run is the same run up to where its own cool-down begins, so it can begin there, with the state that the longer one, its
trunk, has kept (Hägele et al., 2405.18392). Neither is true of methods that look ahead to the end of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core import names
from ..core.duration import Duration
from ..core.errors import InvalidValue
from ..core.recipe import Recipe

__all__ = [
    "fork_step",
    "kept_state",
    "lost",
    "marked_shares",
    "marked_steps",
    "refuse_horizons",
    "trunk_state",
    "trunks",
]

OWN = ("duration", "schedule")
"""Fields of a recipe in which a branch may differ from its trunk."""


def marked_steps(schedule: Mapping[str, Any], what: str, total_steps: int) -> set[int]:
    """The steps that the schedule marks, those of the run's end left out.

    what: "reads", where the test split is read because a shorter run would end there, or "keeps", where the state is kept.
    """
    return {round(share * total_steps) for share in marked_shares(schedule, what)} - {total_steps}


def marked_shares(schedule: Mapping[str, Any], what: str) -> list[float]:
    """The shares of the run that the schedule marks; what: "reads" or "keeps"."""
    marks = getattr(names.resolve("schedule", schedule["name"]), what, None)
    return marks(**{k: v for k, v in schedule.items() if k != "name"}) if marks else []


def refuse_horizons(methods: Iterable[Any], what: str) -> None:
    """Raise InvalidValue if a method looks ahead to the end of the run; what: the run that cannot have such."""
    ahead = [m.name for m in methods if m.horizon]
    if ahead:
        raise InvalidValue(
            f"{what} has no methods that go by how long the run is, got {' and '.join(ahead)}; train a run for each "
            "duration"
        )


def fork_step(recipe: Recipe, total_steps: int) -> int:
    """The step at which the cool-down of a run of so many steps begins. Raises InvalidValue for another schedule."""
    if recipe.schedule["name"] != "cooldown":
        raise InvalidValue(
            f"a run that begins in the middle of another one cools down, got schedule {recipe.schedule['name']!r}; write "
            "schedule={'name': 'cooldown'}"
        )
    return round(total_steps * (1.0 - float(recipe.schedule.get("share", 0.2))))


def trunks(trunk: Any, recipe: Recipe, seed: int, store: Any) -> list[Any]:
    """The run (or its id in the store) as a list of one; [] for None.

    Raises InvalidValue unless a run of the recipe and seed could begin in the middle of it.
    """
    if trunk is None:
        return []
    run = store.get(trunk) if isinstance(trunk, str) else trunk
    _check(recipe, seed, run)
    return [run]


def _check(recipe: Recipe, seed: int, trunk: Any) -> None:
    if getattr(trunk, "status", "") not in ("finished", "diverged"):
        raise InvalidValue(
            f"a trunk is a run that has ended, got {getattr(trunk, 'status', type(trunk).__name__)!r}; train it to its end first"
        )
    if trunk.seed != seed:
        raise InvalidValue(
            f"a branch has the seed of its trunk, got {seed} for a trunk of {trunk.seed}; pass {trunk.seed}"
        )
    own, other = recipe.to_dict(), Recipe.from_dict(trunk.config).to_dict()
    unlike = [name for name in {**own, **other} if name not in OWN and own.get(name) != other.get(name)]
    if unlike or other["schedule"]["name"] != "cooldown":
        raise InvalidValue(
            f"a branch is its trunk's recipe with another length, got another {' and '.join(unlike) or 'schedule'}; change "
            "duration and schedule only, both with name: cooldown"
        )
    refuse_horizons(recipe.build_methods(), "a branch")


def lost(recipe: Recipe, trunk: Any) -> bool:
    """Whether the trunk diverged before it came to where a run of the recipe begins in it: that one would have, too."""
    total = Duration.parse(recipe.duration).steps(trunk.training["steps_per_epoch"])
    return bool(trunk.status == "diverged" and trunk.steps <= fork_step(recipe, total))


def trunk_state(recipe: Recipe, trunk: Any) -> dict[str, Any]:
    """The trunk's state at the fork, as a run of the recipe's length would have it.

    Raises InvalidValue for a run that is not shorter than its trunk, begins where that had diverged, or warms up
    otherwise than it, StoreError where the trunk kept no such state.
    """
    total = Duration.parse(recipe.duration).steps(trunk.training["steps_per_epoch"])
    whole, fork = int(trunk.training["total_steps"]), fork_step(recipe, total)
    if total >= whole:
        raise InvalidValue(
            f"a branch is shorter than its trunk, got {total} steps for a trunk of {whole}; train a longer trunk"
        )
    warm = [
        float(Recipe.from_dict(trunk.config).schedule.get("warmup", 0.0)) * whole,
        float(recipe.schedule.get("warmup", 0.0)) * total,
    ]
    if abs(warm[0] - warm[1]) > 1e-6 * max(1.0, warm[0]):
        raise InvalidValue(
            f"a branch warms up as its trunk did, got {warm[1]:g} steps for {warm[0]:g}; write warmup: {warm[0] / total!r}"
        )
    if lost(recipe, trunk):
        raise InvalidValue(
            f"a branch begins before its trunk diverged, got step {fork} of a trunk that diverged at {trunk.steps}; take "
            "another seed"
        )
    state = kept_state(trunk.state_at(fork))
    return state | {"chain": state["chain"] | {"total_steps": total}, "branch": {"trunk": trunk.id, "step": fork}}


def kept_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A session's state as it is kept for branches: what was recorded of examples stays with the trunk."""
    return {**state, "chain": {k: v for k, v in state["chain"].items() if k != "recorder"}}
