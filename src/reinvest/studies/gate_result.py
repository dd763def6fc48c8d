"""The result of a gate as plain values, and what it has to be read with.

{"schema", "kind": "gate", "title", "created", "version", "verdict" (the word), "sentence", "parts" (steps and time:
verdict, ratio, low, high, seeds_needed, reason, sentence), "margin", "level", "task", "durations", "seeds", "recipe",
"changed" ({field: [then, now]}), "recorded" (of the baseline: created, version, facts, seconds_per_step), "baseline" and
"arms" (as in the result of a comparison, seconds of this machine), "timing" (the block, None where the recipe is the
baseline's), "facts", "notes", "cost", "reproduce"}.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.hardware import MUST_AGREE, comparable
from ..core.recipe import Recipe
from ..evaluation.gate import BASELINE, NOT_REGRESSED, PRESENT, GateSettings, Part, combined
from ..evaluation.outcome import Verdict
from ..evaluation.result import points_result
from ..evaluation.timing import Block
from ..loop.session import build_task, run_identity

SCHEMA = 1

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """What a gate was run with: the baseline as stored, the present recipe and its runs, the facts of this machine, the
    timing block (None where the recipe is the baseline's), and whether the baseline's runs were made again here."""

    baseline: Mapping[str, Any]
    recipe: Recipe
    present: Sequence[Row]
    facts: Mapping[str, Any]
    block: Block | None
    remade: bool


def own_step(rows: Sequence[Row]) -> float | None:
    """Median seconds per step by the clock of the runs themselves."""
    each = [row["seconds"] / row["steps"] for row in rows if row["seconds"] and row["steps"]]
    return statistics.median(each) if each else None


def task_of(recipe: Recipe) -> dict[str, Any]:
    """What is said of a recipe's task: name, metric, direction, test examples, fingerprint of the data."""
    task = build_task(recipe)
    return {
        "name": recipe.task["name"],
        "metric": str(task.metric),
        "higher_is_better": bool(task.higher_is_better),
        "split": "test",
        "test_examples": int(task.test_examples),
        "fingerprint": task.fingerprint,
    }


def code_of(recipe: Recipe, duration: str) -> str:
    """A text that changes with recipe, data, model and the code of user factories."""
    return run_identity(replace(recipe, duration=duration), 0)


def notes_of(setting: Setting) -> list[str]:
    """Sentences on where the figures come from."""
    baseline, block = setting.baseline, setting.block
    notes = []
    alike, reason = comparable(baseline["facts"], dict(setting.facts))
    if not alike:
        notes.append(_elsewhere(baseline["facts"], setting, reason))
    if block is not None:
        return [*notes, *(f"timing: {note}" for note in block.notes), *block.flags]
    notes.append("the recipe is the baseline's, so a step costs the same by definition and none was timed")
    if baseline["code"] == code_of(setting.recipe, baseline["durations"][0]):
        return notes
    notes.append(
        "code, data or model have changed since the baseline was recorded, under the same recipe: what that does to the "
        "quality is judged, what it does to the cost of a step is not"
    )
    then, now = baseline["seconds_per_step"], own_step(setting.present)
    if alike and then and now:
        notes.append(
            f"by the clock of the runs a step took {1000 * then:.3g} ms then and {1000 * now:.3g} ms now, on equal "
            "hardware: shown, not judged"
        )
    return notes


def _to_keep(parts: Sequence[Part]) -> list[str]:
    gained = combined(parts) == NOT_REGRESSED and any(part.high < 1.0 for part in parts)
    return ["record the baseline anew to keep the gain: until then a loss of as much passes"] if gained else []


def _elsewhere(then: Mapping[str, Any], setting: Setting, reason: str) -> str:
    """What differs between the machine and libraries of the baseline and those of this gate, and what it means."""
    sides = (then, setting.facts)
    one, two = (facts.get("hardware", {}) for facts in sides)
    differs = [f"{n} {one.get(n)!r} then, {two.get(n)!r} now" for n in MUST_AGREE if one.get(n) != two.get(n)]
    torch = [".".join(str(facts.get("software", {}).get("torch")).split(".")[:2]) for facts in sides]
    if torch[0] != torch[1]:
        differs.append(f"torch {torch[0]} then, {torch[1]} now")
    found = "; ".join(differs) or reason.partition("; ")[0]
    part = "its runs were made again here" if setting.remade else "quality is compared with its stored points"
    text = f"the baseline was recorded elsewhere ({found}): {part}, seconds are those of this machine alone"
    if torch[0] == torch[1] or setting.remade:
        return text
    return f"{text}; what another torch does to the quality is judged with the recipe, and --remake takes it out"


def gate_result(
    setting: Setting, priced: Mapping[str, Sequence[Row]], parts: Sequence[Part], judged: GateSettings, reproduce: str
) -> dict[str, Any]:
    """Everything that the page shows. priced: rows of both sides with the seconds of this machine."""
    from .. import __version__

    rows = [{**row, "arm": name} for name, side in priced.items() for row in side]
    shown = {k: getattr(judged, k) for k in ("metric", "higher_is_better", "test_examples")}
    refused = Verdict(PRESENT, BASELINE, "not comparable", reasons=(parts[1].reason,))
    task, baseline = task_of(setting.recipe), setting.baseline
    of_time = {PRESENT: parts[1].judged or refused}
    drawn = points_result(rows, BASELINE, of_time, shown=shown, title=task["name"], reproduce=reproduce)
    first = priced[PRESENT][0]["duration"]
    # A curve that the speed-up predicts is of comparisons; a gate's page says nothing of one.
    drawn["arms"] = {name: {**arm, "predicted": None} for name, arm in drawn["arms"].items()}
    return {
        **drawn,
        "schema": SCHEMA,
        "kind": "gate",
        "title": f"{task['name']}: the recipe against its baseline of {baseline['created'][:10]}",
        "version": __version__,
        "verdict": combined(parts),
        "sentence": sentence_of(parts),
        "parts": [part.to_dict() for part in parts],
        "margin": judged.margin,
        "level": 1.0 - judged.alpha,
        "task": task,
        "durations": list(dict.fromkeys(row["duration"] for row in priced[PRESENT])),
        "seeds": sum(row["duration"] == first for row in priced[PRESENT]),
        "recipe": setting.recipe.to_dict(),
        "changed": _changed(baseline["recipe"], setting.recipe.to_dict()),
        "recorded": {k: baseline[k] for k in ("created", "version", "facts", "seconds_per_step")},
        "timing": _timing(setting.block, judged.alpha),
        "facts": {k: dict(setting.facts.get(k, {})) for k in ("hardware", "software")},
        "notes": notes_of(setting) + _to_keep(parts),
    }


def sentence_of(parts: Sequence[Part]) -> str:
    """The whole in one sentence: the parts that decide it."""
    word = combined(parts)
    said = [part.sentence for part in parts if part.verdict == word]
    return f"{word}: {' and '.join(dict.fromkeys(text.partition(': ')[0] for text in said))}"


def _timing(block: Block | None, alpha: float) -> dict[str, Any] | None:
    if block is None:
        return None
    low, high = block.arms[PRESENT].interval(alpha)
    return {
        "rounds": block.rounds,
        "clock": block.clock,
        **{name: block.arms[name].seconds_per_step for name in (BASELINE, PRESENT)},
        "ratio": math.exp(block.arms[PRESENT].log_ratio),
        "low": low,
        "high": high,
    }


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipe says differently, the duration aside: {field: [then, now]}."""
    names = [n for n in dict.fromkeys([*old, *new]) if n != "duration"]
    return {n: [old.get(n), new.get(n)] for n in names if old.get(n) != new.get(n)}
