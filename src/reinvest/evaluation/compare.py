"""`compare`: plan a study, run what the store lacks, time the arms side by side, and judge.

Quality against steps comes from runs, stored or new; seconds per step come from one paired timing block.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.chain import NoEffectWarning
from ..core.errors import InvalidValue, unknown
from ..core.hardware import comparable
from ..core.metrics import direction, known_direction
from ..core.names import resolve
from ..core.recipe import Recipe
from ..loop.train import full_id
from .blocks import Timing, measured, timed
from .calibrating import calibration, told
from .course import Course
from .equivalence import systems_of
from .estimate import estimate
from .execute import Machine, machine_for, threads_of
from .judge import holm, verdict
from .judged import earlier, remember
from .looks import Look, decided, declared
from .onerun import SEPARATE, reading
from .outcome import Verdict
from .plan import Job, plan
from .result import build_result, write_result
from .study import METRIC, MIN_SEEDS, Arm, Study
from .study_checks import LEVEL
from .timing import Block, run_seconds, strata_of

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
    looked: Callable[[Look, Mapping[str, Verdict]], None] = lambda look, verdicts: None


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
    again: bool = True,
    time_again: bool = False,
    max_hours: float | None = None,
    listener: Listener | None = None,
    **declared: Any,
) -> Verdicts:
    """Compare arms with a baseline and judge each of them.

    baseline, arms: recipes, callables (duration, seed, store) -> Run, or commands with {duration} and {seed}.
    durations: at least 4, such as ["5ep", "10ep", "20ep", "40ep"]; seeds: runs per arm and duration, at least 3.
    workers: processes that train at the same time (default: one per core on a CPU, one on a GPU; always one if any arm
    is not a recipe, whose seconds are those of its runs); threads: of torch in each (default on a CPU: 1); rounds: of the timing block; again: the baseline takes part in it a second time; time_again:
    measure the block though the store keeps one of these arms on this machine; max_hours: stop after the last whole replicate
    that fits. declared: title, baseline_name, pairs, tuning, metric, higher_is_better, about, looks, spending, curve,
    systems_only (see Study).

    Runs that the store holds are not repeated. Raises InvalidValue for a plan that cannot end in a verdict.
    """
    study = Study(baseline=baseline, arms=arms, durations=durations, seeds=seeds, **declared)
    return run_study(
        study,
        store,
        workers=workers,
        threads=threads,
        device=device,
        timing=Timing(rounds, again, time_again),
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
    timing: Timing | None = None,
    max_hours: float | None = None,
    listener: Listener | None = None,
    reproduce: str = "",
) -> Verdicts:
    """`compare` for a study that is already put together (from a file, say); reproduce: the command to print; timing: how
    arms are timed (left out: 10 rounds, the baseline again).

    Where looks are declared it is judged at each of them, and ends with the first at which every arm is decided.
    """
    listener = listener or Listener()
    study = with_metric(study.resolved(functools.partial(full_id, store)))
    machine = machine_for(study, workers, threads, device)
    course = Course(plan(study), store, machine, max_hours=max_hours, on_done=listener.done)
    listener.planned(course.jobs, course.todo)
    block: list[Block | None] = []

    def judged(whole: int, look: Look | None, *flags: str) -> Verdicts:
        off = calibration(study, course.runs(whole), store)
        with threads_of(machine), store.lending():
            block[:] = block or [_time(study, machine, timing or Timing(), store, listener)]
            when = measured(block[0])
            found_out = judge(
                study,
                course.runs(whole),
                block[0],
                flags={a: (*flags, *told(study, off), *f) for a, f in earlier(study, whole, when, store).items()},
                cost=course.cost(whole),
                reproduce=reproduce,
                look=look,
            )
            found_out.result.update(_beside(study, found_out.result, block[0], machine.device, off))
        remember(study, whole, store, when, {name: v.verdict for name, v in found_out.items()})
        return found_out

    verdicts: Verdicts | None = None
    previous: Look | None = None
    for look in declared(study.looks, LEVEL, study.spending) if study.looks else [None]:
        whole = study.seeds if look is None else look.seeds
        reached = course.train(whole)
        if reached < whole:
            flag = f"stopped after {reached} of {study.seeds} replicates, at the end of --max-hours {max_hours or 0:g}"
            if previous is not None:
                return judged(previous.seeds, previous, flag)
            _check_replicates(reached, MIN_SEEDS if look is None else whole, max_hours)
            return judged(reached, None, flag)
        if look is not None and previous is not None and verdicts is not None:
            look = look.after(previous, {name: v.verdict for name, v in verdicts.items()})
        verdicts, previous = judged(whole, look), look
        if look is not None and _ends(look, verdicts, listener):
            break
    assert verdicts is not None
    return verdicts


def _ends(look: Look, verdicts: Verdicts, listener: Listener) -> bool:
    """Tell of a look; whether every arm is decided by it."""
    listener.looked(look, verdicts)
    return decided(v.verdict for v in verdicts.values())


def _beside(
    study: Study, result: Mapping[str, Any], block: Block | None, device: str, off: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a result says beside the verdicts: arms that claim to alter speed alone, points of one-run curves (off)."""
    more: dict[str, Any] = {}
    if study.systems_only:
        more["systems"] = systems_of(study, result, block, device=device)
    if study.curve != SEPARATE:
        more["calibration"] = {"kind": study.curve, "rows": off}
    return more


