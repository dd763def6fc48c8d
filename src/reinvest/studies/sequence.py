"""`run_sequence`: plan a sequence study, train what the store lacks, charge everything, and judge whole sequences."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue
from ..core.hardware import comparable
from ..evaluation.blocks import Timing
from ..evaluation.compare import Listener
from ..evaluation.execute import Machine, Stopped, machine_for, stop_workers, threads_of
from ..evaluation.outcome import Verdict
from ..evaluation.study_checks import MIN_DURATIONS
from ..loop.session import build_task
from . import sequence_result as plain
from .sequence_chain import Chain, Trainer, chains_of, execute, jobs_of
from .sequence_checks import check_plan, open_pool, policies_of
from .sequence_cost import Prices, time_sequences, timing_of
from .sequence_judge import Metric, at_durations, drift_of, flags_of, positions_of, targets_of, verdicts_of
from .sequence_plan import MIN_SEQUENCES, SequencePlan, load_plan
from .sequence_points import ADVISE, charges_of, chosen_of, mean, points_of, rows_of, uses_pool

__all__ = ["SequencePlan", "SequenceResult", "estimate_sequence", "load_plan", "run_sequence"]


@dataclass(frozen=True)
class SequenceResult:
    """The outcome of a sequence study: `result`, every figure as plain values, and where it was kept."""

    result: dict[str, Any]
    path: Path

    @property
    def verdicts(self) -> dict[str, str | None]:
        """{arm: verdict}, None for the baseline and where there are too few durations."""
        return {name: arm["verdict"] for name, arm in self.result["arms"].items()}


@dataclass(frozen=True)
class Options:
    """How a study is run: processes, device, hours; clock: own=True for that of the runs; timing: of the blocks."""

    workers: int | None = None
    threads: int | None = None
    device: str = "cpu"
    max_hours: float | None = None
    own_clock: bool = False
    timing: Timing = field(default_factory=Timing)
    reproduce: str = ""


def run_sequence(
    plan: SequencePlan,
    store: Any,
    *,
    workers: int | None = None,
    device: str = "cpu",
    max_hours: float | None = None,
    own_clock: bool = False,
    listener: Listener | None = None,
    train: Trainer | None = None,
    prices: Prices | None = None,
    **more: Any,
) -> SequenceResult:
    """Run a sequence study and judge it; runs that the store holds are not repeated.

    workers: processes that train different chains at the same time (default: one per core on a CPU, one on a GPU).
    max_hours: begin no sequence that would not end in time. own_clock: charge the seconds of the runs themselves
    instead of a timing block's. train: (recipe, seed, store) -> Run, instead of the package's own; prices: instead of
    timing blocks measured here. more: threads, timing, reproduce (the command to print).

    The result is kept in <store>/studies/<title>.json, or beside it where that is another plan's. Raises InvalidValue and
    UnknownName for a plan that cannot work.
    """
    options = Options(workers, device=device, max_hours=max_hours, own_clock=own_clock, **more)
    listener = listener or Listener()
    machine = _machine(plan, options)
    begun = time.perf_counter()
    name, higher = check_plan(plan)
    pool = open_pool(plan, store)
    policies = policies_of(plan, pool)
    chains = chains_of(plan, policies, pool)
    every, todo = jobs_of(plan, chains, store)
    listener.planned(every, todo)
    chains, stopped = _train(plan, chains, store, machine, options, listener, train)
    if prices is None and not own_clock:
        with store.lending(), threads_of(machine):
            prices = time_sequences(plan, chains, store, timing=options.timing, device=device, on_round=listener.timing)
    metric = Metric(name, higher, int(build_task(plan.recipe(plan.length - 1, plan.durations[0])).test_examples))
    result = plain.header(plan, metric, policies)
    cost = {"runs": len(every), "found": len(every) - len(todo), "seconds": time.perf_counter() - begun}
    with store.lending():
        _judged(result, plan, chains, prices or Prices(), metric, pool)
    result["sequences"] = len({c.number for c in chains})
    result["flags"] = flags_of(plan, result["sequences"], stopped, own_clock)
    result |= {"cost": cost, "reproduce": {"command": options.reproduce or "reinvest sequence study.yaml"}}
    result = plain.clean(result)
    path = plain.write_result(result, plain.place_of(Path(store.path) / plain.FOLDER, plan))
    return SequenceResult(result, path)


def _machine(plan: SequencePlan, options: Options) -> Machine:
    from types import SimpleNamespace

    study: Any = SimpleNamespace(all_arms=lambda: {"base": plan.base})
    hours = options.max_hours
    if hours is not None and not hours > 0:
        raise InvalidValue(f"max_hours is above 0, got {hours:g}; leave it out for no limit")
    return machine_for(study, options.workers, options.threads, options.device)


def _train(
    plan: SequencePlan,
    chains: list[Chain],
    store: Any,
    machine: Machine,
    options: Options,
    listener: Listener,
    train: Trainer | None,
) -> tuple[list[Chain], float | None]:
    """The chains of all sequences that were trained to their ends, and the limit in hours if it stopped the others."""
    limit = None if options.max_hours is None else options.max_hours * 3600
    try:
        with threads_of(machine):
            execute(chains, store, machine, train=train, max_seconds=limit, on_done=listener.done)
    except Stopped as end:
        if end.replicates < MIN_SEQUENCES:
            raise InvalidValue(
                f"a study needs {MIN_SEQUENCES} whole sequences, got {end.replicates} within --max-hours "
                f"{options.max_hours:g}; allow more time and run the same command again: finished runs are kept"
            ) from None
        whole = list(plan.numbers)[: end.replicates]
        return [chain for chain in chains if chain.number in whole], options.max_hours
    finally:
        stop_workers()
    return chains, None


def _judged(
    result: dict[str, Any],
    plan: SequencePlan,
    chains: Sequence[Chain],
    prices: Prices,
    metric: Metric,
    pool: Sequence[Any],
) -> None:
    """Everything that follows from the runs, put into the result."""
    charges = charges_of(plan, chains, prices)
    rows = rows_of(plan, chains, charges, metric.name)
    timing = timing_of(plan, chains, prices, charges)
    teachers = math.fsum(float(run.seconds) for run in pool)
    sunk, charged = points_of(plan, chains, rows), points_of(plan, chains, rows, teachers)
    full = plan.teachers.get("cost") == "charged"
    points = charged if full else sunk
    clocks = {"own_clock": not prices.blocks}
    judged = _refuse_unlike(verdicts_of(plan, points, metric, timing, **clocks), plan, chains)
    other = (
        _refuse_unlike(verdicts_of(plan, sunk if full else charged, metric, timing, **clocks), plan, chains)
        if pool
        else {}
    )
    for name in plan.arms:
        entry = result["arms"][name]
        entry |= plain.arm_entry(judged.get(name))
        entry["drift"] = None if name == plan.baseline else drift_of(plan, rows, name, metric)
        if entry["policy"] == ADVISE:
            entry["chosen"] = chosen_of(plan, chains, name)
        if any(uses_pool(chain) for chain in chains if chain.arm == name):
            both = {"marginal": other if full else judged, "full": judged if full else other}
            entry |= {k: plain.arm_entry(v.get(name)) for k, v in both.items()}
            entry["break_even"] = _break_even(plan, sunk, name, both["marginal"].get(name), teachers)
    result["points"], result["runs"] = points, rows
    result["positions"] = positions_of(plan, rows, metric)
    result["at_durations"] = at_durations(plan, points, metric)
    result["target"] = targets_of(plan, rows, points, metric)
    result["timing"] = plain.timing_entry(prices)
    result["teachers"] = (
        None if not pool else {"seconds": teachers, "runs": [r.id for r in pool], "cost": plan.teachers["cost"]}
    )
    facts: dict[str, Any] = next((run.facts for chain in chains for run in chain.runs), {})
    result["facts"] = {k: facts.get(k, {}) for k in ("hardware", "software")}


def _break_even(
    plan: SequencePlan, points: Sequence[Mapping[str, Any]], arm: str, judged: Verdict | None, teachers: float
) -> dict[str, Any]:
    """How many sequences pay for the teachers: their seconds over what one sequence saves at equal quality.

    Saved by a sequence: its own seconds x (speed-up - 1), mean over durations; None where nothing is saved.
    """
    own = mean([p["seconds"] for p in points if p["arm"] == arm and p["status"] == "finished"])

    def count(speedup: float) -> int | None:
        saved = own * (speedup - 1.0) if math.isfinite(speedup) else math.nan
        return math.ceil(teachers / saved) if saved > 0 else None

    if judged is None:
        return {"sequences": None, "low": None, "high": None}
    return {"sequences": count(judged.speedup), "low": count(judged.high), "high": count(judged.low)}


def _refuse_unlike(judged: dict[str, Verdict], plan: SequencePlan, chains: Sequence[Chain]) -> dict[str, Verdict]:
    """Arms with runs that were made on another machine than scratch's are not comparable."""
    base: dict[int, Any] = {}
    for chain in chains:
        if chain.arm == plan.baseline:
            for k, run in enumerate(chain.runs):
                base.setdefault(k, run.facts)
    out = dict(judged)
    for chain in chains:
        for k, run in enumerate(chain.runs):
            fits, reason = comparable(base[k], run.facts) if k in base else (True, "")
            if not fits:
                for name in out if chain.arm == plan.baseline else (chain.arm,):
                    if name in out and out[name].verdict != "not comparable":
                        out[name] = Verdict(name, plan.baseline, "not comparable", reasons=(reason,))
    return out


