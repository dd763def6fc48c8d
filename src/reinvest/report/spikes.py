"""The page of a search for loss spikes, one HTML file that needs nothing else, and its table in the terminal."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from .html import environment, pictures_of, script_json, write_page
from .numbers import Figures, Unit, significant
from .palette import DARK, LIGHT

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CAUSES = {
    "examples": "a few examples",
    "update": "the update before",
    "batch": "batch and weights",
    "gradient": "gradient alone",
    "epoch": "a whole epoch",
    "unknown": "not known",
}
"""What is to blame, in a table cell."""


def write_spikes(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of a search for spikes (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_spikes(result), path)


def render_spikes(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of a search for spikes."""
    if result.get("kind") != "spikes" or not result.get("series"):
        raise InvalidValue(
            f"the page of a search for spikes is drawn from its result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest spikes wrote"
        )
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from .spike_charts import drawn_spikes, heat_figure, signals_figure

    drawn = drawn_spikes(result)
    draw: dict[str, Any] = {"signals": signals_figure}
    draw |= {f"heat-{k}": functools.partial(_heat, heat_figure, k) for k in drawn}
    return (
        environment()
        .get_template("spikes.html.j2")
        .render(
            result=result,
            fig=Figures(result, {"times": Unit(suffix=""), "percent": Unit(100, 0, "%")}),
            causes=CAUSES,
            drawn=drawn,
            places={},
            light=LIGHT,
            dark=DARK,
            pictures=Markup(script_json(pictures_of(result, draw))),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def _heat(draw: Any, place: int, result: Mapping[str, Any], theme: Any) -> Any:
    return draw(result, place, theme)


# ---- the terminal --------------------------------------------------------------------------------------------------


def spikes_table(result: Mapping[str, Any]) -> Table:
    """A row a spike: where, how high, how long, in which signal, and what is to blame."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    unit = result["source"][:-1]
    table = Table(box=SIMPLE_HEAD, title=Text(result["title"]), title_justify="left", pad_edge=False)
    for heading in ("spike", unit, "epoch", f"{unit}s", "loss", "usually", "robust z"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("seen in", "first layer", "blame"):
        table.add_column(heading, overflow="fold")
    for k, spike in enumerate(result["spikes"], start=1):
        shown = ["-" if spike[name] is None else significant(spike[name]) for name in ("loss", "usual", "z")]
        layer = spike["layers"][0]["name"] if spike["layers"] else "-"
        place = [str(k), f"{spike['start']:,}", str(spike["epoch"]), str(spike["length"])]
        table.add_row(*place, *shown, *map(Text, (", ".join(spike["signals"]), layer, CAUSES[spike["cause"]])))
    return table


def print_spikes(result: Mapping[str, Any], console: Console) -> None:
    """Print the table, the paragraph of each spike and of its replay, and what was missing."""
    from rich.text import Text

    if result["spikes"]:
        console.print(spikes_table(result))
    else:
        where = f"the {result['steps']:,} {result['source']} of run {result['run']}"
        if result.get("unjudged", 0) < result["steps"]:
            console.print(f"no spike above robust z {result['threshold']:g} in {where.removeprefix('the ')}")
        else:
            console.print(f"none of {where} can be judged, so nothing is said of spikes")
    for k, spike in enumerate(result["spikes"], start=1):
        told = " ".join([spike["text"], *(spike[name]["text"] for name in ("replay", "without") if spike.get(name))])
        console.print(Text.assemble((f"{k}. ", "bold"), told))
    for note in (*result.get("notes", ()), result["hint"]):
        if note:
            console.print(Text(note, style="dim"))
