"""A whole quality-against-time curve out of one run an arm and replicate, for about half the price of separate runs.

"cyclic": a rate that falls to zero in cycles of growing length; the end of each stands for a run of that length (Portes et
al., 2206.00832). "cooldown-branch": a constant rate, from whose run, the trunk, a short cool-down branches off for each
duration (Hägele et al., 2405.18392). Points of one run belong together, and a study has one kind of them only.
"""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.duration import Duration
from ..core.errors import InvalidValue, unknown
from ..core.recipe import Recipe
from ..loop.branches import marked_shares, refuse_horizons

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "KINDS",
    "SEPARATE",
    "branch",
    "check_one_run",
    "cyclic",
    "deviations",
    "ends",
    "reading",
    "share_of_separate",
    "trunk",
]

SEPARATE = "separate"
KINDS = (SEPARATE, "cyclic", "cooldown-branch")
"""How the points of a study are made: by a run each, or several by one."""
COOLDOWN = 0.2
"""Share of a branch that its cool-down takes."""
LEAST = 2
"""Separate runs of a duration from which a deviation is told."""
NO_METRICS = ("split", "step", "epoch", "seconds")
"""What an entry of a curve says beside its metrics."""
SAME = 1e-3
"""By what share steps between durations may differ and count as equal: durations in epochs are rounded."""


def check_one_run(kind: str, arms: Mapping[str, Any], durations: Sequence[str]) -> None:
    """Raise UnknownName for another kind, InvalidValue where one run cannot stand for all durations of every arm."""
    if kind not in KINDS:
        raise unknown("kind of curve", kind, KINDS)
    if kind == SEPARATE:
        return
    for name, arm in arms.items():
        if not isinstance(arm, Recipe):
            raise InvalidValue(
                f"a curve out of one run needs recipes, got a command or a callable for {name!r}; leave out curve: {kind}"
            )
        refuse_horizons(arm.build_methods(), f"arm {name!r}, whose curve comes out of one run,")
    _check_schedules(kind, {name: arm.schedule for name, arm in arms.items() if isinstance(arm, Recipe)})
    amounts = _amounts(durations)
    if any(b <= a for a, b in itertools.pairwise(amounts)):
        raise InvalidValue(
            f"durations of a curve out of one run increase, got {', '.join(durations)}; put them in order, each once"
        )
    if kind == "cyclic":
        steps = [b / a for a, b in itertools.pairwise(amounts)]
        if max(steps) > min(steps) * (1 + SAME):
            raise InvalidValue(
                f"cycles grow by one factor, got durations {', '.join(durations)}; take for example each twice the one "
                "before, or curve: cooldown-branch"
            )
        if min(steps) < 1.5:
            raise InvalidValue(
                f"cycles grow by 1.5 or more, got durations {', '.join(durations)}; take for example each twice the one "
                "before, or curve: cooldown-branch"
            )


