"""`compare`: plan a study, run what the store lacks, time the arms side by side, and judge.

Quality against steps comes from runs, stored or new; seconds per step come from one paired timing block.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.chain import NoEffectWarning
from ..core.errors import InvalidValue, unknown
from ..core.hardware import comparable
from ..core.names import resolve
from ..core.recipe import Recipe
from ..loop.train import full_id
from .estimate import estimate
from .execute import Machine, Stopped, execute, machine_for, stop_workers, threads_of
from .judge import holm, verdict
from .outcome import Verdict
from .plan import Job, found, plan
from .result import build_result, write_result
from .settings import direction
from .study import METRIC, MIN_SEEDS, Arm, Study
from .timing import Block, run_seconds, strata_of, timing_block

__all__ = ["Listener", "Verdicts", "compare", "estimate", "judge", "run_study"]


class Verdicts(Mapping[str, Verdict]):
    """The outcome of a comparison: {arm: Verdict}; `result`, every figure of it as plain values; the timing `block`."""

    def __init__(self, verdicts: Mapping[str, Verdict], result: dict[str, Any], block: Block | None = None) -> None:
        self._verdicts = dict(verdicts)
        self.result = result
        self.block = block

    def __getitem__(self, arm: str) -> Verdict:
        return self._verdicts[arm]

    def __iter__(self) -> Any:
        return iter(self._verdicts)

    def __len__(self) -> int:
        return len(self._verdicts)

    def __repr__(self) -> str:
        return "\n".join(f"{arm}: {v.verdict}. {v.sentence}" for arm, v in self._verdicts.items())

    def report(self, path: str | Path) -> Path:
        """Write the report (one HTML file) to `path` and its JSON twin beside it; returns the HTML's path."""
        target = Path(path)
        write_result(self.result, target.with_suffix(".json"))
        written: Path = resolve("report", "html")(self.result, target)
        return written


@dataclass(frozen=True)
class Listener:
    """What a long comparison tells while it runs; each is called with what has just happened."""

    planned: Callable[[Sequence[Job], Sequence[Job]], None] = lambda jobs, todo: None
    done: Callable[[Job], None] = lambda job: None
    timing: Callable[[int, int], None] = lambda turn, rounds: None


def compare(
    baseline: Arm,
    arms: Mapping[str, Arm],
    *,
    durations: Sequence[str],
    seeds: int = 5,
    store: Any,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    rounds: int = 10,
    max_hours: float | None = None,
    listener: Listener | None = None,
    **declared: Any,
) -> Verdicts:
    """Compare arms with a baseline and judge each of them.

    baseline, arms: recipes, callables (duration, seed, store) -> Run, or commands with {duration} and {seed}.
    durations: at least 4, such as ["5ep", "10ep", "20ep", "40ep"]; seeds: runs per arm and duration, at least 3.
    workers: processes that train at the same time (default: one per core on a CPU, one on a GPU; always one if any arm
    is not a recipe, whose seconds are those of its runs); threads: of torch in each (default on a CPU: 1); rounds: of the timing block; max_hours: stop after the last whole replicate that fits. declared: title, baseline_name, pairs,
    tuning, metric, higher_is_better, about (see Study).

    Runs that the store holds are not repeated. Raises InvalidValue for a plan that cannot end in a verdict.
    """
    study = Study(baseline=baseline, arms=arms, durations=durations, seeds=seeds, **declared)
    return run_study(
        study,
        store,
        workers=workers,
        threads=threads,
        device=device,
        rounds=rounds,
        max_hours=max_hours,
        listener=listener,
    )


def run_study(
    study: Study,
    store: Any,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    rounds: int = 10,
    max_hours: float | None = None,
    listener: Listener | None = None,
    reproduce: str = "",
) -> Verdicts:
    """`compare` for a study that is already put together (from a file, say); reproduce: the command to print."""
    listener = listener or Listener()
    study = study.resolved(functools.partial(full_id, store))
    machine = machine_for(study, workers, threads, device)
    begun = time.perf_counter()
    study = _with_metric(study)
    jobs = plan(study)
    todo = [job for job in jobs if found(job, store) is None]
    listener.planned(jobs, todo)
    flags: list[str] = []
    try:
        with threads_of(machine):
            execute(
                todo, store, machine, max_seconds=None if max_hours is None else max_hours * 3600, on_done=listener.done
            )
    except Stopped as stopped:
        if stopped.replicates < MIN_SEEDS:
            raise InvalidValue(
                f"a verdict needs {MIN_SEEDS} whole replicates, got {stopped.replicates} within --max-hours {max_hours:g}; "
                "allow more time and run the same command again: finished runs are kept"
            ) from None
        jobs = [job for job in jobs if job.replicate < stopped.replicates]
        flags.append(
            f"stopped after {stopped.replicates} of {study.seeds} replicates, at the end of --max-hours {max_hours:g}"
        )
    finally:
        stop_workers()
    runs = {job: found(job, store) for job in jobs}
    with store.lending():
        block = _time(study, machine, rounds, listener)
        return judge(
            study,
            runs,
            block,
            flags=flags,
            cost={"runs": len(jobs), "found": len(jobs) - len(todo), "seconds": time.perf_counter() - begun},
            reproduce=reproduce,
        )


def _with_metric(study: Study) -> Study:
    """The study with its metric, the task's own where it names none.

    A metric that the library's loop will not log is refused before hours are spent on runs without it.
    """
    from ..loop.session import build_task

    for arm in study.all_arms().values():
        if isinstance(arm, Recipe):
            own = build_task(arm).metric
            if not study.metric:
                study = replace(study, metric=own)
            elif study.metric not in (own, "loss"):
                raise unknown(f"metric of task {arm.task['name']!r}", study.metric, {own, "loss"})
    return study if study.metric else replace(study, metric=METRIC)


