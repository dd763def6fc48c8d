"""A gate's baseline as a file: read, and refused where it cannot serve."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import CorruptFile, InvalidValue, NotComparable, ReinvestError
from ..core.recipe import Recipe
from ..core.streams import key
from ..evaluation.refusals import DIVERGED
from .gate_result import SCHEMA, Row
from .sequence_result import read_kind

RECORD = "reinvest gate --record RECIPE.yaml --out"


def read_baseline(path: str | Path) -> dict[str, Any]:
    """Read a baseline file. Raises InvalidValue if it is absent, CorruptFile if it is none, SchemaTooNew for a later one."""
    file = Path(path)
    record = f"record one with {RECORD} {file.name}"
    if not file.is_file():
        raise InvalidValue(
            f"a gate's baseline is a file that reinvest gate --record wrote, got {str(path)!r}, which does not exist; {record}"
        )
    try:
        baseline = read_kind(path, "gate baseline", SCHEMA, "points", "a gate's baseline")
    except CorruptFile:
        raise CorruptFile(
            f"a gate's baseline is a file that reinvest gate --record wrote, got {file.name}, which is "
            f"{'the result of a gate' if _kind(file) == 'gate' else 'none'}; {record}"
        ) from None
    lacking = [name for name in _SOUND if name not in baseline]
    spoilt = [_named(name) for name, sound in _SOUND.items() if name in baseline and not sound(baseline[name])]
    if lacking or spoilt:
        lost = ", ".join(lacking) or f"{', '.join(spoilt)} that can be read"
        raise CorruptFile(f"a gate's baseline holds {', '.join(_SOUND)}, got {file.name} without {lost}; {record}")
    return baseline


def is_baseline(path: str | Path) -> bool:
    """Whether a file is there and says that it is a gate's baseline."""
    return Path(path).is_file() and _kind(Path(path)) == "gate baseline"


def refuse_lost(rows: Sequence[Row]) -> None:
    """Raises InvalidValue for runs of a baseline of which more than 1 in 5 did not end: those left are a selection."""
    lost = sum(row["status"] != "finished" for row in rows)
    if lost > DIVERGED * len(rows):
        raise InvalidValue(
            f"a gate's baseline has at most 1 run in 5 that diverged, got {lost} of {len(rows)}; record one of a recipe that "
            "trains to its end"
        )


def stored_recipe(baseline: Mapping[str, Any]) -> Recipe:
    """The baseline's recipe, which is timed beside the present one. Raises NotComparable if it cannot be built any more."""
    try:
        recipe = Recipe.from_dict(baseline["recipe"])
        recipe.canonical()
    except ReinvestError as error:
        raise NotComparable(
            f"a gate times both recipes here, got a baseline whose recipe cannot be built any more ({str(error).rstrip('.')}); "
            f"keep what it names, or record a new baseline with {RECORD} FILE.json"
        ) from error
    return recipe


def seed_of(replicate: int, duration: str) -> int:
    """The seed of a run, the same on both sides and another one for each duration."""
    return key(replicate, f"gate seed {duration}") >> 33


def check_pairs(points: Sequence[Row], durations: Sequence[str], seeds: int) -> None:
    """Raises CorruptFile where the stored points lack a run that the present ones are paired with."""
    wanted = {(d, seed_of(k, d)) for d in durations for k in range(seeds)}
    missing = wanted - {(p["duration"], p["seed"]) for p in points}
    if missing:
        raise CorruptFile(
            f"a gate's baseline holds a run of every seed at every duration, got {len(missing)} of {len(wanted)} missing; "
            f"record it again with {RECORD} FILE.json"
        )


def _kind(file: Path) -> str:
    """What a JSON file says that it is, "" for any other file."""
    try:
        return str(json.loads(file.read_text(encoding="utf8"))["kind"])
    except (ValueError, KeyError, TypeError):
        return ""


def _named(name: str) -> str:
    return f"a {name}" if name in ("recipe", "task") else name


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _maybe(value: Any) -> bool:
    return value is None or _number(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _point(value: Any) -> bool:
    kinds = {"duration": _text, "status": _text, "seed": _whole, "steps": _maybe, "seconds": _maybe, "quality": _maybe}
    read = _mapping(value) and all(name in value and kind(value[name]) for name, kind in kinds.items())
    return (
        read and _number(value.get("one_off_seconds")) and (value["status"] != "finished" or _number(value["quality"]))
    )


_SOUND: dict[str, Callable[[Any], bool]] = {
    "created": _text,
    "version": _text,
    "recipe": _mapping,
    "durations": lambda value: isinstance(value, list) and bool(value) and all(map(_text, value)),
    "seeds": _whole,
    "task": lambda value: _mapping(value) and {"name", "metric", "fingerprint"} <= set(value),
    "points": lambda value: isinstance(value, list) and all(map(_point, value)),
    "seconds_per_step": _maybe,
    "code": _text,
    "facts": lambda value: _mapping(value) and all(map(_mapping, value.values())),
}
"""The fields of a baseline file, and whether a value can be read."""
