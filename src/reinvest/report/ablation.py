"""The page of an ablation, one HTML file that needs nothing else, and its table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from ..studies.ablation_effects import saves
from .html import environment, pictures_of, script_json, write_page
from .numbers import Figures, Unit, quality_units, time_unit
from .palette import DARK, LIGHT, SIGNS, SYMBOLS
from .text import STYLES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

HEADINGS = {
    "whole": "All together, against the plain recipe",
    "on top": "On top of all the others",
    "alone": "Alone, against the plain recipe",
    "together": "In pairs: more or less than each alone",
}


def write_ablation(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of an ablation (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_ablation(result), path)


def render_ablation(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of an ablation."""
    if result.get("kind") != "ablation" or not result.get("effects"):
        raise InvalidValue(
            f"the page of an ablation is drawn from its result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest ablate wrote"
        )
    import yaml
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    units = _units(result)
    asked = dict.fromkeys(e["question"] for e in result["effects"])
    return (
        environment()
        .get_template("ablation.html.j2")
        .render(
            result=result,
            fig=Figures(result, units),
            units=units,
            headings={q: HEADINGS[q] for q in HEADINGS if q in asked},
            places={m["name"]: k for k, m in enumerate(result["methods"], start=1)},
            words={k: effect_word(e) for k, e in enumerate(result["effects"])},
            signs=SIGNS,
            symbols=SYMBOLS,
            light=LIGHT,
            dark=DARK,
            recipe=yaml.safe_dump(result["recipe"], sort_keys=False, allow_unicode=True),
            pictures=Markup(script_json(_pictures(result))),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def effect_word(effect: Mapping[str, Any]) -> str:
    """One of the verdict's words, so that pages and tables mark effects alike."""
    if effect["time"] is None and effect["reason"]:
        return "not comparable"
    if not effect["shown"]:
        return effect["verdict"] if effect["verdict"] in ("equivalent", "mixed") else "inconclusive"
    if effect["verdict"] == "mixed":
        return "mixed"
    return {True: "better", False: "worse", None: "inconclusive"}[saves(effect)]


def _units(result: Mapping[str, Any]) -> dict[str, Unit]:
    seconds = [p["seconds"] for arm in result["arms"].values() for p in arm["points"] if p["seconds"] is not None]
    quality, _, sd = quality_units(result["task"]["metric"])
    return {"time": time_unit(max(seconds, default=1.0)), "quality": quality, "sd": sd, "seconds": Unit(suffix="s")}


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    from .ablation_charts import effect_figure, matrix_figure

    draw = {"effects": effect_figure}
    if any(e["question"] == "together" for e in result["effects"]):
        draw["matrix"] = matrix_figure
    return pictures_of(result, draw)


# ---- the terminal --------------------------------------------------------------------------------------------------


def effects_table(result: Mapping[str, Any], question: str) -> Table:
    """The effects of one question: change of time at equal quality, interval, Holm's p."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=HEADINGS[question], title_justify="left", pad_edge=False)
    table.add_column("methods" if question in ("whole", "together") else "method", overflow="fold")
    table.add_column("finding")
    for heading in ("time at equal quality", "95 % interval", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for effect in result["effects"]:
        if effect["question"] != question:
            continue
        word = effect_word(effect)
        table.add_row(
            Text(" + ".join(effect["methods"])),
            Text(word, style=STYLES.get(word, "dim")),
            "" if effect["time"] is None else _change(effect["time"]),
            _interval(effect),
            "" if effect["p_holm"] is None else f"{effect['p_holm']:.3g}",
        )
    return table


def _change(time: float) -> str:
    return f"{100 * (time - 1):+.1f} %"


def _interval(effect: Mapping[str, Any]) -> str:
    low, high = effect["low"], effect["high"]
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {_change(low)}"
    return f"at most {_change(high)}" if low is None else f"{_change(low)} to {_change(high)}"


def print_ablation(result: Mapping[str, Any], console: Console) -> None:
    """Print a table for each question, adverse pairs, and what to read it with."""
    from rich.text import Text

    for question in HEADINGS:
        if any(e["question"] == question for e in result["effects"]):
            console.print(effects_table(result, question))
    for pair in result["adverse"]:
        console.print(Text(f"{' and '.join(pair)} get in each other's way", style="bold"))
    for effect in result["effects"]:
        if effect["reason"]:
            console.print(
                Text(f"{' + '.join(effect['methods'])} ({effect['question']}): {effect['reason']}", style="dim")
            )
    for flag in result["flags"]:
        console.print(Text(flag, style="dim"))
