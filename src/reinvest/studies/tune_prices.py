"""What a step of a trial costs: the arms timed side by side before the first trial, and kept beside the trials.

A trial's own clock counts whatever else the machine does meanwhile, so two equal arms drift apart on a busy one. Budgets
are therefore steps x seconds per step of one paired timing block (`evaluation/timing.py`), as the comparison's times are.
Timed are a middle configuration of every arm and, one at a time, the levels of each tuned value that may change the work
of a step; in between, the logarithm of the price is linear, and prices of several such values multiply.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import write_whole
from ..core.hardware import MUST_AGREE, facts
from ..core.method import overrides
from ..core.recipe import Recipe
from ..evaluation.describe import describe
from ..evaluation.execute import Machine, threads_of
from ..evaluation.timing import MIN_ROUNDS, steps_of, timing_block
from ..loop.session import Session, sources_of
from .tune_plan import TuningPlan
from .tune_space import Axis, Choices, applied


@dataclass(frozen=True)
class Timed:
    """A configuration that is timed: an arm's middle one (path None), or that with one value at another level."""

    arm: str
    path: str | None
    value: Any
    recipe: Recipe


@dataclass(frozen=True)
class Price:
    """Seconds of a step of such a configuration; ratio to the baseline's middle one, with its 95 % interval."""

    arm: str
    path: str | None
    value: Any
    seconds_per_step: float
    ratio: float
    ratio_low: float | None = None
    ratio_high: float | None = None


@dataclass(frozen=True)
class Prices:
    """rows: of every timed configuration; once: {arm: seconds that its methods cost a run beyond its steps}; clock, rounds,
    notes, flags: of the block; measured: when."""

    spaces: Mapping[str, Mapping[str, Axis]]
    rows: Sequence[Price]
    once: Mapping[str, float]
    clock: str = ""
    rounds: int = 0
    notes: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    measured: str = ""

    def middle(self, arm: str) -> float:
        """Seconds of a step of an arm's middle configuration."""
        return next(row.seconds_per_step for row in self.rows if (row.arm, row.path) == (arm, None))

    def step(self, arm: str, values: Mapping[str, Any]) -> float:
        """Seconds of a step of an arm with these tuned values."""
        middle = self.middle(arm)
        price = math.log(middle)
        for path, axis in self.spaces[arm].items():
            levels = [(r.value, r.seconds_per_step) for r in self.rows if (r.arm, r.path) == (arm, path)]
            if levels:
                price += _change(axis, [(_middle(axis), middle), *levels], values[path]) - math.log(middle)
        return math.exp(price)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "clock": self.clock,
            "rounds": self.rounds,
            "notes": list(self.notes),
            "flags": list(self.flags),
            "measured": self.measured,
            "once": dict(self.once),
            "steps": [asdict(row) for row in self.rows],
        }


def changes_work(path: str, axis: Axis) -> bool:
    """Whether a tuned value may change the work of a step: all but schedules and numbers of the optimizer may.

    Choices with zero among them may even there, because an optimizer leaves out what is multiplied by zero.
    """
    part = path.partition(".")[0]
    if part == "schedule" or path == "optimizer.lr":
        return False
    if part == "optimizer":
        return isinstance(axis, Choices) and not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and v for v in axis.values
        )
    return True


def to_time(plan: TuningPlan) -> dict[str, Timed]:
    """The configurations that are timed by the name they have in the block, the baseline's middle one first."""
    found = {}
    for arm, space in plan.spaces.items():
        recipe = applied(plan.recipe(arm), {path: _middle(axis) for path, axis in space.items()})
        found[arm] = Timed(arm, None, None, recipe)
        for path, axis in space.items():
            for value in _levels(axis) if changes_work(path, axis) else ():
                found[f"{arm}, {path} = {value!r}"] = Timed(arm, path, value, applied(recipe, {path: value}))
    return found


