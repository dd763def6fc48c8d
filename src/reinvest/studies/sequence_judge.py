"""What a sequence study says: verdicts over whole sequences, drift over hand-overs, cost of a target, paired differences.

The sequence is the unit. Positions inside one are not independent of each other, so nothing here treats them so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..evaluation.judge import verdict
from ..evaluation.outcome import Verdict
from ..evaluation.study_checks import MIN_DURATIONS
from .sequence_plan import FULL_SEQUENCES, SequencePlan
from .sequence_points import mean, stratified, t_interval

ESTIMATE = "an estimate"
UNTUNED = "tuning not declared"
NO_VERDICT = (
    "no verdict about time: fewer than {least} durations give no curve of quality against time, so below are differences "
    "at these durations only"
)


@dataclass(frozen=True)
class Metric:
    """What is compared: name, direction, and the number of test examples of the last position."""

    name: str
    higher_is_better: bool
    test_examples: int | None = None

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1."""
        return 1 if self.higher_is_better else -1


def verdicts_of(
    plan: SequencePlan,
    points: Sequence[Mapping[str, Any]],
    metric: Metric,
    timing: Mapping[str, Mapping[str, float]],
    *,
    own_clock: bool = False,
) -> dict[str, Verdict]:
    """Verdict of each arm over whole sequences; {} where there are too few durations for one.

    The arms share their seeds and their first run, durations share none: pairs by duration, as the plan has them.
    """
    if len({p["duration"] for p in points}) < MIN_DURATIONS:
        return {}
    rows = [{k: v for k, v in p.items() if k != "sequence"} for p in points]
    arms = [arm for arm in plan.arms if arm != plan.baseline]
    same = all(
        {p["seed"] for p in points if p["arm"] == arm and p["status"] == "finished"}
        == {p["seed"] for p in points if p["arm"] == plan.baseline and p["status"] == "finished"}
        for arm in arms
    )
    found = verdict(
        rows,
        plan.baseline,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        arms=arms,
        # A sequence that diverged in one arm has no partner in the other; unpaired intervals are valid, and wider.
        pairs="duration" if same else None,
        timing=None if own_clock or not timing else {a: dict(timing[a]) for a in arms},
        test_examples=metric.test_examples,
    )
    # Said once for the whole study, not for every arm.
    return {a: replace(v, flags=tuple(f for f in v.flags if not f.startswith(UNTUNED))) for a, v in found.items()}


def flags_of(plan: SequencePlan, count: int, stopped: float | None, own_clock: bool) -> list[str]:
    """What the whole study is to be read with."""
    flags = []
    if count < FULL_SEQUENCES:
        flags.append(f"{ESTIMATE}: {count} sequences an arm, where a claim has {FULL_SEQUENCES} or more")
    if len(plan.durations) < MIN_DURATIONS:
        flags.append(NO_VERDICT.format(least=MIN_DURATIONS))
    else:
        flags.append(f"{UNTUNED}: the claim is about these recipes, not about methods")
    if stopped is not None:
        flags.append(
            f"stopped after {count} of {plan.sequences['count']} sequences, at the end of --max-hours {stopped:g}"
        )
    if own_clock:
        flags.append("seconds are those of the runs' own clocks, not of a timing block: machine noise is in them")
    if plan.pool:
        flags.append(
            f"all sequences use the same {len(plan.pool)} runs from outside: intervals are about this pool, not about others"
        )
    return flags


# ---- drift ---------------------------------------------------------------------------------------------------------


def slope(values: Sequence[float]) -> float:
    """Least-squares slope of values over equally spaced positions; NaN for fewer than two."""
    n = len(values)
    if n < 2:
        return math.nan
    middle = (n - 1) / 2
    return math.fsum((k - middle) * v for k, v in enumerate(values)) / math.fsum((k - middle) ** 2 for k in range(n))


def drift_of(plan: SequencePlan, rows: Sequence[Mapping[str, Any]], arm: str, metric: Metric) -> dict[str, Any]:
    """How the quality gained over scratch changes from hand-over to hand-over.

    Per sequence and duration the slope, over the runs that follow another, of (arm - scratch), in units of the metric
    per run and positive for better; then Student's 95 % interval over sequences, durations apart (Welch). "falls" only
    if the interval lies below 0, "rises" if above, else "none shown"; with fewer than two followers "too short".
    """
    followers = range(1 if plan.pool else 2, plan.length + 1)
    table = _by_chain(rows)
    groups = []
    for duration in plan.durations:
        slopes = []
        for number in plan.numbers:
            ours, base = table.get((arm, duration, number), {}), table.get((plan.baseline, duration, number), {})
            gains = [metric.sign * (ours[k] - base[k]) for k in followers if k in ours and k in base]
            if len(gains) == len(followers) > 1 and all(map(math.isfinite, gains)):
                slopes.append(slope(gains))
        groups.append(slopes)
    middle, low, high = stratified(groups)
    if not any(groups):
        word = "too short" if len(followers) < 2 else "not known"
    else:
        word = "falls" if high < 0 else "rises" if low > 0 else "none shown"
    return {
        "verdict": word,
        "slope": middle,
        "low": low,
        "high": high,
        "chains": sum(map(len, groups)),
        "by_duration": {
            d: dict(zip(("slope", "low", "high"), t_interval(g), strict=True))
            for d, g in zip(plan.durations, groups, strict=True)
        },
    }