def _check_schedules(kind: str, schedules: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what the curve's own schedule, which takes the place of the arms', would drop."""
    kept = ("final",) if kind == "cyclic" else ("final", "warmup")
    dropped = {name: {k: v for k, v in own.items() if k not in kept} for name, own in schedules.items()}
    for name, rest in dropped.items():
        if rest != next(iter(dropped.values())):
            raise InvalidValue(
                f"a curve out of one run has one schedule for all arms, got another one for {name!r} than for "
                f"{next(iter(dropped))!r}; make them alike but for {' and '.join(kept)}, or leave out curve: {kind}"
            )
        warmup = schedules[name].get("warmup", 0.0)
        if kind == "cooldown-branch" and float(warmup) > 1.0 - COOLDOWN:
            raise InvalidValue(
                f"the shortest run warms up before its cool-down at {1.0 - COOLDOWN:g} of it, got warmup={warmup!r} of "
                f"arm {name!r}; shorten the warm-up"
            )


def _amounts(durations: Sequence[str]) -> list[float]:
    parsed = [Duration.parse(d) for d in durations]
    if any(d.amount != int(d.amount) for d in parsed):
        raise InvalidValue(
            f"durations of a curve out of one run are whole epochs or steps, got {', '.join(durations)}; round them"
        )
    return [d.amount for d in parsed]


def cyclic(arm: Recipe, durations: Sequence[str]) -> Recipe:
    """The recipe whose cycles end at the durations: warm-up and first cycle end at the first one."""
    amounts = _amounts(durations)
    growth = amounts[1] / amounts[0]
    schedule = {"name": "cyclic", "cycles": len(amounts), "growth": growth, "warmup": growth ** -len(amounts)}
    return replace(arm, duration=durations[-1], schedule=schedule | _final(arm))


def ends(made: Recipe) -> list[float]:
    """Where the cycles of such a recipe end, as shares of its run: near the durations, which may be rounded."""
    return marked_shares(made.schedule, "reads")


def trunk(arm: Recipe, durations: Sequence[str]) -> Recipe:
    """The recipe of the longest duration, kept where the shorter ones begin to cool down."""
    amounts = _amounts(durations)
    forks = [a * (1.0 - COOLDOWN) / amounts[-1] for a in amounts[:-1]]
    made = branch(arm, durations[-1], durations)
    return replace(made, schedule=made.schedule | {"forks": forks})


def branch(arm: Recipe, duration: str, durations: Sequence[str]) -> Recipe:
    """The recipe of one duration; all warm up for as long as the shortest would."""
    amount, first = Duration.parse(duration).amount, _amounts(durations)[0]
    warmup = float(arm.schedule.get("warmup", 0.0)) * first / amount
    return replace(
        arm, duration=duration, schedule={"name": "cooldown", "share": COOLDOWN, "warmup": warmup} | _final(arm)
    )


def _final(arm: Recipe) -> dict[str, Any]:
    return {"final": arm.schedule["final"]} if arm.schedule.get("final") else {}


def share_of_separate(kind: str, durations: Sequence[str]) -> float:
    """Steps of all runs of one replicate in place of separate runs' steps: 1 for separate ones, about a half else."""
    if kind == SEPARATE:
        return 1.0
    amounts = _amounts(durations)
    own = amounts[-1] + (COOLDOWN * sum(amounts[:-1]) if kind == "cooldown-branch" else 0.0)
    return own / sum(amounts)


def reading(run: Any, metric: str, share: float) -> dict[str, Any]:
    """{"steps", "seconds", "quality", "status"} of a run at a share of it: where it ends, or where a cycle of it does.

    Of a run that diverged, cycles that had ended before are finished points, as separate runs of their lengths would be;
    those behind it have diverged, and so has one whose test values are no numbers, since divergence is noticed some steps
    late. quality: NaN of what did not get there. seconds: of training, as the run's own clock has them.
    """
    if share == 1.0 and run.status == "finished":
        return _point(run.steps, run.seconds, run.quality(metric, "test"), "finished")
    entry = None if share == 1.0 else _read_at(run, share)
    if entry is None:
        return _point(run.steps, run.seconds, None, run.status)
    return _point(entry["step"], entry.get("seconds"), entry.get(metric), "finished")


def _point(steps: int | None, seconds: float | None, quality: float | None, status: str) -> dict[str, Any]:
    """What is known of a point, with NaN for what is not."""
    seconds, quality = (math.nan if value is None else value for value in (seconds, quality))
    return {"steps": steps, "seconds": seconds, "quality": quality, "status": status}


def _read_at(run: Any, share: float) -> dict[str, Any] | None:
    """What was read of the test split where a cycle ended; None if the run was not, or no longer, training then."""
    read = {entry["step"]: entry for entry in run.curve if entry["split"] == "test"}
    if run.status == "finished":
        return read.get(round(share * run.steps))
    # How long it would have been is not known of a run that diverged; which of its cycles this is, is.
    shares = marked_shares(run.config["schedule"], "reads") if run.status == "diverged" else []
    place = min(range(len(shares)), key=lambda k: abs(shares[k] - share), default=len(read))
    entry = read[sorted(read)[place]] if place < len(read) else None
    values = [] if entry is None else [v for name, v in entry.items() if name not in NO_METRICS]
    return entry if values and all(v is not None and math.isfinite(v) for v in values) else None


def deviations(ours: Mapping[str, Sequence[float]], separate: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """How far the points of one-run curves lie from separate runs: a row a duration that has two or more of each.

    ours, separate: quality by duration. A row: duration, runs of each, the difference of the means and the ends of its
    95 % interval (Welch).
    """
    rows: list[dict[str, Any]] = []
    for duration, values in ours.items():
        other = separate.get(duration, ())
        if min(len(values), len(other)) < LEAST:
            continue
        mean, half = _welch(values, other)
        row = {"duration": duration, "runs": len(values), "separate": len(other)}
        rows.append(row | {"difference": mean, "low": mean - half, "high": mean + half})
    return rows


def _welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Difference of the means, and half the width of its 95 % interval."""
    from scipy.stats import t

    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    difference = statistics.fmean(first) - statistics.fmean(second)
    if not sum(parts):
        return difference, 0.0
    df = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (first, second), strict=True))
    return difference, float(t.ppf(0.975, df)) * math.sqrt(sum(parts))
