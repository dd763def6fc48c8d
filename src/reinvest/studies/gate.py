"""`record_baseline` and `run_gate`: short runs of a recipe kept as a file, and the present recipe judged against them.

The baseline file: {"schema", "kind": "gate baseline", "created", "version", "recipe", "durations", "seeds", "task"
(metric, direction, test examples, fingerprint), "points" (duration, seed, steps, quality, status, seconds by the runs'
own clock, one_off_seconds), "seconds_per_step" (by that clock, shown and never judged), "code" (identity of one run:
changes with recipe, data, model and code), "facts" (hardware, software)}.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue, NotComparable, unknown
from ..core.names import resolve
from ..core.recipe import Recipe
from ..evaluation.compare import Listener, prices_of
from ..evaluation.execute import Machine, execute, machine_of, stop_workers, threads_of
from ..evaluation.gate import BASELINE, PRESENT, GateSettings, Part, combined, judge_gate
from ..evaluation.plan import Job, found
from ..evaluation.result import write_result
from ..evaluation.study import MIN_SEEDS
from ..evaluation.study_checks import check_durations, parse_durations
from ..evaluation.timing import ArmTiming, Block, timing_block
from ..loop.session import run_identity
from ..loop.train import full_id
from .ablation_plan import durations_of
from .gate_baseline import RECORD, check_pairs, refuse_lost, seed_of, stored_recipe
from .gate_result import SCHEMA, Row, Setting, code_of, gate_result, own_step, task_of

ROUNDS = 20
"""Of the timing block: a gate has two arms, so it can afford twice the usual number."""


@dataclass(frozen=True)
class GateResult:
    """verdict: "not regressed", "regressed", "undecided" or "not comparable"; parts: steps and time; result: every
    figure as plain values."""

    verdict: str
    parts: tuple[Part, ...]
    result: dict[str, Any]

    def __repr__(self) -> str:
        return "\n".join([f"gate: {self.verdict}", *(part.sentence for part in self.parts)])

    def report(self, path: str | Path) -> Path:
        """Write the page (one HTML file) to `path` and its JSON twin beside it; returns the HTML's path."""
        target = Path(path)
        write_result(self.result, target.with_suffix(".json"))
        written: Path = resolve("report", "gate")(self.result, target)
        return written


def record_baseline(
    recipe: Recipe,
    *,
    store: Any,
    durations: Sequence[str] | None = None,
    seeds: int = 5,
    listener: Listener | None = None,
    **machine: Any,
) -> dict[str, Any]:
    """Train a recipe at short durations and return what a gate needs of it, as plain values (`write_result` keeps them).

    durations: at least 4, each at most 3 times the one before (default: an eighth to the whole of the recipe's); seeds:
    runs of each, at least 3; machine: workers, threads, device. Runs that the store holds are not repeated.
    Raises InvalidValue for a plan that could not end in a verdict, and where more than 1 run in 5 diverged.
    """
    parsed = parse_durations(list(durations or durations_of(recipe)))
    check_durations(parsed)
    texts = [str(d) for d in sorted(parsed, key=lambda d: d.amount)]
    if isinstance(seeds, bool) or seeds < MIN_SEEDS:
        raise InvalidValue(f"a gate needs at least {MIN_SEEDS} seeds a duration, got {seeds}; write --seeds 5")
    recipe = recipe.resolved(lambda run: full_id(store, run))
    where = _machine(recipe, machine)
    runs = _train({BASELINE: recipe}, texts, seeds, store, where, listener or Listener())
    from .. import __version__

    task = task_of(recipe)
    rows = _rows(runs, BASELINE, task["metric"])
    refuse_lost(rows)
    return {
        "schema": SCHEMA,
        "kind": "gate baseline",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "recipe": recipe.to_dict(),
        "durations": texts,
        "seeds": seeds,
        "task": task,
        "points": rows,
        "seconds_per_step": own_step(rows),
        "code": code_of(recipe, texts[0]),
        "facts": {k: next(iter(runs.values())).facts.get(k, {}) for k in ("hardware", "software")},
    }


