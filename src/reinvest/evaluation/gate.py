"""Is a recipe worse than a stored baseline? Steps and training time to equal quality, each with three answers.

"regressed": the interval of what is needed to equal quality, the present recipe over the baseline, lies above 1: a
loss is shown, however small. "not regressed": it excludes a loss larger than the margin. "undecided": neither. The
interval is that of the verdict, so a recipe that equals the baseline is called regressed in at most alpha / 2 of all
cases, for steps and for time each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.special import ndtri, stdtrit

from ..core.errors import InvalidValue
from .judge import verdict
from .outcome import Verdict, interval_text, level_text, plain, ratio_text
from .power import POWER, seeds_needed
from .refusals import DIVERGED, divergence_interval
from .timing import ArmTiming

BASELINE, PRESENT = "baseline", "present"
REGRESSED, NOT_REGRESSED, UNDECIDED, NOT_COMPARABLE = "regressed", "not regressed", "undecided", "not comparable"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class GateSettings:
    """metric, higher_is_better and test_examples of the task; margin: the loss that must be excluded, a share >= 0 of
    the steps or of the time; alpha: two-sided error rate in (0, 0.5); pairs: both sides were trained with equal seeds.

    Raises InvalidValue for a margin below 0 or not finite.
    """

    metric: str
    higher_is_better: bool
    test_examples: int | None = None
    margin: float = 0.05
    alpha: float = 0.05
    pairs: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and self.margin >= 0.0):
            raise InvalidValue(f"margin is a share of 0 or more, got {self.margin!r}; write 0.05 for five per cent")


@dataclass(frozen=True)
class Part:
    """One thing that is judged: name "steps" or "time".

    verdict: one of the four words; ratio: what the present recipe needs to equal quality over what the baseline needs
    (1: as much, above 1: more), with low and high, NaN, 0 and inf where not known or open; seeds_needed: per duration,
    to decide at the present estimate; reason: what to read it with; judged: the verdict behind it, None where runs that
    are equal one by one needed none; level: of the interval.
    """

    name: str
    verdict: str
    ratio: float = math.nan
    low: float = 0.0
    high: float = math.inf
    seeds_needed: int | None = None
    reason: str = ""
    judged: Verdict | None = None
    level: float = 0.95

    @property
    def sentence(self) -> str:
        """One plain-language sentence."""
        what = "steps" if self.name == "steps" else "training time"
        if not (self.ratio > 0.0 or self.low > 0.0 or math.isfinite(self.high)):
            return f"{what}: {self.verdict}; {self.reason}"
        return f"{what}: {self.verdict}; {self._amount()}; {self.reason}"

    def _amount(self) -> str:
        """What is needed; no ratio stands without what it is a ratio to."""
        if self.ratio == self.low == self.high == 1.0:
            return "exactly the baseline's"
        over = "times the baseline's to equal quality"
        if self.ratio > 0.0:
            return f"{ratio_text(self.ratio)} {over} ({interval_text(self.low, self.high, self.level)})"
        low, high = (ratio_text(end) if 0.0 < end < math.inf else "" for end in (self.low, self.high))
        span = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
        return f"{span} {over} ({level_text(self.level)} interval)"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None where nothing is known or no bound exists."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "ratio": plain(self.ratio),
            "low": plain(self.low) or None,
            "high": plain(self.high),
            "seeds_needed": self.seeds_needed,
            "reason": self.reason,
            "sentence": self.sentence,
        }


def judge_gate(
    baseline: Sequence[Row], present: Sequence[Row], timing: ArmTiming | None, settings: GateSettings
) -> tuple[Part, Part]:
    """The two parts, steps first. Rows of both sides: duration, seed, steps, seconds, quality, status.

    timing: of the present recipe in a paired block with the baseline's, whose seconds the rows then carry; None where
    both are one recipe, of which a step costs what it costs.
    """
    collapsed, unusable = _collapsed(baseline, present, settings.alpha), _unusable(baseline)
    if collapsed or unusable:
        steps = Part("steps", REGRESSED if collapsed else NOT_COMPARABLE, reason=collapsed or unusable)
        return steps, replace(steps, name="time")
    if _twins(baseline, present):
        return _of_twins(timing, settings)
    on_steps = _judge(_by_steps(baseline), _by_steps(present), None, settings)
    steps = _part("steps", on_steps, baseline, settings, 0.0)
    own = None if timing is None else {"log_ratio_variance": timing.log_ratio_variance, "df": timing.df}
    on_time = _judge(baseline, present, own, settings)
    return steps, _part("time", on_time, baseline, settings, 0.0 if timing is None else timing.log_ratio_variance)


def _twins(baseline: Sequence[Row], present: Sequence[Row]) -> bool:
    """True where every run has one of the other side with its duration and seed that took as many steps to the same
    quality: the change did not reach what is trained."""
    ours, theirs = (
        {(p["duration"], p["seed"]): (p["steps"], p["quality"], p["status"]) for p in side}
        for side in (baseline, present)
    )
    return bool(ours) and ours == theirs and len(baseline) == len(present) == len(ours)


def _of_twins(timing: ArmTiming | None, settings: GateSettings) -> tuple[Part, Part]:
    """Runs that are equal one by one need equal steps, and their times differ as a step's cost does."""
    same = "every run is equal to the baseline's with its seed"
    steps = Part("steps", NOT_REGRESSED, 1.0, 1.0, 1.0, reason=same)
    if timing is None:
        return steps, replace(steps, name="time")
    low, high = timing.interval(settings.alpha)
    found = Part("time", UNDECIDED, math.exp(timing.log_ratio), low, high)
    excluded = f"a loss above {100 * settings.margin:.3g} % is excluded"
    if low > 1.0:
        return steps, replace(found, verdict=REGRESSED, reason=f"{same}, and a step costs more")
    if high <= 1.0 + settings.margin:
        gained = ", and a step costs less" if high < 1.0 else f"; {excluded}"
        return steps, replace(found, verdict=NOT_REGRESSED, reason=f"{same}{gained}")
    rough = "the timing block is too rough; time more rounds, on a quieter machine"
    return steps, replace(found, reason=f"{same}, but {rough}")


