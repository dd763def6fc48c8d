"""The result of a comparison as plain values: what the report draws, what `--json` prints, what is kept."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CorruptFile, InvalidValue, SchemaTooNew
from ..core.files import write_whole
from ..core.recipe import Recipe
from .costs import costs_of
from .drawing import mean_curve
from .outcome import Verdict
from .prediction import predict
from .settings import direction

if TYPE_CHECKING:
    from .study import Arm, Study
    from .timing import ArmTiming, Block

SCHEMA = 1


def build_result(
    study: Study,
    points: Sequence[Mapping[str, Any]],
    verdicts: Mapping[str, Verdict],
    block: Block | None,
    runs: Sequence[Any],
    *,
    shown: Mapping[str, Any],
    cost: dict[str, Any],
    reproduce: str,
    own_clock: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything that a report shows, as JSON values (None where nothing is known).

    own_clock: the points with the seconds of the runs themselves, for arms that the block did not time.
    """
    import yaml

    from .. import __version__

    facts: dict[str, Any] = next((run.facts for run in runs if run is not None), {})
    timed = [name for name in verdicts if block is not None and name in block.arms]
    arms = {
        name: _arm(study, name, arm, (points, own_clock or points), verdicts.get(name), block, shown)
        for name, arm in study.all_arms().items()
    }
    return _clean(
        {
            "schema": SCHEMA,
            "kind": "comparison",
            "title": study.title or f"{_task_name(study)}: {', '.join(study.arms)} against {study.baseline_name}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": __version__,
            "baseline": study.baseline_name,
            "task": _task(study, shown),
            "arms": arms,
            "timing": None if block is None else _timing(block),
            "facts": {k: facts.get(k, {}) for k in ("hardware", "software")},
            "tuning": _tuning(study),
            "refusals": [
                f"{name}: {reason}"
                for name, v in verdicts.items()
                if v.verdict == "not comparable"
                for reason in v.reasons
            ],
            "reproduce": {
                "command": reproduce or "reinvest compare study.yaml",
                "study": yaml.safe_dump(study.to_dict(), sort_keys=False, allow_unicode=True),
            },
            "cost": cost,
            "costs": costs_of(study.baseline_name, points, own_clock or points, timed, verdicts, runs),
        }
    )


def points_result(
    points: Sequence[Mapping[str, Any]],
    baseline: str,
    verdicts: Mapping[str, Verdict],
    *,
    shown: Mapping[str, Any],
    title: str,
    reproduce: str,
) -> dict[str, Any]:
    """The same for points from any trainer: no recipes, no timing block, seconds as given."""
    from .. import __version__

    names = [baseline, *verdicts]
    rows = {n: [dict(p) for p in points if str(p["arm"]) == n] for n in names}
    return _clean(
        {
            "schema": SCHEMA,
            "kind": "comparison",
            "title": title,
            "version": __version__,
            "baseline": baseline,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": {
                "name": title,
                "metric": shown["metric"],
                "higher_is_better": direction(shown["metric"], shown.get("higher_is_better")),
                "split": "test",
                "test_examples": shown.get("test_examples"),
                "fingerprint": None,
            },
            "arms": {
                n: {
                    "about": "",
                    "recipe": None,
                    "command": None,
                    "points": [_row(p) for p in rows[n]],
                    **_drawn(points, n, baseline, shown),
                    "seconds_per_step": None,
                    "verdict": None if n == baseline else verdicts[n].to_dict(),
                }
                for n in names
            },
            "timing": None,
            "facts": {"hardware": {}, "software": {}},
            "tuning": {
                "declared": False,
                "text": "not declared: the verdict is about these recipes, not about tuned methods",
            },
            "refusals": [f"{n}: {r}" for n, v in verdicts.items() if v.verdict == "not comparable" for r in v.reasons],
            "reproduce": {"command": reproduce, "study": ""},
            "cost": {"runs": len(points), "found": len(points), "seconds": 0.0},
            "costs": None,
        }
    )


def _arm(
    study: Study,
    name: str,
    arm: Arm,
    clocks: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]],
    judged: Verdict | None,
    block: Block | None,
    shown: Mapping[str, Any],
) -> dict[str, Any]:
    timed = block.arms[name].seconds_per_step if block is not None and name in block.arms else None
    points = clocks[0 if timed is not None else 1]
    own = [p for p in points if p["arm"] == name]
    return {
        "about": study.about.get(name, ""),
        "recipe": arm.to_dict() if isinstance(arm, Recipe) else None,
        "command": arm if isinstance(arm, str) else None,
        "points": [_row(p) for p in own],
        **_drawn(points, name, study.baseline_name, shown),
        "seconds_per_step": timed,
        "verdict": None if judged is None else judged.to_dict(),
    }