def run_gate(
    baseline: Mapping[str, Any],
    recipe: Recipe,
    *,
    store: Any,
    seeds: int | None = None,
    durations: Sequence[str] | None = None,
    margin: float = 0.05,
    rounds: int = ROUNDS,
    remake: bool = False,
    listener: Listener | None = None,
    reproduce: str = "",
    **machine: Any,
) -> GateResult:
    """Judge the present recipe against a stored baseline (`record_baseline`).

    It is trained here at the baseline's durations and with its seeds. Quality against steps is compared with the stored
    points, whatever machine they came from; seconds come from a paired timing block of both recipes, made here and now.
    seeds, durations: fewer than the baseline's (default: all of them); margin: the loss that must be excluded, a share
    >= 0; rounds: of the timing block, at least 10; remake: train the baseline's recipe here too, with the code as it is
    now. machine: workers, threads, device.

    Raises, before anything is trained: NotComparable for another task, data or metric than the baseline's, and where its
    recipe cannot be built any more; InvalidValue for seeds or durations that the baseline lacks, and (unless it is made
    again) where more than 1 in 5 of its runs diverged; CorruptFile where it lacks runs to pair with.
    """
    begun = time.perf_counter()
    listener = listener or Listener()
    old = stored_recipe(baseline)
    recipe = recipe.resolved(lambda run: full_id(store, run))
    task, texts, count = _same_task(baseline, recipe), _chosen(baseline, durations), _seeds(baseline, seeds)
    if not remake:
        refuse_lost(baseline["points"])
        check_pairs(baseline["points"], texts, count)
    judged = GateSettings(task["metric"], task["higher_is_better"], task["test_examples"], margin)
    where = _machine(recipe, machine)
    recipes = {BASELINE: old, PRESENT: recipe}
    runs = _train(recipes if remake else {PRESENT: recipe}, texts, count, store, where, listener)
    rows = {PRESENT: _rows(runs, PRESENT, judged.metric)}
    rows[BASELINE] = _rows(runs, BASELINE, judged.metric) if remake else _kept(baseline["points"], rows[PRESENT])
    block = None
    if recipe.canonical() != replace(old, duration=recipe.duration).canonical():
        block = _block(recipes, texts, store, where, rounds, listener)
    priced = _priced(rows, recipes, texts, block, store)
    parts = judge_gate(priced[BASELINE], priced[PRESENT], None if block is None else calibrated(block), judged)
    here = next(iter(runs.values())).facts
    setting = Setting(baseline, recipe, rows[PRESENT], here, block, remake)
    result = gate_result(setting, priced, parts, judged, reproduce)
    result["cost"] = {"runs": len(runs), "seconds": time.perf_counter() - begun}
    return GateResult(combined(parts), parts, result)


def _machine(recipe: Recipe, machine: Mapping[str, Any]) -> Machine:
    settings = {"workers": None, "threads": None, "device": "cpu", **machine}
    return machine_of([recipe], settings["workers"], settings["threads"], settings["device"])


# ---- runs ------------------------------------------------------------------------------------------------------------


def _train(
    arms: Mapping[str, Recipe],
    durations: Sequence[str],
    seeds: int,
    store: Any,
    machine: Machine,
    listener: Listener,
) -> dict[Job, Any]:
    """Both sides take the same seeds, new ones for each duration: pairs, decided before anything runs."""
    jobs = []
    for replicate in range(seeds):
        for duration in durations:
            seed = seed_of(replicate, duration)
            for name, recipe in arms.items():
                what = replace(recipe, duration=duration)
                jobs.append(Job(name, duration, replicate, seed, what, run_identity(what, seed)))
    todo = [job for job in jobs if found(job, store) is None]
    listener.planned(jobs, todo)
    try:
        with threads_of(machine):
            execute(todo, store, machine, on_done=listener.done)
    finally:
        stop_workers()
    return {job: found(job, store) for job in jobs}