def _time(study: Study, machine: Machine, rounds: int, listener: Listener) -> Block | None:
    """The paired timing block over all arms that are recipes, at the middle duration; None if the baseline is not one."""
    recipes = {n: a for n, a in study.all_arms().items() if isinstance(a, Recipe)}
    if study.baseline_name not in recipes or len(recipes) < 2:
        return None
    middle = study.durations[len(study.durations) // 2]
    with threads_of(machine):
        return timing_block(
            {n: replace(r, duration=middle) for n, r in recipes.items()},
            study.baseline_name,
            rounds=rounds,
            device=machine.device,
            on_round=lambda turn: listener.timing(turn, rounds),
        )


def judge(
    study: Study,
    runs: Mapping[Job, Any],
    block: Block | None,
    *,
    flags: Sequence[str] = (),
    cost: Mapping[str, Any] | None = None,
    reproduce: str = "",
) -> Verdicts:
    """Verdicts and the result of a study whose runs are there (values of `runs`; None: missing)."""
    study = _with_metric(study)
    prices = _prices(study, block)
    points = [_point(study, job, run, prices) for job, run in runs.items() if run is not None]
    own = [_point(study, job, run, {}) for job, run in runs.items() if run is not None]
    shown: dict[str, Any] = {
        "metric": study.metric,
        "higher_is_better": _direction(study),
        "test_examples": _test_examples(study),
    }
    # One clock for each pair: the block's if it timed both arms, else that of the runs themselves for both.
    timed = [n for n in study.arms if block is not None and n in block.arms]
    declared: dict[str, Any] = {"pairs": study.pairs, "tuning": study.tuning, **shown}
    judged: dict[str, Verdict] = {}
    if block is not None and timed:
        timing = {n: {"log_ratio_variance": block.arms[n].log_ratio_variance, "df": block.arms[n].df} for n in timed}
        judged |= verdict(points, study.baseline_name, arms=timed, timing=timing, **declared)
    judged |= verdict(own, study.baseline_name, arms=[n for n in study.arms if n not in timed], **declared)
    judged = holm({n: judged[n] for n in study.arms})
    if timed:
        note = (
            "judged by the seconds of the runs, both arms alike; the figure shows the baseline's from the timing block"
        )
        judged |= {n: replace(v, flags=(*v.flags, note)) for n, v in judged.items() if n not in timed}
    for name, reason in _unlike(study, runs).items():
        judged[name] = Verdict(name, study.baseline_name, "not comparable", reasons=(reason,))
    judged = {name: replace(v, flags=(*v.flags, *flags)) for name, v in judged.items()}
    result = build_result(
        study,
        points,
        judged,
        block,
        list(runs.values()),
        shown=shown,
        cost=dict(cost or {}),
        reproduce=reproduce,
        own_clock=own,
    )
    return Verdicts(judged, result, block)


def _prices(study: Study, block: Block | None) -> dict[tuple[str, str], float]:
    """Seconds of a whole run by (arm, duration), from the timing block; arms without a recipe are left out."""
    from ..loop.session import Session

    prices: dict[tuple[str, str], float] = {}
    if block is None:
        return prices
    for name, arm in study.all_arms().items():
        if not isinstance(arm, Recipe):
            continue
        for duration in study.durations:
            session = Session(replace(arm, duration=duration), 0)
            with warnings.catch_warnings(), session.attached():
                # The steps are counted here and not made, which the chain would otherwise report as a mistake.
                warnings.simplefilter("ignore", NoEffectWarning)
                counts = {s: len(steps) for s, steps in strata_of(session, session.total_steps).items()}
            prices[name, duration] = run_seconds(block.arms[name], counts)
    return prices


def _point(study: Study, job: Job, run: Any, prices: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    finished = run.status == "finished"
    own = run.seconds
    price = prices.get((job.arm, job.duration))
    once = float(run.cost.get("one_off_seconds") or 0.0)
    return {
        "arm": job.arm,
        "duration": job.duration,
        "seed": job.seed,
        "steps": run.steps,
        "seconds": (own if own is not None else float("nan")) if price is None else price + once,
        "quality": run.quality(study.metric, "test") if finished else float("nan"),
        "status": run.status,
        "run": run.id,
    }


def _unlike(study: Study, runs: Mapping[Job, Any]) -> dict[str, str]:
    """Arms whose runs were made on other hardware than the baseline's, with the reason."""
    base: dict[str, Any] = next(
        (run.facts for job, run in runs.items() if run is not None and job.arm == study.baseline_name), {}
    )
    found_reasons: dict[str, str] = {}
    for job, run in runs.items():
        if run is None:
            continue
        fits, reason = comparable(base, run.facts)
        if not fits:
            for name in study.arms if job.arm == study.baseline_name else (job.arm,):
                found_reasons.setdefault(name, reason)
    return found_reasons


def _direction(study: Study) -> bool:
    """Whether higher is better: as declared, by the metric's name, or as the task says of its own metric."""
    from ..loop.session import build_task

    study = _with_metric(study)
    by_name = direction(study.metric, study.higher_is_better)
    recipe = next((a for a in study.all_arms().values() if isinstance(a, Recipe)), None)
    if study.higher_is_better is not None or not by_name or recipe is None:
        return by_name
    task = build_task(recipe)
    return bool(task.higher_is_better) if study.metric == task.metric else by_name


def _test_examples(study: Study) -> int | None:
    from ..loop.session import build_task

    recipe = next((a for a in study.all_arms().values() if isinstance(a, Recipe)), None)
    return None if recipe is None else int(build_task(recipe).test_examples)