def _drawn(points: Sequence[Mapping[str, Any]], name: str, baseline: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "cells": [],
        "curve": {"seconds": [], "quality": [], "low": [], "high": []},
        "predicted": None,
    }
    try:
        curve = mean_curve(points, name, **shown)
        predicted = None
        if name != baseline:
            predicted = predict(points, baseline=baseline, arm=name, **shown)
    except InvalidValue:
        return empty  # points that cannot be drawn have been refused already, with the reason
    return {
        "cells": [c.to_dict() for c in curve.cells],
        "curve": curve.to_dict(),
        "predicted": None if predicted is None else predicted.to_dict(),
    }


def _row(point: Mapping[str, Any]) -> dict[str, Any]:
    return {k: point.get(k) for k in ("duration", "seed", "steps", "seconds", "quality", "status", "run")}


def _task_name(study: Study) -> str:
    recipe = next((a for a in study.all_arms().values() if isinstance(a, Recipe)), None)
    return recipe.task["name"] if recipe is not None else "own loops"


def _task(study: Study, shown: Mapping[str, Any]) -> dict[str, Any]:
    from ..loop.session import build_task

    recipe = next((a for a in study.all_arms().values() if isinstance(a, Recipe)), None)
    return {
        "name": _task_name(study),
        "metric": shown["metric"],
        "higher_is_better": shown["higher_is_better"],
        "split": "test",
        "test_examples": shown["test_examples"],
        "fingerprint": None if recipe is None else build_task(recipe).fingerprint,
    }


def _timing(block: Block) -> dict[str, Any]:
    return {
        "rounds": block.rounds,
        "clock": block.clock,
        "seconds": block.seconds,
        "arms": {name: _timed(arm) for name, arm in block.arms.items()},
        "again": None if block.again is None else _timed(block.again),
        "notes": list(block.notes),
        "flags": list(block.flags),
        "facts": dict(block.facts),
    }


def _timed(arm: ArmTiming) -> dict[str, Any]:
    low, high = arm.interval()
    return {
        "seconds_per_step": arm.seconds_per_step,
        "cpu_seconds_per_step": arm.clocks.get("cpu"),
        "wall_seconds_per_step": arm.clocks.get("wall"),
        "ratio": math.exp(arm.log_ratio),
        "ratio_low": low,
        "ratio_high": high,
    }


def _tuning(study: Study) -> dict[str, Any]:
    if not study.tuning:
        return {"declared": False, "text": "not declared: the verdict is about these recipes, not about tuned methods"}
    spent = "; ".join(f"{name}: {value}" for name, value in study.tuning.items())
    return {"declared": True, "text": f"declared: {spent}"}


def _clean(value: dict[str, Any]) -> dict[str, Any]:
    return {str(k): _finite(v) for k, v in value.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def write_result(result: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the result as JSON, to a temporary name first; returns the path."""
    return write_whole(path, json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_result(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a result file; CorruptFile if it is not one, SchemaTooNew if a later version wrote it."""
    file = Path(path)
    if not file.is_file():
        raise InvalidValue(
            f"a result is a JSON file written by compare or verdict, got {str(path)!r}, which does not exist; check the path"
        )
    try:
        result = json.loads(file.read_text(encoding="utf8"))
    except (ValueError, UnicodeDecodeError):
        raise CorruptFile(
            f"a result is a JSON file, got {file.name} that does not parse; run the comparison again (finished runs are kept)"
        ) from None
    if not isinstance(result, dict) or result.get("kind") != "comparison":
        raise CorruptFile(
            f"a result has kind 'comparison', got {file.name} without it; pass the JSON file beside the report"
        )
    schema = result.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise CorruptFile(
            f"a result has a whole number as its schema, got {schema!r} in {file.name}; run the comparison again (finished runs are kept)"
        )
    if schema > SCHEMA:
        raise SchemaTooNew(
            f"this version reads results up to schema {SCHEMA}, got {schema} in {file.name}; install a later reinvest"
        )
    return result
