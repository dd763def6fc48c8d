"""Changes that only claim to be faster: the same quality after the same steps, and cheaper steps.

Channels-last, compilation or a cache must not change what is learnt in a step. That is an equivalence, which no missing
difference shows: quality against steps is compared by two one-sided tests within a margin (Schuirmann 1987, Journal of
Pharmacokinetics and Biopharmaceutics 15), over the whole range of durations and in each of its parts; seconds per step come
from the paired timing block. The idea of a check of convergence for changes that are allowed to alter speed alone is
MLPerf Training's (reference convergence points, github.com/mlcommons/training_policies).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.recipe import Recipe
from .cells import Scale, build_arm
from .curves import arm_curves
from .intervals import WINDOWS, Evidence, contrast
from .judge import verdict
from .outcome import interval_text, plain, ratio_text
from .points import read_points
from .power import POWER, seeds_needed
from .refusals import usable
from .same_maths import Maths, same_maths
from .settings import check_settings
from .twocurves import prepare

if TYPE_CHECKING:
    from .study import Study
    from .timing import ArmTiming, Block

MARGIN = 0.05
"""Equal quality may take this share more or fewer steps: the margin within which `verdict` calls arms equivalent."""
SPEED_MARGIN = 0.02
"""Steps that differ by less are of the same speed; a quiet machine's timing block tells 1 % apart."""
OUTCOMES = ("faster, same maths", "same speed", "slower", "quality differs", "not shown", "not comparable")


