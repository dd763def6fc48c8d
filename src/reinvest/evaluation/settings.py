"""What is declared before the runs: metric, level, margin, pairing, timing and tuning."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import InvalidValue
from ..core.metrics import direction as direction
from ..core.metrics import known_direction, plain_name


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a share of right answers by its name ("accuracy", "val/acc", "test_accuracy_top1"): such are
    shown in per cent, and differences in points."""
    return any(re.fullmatch(r"(accuracy|acc)[0-9]*", word) for word in plain_name(metric).split("_"))


def difference_text(metric: str, value: float, *, plus: bool = False) -> str:
    """A difference of two qualities: "1.52 points" of an accuracy, "0.0152" of another metric; plus: with its sign."""
    sign = "+" if plus else ""
    return f"{100 * value:{sign}.2f} points" if is_accuracy(metric) else f"{value:{sign}.3g}"


@dataclass(frozen=True)
class Settings:
    """Declared settings of a comparison.

    alpha: two-sided error rate in (0, 0.5); margin: equivalence margin of time, > 0; rho: ridge of the weights, > 0;
    pairs: None or "duration"; timing: {arm: (variance of the log ratio to the baseline, its degrees of freedom)};
    test_examples: size of the test set, or None; tuning: {arm: (trials, seconds or NaN)}.
    """

    metric: str
    higher_is_better: bool
    alpha: float
    margin: float
    rho: float
    pairs: str | None
    timing: Mapping[str, tuple[float, float]] | None
    test_examples: int | None
    tuning: Mapping[str, tuple[float, float]] | None
    guessed: bool = False
    """Whether nobody told the direction of the metric, its name neither."""


def check_settings(
    *,
    metric: str,
    higher_is_better: bool | None = None,
    alpha: float = 0.05,
    margin: float = 0.05,
    rho: float = 0.4,
    pairs: str | None = None,
    timing: Mapping[str, Mapping[str, float]] | None = None,
    test_examples: int | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings, or InvalidValue that names the rule, the value and the remedy."""
    if not isinstance(metric, str) or not metric.strip():
        raise InvalidValue(f"metric must be the name of a metric, received {metric!r}: write for example accuracy.")
    if higher_is_better not in (None, True, False):
        raise InvalidValue(
            f"higher_is_better must be true or false, received {higher_is_better!r}: leave it out to go by the metric."
        )
    if tuning is not None and not isinstance(tuning, Mapping):
        raise InvalidValue(
            f"tuning must be a mapping from arm to trials, received {tuning!r}: write {{baseline: 10, mine: 10}}."
        )
    if not 0.0 < alpha < 0.5:
        raise InvalidValue(f"alpha must lie between 0 and 0.5, received {alpha}: 0.05 gives 95 % intervals.")
    for name, value in (("margin", margin), ("rho", rho)):
        if not (math.isfinite(value) and value > 0.0):
            raise InvalidValue(f"{name} must be a positive number, received {value}: leave it out for the default.")
    if pairs not in (None, "duration"):
        raise InvalidValue(f'pairs must be None or "duration", received {pairs!r}: leave it out for unpaired seeds.')
    if test_examples is not None and test_examples < 1:
        raise InvalidValue(
            f"test_examples must be at least 1, received {test_examples}: give the size of the test set."
        )
    return Settings(
        metric=metric,
        higher_is_better=direction(metric, higher_is_better),
        alpha=alpha,
        margin=margin,
        rho=rho,
        pairs=pairs,
        timing=None if timing is None else {arm: _timing(arm, entry) for arm, entry in timing.items()},
        test_examples=test_examples,
        tuning=None if tuning is None else {arm: _tuning(arm, entry) for arm, entry in tuning.items()},
        guessed=higher_is_better is None and known_direction(metric) is None,
    )


def _timing(arm: str, entry: Mapping[str, float]) -> tuple[float, float]:
    try:
        variance, df = float(entry["log_ratio_variance"]), float(entry["df"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidValue(
            f'timing of arm {arm!r} must be {{"log_ratio_variance": number, "df": number}}, received {entry!r}: '
            "pass the result of the timing block."
        ) from error
    if not (math.isfinite(variance) and variance >= 0.0 and df > 0.0):
        raise InvalidValue(
            f"timing of arm {arm!r} needs log_ratio_variance >= 0 and df > 0, received {variance} and {df}: "
            "repeat the timing block."
        )
    return variance, df


def _tuning(arm: str, entry: Any) -> tuple[float, float]:
    trials: Any = entry
    seconds: Any = math.nan
    if isinstance(entry, Mapping):
        trials, seconds = entry.get("trials"), entry.get("seconds", math.nan)
    try:
        pair = float(trials), float(seconds)
    except (TypeError, ValueError) as error:
        raise InvalidValue(
            f'tuning of arm {arm!r} must be a number of trials or {{"trials": number, "seconds": number}}, '
            f"received {entry!r}: declare the tuning budget."
        ) from error
    if not pair[0] >= 0.0 or pair[1] < 0.0:
        raise InvalidValue(f"a tuning budget must not be negative, arm {arm!r} declares {entry!r}: declare 0 or more.")
    return pair
