"""Figures as text. Every figure in the report carries its full value and its place in the JSON twin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..evaluation.settings import is_accuracy

MINUS = "−"
NONE = "–"
TINY = 1e-12
"""Below this even a number without an exponent says nothing more."""
FLAT = 10.0
"""A seed spread of more than this many times the run's own length says only that the curve is flat there."""


def signed(text: str) -> str:
    """The text of a number with a typographic minus."""
    return text.replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent, thousands set apart: 0.0000123, 0.0123, 1.23, 12.3, 1,234."""
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    text = f"{value:#.{digits}g}"
    if "e" in text and abs(value) > TINY:
        text = f"{value:.{digits - 1 - math.floor(math.log10(abs(value)))}f}"
    return text.rstrip(".")


def ratio(value: float) -> str:
    """A ratio with the digits that carry meaning: 1.002 close to 1, else three: 1.21, 4.00, 12.5, 1,234."""
    return f"{value:.3f}" if abs(value - 1.0) < 0.0095 else significant(value)


@dataclass(frozen=True)
class Unit:
    """How a number of the JSON is shown: multiplied by `scale`, with `decimals` (None: three digits), then `suffix`."""

    scale: float = 1.0
    decimals: int | None = None
    suffix: str = ""
    plus: bool = False

    def show(self, value: float) -> str:
        """The text without the suffix."""
        scaled = value * self.scale
        text = significant(scaled) if self.decimals is None else f"{scaled:,.{self.decimals}f}"
        if self.plus and float(text.replace(",", "")) > 0:
            text = f"+{text}"
        return signed(text)


def time_unit(longest: float) -> Unit:
    """Seconds, minutes or hours, whichever reads best up to `longest` seconds; one unit for a whole report."""
    if longest < 600:
        return Unit(suffix="s")
    return Unit(scale=1 / 60, suffix="min") if longest < 4 * 3600 else Unit(scale=1 / 3600, suffix="h")


def quality_units(metric: str) -> tuple[Unit, Unit, Unit]:
    """Units of a quality, a difference of two, and a spread: per cent for an accuracy, plain numbers otherwise."""
    if is_accuracy(metric):
        return (
            Unit(100, 2, "%"),
            Unit(100, 2, "points", plus=True),
            Unit(100, 2, "points"),
        )
    return Unit(), Unit(plus=True), Unit()


class Figures:
    """Looks values up in a result and sets them as HTML that can be checked against the JSON.

    units: by name; "ratio", "count", "text", "df", "share" and "milliseconds" are always there.
    """

    def __init__(self, result: Mapping[str, Any], units: Mapping[str, Unit]) -> None:
        self._result = result
        self._units = {
            "count": Unit(decimals=0),
            "df": Unit(decimals=1),
            "share": Unit(100, 0, "%"),
            "spread": Unit(100, 1, "%"),
            "milliseconds": Unit(1000, None, "ms"),
            "plain": Unit(),
            **units,
        }

    def value(self, *path: str | int) -> Any:
        """The JSON value at a path of keys and positions."""
        found: Any = self._result
        for part in path:
            found = found[part]
        return found

    def __call__(self, unit: str, *path: str | int, bare: bool = False) -> Markup:
        """The figure at `path` as a span; bare: without the unit's suffix. What is not known is a dash."""
        value = self.value(*path)
        data = json.dumps(value, ensure_ascii=False)
        text, scale, suffix = self._text(unit, value)
        if bare:
            suffix = ""
        kind = "figure" if value is not None and unit != "text" else "words" if unit == "text" else "figure none"
        return Markup('<span class="{}" data-path="{}" data-value="{}" data-scale="{}">{}</span>').format(
            kind, pointer(*path), data, f"{scale:.12g}", text + (f" {suffix}" if suffix else "")
        )

    def _text(self, unit: str, value: Any) -> tuple[str, float, str]:
        if value is None:
            return NONE, 1.0, ""
        if unit == "text" or not isinstance(value, (int, float)) or isinstance(value, bool):
            return str(value), 1.0, ""
        if unit == "ratio":
            return ratio(value), 1.0, ""
        if unit == "spread" and value > FLAT:
            return "flat", 1.0, ""
        chosen = self._units[unit]
        return chosen.show(value), chosen.scale, chosen.suffix


def pointer(*path: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
