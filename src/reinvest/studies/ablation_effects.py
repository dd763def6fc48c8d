"""The effects of an ablation: what a method does to the time at equal quality, alone, on top of the others, and in pairs.

Every effect is a ratio of times from the verdict of one arm against another (VERDICT's shift of two curves). An
interaction is a ratio of such ratios: how much more, or less, a method changes with the other one there than without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..core.hardware import comparable
from ..evaluation.judge import verdict
from ..evaluation.outcome import Verdict, plain
from .ablation_plan import ALL, PLAIN, AblationPlan


@dataclass(frozen=True)
class Effect:
    """One answer.

    question: "whole" (all methods against the plain recipe), "on top", "alone" or "together". methods: all, one, or the
    two of a pair. time: seconds with over seconds
    without at equal quality (below 1 saves time); for a pair the factor by which the effect of the one changes when
    the other is there (below 1: they help each other); None where it lies beyond the measured range, then a bound
    may be known. low, high: 95 % interval, None where open. p: two-sided, of no effect; p_holm: adjusted by Holm over all
    effects of the same question. shown: whether p_holm <= alpha. verdict: of the arm against the other, "" for a pair.
    reason: why there is no figure.
    """

    question: str
    methods: tuple[str, ...]
    arm: str
    against: str
    time: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None
    shown: bool = False
    verdict: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "methods": list(self.methods)}


def saves(effect: Mapping[str, Any]) -> bool | None:
    """Which way an effect (its plain values) goes: True if it saves time. By its estimate, else a bound, else the verdict."""
    time, low, high = effect["time"], effect["low"], effect["high"]
    if time is not None:
        return bool(time < 1)
    if (high is not None and high < 1) or (low is not None and low > 1):
        return high is not None and bool(high < 1)
    return {"better": True, "worse": False}.get(effect["verdict"])


class Judge:
    """Verdicts of any arm of an ablation against any other, from the same points and timing block; each is made once.

    facts: of the machines on which each arm's runs were made; arms of unlike ones are not comparable.
    """

    def __init__(
        self,
        points: Sequence[Mapping[str, Any]],
        timing: Mapping[str, Mapping[str, float]] | None,
        declared: Mapping[str, Any],
        alpha: float = 0.05,
        facts: Mapping[str, Sequence[dict[str, Any]]] | None = None,
    ) -> None:
        self.points, self.timing, self.declared, self.alpha = list(points), timing, dict(declared), alpha
        self._facts = dict(facts or {})
        self._made: dict[tuple[str, str], Verdict] = {}

    def __call__(self, arm: str, against: str) -> Verdict:
        """The verdict of `arm` with the baseline `against`."""
        if (arm, against) not in self._made:
            self._made[arm, against] = self._judged(arm, against)
        return self._made[arm, against]

    def _judged(self, arm: str, against: str) -> Verdict:
        machines = [*self._facts.get(against, ()), *self._facts.get(arm, ())]
        for other in machines:
            fits, reason = comparable(machines[0], other)
            if not fits:
                return Verdict(arm, against, "not comparable", reasons=(reason,))
        timing = None if self.timing is None else {arm: _between(self.timing, arm, against)}
        return verdict(self.points, against, arms=[arm], timing=timing, alpha=self.alpha, **self.declared)[arm]


def _between(timing: Mapping[str, Mapping[str, float]], arm: str, against: str) -> dict[str, float]:
    """Error of the ratio of two arms' seconds, each of which was measured against the plain one: at most their sum."""
    parts = [timing[name] for name in (arm, against) if name in timing]
    return {
        "log_ratio_variance": math.fsum(p["log_ratio_variance"] for p in parts),
        "df": min(p["df"] for p in parts),
    }


def effects_of(plan: AblationPlan, judge: Judge) -> list[Effect]:
    """All effects that the plan asks for, question by question, with Holm's correction inside each question."""
    whole = [_single("whole", plan.names, judge(ALL, PLAIN))]
    on_top = [
        _single("on top", (plan.names[k],), judge(ALL, plan.arm_of(plan.everything - {k})))
        for k in range(len(plan.names))
    ]
    alone = [_single("alone", (plan.names[k],), judge(plan.arm_of({k}), PLAIN)) for k in range(len(plan.names))]
    together = [_pair(plan, pair, judge) for pair in plan.pairs]
    families = (whole, on_top, alone if plan.alone else [], together)
    return [effect for family in families for effect in corrected(family, judge.alpha)]