def _by_chain(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], dict[int, float]]:
    table: dict[tuple[str, str, int], dict[int, float]] = {}
    for row in rows:
        table.setdefault((row["arm"], row["duration"], row["sequence"]), {})[row["position"]] = row["quality"]
    return table


# ---- by position, and at equal durations ---------------------------------------------------------------------------


def positions_of(plan: SequencePlan, rows: Sequence[Mapping[str, Any]], metric: Metric) -> list[dict[str, Any]]:
    """Per arm, duration and position: mean quality, gain over scratch with interval, and mean cost."""
    table = _by_chain(rows)
    out = []
    for arm in plan.arms:
        for duration in plan.durations:
            for k in range(1, plan.length + 1):
                cell = [r for r in rows if (r["arm"], r["duration"], r["position"]) == (arm, duration, k)]
                good = [r["quality"] for r in cell if math.isfinite(r["quality"])]
                gains = [
                    metric.sign * (table[arm, duration, n][k] - table[plan.baseline, duration, n][k])
                    for n in plan.numbers
                    if k in table.get((arm, duration, n), {}) and k in table.get((plan.baseline, duration, n), {})
                ]
                quality, gain = t_interval(good), t_interval([g for g in gains if math.isfinite(g)])
                own = {name: mean([r[name] for r in cell]) for name in _COSTS}
                known = next((r for r in cell if r["ratio"] is not None), {})
                out.append(
                    {
                        "arm": arm,
                        "duration": duration,
                        "position": k,
                        "runs": len(good),
                        "quality": quality[0],
                        "quality_low": quality[1],
                        "quality_high": quality[2],
                        "gain": gain[0],
                        "gain_low": gain[1],
                        "gain_high": gain[2],
                        **own,
                        **{name: known.get(name) for name in ("ratio", "ratio_low", "ratio_high")},
                    }
                )
    return out


_COSTS = ("steps", "seconds_per_step", "one_off", "seconds", "cumulated", "cumulated_steps")


def at_durations(plan: SequencePlan, points: Sequence[Mapping[str, Any]], metric: Metric) -> list[dict[str, Any]]:
    """Per arm and duration: the paired difference of whole sequences from scratch, quality and cost, with t intervals."""
    found = {(p["arm"], p["duration"], p["sequence"]): p for p in points if p["status"] == "finished"}
    out = []
    for arm in plan.arms:
        if arm == plan.baseline:
            continue
        for duration in plan.durations:
            pairs = [
                (found[arm, duration, n], found[plan.baseline, duration, n])
                for n in plan.numbers
                if (arm, duration, n) in found and (plan.baseline, duration, n) in found
            ]
            gain = t_interval([metric.sign * (a["quality"] - b["quality"]) for a, b in pairs])
            cost = t_interval([math.log(a["seconds"] / b["seconds"]) for a, b in pairs])
            out.append(
                {
                    "arm": arm,
                    "duration": duration,
                    "sequences": len(pairs),
                    "gain": gain[0],
                    "gain_low": gain[1],
                    "gain_high": gain[2],
                    **{n: _exp(v) for n, v in zip(("cost_ratio", "cost_low", "cost_high"), cost, strict=True)},
                }
            )
    return out


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


# ---- a target ------------------------------------------------------------------------------------------------------


def to_target(cells: Sequence[tuple[float, float]], target: float, higher: bool) -> float | None:
    """The cost at which a curve reaches `target`, straight in log cost between cells; None if it never does.

    cells: (cost, mean quality), by rising cost. A curve that begins above the target has no known crossing: the first
    cost is then returned, which is an upper bound.
    """
    ordered = sorted((c, q) for c, q in cells if c > 0 and math.isfinite(q))
    for k, (cost, quality) in enumerate(ordered):
        if (quality < target) if higher else (quality > target):
            continue
        if k == 0 or quality == ordered[k - 1][1]:
            return cost
        before, low = ordered[k - 1]
        share = (target - low) / (quality - low)
        return math.exp(math.log(before) + share * (math.log(cost) - math.log(before)))
    return None


def targets_of(
    plan: SequencePlan, rows: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]], metric: Metric
) -> dict[str, Any] | None:
    """Steps and seconds at which each arm reaches the target: whole sequences, and each position alone."""
    if plan.target is None:
        return None
    out: dict[str, Any] = {"quality": plan.target, "arms": {}}
    for arm in plan.arms:
        own = [p for p in points if p["arm"] == arm and p["status"] == "finished"]
        places = []
        for k in range(1, plan.length + 1):
            cell = [r for r in rows if r["arm"] == arm and r["position"] == k and math.isfinite(r["quality"])]
            places.append({"position": k, **_costs_to(plan, cell, metric)})
        out["arms"][arm] = {**_costs_to(plan, own, metric), "positions": places}
    return out


def _costs_to(plan: SequencePlan, entries: Sequence[Mapping[str, Any]], metric: Metric) -> dict[str, float | None]:
    assert plan.target is not None
    found = {}
    for name in ("steps", "seconds"):
        cells = []
        for duration in plan.durations:
            cell = [e for e in entries if e["duration"] == duration]
            if cell:
                cells.append((mean([e[name] for e in cell]), mean([e["quality"] for e in cell])))
        found[name] = to_target(cells, plan.target, metric.higher_is_better)
    return found
