"""When no verdict can be given: every rule states itself, the value received and what to do.

Each function returns sentences; an empty list means that its rules are kept. Faults in the data never raise.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .cells import TIED, Scale, cluster_of
from .points import HUGE, UNIFORM, Point, by_duration
from .settings import Settings

SEEDS = 3
BASELINE_DURATIONS = 4
STEP = 3.0
# Measured seconds of durations that are x3 apart by their labels scatter around x3.
SCATTER = 1.1
DIVERGED = 0.2
TUNING = 1.1
FEW = 4


def usable(points: Sequence[Point]) -> list[Point]:
    """The finished points of an arm."""
    return [p for p in points if p.finished]


def arm_faults(name: str, points: Sequence[Point], scale: Scale, settings: Settings, clusters: str) -> list[str]:
    """Faults of one arm's own rows and cells."""
    done = usable(points)
    if not done:
        what = ", ".join(f"{count} {status}" for status, count in Counter(p.status for p in points).items())
        return [f"an arm needs finished runs, arm {name!r} has none ({what}): finish or leave out the arm."]
    faults = _row_faults(name, done) + _duplicates(name, points) + _diverged(name, points)
    if faults:
        return faults
    return _range_faults(name, done, scale, settings) or _cell_faults(name, done, scale, settings, clusters)


def baseline_faults(name: str, points: Sequence[Point]) -> list[str]:
    """Faults of the baseline's durations (its rows have no faults)."""
    groups = by_duration(usable(points))
    if len(groups) < BASELINE_DURATIONS:
        return [
            f"a baseline curve needs at least {BASELINE_DURATIONS} durations, arm {name!r} has {len(groups)} "
            f"({', '.join(groups)}): add durations."
        ]
    step, before, after = largest_step(points)
    if step > (STEP * SCATTER if _nominal_step(groups) <= STEP else STEP * 1.01):
        return [
            f"durations of the baseline must lie at most x3 apart in seconds, arm {name!r} goes x{step:.3g} from "
            f"{before:.4g} to {after:.4g} s: add a duration between them."
        ]
    return []


def largest_step(points: Sequence[Point]) -> tuple[float, float, float]:
    """Largest ratio of neighbouring durations (mean log seconds) and the two durations in seconds."""
    means = sorted(float(np.mean(np.log([p.seconds for p in g]))) for g in by_duration(usable(points)).values())
    if len(means) < 2:
        return 1.0, math.nan, math.nan
    steps = np.diff(means)
    k = int(np.argmax(steps))
    return float(np.exp(steps[k])), float(np.exp(means[k])), float(np.exp(means[k + 1]))