def _single(question: str, methods: tuple[str, ...], judged: Verdict) -> Effect:
    refused = judged.verdict == "not comparable"
    return Effect(
        question,
        methods,
        judged.arm,
        judged.baseline,
        plain(1.0 / judged.speedup) if judged.speedup > 0 else None,
        None if refused or not 0 < judged.high < math.inf else 1.0 / judged.high,
        None if refused or not 0 < judged.low < math.inf else 1.0 / judged.low,
        plain(judged.p_value),
        verdict=judged.verdict,
        reason=judged.reasons[0] if refused and judged.reasons else "",
    )


def _pair(plan: AblationPlan, pair: tuple[int, int], judge: Judge) -> Effect:
    """The interaction of two methods: the mean over both orders of the log ratio of their effects.

    Both orders use the same four arms, so the mean is charged the larger of their two errors.
    """
    both = plan.arm_of(pair)
    names = tuple(plan.names[k] for k in pair)
    orders = [
        (judge(both, plan.arm_of({other})), judge(plan.arm_of({one}), PLAIN)) for one, other in (pair, pair[::-1])
    ]
    empty = Effect("together", names, both, PLAIN, None, None, None, None)
    reason = next((v.reasons[0] for order in orders for v in order if v.verdict == "not comparable" and v.reasons), "")
    if reason:
        return replace(empty, reason=reason)
    parts = [(_log(a), _log(b)) for a, b in orders]
    if any(part is None for order in parts for part in order):
        return replace(
            empty, reason="an interval is open: the measured range is too short for the effect of one of them"
        )
    logs = [b[0] - a[0] for a, b in parts if a is not None and b is not None]
    errors = [math.hypot(a[1], b[1]) for a, b in parts if a is not None and b is not None]
    worst = max(range(len(errors)), key=errors.__getitem__)
    se, df = errors[worst], _freedom(*(v for v in parts[worst] if v is not None))
    return _interaction(empty, math.fsum(logs) / len(logs), se, df, judge.alpha)


def _interaction(empty: Effect, log_time: float, se: float, df: float, alpha: float) -> Effect:
    from scipy import stats

    half = float(stats.t.ppf(1 - alpha / 2, df)) * se
    p = 2.0 * float(stats.t.sf(abs(log_time) / se, df)) if se > 0 else 1.0
    return replace(empty, time=math.exp(log_time), low=math.exp(log_time - half), high=math.exp(log_time + half), p=p)


def _log(judged: Verdict) -> tuple[float, float, float] | None:
    """(log speed-up, its standard error, degrees of freedom) as the interval tells; None where an end is open."""
    from scipy import stats

    ends = (judged.low, judged.high)
    if not (judged.speedup > 0 and judged.low > 0 and math.isfinite(judged.high) and judged.df > 0):
        return None
    half = 0.5 * (math.log(ends[1]) - math.log(ends[0]))
    return math.log(judged.speedup), half / float(stats.t.ppf(0.5 + judged.level / 2, judged.df)), judged.df


def _freedom(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Welch and Satterthwaite's degrees of freedom of a difference."""
    total = a[1] ** 2 + b[1] ** 2
    return total**2 / (a[1] ** 4 / a[2] + b[1] ** 4 / b[2]) if total > 0 else min(a[2], b[2])


def corrected(family: Sequence[Effect], alpha: float) -> list[Effect]:
    """The effects with Holm's adjusted p-values: the k-th smallest of n times n - k + 1, never below a smaller one's."""
    order = sorted((k for k, e in enumerate(family) if e.p is not None), key=lambda k: family[k].p or 0.0)
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * (family[k].p or 0.0)))
        adjusted[k] = highest
    return [
        replace(e, p_holm=adjusted[k], shown=adjusted[k] <= alpha) if k in adjusted else e for k, e in enumerate(family)
    ]
