"""Finished timing blocks, kept beside the runs of the store, so that judging the same runs twice says the same twice.

A block measured anew moves a verdict that lies near its edge. Whoever runs a command again would draw again, and might stop
at the answer that suits. So an undisturbed block is an asset like a run: <store>/timed/<hash>.json, by everything that its
ratios depend on (the arms with their data and the code of their factories, their names, the machine, the libraries, this
package's own source).
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..core.files import write_whole
from ..core.hardware import facts
from ..core.names import file_hash
from ..core.recipe import Recipe
from ..loop.session import run_identity
from .timing import MIN_ROUNDS, ArmTiming, Block, timing_block

MEASURED = "measured"
"""Name of the fact of a block that says when it was measured."""


@dataclass(frozen=True)
class Timing:
    """How arms are timed. rounds: of the block; again: the baseline takes part twice; anew: measure, whatever is kept."""

    rounds: int = MIN_ROUNDS
    again: bool = True
    anew: bool = False


def timed(
    recipes: Mapping[str, Recipe],
    baseline: str,
    timing: Timing,
    device: str,
    store: Any,
    on_round: Callable[[int], None] | None = None,
) -> Block:
    """The kept block of these arms, or a new one, which is kept unless something disturbed it.

    A disturbed one is for this verdict only: the next call measures again, whatever the verdict was.
    """
    file = _file(recipes, baseline, timing, device, store)
    kept = None if timing.anew else _read(file)
    if kept is not None:
        when = str(kept.facts[MEASURED])[:16].replace("T", " ")
        note = f"measured on {when} UTC and used again: judging twice says the same"
        return replace(kept, notes=[*kept.notes, note])
    block = timing_block(recipes, baseline, rounds=timing.rounds, device=device, again=timing.again, on_round=on_round)
    now = datetime.datetime.now(datetime.UTC).isoformat()
    block = replace(block, facts={**block.facts, MEASURED: now})
    if disturbed(block):
        return replace(block, notes=[*block.notes, "disturbed, and so not kept: the next comparison measures again"])
    _write(block, file)
    return block


def measured(block: Block | None) -> str:
    """When a block was measured, by which blocks are told apart ("": there is none, or none that lasts)."""
    return "" if block is None or disturbed(block) else str(block.facts.get(MEASURED, ""))


def disturbed(block: Block) -> bool:
    """True if something moved the rounds of a block: a machine that is evenly busy does not, as all arms are slower alike."""
    return bool(block.flags)


def _file(recipes: Mapping[str, Recipe], baseline: str, timing: Timing, device: str, store: Any) -> Path:
    # The text of a recipe names a user's model and data; its run's identity changes with what is in their files.
    arms = {name: run_identity(recipe, 0) for name, recipe in recipes.items()}
    what = [arms, baseline, timing.rounds, timing.again, device, facts(device), _package()]
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
    return Path(store.path) / "timed" / f"{name}.json"


@functools.lru_cache(maxsize=1)
def _package() -> str:
    """16 hex digits over this package's own source: a loop that became faster is timed again."""
    root = Path(__file__).resolve().parents[1]
    every = [[str(f.relative_to(root)), file_hash(str(f))] for f in sorted(root.rglob("*.py"))]
    return hashlib.sha256(json.dumps(every).encode()).hexdigest()[:16]


def _write(block: Block, file: Path) -> None:
    # A store that cannot be written can be judged all the same.
    with contextlib.suppress(OSError):
        write_whole(file, json.dumps(to_plain(block)) + "\n")


def _read(file: Path) -> Block | None:
    """The block of a file, or None (a damaged one counts as none)."""
    try:
        block = from_plain(json.loads(file.read_text(encoding="utf8")))
        return block if MEASURED in block.facts else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def to_plain(block: Block) -> dict[str, Any]:
    """A block as values that JSON keeps bit for bit (`from_plain` is its inverse)."""
    own = {f.name: getattr(block, f.name) for f in fields(block)}
    return {
        **own,
        "arms": {name: _arm_to(arm) for name, arm in block.arms.items()},
        "again": None if block.again is None else _arm_to(block.again),
        "flags": list(block.flags),
        "facts": dict(block.facts),
    }


def from_plain(values: Mapping[str, Any]) -> Block:
    """The block that `to_plain` made these values from."""
    return Block(
        **{
            **values,
            "arms": {name: _arm_from(arm) for name, arm in values["arms"].items()},
            "again": None if values["again"] is None else _arm_from(values["again"]),
            "flags": tuple(values["flags"]),
        }
    )


def _arm_to(arm: ArmTiming) -> dict[str, Any]:
    own = {f.name: getattr(arm, f.name) for f in fields(arm)}
    return {**own, "strata": [[kind, tenth, v] for (kind, tenth), v in arm.strata.items()], "clocks": dict(arm.clocks)}


def _arm_from(values: Mapping[str, Any]) -> ArmTiming:
    return ArmTiming(**{**values, "strata": {(str(kind), int(tenth)): v for kind, tenth, v in values["strata"]}})