def _check_replicates(reached: int, least: int, max_hours: float | None) -> None:
    if reached < least:
        raise InvalidValue(
            f"a verdict needs {least} whole replicates, got {reached} within --max-hours {max_hours or 0:g}; "
            "allow more time and run the same command again: finished runs are kept"
        )


def with_metric(study: Study) -> Study:
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


def _time(study: Study, machine: Machine, timing: Timing, store: Any, listener: Listener) -> Block | None:
    """The paired timing block over all arms that are recipes, at the middle duration; None if the baseline is not one."""
    recipes = {n: a for n, a in study.all_arms().items() if isinstance(a, Recipe)}
    if study.baseline_name not in recipes or len(recipes) < 2:
        return None
    middle = study.durations[len(study.durations) // 2]
    with threads_of(machine):
        return timed(
            {n: replace(r, duration=middle) for n, r in recipes.items()},
            study.baseline_name,
            timing,
            machine.device,
            store,
            lambda turn: listener.timing(turn, timing.rounds),
        )


def judge(
    study: Study,
    runs: Mapping[Job, Any],
    block: Block | None,
    *,
    flags: Mapping[str, Sequence[str]] | None = None,
    cost: Mapping[str, Any] | None = None,
    reproduce: str = "",
    look: Look | None = None,
) -> Verdicts:
    """Verdicts and the result of a study whose runs are there (values of `runs`; None: missing).

    flags: further ones, by arm; look: which of the declared looks this is, at whose level it is judged.
    """
    alpha = LEVEL if look is None else look.alpha
    study = with_metric(study)
    prices = prices_of(study.all_arms(), study.durations, block)
    points = [point_of(study, job, run, prices) for job, run in runs.items() if run is not None]
    own = [point_of(study, job, run, {}) for job, run in runs.items() if run is not None]
    shown = shown_of(study)
    # One clock for each pair: the block's if it timed both arms, else that of the runs themselves for both.
    timed = [n for n in study.arms if block is not None and n in block.arms]
    settings: dict[str, Any] = {"pairs": study.pairs, "tuning": study.tuning, "alpha": alpha, **shown}
    settings["higher_is_better"] = _direction(study)
    judged: dict[str, Verdict] = {}
    if block is not None and timed:
        timing = {n: {"log_ratio_variance": block.arms[n].log_ratio_variance, "df": block.arms[n].df} for n in timed}
        judged |= verdict(points, study.baseline_name, arms=timed, timing=timing, **settings)
    judged |= verdict(own, study.baseline_name, arms=[n for n in study.arms if n not in timed], **settings)
    judged = holm({n: judged[n] for n in study.arms}, alpha)
    if timed:
        note = (
            "judged by the seconds of the runs, both arms alike; the figure shows the baseline's from the timing block"
        )
        judged |= {n: replace(v, flags=(*v.flags, note)) for n, v in judged.items() if n not in timed}
    if block is not None:
        judged |= {n: replace(judged[n], flags=(*judged[n].flags, *block.flags)) for n in timed}
    for name, reason in _unlike(study, runs).items():
        judged[name] = Verdict(name, study.baseline_name, "not comparable", reasons=(reason,))
    names = {name: v.verdict for name, v in judged.items()}
    said = {} if look is None else look.flags(names)
    more = flags or {}
    judged = {n: replace(v, flags=(*v.flags, *said.get(n, ()), *more.get(n, ()))) for n, v in judged.items()}
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
    if look is not None:
        result["looks"] = look.to_dict(names)
    return Verdicts(judged, result, block)


def prices_of(arms: Mapping[str, Arm], durations: Sequence[str], block: Block | None) -> dict[tuple[str, str], float]:
    """Seconds of a whole run by (arm, duration), from the timing block; arms without a recipe are left out."""
    from ..loop.session import Session

    prices: dict[tuple[str, str], float] = {}
    if block is None:
        return prices
    for name, arm in arms.items():
        if not isinstance(arm, Recipe):
            continue
        for duration in durations:
            session = Session(replace(arm, duration=duration), 0)
            with warnings.catch_warnings(), session.attached():
                # The steps are counted here and not made, which the chain would otherwise report as a mistake.
                warnings.simplefilter("ignore", NoEffectWarning)
                counts = {s: len(steps) for s, steps in strata_of(session, session.total_steps).items()}
            prices[name, duration] = run_seconds(block.arms[name], counts)
    return prices


def point_of(study: Study, job: Job, run: Any, prices: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """A run seen as (time, quality), a row for `verdict`; prices: seconds by (arm, duration) in place of the run's own."""
    read = reading(run, study.metric, job.share)
    price = prices.get((job.arm, job.duration))
    once = float(run.cost.get("one_off_seconds") or 0.0)
    return {
        "arm": job.arm,
        "duration": job.duration,
        "seed": job.seed,
        "steps": read["steps"],
        "seconds": read["seconds"] if price is None else price + once,
        "quality": read["quality"],
        "status": read["status"],
        "run": run.id,
        **({} if study.curve == SEPARATE else {"kind": study.curve, "trunk": str(job.seed)}),
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


def shown_of(study: Study) -> dict[str, Any]:
    """Metric, its direction and the size of the test set of a study whose metric is known."""
    return {
        "metric": study.metric,
        "higher_is_better": direction(study.metric or METRIC, _direction(study)),
        "test_examples": _test_examples(study),
    }


def _direction(study: Study) -> bool | None:
    """Whether higher is better: as declared, by the metric's name, or as the task says of its own metric; None: nobody says."""
    from ..loop.session import build_task

    study = with_metric(study)
    by_name = known_direction(study.metric) if study.higher_is_better is None else study.higher_is_better
    recipe = next((a for a in study.all_arms().values() if isinstance(a, Recipe)), None)
    if study.higher_is_better is not None or by_name is False or recipe is None:
        return by_name
    task = build_task(recipe)
    return bool(task.higher_is_better) if study.metric == task.metric else by_name


def _test_examples(study: Study) -> int | None:
    from ..loop.session import build_task

    recipe = next((a for a in study.all_arms().values() if isinstance(a, Recipe)), None)
    return None if recipe is None else int(build_task(recipe).test_examples)
