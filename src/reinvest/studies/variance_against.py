"""One recipe's runs set against another's: by what name each goes, which is better, and by how much."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..core.errors import DataError, InvalidValue
from ..core.recipe import Recipe
from ..evaluation.variance import LEVEL, Summary, probability_better, runs_needed, summarise
from .outcome_runs import fingerprint_of
from .variance_runs import Chosen, of_recipe, sorted_out

NAMES = ("these runs", "the other recipe")
"""What the two sides are called where nobody named them."""
SHOWN = 3
"""Fields that differ of which a name tells."""


def set_against(
    chosen: Chosen,
    against: Recipe | str,
    store: Any,
    result: Mapping[str, Any],
    names: tuple[str, str] = NAMES,
) -> dict[str, Any]:
    """The other recipe's summary, the probability of beating it, and the difference of the means (Welch).

    against: a recipe, or the id of a run of it. names: of the two sides; what differs between the recipes is added. Raises
    InvalidValue for the same recipe and for runs of own loops, DataError for other data.
    """
    from scipy.stats import ttest_ind

    other = _runs_of(against, store)
    changed = _checked(chosen, other)
    task = result["task"]
    summary, values = summary_of(other, task["metric"], task["split"])
    own = [run["value"] for run in result["runs"]]
    sides = (own, values) if task["higher_is_better"] else ([-v for v in own], [-v for v in values])
    better = probability_better(*sides)
    constant = len({*own}) == len({*values}) == 1
    interval = None if constant else ttest_ind(own, values, equal_var=False).confidence_interval(0.95)
    difference = result["summary"]["mean"] - summary.mean
    return {
        "names": [_named(name, changed, side) for name, side in zip(names, ("first", "second"), strict=True)],
        "changed": changed,
        "recipe": {} if other.recipe is None else other.recipe.to_dict(),
        "values": values,
        "summary": summary_entry(summary),
        "better": asdict(better),
        # What is said is read from an interval with two sides, which leaves 2.5 % beyond each.
        "needed": runs_needed(alpha=(1 - LEVEL) / 2),
        "difference": {
            "mean": difference,
            "low": difference if interval is None else float(interval.low),
            "high": difference if interval is None else float(interval.high),
        },
    }


def _runs_of(against: Recipe | str, store: Any) -> Chosen:
    if isinstance(against, str):
        run = store.get(against)
        if not {"task", "model"} <= set(run.config):
            raise InvalidValue(
                f"runs are set against those of a recipe, got run {against!r} of an own loop; name a run of reinvest train"
            )
        against = Recipe.from_dict(run.config)
    return sorted_out([run for run in of_recipe(store, against) if run.status in ("finished", "diverged")])


def _checked(chosen: Chosen, other: Chosen) -> list[dict[str, str]]:
    """What differs between the two recipes, which are of one test set."""
    mine, theirs = chosen.finished[0], other.finished[0]
    if fingerprint_of(mine) != fingerprint_of(theirs):
        raise DataError(
            f"two recipes are compared on one test set, got run {theirs.id!r} on other data or splits than run "
            f"{mine.id!r} (another fingerprint); name a recipe of the same task"
        )
    if chosen.recipe is None or other.recipe is None:
        return []
    changed = changed_fields(chosen.recipe, other.recipe)
    if not changed:
        raise InvalidValue(
            f"two different recipes are set against each other, got the one of run {mine.id!r} twice; name another one with "
            "--against (against=...)"
        )
    return changed


def changed_fields(first: Recipe, second: Recipe) -> list[dict[str, str]]:
    """Where two recipes differ, a field each: {"field": "task.train_examples", "first": "500", "second": "default"}."""
    texts = [_flat(json.loads(recipe.canonical())) for recipe in (first, second)]
    # Canonical text leaves a whole part out where it is the default; the recipe itself has it.
    whole = [_flat(recipe.to_dict()) for recipe in (first, second)]
    one, other = (
        {**{k: full[k] for k in full if k in {*texts[0], *texts[1]}}, **text}
        for full, text in zip(whole, texts, strict=True)
    )
    return [
        {"field": name, "first": one.get(name, "default"), "second": other.get(name, "default")}
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a recipe, those of task, model and so on by their own names."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if name == "methods":
            found[name] = " + ".join(map(_method, value)) or "none"
        elif isinstance(value, dict):
            found |= {name if part == "name" else f"{name}.{part}": _text(one) for part, one in value.items()}
        else:
            found[name] = _text(value)
    return {"methods": "none", **found}


def _method(spec: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{name}={_text(value)}" for name, value in spec.items() if name != "name")
    return f"{spec['name']}({arguments})" if arguments else str(spec["name"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _named(name: str, changed: list[dict[str, str]], side: str) -> str:
    said = [f"{one['field']} {one[side]}" for one in changed[:SHOWN]]
    if len(changed) > SHOWN:
        said.append(f"and {len(changed) - SHOWN} more")
    return f"{name} ({', '.join(said)})" if said else name


def summary_entry(summary: Summary) -> dict[str, Any]:
    """A summary as plain values; `bca` as two of them."""
    found = asdict(summary)
    low, high = found.pop("bca") or (None, None)
    return {**found, "bca_low": low, "bca_high": high}


def summary_of(chosen: Chosen, metric: str, split: str) -> tuple[Summary, list[float]]:
    """The summary of a metric of the runs, and its values in their order."""
    values = [run.quality(metric, split) for run in chosen.finished]
    return summarise(values, diverged=len(chosen.diverged)), values