def measure(
    plan: TuningPlan,
    store: Any,
    machine: Machine,
    *,
    rounds: int = MIN_ROUNDS,
    on_round: Callable[[int, int], None] = lambda turn, rounds: None,
) -> Prices:
    """Time the configurations of `to_time` side by side, rounds times; methods find the runs that they re-use in the store."""
    listed = to_time(plan)
    with store.lending(), threads_of(machine):
        block = timing_block(
            {name: row.recipe for name, row in listed.items()},
            plan.baseline,
            rounds=rounds,
            device=machine.device,
            on_round=lambda turn: on_round(turn, rounds),
        )
        once = {row.arm: once_of(row.recipe, machine) for row in listed.values() if row.path is None}
    rows = []
    for name, row in listed.items():
        timing = block.arms[name]
        low, high = timing.interval() if timing.log_ratio_variance > 0 else (None, None)
        ratio = math.exp(timing.log_ratio)
        rows.append(Price(row.arm, row.path, row.value, timing.seconds_per_step, ratio, low, high))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Prices(plan.spaces, rows, once, block.clock, rounds, list(block.notes), list(block.flags), now)


def prices_kept(plan: TuningPlan, store: Any, machine: Machine) -> Prices | None:
    """The prices that the store keeps for these arms on this machine; None without any (a damaged file counts as none)."""
    try:
        found = json.loads(_file(plan, store, machine).read_text(encoding="utf8"))
        rows = [Price(**row) for row in found.pop("steps")]
        return Prices(spaces=plan.spaces, rows=rows, **found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep_prices(prices: Prices, plan: TuningPlan, store: Any, machine: Machine) -> None:
    """Keep the prices beside the trials that they are for: a tuning that is continued has the budgets that it began with."""
    target = _file(plan, store, machine)
    # On a store that cannot be written no trials are made either, and what is there can be judged all the same.
    with contextlib.suppress(OSError):
        write_whole(target, json.dumps(prices.to_dict()) + "\n")


def _file(plan: TuningPlan, store: Any, machine: Machine) -> Path:
    """Named by what was timed and by the facts that decide the speed of a step."""
    with threads_of(machine):
        here = facts(machine.device)
    what = [
        *(
            [name, describe(row.recipe), row.recipe.duration, sources_of(row.recipe)]
            for name, row in to_time(plan).items()
        ),
        *(here["hardware"].get(name) for name in MUST_AGREE),
        here["software"]["torch"],
    ]
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    return Path(store.path) / "tuned" / f"{name}.json"


def once_of(recipe: Recipe, machine: Machine) -> float:
    """Seconds that the methods of a recipe cost a run before its first step (a clean pass, reading records)."""
    if not any(overrides(method, "one_off") for method in recipe.build_methods()):
        return 0.0
    session = Session(recipe, 0, machine.device, steps=steps_of(recipe))
    with session.attached() as methods:
        return float(methods.clock.get("one_off_seconds") or 0.0)


def _middle(axis: Axis) -> Any:
    """The middle of a range on its scale, the first of choices."""
    if isinstance(axis, Choices):
        return axis.values[0]
    middle = math.sqrt(axis.low * axis.high) if axis.log else (axis.low + axis.high) / 2
    return round(middle) if axis.whole else middle


def _levels(axis: Axis) -> list[Any]:
    """What is timed besides the middle: both ends of a range, the other choices."""
    middle = _middle(axis)
    return [value for value in axis.ends() if value != middle]


def _change(axis: Axis, levels: Sequence[tuple[Any, float]], value: Any) -> float:
    """The logarithm of the price at a value of an axis, between those of the levels [(value, seconds)]."""
    if isinstance(axis, Choices):
        return math.log(next(seconds for level, seconds in levels if level == value))
    ordered = sorted((math.log(at) if axis.log else float(at), math.log(seconds)) for at, seconds in levels)
    at = math.log(value) if axis.log else float(value)
    return float(np.interp(at, [x for x, _ in ordered], [y for _, y in ordered]))
