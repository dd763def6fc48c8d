"""Two curves compared: estimate, interval, windows, gain and the verdict that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .cells import Arm, Scale, trend_variances
from .curves import Array, Curves, arm_curves
from .dependence import Spread, arm_correlation, pairing_fault, spread_of
from .intervals import POINTS, WINDOW_NAMES, WINDOWS, Evidence, contrast
from .outcome import Verdict, Window, level_text, ratio_text
from .power import seeds_needed, smallest_effect
from .settings import Settings, difference_text

FLAT = 0.2


@dataclass(frozen=True)
class Setting:
    """Everything a comparison of two arms needs: cells, curves and the variance structure."""

    base: Arm
    method: Arm
    base_curves: Curves
    spread: Spread
    variances: tuple[Array, Array]
    flags: tuple[str, ...]


def prepare(base: Arm, method: Arm, settings: Settings) -> Setting:
    """Floored variances, the baseline's curves, and which cells share seeds."""
    ours, theirs = trend_variances([base, method])
    fault = pairing_fault(base, method) if settings.pairs else ""
    paired = settings.pairs is not None and not fault
    flags = [f"pairs were declared but {fault}: compared unpaired, which is valid and wider"] if fault else []
    spread = spread_of([base, method], [ours, theirs], paired=paired)
    planned = all(c.startswith("study ") for arm in (base, method) for cell in arm.clusters for c in cell)
    if spread.mode.startswith("one block") and not planned:
        flags.append(
            "runs repeat a seed, trunk or study over cells, which costs power: fresh seeds in every cell tell more"
        )
    return Setting(
        base=base,
        method=method,
        base_curves=arm_curves(base.x, base.y, np.sqrt(ours / base.n)),
        spread=spread,
        variances=(ours, theirs),
        flags=tuple(flags),
    )


def compare_curves(base: Arm, method: Arm, scale: Scale, settings: Settings) -> Verdict:
    """The verdict on a method with at least two durations (both arms free of faults, overlap sufficient)."""
    setting = prepare(base, method, settings)
    curves = arm_curves(method.x, method.y, np.sqrt(setting.variances[1] / method.n))
    timing = None if settings.timing is None else settings.timing.get(method.name)
    evidence = contrast(setting.base_curves, curves, setting.spread, rho=settings.rho, timing=timing)
    low, high = evidence.bounds(0, 1.0 - 0.5 * settings.alpha)
    shift = evidence.speedup(0)
    low, high = _around(shift, low, high)
    windows = _windows(evidence, setting.base_curves, scale, settings)
    name, reasons = _decide(evidence, low, high, windows, settings)
    gain = _gain(evidence, setting.base_curves, scale, settings)
    se, df = float(evidence.forward_se[evidence.zero, 0]), float(evidence.forward_df[evidence.zero, 0])
    rate = float(evidence.rate[evidence.zero, 0])
    ratios = decomposition(base, method, shift)
    flags = [
        *setting.flags,
        *_overtraining(base, setting.variances[0], settings.metric),
        *_overtraining(method, setting.variances[1], settings.metric),
    ]
    if all(w.low > 1.0 / (1.0 + settings.margin) for w in windows):
        flags.insert(0, f"nowhere slower by more than the margin of {100 * settings.margin:g} %")
    shared = setting.spread.correlation
    return Verdict(
        arm=method.name,
        baseline=base.name,
        verdict=name,
        speedup=math.exp(shift),
        low=math.exp(low),
        high=math.exp(high),
        gain=gain[0],
        gain_low=gain[1],
        gain_high=gain[2],
        reasons=tuple(reasons),
        windows=windows,
        steps_ratio=ratios[0],
        seconds_ratio=ratios[1],
        df=min(df, float(evidence.against_df[evidence.zero, 0])),
        smallest_effect=smallest_effect(se, df, rate, alpha=settings.alpha),
        seeds_needed=seeds_needed(
            float(evidence.estimate[evidence.zero, 0]),
            se,
            df,
            int(min(base.n.min(), method.n.min())),
            alpha=settings.alpha,
            fixed_variance=float(evidence.timing[evidence.zero, 0]),
        ),
        flags=tuple(flags),
        pairing=setting.spread.mode,
        correlation=arm_correlation(base, method) if math.isnan(shared) else shared,
        flat_fraction=_flat_fraction(evidence, setting.base_curves, curves),
        level=1.0 - settings.alpha,
        margin=settings.margin,
        p_value=_p_value(evidence),
    )


def decomposition(base: Arm, method: Arm, shift: float) -> tuple[float, float]:
    """(steps ratio, seconds-per-step ratio) of a log speed-up; NaN where steps are not known."""
    if base.seconds_per_step is None or method.seconds_per_step is None:
        return math.nan, math.nan
    seconds = base.seconds_per_step / method.seconds_per_step
    return math.exp(shift) / seconds, seconds


def _around(shift: float, low: float, high: float) -> tuple[float, float]:
    """The interval, widened where interpolation put its end on the wrong side of the estimate."""
    return (low, high) if math.isnan(shift) else (min(low, shift), max(high, shift))


