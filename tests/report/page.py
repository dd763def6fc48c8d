"""Reads a written report back: its figures, their places in the JSON, its embedded data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

FLAT = 10.0
UNITS = {"", "%", "points", "s", "min", "h", "ms", "USD", "EUR"}


@dataclass
class Figure:
    path: str
    value: Any
    scale: float
    shown: str


@dataclass
class Page(HTMLParser):
    """The parts of a report that tests look at."""

    html: str
    figures: list[Figure] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._figure: Figure | None = None
        self._script: str | None = None
        self._hidden = False
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._hidden = tag in ("script", "style")
        if tag == "script":
            self._script = found.get("id") or f"script{len(self.scripts)}"
            self.scripts[self._script] = ""
        if found.get("data-path") is not None:
            self._figure = Figure(
                str(found["data-path"]), json.loads(str(found["data-value"])), float(str(found["data-scale"])), ""
            )
            self.figures.append(self._figure)

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self._script = None
        if tag == "span":
            self._figure = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] += data
        elif not self._hidden:
            self.text += data
        if self._figure is not None:
            self._figure.shown += data


def at(result: Any, pointer: str) -> Any:
    """The value at a JSON pointer."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        result = result[int(key)] if isinstance(result, list) else result[key]
    return result


def agrees(figure: Figure, value: Any) -> bool:
    """True if a shown figure is `value`, in full in its attribute and rounded in its text."""
    if figure.value != value or type(figure.value) is not type(value):
        return False
    if value is None:
        return figure.shown == "–"
    if isinstance(value, (str, bool)):
        return figure.shown.casefold() == str(value).casefold()
    if figure.shown == "flat":
        return bool(value > FLAT)
    number, _, unit = figure.shown.replace("−", "-").replace(",", "").partition(" ")
    if unit not in UNITS or not re.fullmatch(r"[+-]?\d+(\.\d+)?", number):
        return False
    places = len(number.partition(".")[2])
    return abs(float(number) - value * figure.scale) <= 0.5000001 * 10.0**-places
