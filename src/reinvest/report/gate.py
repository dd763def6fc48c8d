"""The page of a gate, one HTML file that needs nothing else, and its answer in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from .gate_charts import gate_figure
from .html import environment, pictures_of, script_json, write_page
from .numbers import Figures, quality_units, time_unit
from .palette import DARK, LIGHT, SIGNS, SYMBOLS
from .text import STYLES

if TYPE_CHECKING:
    from rich.console import Console

LOOKS = {
    "regressed": "worse",
    "not regressed": "better",
    "undecided": "inconclusive",
    "not comparable": "not comparable",
}
"""Each word of a gate, and the word of a verdict whose colour and sign it has."""
ABSENT = "not given"
NAMES = {"steps": "Steps to equal quality", "time": "Training time to equal quality"}


def write_gate(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of a gate (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_gate(result), path)


def render_gate(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of a gate."""
    if result.get("kind") != "gate" or not result.get("parts"):
        raise InvalidValue(
            f"the page of a gate is drawn from its result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest gate --out wrote"
        )
    import yaml
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from .charts import quality_figure

    seconds = [p["seconds"] for arm in result["arms"].values() for p in arm["points"] if p["seconds"] is not None]
    quality, _, sd = quality_units(result["task"]["metric"])
    units = {"time": time_unit(max(seconds, default=1.0)), "quality": quality, "sd": sd}
    return (
        environment()
        .get_template("gate.html.j2")
        .render(
            result=result,
            fig=Figures(result, units),
            units=units,
            names=NAMES,
            looks=LOOKS,
            changes=changes(result["changed"]),
            signs=SIGNS,
            symbols=SYMBOLS,
            places={name: place for place, name in enumerate(result["arms"])},
            light=LIGHT,
            dark=DARK,
            recipe=yaml.safe_dump(result["recipe"], sort_keys=False, allow_unicode=True),
            pictures=Markup(script_json(pictures_of(result, {"parts": gate_figure, "quality": quality_figure}))),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def changes(changed: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, then, now) in words, from {field of the recipe: [then, now]}; of what kept its name each argument alone."""
    found = []
    for field, (then, now) in changed.items():
        name = field.replace("_", " ")
        both = isinstance(then, Mapping) and isinstance(now, Mapping)
        if not (both and then.get("name") == now.get("name")):
            found.append((name, _words(then), _words(now)))
            continue
        for key in dict.fromkeys([*then, *now]):
            if then.get(key) != now.get(key):
                old, new = (_words(side[key]) if key in side else ABSENT for side in (then, now))
                found.append((f"{name} {key}", old, new))
    return found


def _words(value: Any) -> str:
    """A value of a recipe without brackets and quotes."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value)) or "none"
    if not isinstance(value, Mapping):
        return str(value)
    pairs = [(k, _words(v), isinstance(v, Mapping)) for k, v in value.items() if k != "name"]
    told = ", ".join(f"{k} ({text})" if nested else f"{k} {text}" for k, text, nested in pairs)
    name = value.get("name")
    return told if name is None else f"{name} ({told})" if told else str(name)


def print_gate(result: Mapping[str, Any], console: Console) -> None:
    """Print the word, each part with its interval, what changed in the recipe, and what to read it with."""
    from rich.padding import Padding
    from rich.text import Text

    word = result["verdict"]
    console.print(Text(result["title"]))
    console.print(Text(word.upper(), style=STYLES.get(LOOKS[word], "")))
    for part in result["parts"]:
        console.print(Padding(Text(part["sentence"]), (0, 0, 0, 2)))
    for name, then, now in changes(result["changed"]):
        console.print(Padding(Text(f"{name}: {then} -> {now}", style="dim"), (0, 0, 0, 2)))
    for note in result["notes"]:
        console.print(Padding(Text(f"- {note}", style="dim"), (0, 0, 0, 2)))