def combined(parts: Sequence[Part]) -> str:
    """The word for the whole: the worst that any part says; a refusal says less than a regression that is shown."""
    said = {part.verdict for part in parts}
    return next(w for w in (REGRESSED, NOT_COMPARABLE, UNDECIDED, NOT_REGRESSED) if w in said)


def _by_steps(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**row, "seconds": row["steps"]} for row in rows]


def _judge(
    baseline: Sequence[Row], present: Sequence[Row], timing: Mapping[str, float] | None, settings: GateSettings
) -> Verdict:
    rows = [{**p, "arm": arm} for arm, side in ((BASELINE, baseline), (PRESENT, present)) for p in side]
    return verdict(
        rows,
        BASELINE,
        metric=settings.metric,
        higher_is_better=settings.higher_is_better,
        alpha=settings.alpha,
        margin=settings.margin or 0.05,  # of its own word "equivalent", which is not used here
        pairs="duration" if settings.pairs else None,
        timing=None if timing is None else {PRESENT: timing},
        test_examples=settings.test_examples,
    )[PRESENT]


def _part(name: str, judged: Verdict, baseline: Sequence[Row], settings: GateSettings, fixed: float) -> Part:
    """fixed: the variance of the log ratio that more seeds do not reduce."""
    if judged.verdict == NOT_COMPARABLE:
        return Part(name, NOT_COMPARABLE, reason=_refusal(judged), judged=judged)
    low = 0.0 if math.isinf(judged.high) else 1.0 / judged.high
    high = math.inf if judged.low <= 0.0 else 1.0 / judged.low
    found: dict[str, Any] = {
        "ratio": 1.0 / judged.speedup,
        "low": low,
        "high": high,
        "judged": judged,
        "level": judged.level,
    }
    if low > 1.0 or judged.verdict == "mixed":
        return Part(name, REGRESSED, **found, reason=_loss(judged, low, high, settings))
    if high <= 1.0 + settings.margin:
        excluded = f"a loss above {100 * settings.margin:.3g} % is excluded"
        return Part(name, NOT_REGRESSED, **found, reason="a gain is shown" if high < 1.0 else excluded)
    seeds = len({p["seed"] for p in baseline if p["duration"] == baseline[0]["duration"]})
    needed = None if _is_flat(judged) else _to_decide(judged, seeds, settings, fixed)
    return Part(name, UNDECIDED, **found, seeds_needed=needed, reason=_remedy(judged, needed, seeds, settings))


def _refusal(judged: Verdict) -> str:
    """Why the runs allow no answer, of the two sides of a gate and not of the arms of a comparison."""
    text = "; ".join(reason.rstrip(".") for reason in judged.reasons)
    return text.replace(f"arm {PRESENT!r}", "the present recipe").replace(f"arm {BASELINE!r}", "the baseline")