def estimate_sequence(
    plan: SequencePlan, store: Any, *, workers: int | None = None, threads: int | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """What a study would cost: {"runs", "found", "hours", "workers", "threads", "seconds_per_step", "verdict"}.

    A dozen trial steps without re-use price a step of each shape of run. Left out: evaluation, what re-use costs, and
    the timing blocks.
    """
    from ..evaluation.estimate import probe
    from ..evaluation.timing import steps_of
    from .sequence_cost import shape_of, shape_text

    machine = _machine(plan, Options(workers, threads, device))
    check_plan(plan)
    pool = open_pool(plan, store)
    chains = chains_of(plan, policies_of(plan, pool), pool)
    every, todo = jobs_of(plan, chains, store)
    prices: dict[str, tuple[str, float]] = {}
    seconds = 0.0
    for job in todo:
        recipe = plan.recipe(job.seed, job.duration)
        shape = shape_of(recipe)
        if shape not in prices:
            with store.lending():
                prices[shape] = shape_text(plan, job.seed), probe(recipe, machine)[0]
        seconds += steps_of(recipe) * prices[shape][1]
    return {
        "runs": len(every),
        "found": len(every) - len(todo),
        "hours": seconds / machine.workers / 3600,
        "workers": machine.workers,
        "threads": machine.threads,
        "seconds_per_step": dict(prices.values()),
        "verdict": len(plan.durations) >= MIN_DURATIONS,
    }