def _rows(runs: Mapping[Job, Any], arm: str, metric: str) -> list[dict[str, Any]]:
    rows = []
    for job, run in runs.items():
        if job.arm != arm:
            continue
        ended = run.status == "finished"
        rows.append(
            {
                "duration": job.duration,
                "seed": job.seed,
                "steps": run.steps,
                "quality": run.quality(metric, "test") if ended else None,
                "status": run.status,
                "seconds": run.seconds,
                "one_off_seconds": float(run.cost.get("one_off_seconds") or 0.0),
                "run": run.id,
            }
        )
    return rows


# ---- the baseline and what is asked of it ------------------------------------------------------------------------------


def _same_task(baseline: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    now, then = task_of(recipe), baseline["task"]
    again = f"record a new baseline with {RECORD} FILE.json"
    for name, what in (("name", "task"), ("metric", "metric")):
        if now[name] != then[name]:
            raise NotComparable(
                f"a gate compares recipes on one task, got {what} {now[name]!r} where the baseline has {then[name]!r}; {again}"
            )
    if now["fingerprint"] != then["fingerprint"]:
        raise NotComparable(
            f"a gate compares recipes on one data set, got other data than those of its baseline (fingerprint "
            f"{now['fingerprint']} now, {then['fingerprint']} then); {again}"
        )
    return now


def _chosen(baseline: Mapping[str, Any], durations: Sequence[str] | None) -> list[str]:
    stored = [str(d) for d in baseline["durations"]]
    if durations is None:
        return stored
    parsed = parse_durations(list(durations))
    check_durations(parsed)
    asked = [str(d) for d in sorted(parsed, key=lambda d: d.amount)]
    for duration in asked:
        if duration not in stored:
            raise unknown("duration of the baseline", duration, stored)
    return asked


def _seeds(baseline: Mapping[str, Any], seeds: int | None) -> int:
    stored = int(baseline["seeds"])
    if seeds is None:
        return stored
    if isinstance(seeds, bool) or not MIN_SEEDS <= seeds <= stored:
        raise InvalidValue(
            f"a gate takes {MIN_SEEDS} to as many seeds as the baseline has ({stored}), got {seeds}; "
            f"leave --seeds out, or record a baseline with --seeds {max(seeds, MIN_SEEDS)}"
        )
    return seeds


def _kept(points: Sequence[Row], present: Sequence[Row]) -> list[dict[str, Any]]:
    """The stored points with the durations and seeds that were trained now."""
    asked = {(row["duration"], row["seed"]) for row in present}
    return [dict(p) for p in points if (p["duration"], p["seed"]) in asked]


# ---- seconds -----------------------------------------------------------------------------------------------------------


def _block(
    recipes: Mapping[str, Recipe],
    durations: Sequence[str],
    store: Any,
    machine: Machine,
    rounds: int,
    listener: Listener,
) -> Block:
    middle = durations[len(durations) // 2]
    with store.lending(), threads_of(machine):
        return timing_block(
            {name: replace(recipe, duration=middle) for name, recipe in recipes.items()},
            BASELINE,
            rounds=rounds,
            device=machine.device,
            on_round=lambda turn: listener.timing(turn, rounds),
        )


def calibrated(block: Block) -> ArmTiming:
    """The present recipe's timing; its variance has what the baseline's own second part missed its ratio of 1 by."""
    own, again = block.arms[PRESENT], block.again
    missed = 0.0 if again is None else max(0.0, again.log_ratio**2 - again.log_ratio_variance)
    return replace(own, log_ratio_variance=own.log_ratio_variance + missed)


def _priced(
    rows: Mapping[str, Sequence[Row]],
    recipes: Mapping[str, Recipe],
    durations: Sequence[str],
    block: Block | None,
    store: Any,
) -> dict[str, list[dict[str, Any]]]:
    """Both sides with seconds of this machine: the block's, or for one recipe on both sides its own cost of a step."""
    if block is None:
        each = own_step(rows[PRESENT]) or math.nan
        return {name: [{**r, "seconds": (r["steps"] or math.nan) * each} for r in side] for name, side in rows.items()}
    with store.lending():
        prices = prices_of(recipes, durations, block)
    return {
        name: [{**r, "seconds": prices[name, r["duration"]] + r["one_off_seconds"]} for r in side]
        for name, side in rows.items()
    }