@dataclass(frozen=True)
class SystemsVerdict:
    """What came of an arm that is declared to alter nothing but speed.

    outcome: one of `OUTCOMES`. steps, steps_low, steps_high: baseline steps over the arm's at equal quality (1: the same
    maths), with the hull of the pointwise 1 - 2 alpha intervals of the whole range and its three parts, NaN, 0 and inf where
    open. speed, speed_low, speed_high: baseline seconds per step over the arm's (above 1: faster), with its 1 - alpha
    interval, NaN without a timing block. margin, speed_margin: what counts as the same. needed: seeds per arm and duration,
    or rounds of the timing block, that would show it with 80 % if it is true; None where not known or not needed. maths:
    the weights after a few steps of both (`same_maths`), a fact that decides nothing.
    """

    arm: str
    baseline: str
    outcome: str
    steps: float = math.nan
    steps_low: float = 0.0
    steps_high: float = math.inf
    speed: float = math.nan
    speed_low: float = math.nan
    speed_high: float = math.nan
    margin: float = MARGIN
    speed_margin: float = SPEED_MARGIN
    level: float = 0.95
    needed: int | None = None
    reason: str = ""
    maths: Maths | None = None

    @property
    def sentence(self) -> str:
        """One plain-language sentence."""
        same = f"the same quality after the same steps within {self.margin:.0%} of them"
        ratio = self.speed if self.outcome == "faster, same maths" else 1.0 / self.speed if self.speed else math.nan
        ends = (self.speed_low, self.speed_high)
        ends = ends if self.outcome == "faster, same maths" else (1.0 / ends[1], 1.0 / ends[0])
        shown = f"{ratio_text(ratio)} times" if math.isfinite(ratio) else ""
        within = interval_text(*ends, self.level)
        return {
            "faster, same maths": f"A step is {shown} faster ({within}), with {same}.",
            "same speed": f"A step takes as long within {self.speed_margin:.3g} of it, with {same}.",
            "slower": f"A step is {shown} slower ({within}), with {same}.",
            "quality differs": f"Quality after the same steps differs ({self.reason}): this change alters the maths.",
            "not shown": f"Not shown: {self.reason}.",
            "not comparable": f"Not comparable: {self.reason}",
        }[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None where nothing is known or no bound exists."""
        names = ("steps", "steps_high", "speed", "speed_low", "speed_high", "margin", "speed_margin", "level")
        return {
            "outcome": self.outcome,
            "sentence": self.sentence,
            **{name: plain(getattr(self, name)) for name in names},
            "steps_low": plain(self.steps_low) or None,
            "needed": self.needed,
            "maths": None if self.maths is None else self.maths.to_dict(),
        }


def systems_verdict(
    points: Any,
    baseline: str,
    arm: str,
    timing: ArmTiming | None = None,
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    **declared: Any,
) -> SystemsVerdict:
    """Whether an arm alters nothing but speed.

    points: as `verdict` takes them, with steps; timing: the arm's part of a paired timing block. margin: of steps at equal
    quality, > 0; alpha: error rate of each one-sided test. declared: metric, higher_is_better, pairs, test_examples.
    Raises InvalidValue for unreadable points or settings, UnknownName for an unknown arm.
    """
    found = SystemsVerdict(arm, baseline, "not shown", margin=margin, level=1.0 - alpha)
    if timing is not None:
        low, high = timing.interval(alpha)
        found = replace(found, speed=math.exp(-timing.log_ratio), speed_low=1.0 / high, speed_high=1.0 / low)
    rows = [{**row, "seconds": row.get("steps")} for row in points]
    settings = {"metric": "accuracy", **declared, "margin": margin, "alpha": alpha}
    judged = verdict(rows, baseline, arms=[arm], **settings)[arm]
    if judged.verdict == "not comparable":
        return replace(found, outcome="not comparable", reason=judged.reasons[0])
    evidence, seeds = _evidence(rows, baseline, arm, settings)
    ends = [evidence.bounds(window, 1.0 - alpha) for window in range(len(WINDOWS))]
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    found = replace(found, steps=judged.speedup, steps_low=math.exp(low), steps_high=math.exp(high))
    edge = math.log1p(margin)
    if not (-edge < low and high < edge):
        if judged.verdict in ("better", "worse", "mixed"):
            return replace(found, outcome="quality differs", reason=_difference(judged, alpha))
        needed = _seeds(evidence, edge, seeds, alpha)
        return replace(found, needed=needed, reason=_missing(found, needed, seeds, alpha))
    return _by_speed(found, timing, alpha)


def _evidence(rows: Sequence[Mapping[str, Any]], baseline: str, arm: str, declared: Any) -> tuple[Evidence, int]:
    """Evidence at every shift of the steps, and the seeds in the smallest cell."""
    settings = check_settings(**declared)
    scale = Scale(settings.higher_is_better)
    known = read_points(rows)
    base, method = (
        build_arm(n, usable([p for p in known if p.arm == n]), scale, test_examples=settings.test_examples)
        for n in (baseline, arm)
    )
    setting = prepare(base, method, settings)
    curves = arm_curves(method.x, method.y, np.sqrt(setting.variances[1] / method.n))
    seeds = int(min(base.n.min(), method.n.min()))
    return contrast(setting.base_curves, curves, setting.spread, rho=settings.rho), seeds


def _seeds(evidence: Evidence, edge: float, seeds: int, alpha: float) -> int | None:
    """Seeds a cell at which all tests succeed with 80 % if nothing differs: each may miss its share of the rest."""
    tests = 2 * len(WINDOWS)
    needed = []
    for window in range(len(WINDOWS)):
        at = (evidence.zero, window)
        effect = abs(float(evidence.rate[at])) * edge
        error = max(float(evidence.forward_se[at]), float(evidence.against_se[at]))
        df = min(float(evidence.forward_df[at]), float(evidence.against_df[at]))
        needed.append(seeds_needed(effect, error, df, seeds, alpha=2 * alpha, power=1.0 - (1.0 - POWER) / tests))
    return None if any(n is None for n in needed) else max(n for n in needed if n is not None)


def _difference(judged: Any, alpha: float) -> str:
    level = f"{100 * (1 - alpha):.3g} %"
    if judged.verdict == "mixed":
        return f"better in one part of the range and worse in another, each beyond its {level} interval"
    if math.isnan(judged.speedup):
        return f"{judged.verdict} at equal steps, {interval_text(judged.low, judged.high, 1 - alpha)}"
    return f"worth {ratio_text(judged.speedup)} times the steps, {interval_text(judged.low, judged.high, 1 - alpha)}"


def _missing(found: SystemsVerdict, needed: int | None, seeds: int, alpha: float) -> str:
    level = f"{100 * (1 - 2 * alpha):.3g} %"
    ends = (
        interval_text(found.steps_low, found.steps_high, 1 - 2 * alpha).removeprefix(f"{level} interval").lstrip(": ")
    )
    if needed is None:
        more = "no number of seeds would do on a curve that is this flat"
    elif needed > seeds:
        more = f"{needed:,} seeds for each arm and duration would show it if it is so"
    else:
        more = "the estimate lies too near the margin, and more seeds tell on which side"
    return (
        f"that quality is the same after the same steps within {found.margin:.0%} of them, "
        f"for which the {level} intervals are too wide ({ends}); {more}"
    )


def _by_speed(found: SystemsVerdict, timing: ArmTiming | None, alpha: float) -> SystemsVerdict:
    """The outcome of an arm whose maths are the same."""
    if timing is None:
        return replace(found, reason="which arm is faster, because no timing block timed both; make both arms recipes")
    if found.speed_low > 1.0:
        return replace(found, outcome="faster, same maths")
    if found.speed_high < 1.0:
        return replace(found, outcome="slower")
    low, high = timing.interval(2 * alpha)
    edge = 1.0 + found.speed_margin
    if 1.0 / edge < low and high < edge:
        return replace(found, outcome="same speed")
    needed = seeds_needed(
        math.log(edge),
        math.sqrt(timing.log_ratio_variance),
        timing.df,
        int(timing.df) + 3,
        alpha=2 * alpha,
        power=1.0 - (1.0 - POWER) / 2,
    )
    more = "" if needed is None else f"; {needed:,} rounds of the timing block would show it if it is so"
    return replace(
        found,
        needed=needed,
        reason=f"that a step takes as long within {found.speed_margin:.3g} of it (ratio "
        f"{ratio_text(low)} to {ratio_text(high)} of the baseline's){more}; the quality is the same",
    )


def systems_of(
    study: Study, result: Mapping[str, Any], block: Block | None, *, device: str = "cpu", margin: float = MARGIN
) -> dict[str, Any]:
    """Verdicts on the arms of a study that are declared systems-only, as plain values by arm; result: of its comparison.

    Trains both arms for a few steps on `device` where they are recipes.
    """
    points = [{**row, "arm": name} for name, arm in result["arms"].items() for row in arm["points"]]
    task = result["task"]
    found = {}
    for name in study.systems_only:
        judged = systems_verdict(
            points,
            study.baseline_name,
            name,
            None if block is None else block.arms.get(name),
            margin=margin,
            pairs=study.pairs,
            metric=task["metric"],
            higher_is_better=task["higher_is_better"],
            test_examples=task["test_examples"],
        )
        base, arm = study.baseline, study.arms[name]
        if isinstance(base, Recipe) and isinstance(arm, Recipe):
            longest = study.durations[-1]
            pair = (replace(base, duration=longest), replace(arm, duration=longest))
            judged = replace(judged, maths=same_maths(*pair, device=device))
        found[name] = judged.to_dict()
    return found
