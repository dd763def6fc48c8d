"""`verdict`: points in, one judgement per method arm out.

Reads and checks the points, then compares curve with curve (two or more durations of the method) or a single cell
with the baseline's curve. Faults in the data become the verdict "not comparable" with reasons; only what cannot be
read at all raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import unknown
from .cells import Arm, Scale, build_arm
from .outcome import Verdict
from .pace import pace_flags
from .points import Point, arm_names, by_duration, read_points
from .refusals import (
    STEP,
    arm_faults,
    baseline_faults,
    largest_step,
    overlap_faults,
    pair_faults,
    tuning_text,
    usable,
)
from .settings import Settings, check_settings
from .single import compare_cell
from .twocurves import compare_curves

STUDIES = 3


def verdict(
    points: Any,
    baseline: str,
    *,
    metric: str = "accuracy",
    higher_is_better: bool | None = None,
    alpha: float = 0.05,
    margin: float = 0.05,
    rho: float = 0.4,
    arms: Sequence[str] | None = None,
    pairs: str | None = None,
    timing: Mapping[str, Mapping[str, float]] | None = None,
    test_examples: int | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Verdict]:
    """Judge every method arm against the baseline's quality-against-time curve.

    points: list of dicts or data frame with the columns arm, duration, seed, seconds (> 0), quality (accuracy as a
    fraction, or a positive loss), optional steps, status, trunk, study, metric, split, device, hardware, kind.
    higher_is_better: left out, it goes by the metric's name: False for a loss, an error, a perplexity, ...
    baseline: the arm compared with; arms: the arms judged (default: all others); alpha: two-sided error rate;
    margin: equivalence margin in time; rho: ridge of the weights over the range.
    pairs: "duration" if the runs were planned with equal seeds in both arms at each duration, else None.
    timing: {arm: {"log_ratio_variance", "df"}} from a paired timing block; its error is shared by the whole arm.
    test_examples: size of the test set, needed where a cell has no error; tuning: {arm: trials or {"trials",
    "seconds"}} spent on each arm.

    Returns {arm: Verdict}. Raises InvalidValue for unreadable points or settings, UnknownName for an unknown arm.
    """
    settings = check_settings(
        metric=metric,
        higher_is_better=higher_is_better,
        alpha=alpha,
        margin=margin,
        rho=rho,
        pairs=pairs,
        timing=timing,
        test_examples=test_examples,
        tuning=tuning,
    )
    rows = read_points(points)
    known = arm_names(rows)
    for name in (baseline, *(arms or ())):
        if str(name) not in known:
            raise unknown("arm", name, known)
    baseline = str(baseline)
    judged = [str(a) for a in arms] if arms is not None else [a for a in known if a != baseline]
    return holm({arm: _judge(rows, baseline, arm, settings) for arm in judged}, alpha)


def _judge(rows: Sequence[Point], baseline: str, name: str, settings: Settings) -> Verdict:
    scale = Scale(settings.higher_is_better)
    ours = [p for p in rows if p.arm == baseline]
    theirs = [p for p in rows if p.arm == name]
    clusters = "study" if _studies(ours) and _studies(theirs) else "trunk"
    base_faults = arm_faults(baseline, ours, scale, settings, clusters)
    faults = [
        *(base_faults or baseline_faults(baseline, ours)),
        *(arm_faults(name, theirs, scale, settings, clusters) if name != baseline else ()),
        *pair_faults(ours, theirs, settings, (baseline, name)),
    ]
    if not faults:
        base, method = (
            build_arm(arm, usable(points), scale, test_examples=settings.test_examples, clusters=clusters)
            for arm, points in ((baseline, ours), (name, theirs))
        )
        faults = _scale_faults(base, method, (baseline, name))
    if faults:
        return Verdict(
            arm=name,
            baseline=baseline,
            verdict="not comparable",
            reasons=tuple(faults),
            flags=tuple(_unfinished(ours) + _unfinished(theirs)),
            level=1.0 - settings.alpha,
            margin=settings.margin,
        )
    compare = compare_curves if len(method.x) > 1 else compare_cell
    judged = compare(base, method, scale, settings)
    both = settings.tuning is not None and baseline in settings.tuning and name in settings.tuning
    return replace(
        judged,
        claim="method" if clusters == "study" and both else "recipe",
        flags=(*judged.flags, *_data_flags(ours, theirs, settings, (baseline, name))),
    )


def _scale_faults(base: Arm, method: Arm, names: tuple[str, str]) -> list[str]:
    for arm in (base, method):
        if not (arm.s2 > 0.0).any():
            return [
                f"quality must vary over seeds, arm {arm.name!r} does not vary beyond its timing: check that the seed "
                "reaches the run."
            ]
    return overlap_faults(base.x, method.x, names) if len(method.x) > 1 else []


def _studies(points: Sequence[Point]) -> bool:
    """True if the arm holds enough independent tuning studies to make the study the unit of the test."""
    groups = by_duration(usable(points)).values()
    return bool(groups) and all(len({p.study for p in group if p.study}) >= STUDIES for group in groups)


def _unfinished(points: Sequence[Point]) -> list[str]:
    counts = Counter(p.status for p in points if not p.finished)
    if not counts:
        return []
    what = ", ".join(f"{count} {status}" for status, count in counts.items())
    return [f"{points[0].arm}: {what} of {len(points)} runs, counted and not averaged"]


def _data_flags(
    ours: Sequence[Point], theirs: Sequence[Point], settings: Settings, names: tuple[str, str]
) -> list[str]:
    flags = _unfinished(ours) + (_unfinished(theirs) if names[0] != names[1] else [])
    if settings.timing is None or names[1] not in settings.timing:
        flags.append("timing not checked: seconds are taken as given")
        flags += pace_flags([*ours, *theirs], dict.fromkeys(names))
    if settings.guessed:
        flags.append(
            f"higher is taken for better, as the name {settings.metric!r} says neither; if smaller is, say so "
            "(--lower-is-better, higher_is_better: false), and the verdict turns round"
        )
    if text := tuning_text(settings, names):
        flags.append(text)
    step, before, after = largest_step(theirs)
    if step > STEP * 1.01:
        flags.append(
            f"{names[1]}: durations x{step:.3g} apart ({before:.4g} to {after:.4g} s), the curve between is a guess"
        )
    return flags


HOLM = "would not survive a correction for"


def holm(judged: Mapping[str, Verdict], alpha: float = 0.05) -> dict[str, Verdict]:
    """Flags on single verdicts that would not survive Holm's correction over all arms, in place of earlier ones."""
    judged = {arm: replace(v, flags=tuple(f for f in v.flags if not f.startswith(HOLM))) for arm, v in judged.items()}
    tested = sorted((v.p_value, arm) for arm, v in judged.items() if v.p_value == v.p_value)
    survives = True
    out = dict(judged)
    for rank, (p, arm) in enumerate(tested):
        survives = survives and p <= alpha / (len(tested) - rank)
        if not survives and judged[arm].verdict in ("better", "worse"):
            note = f"{HOLM} {len(tested)} methods compared at once (Holm)"
            out[arm] = replace(judged[arm], flags=(*judged[arm].flags, note))
    return out