def _nominal_step(labels: Iterable[str]) -> float:
    """Largest ratio of neighbouring durations by their labels ("10ep", "20ep" or 60, 120); inf if they are words."""
    found = [re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", label.lower()) for label in labels]
    if not all(found) or len({m[2] for m in found if m}) != 1:
        return math.inf
    try:
        amounts = sorted(float(m[1]) for m in found if m)
    except ValueError:
        return math.inf
    return max((b / a for a, b in itertools.pairwise(amounts) if a > 0), default=1.0)


def pair_faults(
    base: Sequence[Point], method: Sequence[Point], settings: Settings, names: tuple[str, str]
) -> list[str]:
    """Faults of two arms taken together: unlike facts, metrics or point kinds, and unequal tuning."""
    faults = []
    for column in UNIFORM:
        values: dict[str, set[str]] = {}
        for point in (*base, *method):
            for key, value in point.uniform:
                if key == column:
                    values.setdefault(value, set()).add(point.arm)
        if len(values) > 1:
            shown = "; ".join(f"{value!r} in {', '.join(sorted(arms))}" for value, arms in values.items())
            faults.append(f"{_RULES[column]}, received {shown}: compare only runs that agree in {column!r}.")
        elif column == "metric" and values and settings.metric not in values:
            value = next(iter(values))
            faults.append(
                f"the points must hold the declared metric, received metric {value!r} where {settings.metric!r} is "
                f"declared: pass metric={value!r} (and higher_is_better=False for a loss)."
            )
    return faults + tuning_faults(settings, names)


def overlap_faults(base: np.ndarray, method: np.ndarray, names: tuple[str, str]) -> list[str]:
    """Fault of two ranges of log seconds (knots [K], [J]) that share less than half of the shorter one."""
    shared = min(base[-1], method[-1]) - max(base[0], method[0])
    shorter = min(base[-1] - base[0], method[-1] - method[0])
    if shared >= 0.5 * shorter - 1e-12:
        return []
    (b0, b1), (m0, m1) = ((math.exp(x[0]), math.exp(x[-1])) for x in (base, method))
    return [
        f"the measured times must overlap in at least half of the shorter range (in log seconds), {names[0]!r} spans "
        f"{b0:.4g} to {b1:.4g} s and {names[1]!r} {m0:.4g} to {m1:.4g} s: add durations in the common range."
    ]


def divergence_interval(bad: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate of `bad` in `total` (0 <= bad <= total, total >= 1)."""
    from scipy.special import betaincinv

    tail = 0.5 * (1.0 - level)
    low = 0.0 if bad == 0 else float(betaincinv(bad, total - bad + 1, tail))
    high = 1.0 if bad == total else float(betaincinv(bad + 1, total - bad, 1.0 - tail))
    return low, high


_RULES = {
    "metric": "a comparison uses one metric",
    "split": "a comparison uses one split",
    "test_set": "a comparison uses one test set",
    "device": "seconds compare only on the same device",
    "hardware": "seconds compare only on the same hardware",
    "software": "seconds compare only under the same software",
    "threads": "seconds compare only with equally many threads",
    "precision": "a comparison uses one precision",
    "kind": "points of different kinds (separate runs, branches of a trunk, cycles) must not be mixed",
}


def _where(points: Sequence[Point]) -> str:
    shown = ", ".join(f"(duration {p.duration or '?'}, seed {p.seed or '?'})" for p in points[:FEW])
    return shown + (f" and {len(points) - FEW} more" if len(points) > FEW else "")


def _row_faults(name: str, done: Sequence[Point]) -> list[str]:
    faults = []
    unlabelled = [p for p in done if not p.duration or not p.seed]
    if unlabelled:
        faults.append(
            f"every run needs a duration and a seed, arm {name!r} lacks them at {_where(unlabelled)}: fill them in."
        )
    infinite = [p for p in done if not abs(p.quality) < HUGE]
    if infinite:
        faults.append(
            f"the quality of a finished run must be a finite number, arm {name!r} has {infinite[0].quality} at "
            f"{_where(infinite)}: mark runs that diverged with status diverged."
        )
    timeless = [p for p in done if not (math.isfinite(p.seconds) and p.seconds > 0.0)]
    if timeless:
        faults.append(
            f"seconds must be finite and positive, arm {name!r} has {timeless[0].seconds} at {_where(timeless)}: "
            "correct the time."
        )
    return faults


def _duplicates(name: str, points: Sequence[Point]) -> list[str]:
    # A run that was interrupted and then finished is one run; two finished or failed ones are a choice.
    counts = Counter((p.duration, p.seed) for p in points if p.status not in ("interrupted", "running"))
    double = [key for key, count in counts.items() if count > 1]
    if not double:
        return []
    duration, seed = double[0]
    more = f" and {len(double) - 1} more" if len(double) > 1 else ""
    return [
        f"each (arm, duration, seed) may occur once, ({name}, {duration}, {seed}) occurs {counts[double[0]]} "
        f"times{more}: keep one row a run."
    ]


def _diverged(name: str, points: Sequence[Point]) -> list[str]:
    done = {(p.duration, p.seed) for p in points if p.finished}
    lost = [p for p in points if not p.finished and (p.duration, p.seed) not in done]
    total = len(lost) + sum(p.finished for p in points)
    if len(lost) <= DIVERGED * total:
        return []
    low, high = divergence_interval(len(lost), total)
    what = ", ".join(f"{count} {status}" for status, count in Counter(p.status for p in lost).items())
    return [
        f"at most 1 run in 5 may have diverged or stayed unfinished, arm {name!r} has {len(lost)} of {total} ({what}; "
        f"rate {len(lost) / total:.0%}, 95 % interval {low:.0%} to {high:.0%}): the runs left are a selection, "
        "so compare these rates or train more stably."
    ]


def _range_faults(name: str, done: Sequence[Point], scale: Scale, settings: Settings) -> list[str]:
    if scale.higher_is_better:
        bad = [p for p in done if p.quality > 1.0 or (settings.metric == "accuracy" and p.quality < 0.0)]
        rule, remedy = (
            "a metric where higher is better must not exceed 1 (and accuracy not fall below 0)",
            ("divide percentages by 100, and pass higher_is_better=False for a loss"),
        )
    else:
        bad = [p for p in done if p.quality <= 0.0]
        rule, remedy = "a metric where lower is better must be positive", "use a metric with a positive scale"
    if bad:
        return [f"{rule}, arm {name!r} has {bad[0].quality:g} at {_where(bad)}: {remedy}."]
    return []


def _cell_faults(name: str, done: Sequence[Point], scale: Scale, settings: Settings, clusters: str) -> list[str]:
    faults = []
    groups = by_duration(done)
    few = {label: len({cluster_of(p, clusters) for p in group}) for label, group in groups.items()}
    for label, count in few.items():
        if count < SEEDS:
            shared = f" in {len(groups[label])} runs" if count < len(groups[label]) else ""
            faults.append(
                f"every cell needs at least {SEEDS} independent finished seeds, arm {name!r} at duration {label} has "
                f"{count}{shared}: add seeds."
            )
    if settings.test_examples is None:
        for label, group in groups.items():
            if all(scale.error(np.array(p.quality)) <= 0.0 for p in group):
                faults.append(
                    f"a cell without any error has no place on a log scale, arm {name!r} at duration {label} is "
                    "perfect in every run: pass test_examples."
                )
    if all(len({p.quality for p in group}) == 1 for group in groups.values()):
        faults.append(
            f"quality must vary over seeds, every cell of arm {name!r} has equal values in all seeds: "
            "check that the seed reaches the run."
        )
    times = sorted(float(np.mean(np.log([p.seconds for p in g]))) for g in groups.values())
    if len(times) > 1 and min(np.diff(times)) < TIED:
        faults.append(
            f"durations of an arm must differ in time, arm {name!r} has two with equal mean seconds: give one label to "
            "equal durations."
        )
    return faults


def tuning_faults(settings: Settings, names: tuple[str, str]) -> list[str]:
    """Fault of two arms that were tuned with unequal budgets; what was not declared is not judged."""
    if settings.tuning is None or any(name not in settings.tuning for name in names):
        return []
    for unit, ours, theirs in zip(("trials", "seconds"), *(settings.tuning[name] for name in names), strict=True):
        if max(ours, theirs) > TUNING * min(ours, theirs):
            return [
                f"tuning budgets may differ by at most 10 %, {names[0]!r} was tuned with {_shown(ours)} {unit} and "
                f"{names[1]!r} with {_shown(theirs)}: give both the same budget."
            ]
    return []


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"


def tuning_text(settings: Settings, names: tuple[str, str]) -> str:
    """What is known about the tuning of two arms, as one sentence; "" where both declared it."""
    declared: Mapping[str, object] = settings.tuning or {}
    lacking = [name for name in names if name not in declared]
    if not lacking:
        return ""
    who = ", ".join(map(repr, lacking))
    return f"tuning not declared for {who}: the claim is about these recipes, not about methods"
