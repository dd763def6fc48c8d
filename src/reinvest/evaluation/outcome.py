"""The verdict as a value: what is printed, in words a person understands first and numbers after."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

NAN = math.nan


@dataclass(frozen=True)
class Window:
    """One part of the range: name "short", "middle" or "long"; speed-up with simultaneous interval (ratios, NaN, 0 or
    inf where open); seconds (baseline's clock) and quality (baseline, metric units) at its two ends."""

    name: str
    speedup: float
    low: float
    high: float
    seconds: tuple[float, float]
    quality: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None where nothing is known or no bound exists."""
        return {
            "name": self.name,
            "speedup": plain(self.speedup),
            "low": plain(self.low) or None,
            "high": plain(self.high),
            "seconds": [plain(v) for v in self.seconds],
            "quality": [plain(v) for v in self.quality],
        }


@dataclass(frozen=True)
class Verdict:
    """The judgement of one method arm against the baseline.

    verdict: "better", "worse", "mixed", "equivalent", "inconclusive" or "not comparable".
    speedup: baseline seconds over method seconds at equal quality, NaN without an estimate; low, high: its interval
    (low 0.0 and high inf where open; a low end at the edge of the measured range reads "at least").
    gain, gain_low, gain_high: quality gained at equal time in the metric's units, positive is better.
    steps_ratio * seconds_ratio = speedup: fewer steps times cheaper steps, NaN without steps.
    df: degrees of freedom; smallest_effect: speed-up found with 80 %; seeds_needed: per cell, to decide at the present
    estimate, or None; flat_fraction: part of the log range where no speed-up is identifiable.
    level: 1 - alpha; p_value: two-sided, of no effect.
    """

    arm: str
    baseline: str
    verdict: str
    speedup: float = NAN
    low: float = 0.0
    high: float = math.inf
    gain: float = NAN
    gain_low: float = NAN
    gain_high: float = NAN
    reasons: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    steps_ratio: float = NAN
    seconds_ratio: float = NAN
    df: float = NAN
    smallest_effect: float = NAN
    seeds_needed: int | None = None
    flags: tuple[str, ...] = ()
    claim: str = "recipe"
    pairing: str = "independent seeds"
    correlation: float = NAN
    flat_fraction: float = NAN
    level: float = 0.95
    margin: float = 0.05
    p_value: float = NAN

    @property
    def sentence(self) -> str:
        """One plain-language sentence."""
        return _SENTENCES[self.verdict](self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None where nothing is known or no bound exists (low 0, high inf)."""
        numbers = {name: plain(getattr(self, name)) for name in _NUMBERS}
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            **numbers,
            "low": plain(self.low) or None,
            "reasons": list(self.reasons),
            "windows": [window.to_dict() for window in self.windows],
            "seeds_needed": self.seeds_needed,
            "flags": list(self.flags),
            "claim": self.claim,
            "pairing": self.pairing,
        }


_NUMBERS = (
    "speedup",
    "low",
    "high",
    "gain",
    "gain_low",
    "gain_high",
    "steps_ratio",
    "seconds_ratio",
    "df",
    "smallest_effect",
    "correlation",
    "flat_fraction",
)


def plain(value: float | None) -> float | None:
    """The number as a Python float; None for NaN and infinities."""
    return float(value) if value is not None and math.isfinite(value) else None


def ratio_text(value: float) -> str:
    """A ratio with the digits that carry meaning: 1.002, 1.21, 4, 12.5."""
    return f"{value:.3f}" if abs(value - 1.0) < 0.0095 else f"{value:.3g}"


def level_text(level: float) -> str:
    """A level with the digits that tell it from 1: "95 %", "99.3 %", "99.93 %", "99.99989 %"."""
    return f"{100 * level:.{max(3, 1 - math.floor(math.log10(max(1.0 - level, 1e-12))))}g} %"


def interval_text(low: float, high: float, level: float) -> str:
    """An interval of ratios in words; open ends read "at least" and "at most"."""
    name = f"{level_text(level)} interval"
    if low > 0.0 and math.isfinite(high):
        return f"{name} {ratio_text(low)} to {ratio_text(high)}"
    if low > 0.0:
        return f"{name}: at least {ratio_text(low)}"
    if math.isfinite(high):
        return f"{name}: at most {ratio_text(high)}"
    return f"{name}: open on both sides"


def _better(v: Verdict) -> str:
    if math.isnan(v.speedup):
        return f"At least {ratio_text(v.low)} times faster at equal quality."
    return f"{ratio_text(v.speedup)} times faster at equal quality ({interval_text(v.low, v.high, v.level)})."


def _worse(v: Verdict) -> str:
    if math.isnan(v.speedup):
        return f"At least {ratio_text(1.0 / v.high)} times slower to equal quality."
    low = 0.0 if math.isinf(v.high) else 1.0 / v.high
    high = math.inf if v.low == 0.0 else 1.0 / v.low
    return f"{ratio_text(1.0 / v.speedup)} times slower to equal quality ({interval_text(low, high, v.level)})."


def _mixed(v: Verdict) -> str:
    gains = [w for w in v.windows if w.low > 1.0]
    losses = [w for w in v.windows if w.high < 1.0]
    text = f"Faster in the {_names(gains)} runs and slower in the {_names(losses)} runs"
    if not math.isnan(v.speedup):
        text += f"; averaged over the range {ratio_text(v.speedup)} times ({interval_text(v.low, v.high, v.level)})"
    return text + "."


def _names(windows: list[Window]) -> str:
    return " and ".join(window.name for window in windows)


def _equivalent(v: Verdict) -> str:
    shown = (
        "" if math.isnan(v.speedup) else f" ({ratio_text(v.speedup)} times, {interval_text(v.low, v.high, v.level)})"
    )
    return f"As fast as the baseline within {100 * v.margin:.3g} %{shown}."


def _inconclusive(v: Verdict) -> str:
    text = "No difference could be shown"
    if math.isfinite(v.smallest_effect):
        text += f"; this design would have seen {ratio_text(v.smallest_effect)} times"
    if not math.isnan(v.speedup):
        text += f" (estimate {ratio_text(v.speedup)}, {interval_text(v.low, v.high, v.level)})"
    return text + "."


def _refused(v: Verdict) -> str:
    return f"Not comparable: {v.reasons[0]}" if v.reasons else "Not comparable."


_SENTENCES = {
    "better": _better,
    "worse": _worse,
    "mixed": _mixed,
    "equivalent": _equivalent,
    "inconclusive": _inconclusive,
    "not comparable": _refused,
}
