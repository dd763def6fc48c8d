"""`ablate`: which methods of a recipe help, on top of the others and alone, and which get in each other's way."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.names import resolve
from ..core.recipe import Recipe
from ..evaluation.compare import Listener, Verdicts, estimate, run_study
from ..evaluation.result import write_result
from ..evaluation.study import Study
from .ablation_effects import Effect, Judge, effects_of, saves
from .ablation_plan import PLAIN, QUESTIONS, AblationPlan, ablation_plan, durations_of, within
from .sequence_result import read_kind

__all__ = ["Ablation", "ablate", "estimate_ablation", "study_of"]

SCHEMA = 1


@dataclass(frozen=True)
class Ablation:
    """The outcome: `effects`, and `result`, every figure as plain values."""

    effects: tuple[Effect, ...]
    result: dict[str, Any]

    def __repr__(self) -> str:
        return "\n".join(f"{e.question}: {' and '.join(e.methods)}: {sentence(e)}" for e in self.effects)

    def report(self, path: str | Path) -> Path:
        """Write the page (one HTML file) to `path` and its JSON twin beside it; returns the HTML's path."""
        target = Path(path)
        write_result(self.result, target.with_suffix(".json"))
        written: Path = resolve("report", "ablation")(self.result, target)
        return written


def ablate(
    recipe: Recipe,
    *,
    store: Any,
    durations: Sequence[str] | None = None,
    seeds: int = 5,
    methods: Sequence[str] | None = None,
    questions: Sequence[str] = QUESTIONS,
    hours: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    listener: Listener | None = None,
    **more: Any,
) -> Ablation:
    """Train a recipe with and without each of its methods and judge every effect by time at equal quality.

    First comes what the whole recipe does against the plain one, then three questions: "on top" (the whole recipe
    against the one without a method), "alone" (a method against the plain recipe) and "together" (for each pair, how
    much more or less one changes when the other is there). durations: at least 4 (default: an eighth, a quarter, a half and the whole of the recipe's). seeds: runs per arm and duration.
    methods: names of those to study (default all; the others stay in every arm). hours: of training; pairs are left
    out first, then the methods alone, and the result says which. Runs that the store holds are not repeated.
    more: threads, timing, title, metric, higher_is_better, tuning, reproduce.

    Raises InvalidValue for a budget too small for the first question and for fewer than two methods, and Conflict for
    methods that exclude each other, before the first step.
    """
    begun = time.perf_counter()
    planned, study = study_of(recipe, durations, seeds, methods, questions, _declared(more))
    machine = {"workers": workers, "threads": more.pop("threads", None), "device": device}
    if hours is not None:
        planned, study = _cut(planned, study, hours, store, machine)
    verdicts = run_study(study, store, listener=listener, **machine, **more)
    effects = effects_of(planned, judge_of(study, verdicts, store))
    result = _result(planned, study, verdicts, effects)
    result["cost"]["seconds"] = time.perf_counter() - begun
    return Ablation(tuple(effects), result)


def study_of(
    recipe: Recipe,
    durations: Sequence[str] | None,
    seeds: int,
    methods: Sequence[str] | None,
    questions: Sequence[str],
    declared: Mapping[str, Any],
) -> tuple[AblationPlan, Study]:
    """The plan without a budget, and the comparison that trains it. declared: title, metric, higher_is_better, tuning."""
    planned = ablation_plan(recipe, methods=methods, questions=questions)
    named = f"{recipe.task['name']}: which of {', '.join(planned.names)} help"
    put = {"metric": _metric(recipe), "title": named, **{k: v for k, v in declared.items() if v}}
    study = Study(
        baseline=planned.recipe_of(PLAIN),
        arms={n: planned.recipe_of(n) for n in planned.arms if n != PLAIN},
        durations=list(durations or durations_of(recipe)),
        seeds=seeds,
        baseline_name=PLAIN,
        **put,
    )
    return planned, study


def _declared(more: dict[str, Any]) -> dict[str, Any]:
    return {name: more.pop(name, None) for name in ("title", "metric", "higher_is_better", "tuning")}


def _metric(recipe: Recipe) -> str:
    from ..loop.session import build_task

    return str(build_task(recipe).metric)


def _only(study: Study, plan: AblationPlan) -> Study:
    return replace(study, arms={n: a for n, a in study.arms.items() if n in plan.arms})


def _cut(
    plan: AblationPlan, study: Study, hours: float, store: Any, machine: Mapping[str, Any]
) -> tuple[AblationPlan, Study]:
    """The plan that fits into `hours`, and its study. A few trial steps price every arm."""
    by_arm = estimate(study, store, **machine)["hours_by_arm"]
    chosen = within(plan, hours, lambda smaller: math.fsum(by_arm[name] for name in smaller.arms))
    return chosen, _only(study, chosen)