def _loss(judged: Verdict, low: float, high: float, settings: GateSettings) -> str:
    if low <= 1.0:
        less, more = ([w.name for w in judged.windows if w.low > 1.0], [w.name for w in judged.windows if w.high < 1.0])
        return f"it needs more in the {' and '.join(more)} runs, though less in the {' and '.join(less)} ones"
    small = high <= 1.0 + settings.margin
    return f"a loss is shown{', smaller than the margin' if small else ''}"


def _remedy(judged: Verdict, needed: int | None, seeds: int, settings: GateSettings) -> str:
    margin = f"a loss above {100 * settings.margin:.3g} % is neither shown nor excluded"
    if needed is not None:
        return (
            f"{margin}; {needed:,} seeds a duration on either side would decide at the present estimate, so record the "
            "baseline with as many, or choose a larger margin"
        )
    if _is_flat(judged):
        return f"{margin}: quality hardly rises over these durations; choose shorter durations"
    if _to_decide(judged, seeds, settings, 0.0) is not None:
        return f"{margin}, because the timing block is too rough; time more rounds, on a quieter machine"
    return f"{margin}, and no number of seeds up to 10,000 would decide at the present estimate; choose a larger margin"


def _is_flat(judged: Verdict) -> bool:
    """True where these durations say next to nothing of a ratio: no seeds would, within reason."""
    open_ended = judged.low <= 0.0 and math.isinf(judged.high)
    return open_ended or judged.flat_fraction > 0.5 or not math.isfinite(judged.smallest_effect)


def _sigma(judged: Verdict, settings: GateSettings) -> float:
    """Standard error of the log ratio, from the smallest effect that the design finds with 80 %."""
    return math.log(judged.smallest_effect) / (_quantile(judged, settings) + float(ndtri(POWER)))


def _quantile(judged: Verdict, settings: GateSettings) -> float:
    return float(stdtrit(min(judged.df, 1e6), 1.0 - 0.5 * settings.alpha))


def _to_decide(judged: Verdict, seeds: int, settings: GateSettings, fixed: float) -> int | None:
    """Seeds a duration that show the loss, or exclude one above the margin, whichever comes first; None: never."""
    if not (math.isfinite(judged.smallest_effect) and math.isfinite(judged.speedup)):
        return None
    log, sigma = math.log(judged.speedup), _sigma(judged, settings)
    effects = [log + math.log1p(settings.margin)] + ([-log] if log < 0.0 else [])
    tried = [
        seeds_needed(e, sigma, judged.df, seeds, alpha=settings.alpha, fixed_variance=fixed) for e in effects if e > 0.0
    ]
    return min((n for n in tried if n is not None), default=None)


def _collapsed(baseline: Sequence[Row], present: Sequence[Row], alpha: float) -> str:
    """A sentence if more than a fifth of the present runs did not end, and by more than chance than of the baseline's."""
    ours, theirs = (sum(p["status"] != "finished" for p in side) for side in (baseline, present))
    if theirs <= DIVERGED * len(present) or ours > DIVERGED * len(baseline):
        return ""
    if _chance((ours, len(baseline)), (theirs, len(present))) > 0.5 * alpha:
        return ""
    low, high = divergence_interval(theirs, len(present))
    return (
        f"{theirs} of {len(present)} runs did not end in a usable model (95 % interval {100 * low:.0f} to "
        f"{100 * high:.0f} % of all), {ours} of {len(baseline)} of the baseline's"
    )


def _unusable(baseline: Sequence[Row]) -> str:
    """A sentence if more than a fifth of the baseline's own runs did not end: those left are a selection."""
    lost = sum(p["status"] != "finished" for p in baseline)
    if lost <= DIVERGED * len(baseline):
        return ""
    return (
        f"{lost} of {len(baseline)} of the baseline's runs did not end in a usable model, and nothing can be held against "
        "the rest; record a recipe that trains to its end"
    )


def _chance(baseline: tuple[int, int], present: tuple[int, int]) -> float:
    """Fisher's exact chance of as many lost runs on the present side or more, if both lose as often; (lost, of) each."""
    (ours, of_ours), (theirs, of_theirs) = baseline, present
    lost = ours + theirs
    ways = sum(math.comb(of_theirs, k) * math.comb(of_ours, lost - k) for k in range(theirs, min(lost, of_theirs) + 1))
    return ways / math.comb(of_ours + of_theirs, lost)
