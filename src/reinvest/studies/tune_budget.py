"""Budgets: device time that each arm's trials were given, foreseen before the first of them, and when two are unequal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.duration import Duration
from ..evaluation.refusals import TUNING
from ..evaluation.timing import steps_of
from .tune_ask import Asker
from .tune_plan import TuningPlan, sampler_seed
from .tune_prices import Prices, changes_work
from .tune_space import applied, space_to_dict
from .tune_trials import Trial, what_is_tuned


def charged(trial: Trial, prices: Prices, steps: int) -> float:
    """Device-seconds of `steps` steps of a trial, with what its methods cost once."""
    return steps * prices.step(trial.arm, trial.values) + trial.once


def budgets(trials: Sequence[Trial], prices: Prices) -> dict[str, dict[str, Any]]:
    """{arm: {"trials", "diverged", "seconds" (set aside), "spent", "own_clock" (what its runs' own clocks add up to)}} over
    all its studies.

    A trial that diverged stopped early, but its steps were set aside: it is charged all of them.
    """
    out: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(t.arm for t in trials):
        own = [t for t in trials if t.arm == arm]
        out[arm] = {
            "trials": len(own),
            "diverged": sum(t.quality is None for t in own),
            "seconds": math.fsum(charged(t, prices, t.steps) for t in own),
            "spent": math.fsum(charged(t, prices, t.done) for t in own),
            "own_clock": math.fsum(t.own_seconds for t in own),
        }
    return out


def foreseen(plan: TuningPlan, prices: Prices) -> dict[str, float]:
    """{arm: device-seconds that its trials will be charged}.

    Exact where the proposals are known beforehand or change neither steps nor price. TPE follows answers that nobody has
    yet, so that quasi-random proposals stand for its own.
    """
    return {arm: math.fsum(_each(plan, prices, arm)) for arm in plan.spaces}


def unforeseen(plan: TuningPlan, prices: Prices) -> list[str]:
    """What is to be feared of budgets that depend on answers: a sentence for each arm whose trials cost unlike under TPE."""
    found = []
    for arm, space in plan.spaces.items() if plan.sampler == "tpe" else ():
        each = _each(plan, prices, arm)
        if max(each) > TUNING * min(each):
            paths = ", ".join(path for path, axis in space.items() if changes_work(path, axis))
            found.append(
                f"TPE follows what it finds, and a trial of {arm!r} takes {seconds_text(min(each))} to "
                f"{seconds_text(max(each))} of device time, depending on {paths}: budgets may turn out to differ by more than "
                "10 % after they were paid; sampler: qmc makes them known before"
            )
    return found


def _each(plan: TuningPlan, prices: Prices, arm: str) -> list[float]:
    """Device-seconds of every trial of an arm."""
    counted: dict[Any, int] = {}
    out = []
    for values in _proposals(plan, arm):
        size = values.get("batch_size")
        if size not in counted:
            counted[size] = steps_of(applied(plan.recipe(arm), {} if size is None else {"batch_size": size}))
        out.append(counted[size] * prices.step(arm, values) + prices.once[arm])
    return out


def _proposals(plan: TuningPlan, arm: str) -> Iterator[dict[str, Any]]:
    """The values of all trials of an arm."""
    space = plan.spaces[arm]
    if not any(changes_work(path, axis) for path, axis in space.items()):
        yield from ({} for _ in range(plan.trials * plan.studies))
        return
    text = what_is_tuned(plan.recipe(arm), space_to_dict(space))
    for study in range(1, plan.studies + 1):
        asker = Asker(space, "qmc", sampler_seed(text, study))
        for _ in range(plan.trials):
            yield asker.ask()
            asker.tell(0.0)


def unequal(plan: TuningPlan, seconds: Mapping[str, float], arm: str) -> str:
    """Why an arm cannot be compared with the baseline after these device-seconds of trials, "" if it can."""
    ours, theirs = seconds[plan.baseline], seconds[arm]
    if max(ours, theirs) <= TUNING * min(ours, theirs):
        return ""
    durations = ", ".join(f"{name}: {text}" for name, text in equal_durations(plan, seconds).items())
    return (
        f"tuning budgets may differ by at most 10 %, got {seconds_text(ours)} of device time for {plan.baseline!r} and "
        f"{seconds_text(theirs)} for {arm!r}, steps x seconds per step timed side by side; give the dearer arm shorter "
        f"trials, for example duration: {{{durations}}}"
    )


def equal_durations(plan: TuningPlan, seconds: Mapping[str, float]) -> dict[str, str]:
    """Durations of the trials under which all arms would be given as much as the cheapest is now."""
    least = min(seconds.values())
    out = {}
    for arm, text in plan.trial_durations.items():
        whole = Duration.parse(text)
        amount = whole.amount * least / seconds[arm]
        if seconds[arm] <= TUNING * least:
            out[arm] = text
        elif whole.unit == "st":
            out[arm] = str(Duration(max(1, round(amount)), "st"))
        else:
            out[arm] = str(Duration(float(f"{amount:.3g}"), whole.unit))
    return out


def seconds_text(seconds: float) -> str:
    """Three digits of seconds, minutes or hours, as pages show them."""
    scale, unit = (1, "s") if seconds < 600 else (60, "min") if seconds < 4 * 3600 else (3600, "h")
    value = seconds / scale
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:#.3g} {unit}"