def _windows(evidence: Evidence, base: Curves, scale: Scale, settings: Settings) -> tuple[Window, ...]:
    """Windows with simultaneous intervals (Sidak over the three), spans taken at equal time."""
    level = 1.0 - 0.5 * (1.0 - (1.0 - settings.alpha) ** (1.0 / len(WINDOW_NAMES)))
    x = evidence.at
    quality = scale.quality(base.value(x, "envelope"))
    found = []
    for number, name in enumerate(WINDOW_NAMES, start=1):
        shift = evidence.speedup(number)
        low, high = _around(shift, *evidence.bounds(number, level))
        first, last = WINDOWS[number]
        found.append(
            Window(
                name=name,
                speedup=math.exp(shift),
                low=math.exp(low),
                high=math.exp(high),
                seconds=(float(np.exp(x[first])), float(np.exp(x[last]))),
                quality=(float(quality[first]), float(quality[last])),
            )
        )
    return tuple(found)


def _decide(
    evidence: Evidence, low: float, high: float, windows: tuple[Window, ...], settings: Settings
) -> tuple[str, list[str]]:
    """The verdict's name and why; low, high: logs of the interval of the whole."""
    faster = [w.name for w in windows if w.low > 1.0]
    slower = [w.name for w in windows if w.high < 1.0]
    level = level_text(1.0 - settings.alpha)
    if faster and slower:
        return "mixed", [
            f"{' and '.join(faster)} runs are faster and {' and '.join(slower)} runs slower, each beyond its "
            f"simultaneous {level} interval"
        ]
    if low > 0.0 and not slower:
        return "better", [f"the {level} interval of the speed-up lies above 1 and no part of the range shows a loss"]
    if high < 0.0 and not faster:
        return "worse", [f"the {level} interval of the speed-up lies below 1 and no part of the range shows a gain"]
    edge = math.log(1.0 + settings.margin)
    ends = [evidence.bounds(window, 1.0 - settings.alpha) for window in range(len(WINDOWS))]
    if all(-edge < a and b < edge for a, b in ends):
        return "equivalent", [
            f"the {level_text(1.0 - 2.0 * settings.alpha)} intervals of the whole range and of its three parts lie "
            f"within {100 * settings.margin:.3g} % of 1"
        ]
    if low > 0.0 or high < 0.0:
        part = (slower if low > 0.0 else faster)[0]
        return "inconclusive", [
            f"the average over the range {'gains' if low > 0.0 else 'loses'} but the {part} runs "
            f"{'lose' if low > 0.0 else 'gain'}"
        ]
    return "inconclusive", [
        f"the {level} interval of the speed-up ({_end(low)} to {_end(high)}) contains 1 and is wider than the margin"
    ]


def _end(value: float) -> str:
    return "open" if math.isinf(value) else ratio_text(math.exp(value))


def _gain(evidence: Evidence, base: Curves, scale: Scale, settings: Settings) -> tuple[float, float, float]:
    """Quality gained at equal time with its interval, at the middle of the common range, in the metric's units."""
    from scipy.special import stdtrit

    z = evidence.zero
    level = 1.0 - 0.5 * settings.alpha
    half_for = evidence.forward_se[z, 0] * stdtrit(min(evidence.forward_df[z, 0], 1e6), level)
    half_against = evidence.against_se[z, 0] * stdtrit(min(evidence.against_df[z, 0], 1e6), level)
    c = np.array([evidence.estimate[z, 0], evidence.forward[z, 0] - half_for, evidence.against[z, 0] + half_against])
    middle = evidence.at[POINTS // 2]
    return back_transformed(scale, float(base.value(middle, "envelope")), c)


def back_transformed(scale: Scale, y: float, c: Array) -> tuple[float, float, float]:
    """Fitted-scale differences c [3] at level y as differences in the metric, positive for better."""
    sign = 1.0 if scale.higher_is_better else -1.0
    gains = sign * (scale.quality(y + c) - scale.quality(np.array(y)))
    return float(gains[0]), float(gains[1]), float(gains[2])


def _flat_fraction(evidence: Evidence, base: Curves, method: Curves) -> float:
    """Part of the common log range, at equal time, where the curves hardly rise."""
    average = 0.5 * (base.average_slope + method.average_slope)
    return float(np.sum(evidence.rise < FLAT * average) / POINTS) if average > 0.0 else 1.0


def _overtraining(arm: Arm, variance: Array, metric: str) -> list[str]:
    """A flag where longer training gave less quality, with what seed noise could explain."""
    best = np.maximum.accumulate(arm.y)
    k = int(np.argmax(best - arm.y))
    drop = float(best[k] - arm.y[k])
    if drop <= 0.0:
        return []
    peak = int(np.argmax(arm.y[: k + 1]))
    noise = math.sqrt(float(variance[k] / arm.n[k] + variance[peak] / arm.n[peak]))
    size = "within seed noise" if drop < 2.0 * noise else f"{drop / noise:,.1f} standard errors"
    lost = difference_text(metric, abs(float(arm.quality[peak] - arm.quality[k])))
    return [f"{arm.name}: quality falls by {lost} from duration {arm.labels[peak]} to {arm.labels[k]} ({size})"]


def _p_value(evidence: Evidence) -> float:
    """Two-sided p-value of no effect, from the two one-sided contrasts at equal time."""
    from scipy.special import stdtr

    z = evidence.zero
    tails = []
    for sign, c, se, df in (
        (1.0, evidence.forward, evidence.forward_se, evidence.forward_df),
        (-1.0, evidence.against, evidence.against_se, evidence.against_df),
    ):
        value = sign * float(c[z, 0])
        error = float(se[z, 0])
        tails.append(float(stdtr(min(float(df[z, 0]), 1e6), -value / error)) if error > 0.0 else float(value <= 0.0))
    return min(1.0, 2.0 * min(tails))