def estimate_ablation(
    recipe: Recipe,
    *,
    store: Any,
    durations: Sequence[str] | None = None,
    seeds: int = 5,
    methods: Sequence[str] | None = None,
    questions: Sequence[str] = QUESTIONS,
    hours: float | None = None,
    **machine: Any,
) -> dict[str, Any]:
    """What an ablation would cost: what `estimate` says of its comparison, with "arms" and "left_out"."""
    plan, study = study_of(recipe, durations, seeds, methods, questions, {})
    if hours is not None:
        plan, study = _cut(plan, study, hours, store, machine)
    return {**estimate(study, store, **machine), "arms": list(plan.arms), "left_out": list(plan.left_out)}


def judge_of(study: Study, verdicts: Verdicts, store: Any) -> Judge:
    """What judges any two arms of a finished comparison, on the clock of its timing block; store: holds its runs."""
    result, block = verdicts.result, verdicts.block
    facts = {name: [store.get(p["run"]).facts for p in arm["points"]] for name, arm in result["arms"].items()}
    points = [dict(p, arm=name) for name, arm in result["arms"].items() for p in arm["points"]]
    timing = None
    if block is not None:
        timing = {
            name: {"log_ratio_variance": arm.log_ratio_variance, "df": arm.df}
            for name, arm in block.arms.items()
            if name != study.baseline_name
        }
    task = result["task"]
    declared = {
        "metric": study.metric,
        "higher_is_better": task["higher_is_better"],
        "test_examples": task["test_examples"],
        "pairs": study.pairs,
        "tuning": study.tuning,
    }
    return Judge(points, timing, declared, facts=facts)


# ---- the result ------------------------------------------------------------------------------------------------------


def sentence(effect: Effect) -> str:
    """An effect in words a person understands first and numbers after."""
    if effect.reason and effect.time is None:
        return f"not known: {effect.reason}"
    change = "" if effect.time is None else f": {percent(effect.time)} time at equal quality ({_ends(effect)})"
    if effect.question == "together":
        word = "help each other" if saves(effect.to_dict()) else "get in each other's way"
        return (word if effect.shown else "no interaction shown") + change
    if effect.verdict == "mixed":
        return f"saves time in one part of the range and costs time in another{change}"
    if effect.time is None:
        return _bound(effect)
    word = "saves time" if effect.time < 1 else "costs time"
    return (word if effect.shown else "no effect shown") + change


def _bound(effect: Effect) -> str:
    """An effect without an estimate: it lies beyond the measured range, and what is known is where it begins."""
    less = saves(effect.to_dict())
    if not effect.shown or less is None:
        known = effect.low is not None or effect.high is not None
        return f"no effect shown: {_ends(effect)} time at equal quality" if known else "not known"
    word, end = ("saves", effect.high) if less else ("costs", effect.low)
    if end is None:
        return f"{word} time at equal quality, how much is not known"
    return f"{word} at least {100 * abs(end - 1):.1f} % {'of the' if less else 'more'} time at equal quality"


def percent(time: float) -> str:
    """A ratio of times as a change: 0.8 is "-20.0 %"."""
    return f"{100 * (time - 1):+.1f} %"


def _ends(effect: Effect) -> str:
    if effect.low is not None and effect.high is not None:
        return f"95 % interval {percent(effect.low)} to {percent(effect.high)}"
    if effect.low is None and effect.high is None:
        return "interval open on both sides"
    return f"at most {percent(effect.high)}" if effect.high is not None else f"at least {percent(effect.low or 0.0)}"


def _result(plan: AblationPlan, study: Study, verdicts: Verdicts, effects: Sequence[Effect]) -> dict[str, Any]:
    from .. import __version__

    found = verdicts.result
    arms = {
        name: {
            "methods": [plan.names[k] for k in sorted(plan.arms[name])],
            "points": entry["points"],
            "cells": entry["cells"],
            "seconds_per_step": entry["seconds_per_step"],
            "ratio": None if found["timing"] is None else found["timing"]["arms"][name]["ratio"],
        }
        for name, entry in found["arms"].items()
    }
    flags = [f"left out: {text}" for text in plan.left_out]
    if not study.tuning:
        flags.append("all arms share their settings, which were not tuned for each: the claim is about this recipe")
    return {
        "schema": SCHEMA,
        "kind": "ablation",
        "title": found["title"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "task": found["task"],
        "recipe": plan.recipe.to_dict(),
        "methods": [
            {"name": n, "arguments": {k: v for k, v in plan.recipe.methods[p].items() if k != "name"}}
            for n, p in zip(plan.names, plan.positions, strict=True)
        ],
        "durations": list(study.durations),
        "seeds": study.seeds,
        "arms": arms,
        "effects": [{**e.to_dict(), "sentence": sentence(e)} for e in effects],
        "adverse": [list(e.methods) for e in effects if e.question == "together" and e.shown and (e.time or 0.0) > 1],
        "flags": flags,
        "timing": found["timing"],
        "facts": found["facts"],
        "cost": dict(found["cost"]),
        "reproduce": found["reproduce"],
    }


def read_ablation(path: str | Path) -> dict[str, Any]:
    """Read a result file. Raises InvalidValue if it is absent, CorruptFile if it is none, SchemaTooNew for a later one."""
    return read_kind(path, "ablation", SCHEMA, "effects", "an ablation's")
