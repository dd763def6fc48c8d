"""The result of a sequence study as plain values: what the page shows, what is kept, what `advise` reads.

{"schema": 1, "kind": "sequence", "title", "created", "version", "setting", "task", "model", "same_model" (whether all
positions have one model), "metric": {"name", "higher_is_better"}, "baseline", "length" (runs in a sequence),
"sequences" (those that were run), "durations", "plan" (plain values that build it again),
"arms": {name: {"policy", "options", "about", "policies" (by position), "verdict" (a word), "judged" (every figure of
the verdict, or None), "speedup", "interval" [low, high], "relative_time" (1 / speedup: total time at equal quality),
"relative_time_interval", "drift": {"verdict", "slope", "low", "high", "by_duration"}; where its runs use some from
outside "marginal", "full" (the same with these teachers charged), "break_even"; where the policy is `advise` "chosen"
[{"methods" (added, in words), "runs" (how many)}]}},
"points" (one per sequence), "runs" (one per run: methods with earlier runs by id, cost and quality), "positions" (cells by arm, duration, position),
"at_durations" (paired differences), "target", "timing" (blocks by shape), "teachers", "facts", "flags", "cost",
"reproduce"}. None where nothing is known, and for open ends of intervals.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import CorruptFile, InvalidValue, SchemaTooNew
from ..evaluation.outcome import Verdict
from ..evaluation.result import write_result
from .policies import POLICIES, parsed
from .sequence_cost import Prices
from .sequence_plan import SequencePlan

SCHEMA = 1
FOLDER = "studies"
"""Folder of a store that holds the results of its sequence studies."""

__all__ = [
    "FOLDER",
    "SCHEMA",
    "arm_entry",
    "clean",
    "place_of",
    "read_sequence",
    "slug",
    "timing_entry",
    "write_result",
]


def header(plan: SequencePlan, metric: Any, policies: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """What is known before anything runs."""
    from .. import __version__

    models = [plan.recipe(k, plan.durations[0]).model for k in range(plan.length)]
    return {
        "schema": SCHEMA,
        "kind": "sequence",
        "title": plan.title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "setting": plan.setting,
        "task": plan.base.task["name"],
        "model": plan.base.model["name"],
        "same_model": all(m == models[0] for m in models),
        "metric": {"name": metric.name, "higher_is_better": metric.higher_is_better},
        "baseline": plan.baseline,
        "length": plan.length,
        "sequences": plan.sequences["count"],
        "durations": list(plan.durations),
        "plan": plan.to_dict(),
        "arms": {
            name: {
                "policy": parsed(policy)[0],
                "options": parsed(policy)[1],
                "about": POLICIES[parsed(policy)[0]].about,
                "policies": [p["reuse"] for p in policies[name]],
            }
            for name, policy in plan.arms.items()
        },
    }


def arm_entry(judged: Verdict | None) -> dict[str, Any]:
    """The verdict of an arm as the study's own words: speed-up, and total time at equal quality."""
    if judged is None:
        return {
            "verdict": None,
            "judged": None,
            "speedup": None,
            "interval": [None, None],
            "relative_time": None,
            "relative_time_interval": [None, None],
        }
    values = judged.to_dict()
    low, high = values["low"], values["high"]
    return {
        "verdict": judged.verdict,
        "judged": values,
        "speedup": values["speedup"],
        "interval": [low, high],
        "relative_time": None if not values["speedup"] else 1 / values["speedup"],
        "relative_time_interval": [None if not high else 1 / high, None if not low else 1 / low],
    }


def timing_entry(prices: Prices) -> list[dict[str, Any]]:
    """The timing blocks: per shape the recipes with seconds per step and ratio to scratch."""
    out = []
    for shape, block in prices.blocks.items():
        rows = []
        for name, arm in block.arms.items():
            low, high = arm.interval() if arm.log_ratio_variance > 0 else (None, None)
            rows.append(
                {
                    "recipe": name,
                    "seconds_per_step": arm.seconds_per_step,
                    "ratio": math.exp(arm.log_ratio),
                    "ratio_low": low,
                    "ratio_high": high,
                }
            )
        out.append(
            {
                "shape": prices.names.get(shape, ""),
                "rounds": block.rounds,
                "clock": block.clock,
                "seconds": block.seconds,
                "notes": [*block.notes, *block.flags],
                "recipes": rows,
            }
        )
    return out


def clean(value: Any) -> Any:
    """Plain JSON values: what is not finite becomes None, keys become text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    return value


def slug(title: str) -> str:
    """A file name for a title: letters, digits and dashes."""
    text = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return text[:80] or "sequence"


def place_of(folder: Path, plan: SequencePlan) -> Path:
    """The file that keeps the result of a plan: named by its title, and by the plan where another one has that name."""
    told = json.dumps(clean(plan.to_dict()), sort_keys=True)
    first = folder / f"{slug(plan.title)}.json"
    own = folder / f"{slug(plan.title)}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"
    if own.exists() or (first.exists() and _plan_in(first) != told):
        return own
    return first


def _plan_in(file: Path) -> str:
    """The plan in a result file as text, "" if there is none."""
    try:
        return json.dumps(json.loads(file.read_text(encoding="utf8"))["plan"], sort_keys=True)
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read_sequence(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a result file. Raises InvalidValue if it is absent, CorruptFile if it is none, SchemaTooNew for a later one."""
    return read_kind(path, "sequence", SCHEMA, "arms", "a sequence study's")


def read_kind(path: str | os.PathLike[str], kind: str, schema: int, needed: str, whose: str) -> dict[str, Any]:
    """Read a result of one kind that has the field `needed`; errors as for `read_sequence`."""
    file = Path(path)
    if not file.is_file():
        raise InvalidValue(
            f"{whose} result is a JSON file that reinvest wrote, got {str(path)!r}, which does not exist; check the path"
        )
    try:
        result = json.loads(file.read_text(encoding="utf8"))
        fits = result["kind"] == kind and isinstance(result["schema"], int) and bool(result[needed])
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise CorruptFile(
            f"{whose} result has kind {kind!r} and {needed}, got {file.name} without them; "
            "run it again (finished runs are kept)"
        )
    if result["schema"] > schema:
        raise SchemaTooNew(
            f"this version reads results of kind {kind!r} up to schema {schema}, got {result['schema']} in {file.name}; "
            "install a later reinvest"
        )
    return dict(result)
