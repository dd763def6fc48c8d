"""The page of a plan, one HTML file that needs nothing else, and its tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from ..evaluation.plan_text import currency_of, hours_text, money_text
from .html import environment, pictures_of, script_json, write_page
from .numbers import FLAT, MINUS, Figures, Unit, quality_units, ratio, significant, time_unit
from .palette import DARK, LIGHT

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FLAT_MEANS = "flat: quality hardly rises with time there, so that no time makes up for the noise"
"""What the word in the noise table means."""


def noise_table(result: Mapping[str, Any]) -> Table:
    """A row a duration: its runs, quality, seed sd, and that sd in units of time."""
    from rich.text import Text

    quality, _, sd = quality_units(result["metric"])
    unit = f", {sd.suffix}" if sd.suffix else ""
    noise = result["noise"]
    table = _table(
        f"Noise of seeds, {noise['arm']}",
        ("duration", "runs", result["metric"], f"sd of a run{unit}", "in units of time"),
    )
    for cell in noise["cells"]:
        shown = f"{quality.show(cell['quality'])}{' ' + quality.suffix if quality.suffix else ''}"
        spread = f"{sd.show(cell['sd'])} ({sd.show(cell['sd_low'])} to {sd.show(cell['sd_high'])})"
        table.add_row(cell["duration"], str(cell["n"]), shown, spread.replace(MINUS, "-"), time_share(cell))
    if any(time_share(cell) == "flat" for cell in noise["cells"]):
        table.caption = Text(FLAT_MEANS)
    return table


def time_share(cell: Mapping[str, Any]) -> str:
    """The seed sd of a cell in units of time: "3.1 % (2.0 to 7.4 %)", or "flat"."""
    if cell["sd_time"] is None or cell["sd_time"] > FLAT:
        return "flat"
    low, high = (100 * cell[name] for name in ("sd_time_low", "sd_time_high"))
    return f"{significant(100 * cell['sd_time'], 2)} % ({significant(low, 2)} to {significant(high, 2)} %)"


def effects_table(result: Mapping[str, Any]) -> Table:
    """A row an effect: the seeds that it needs, and the runs, hours and money that are lacking for them."""
    priced = result["price"] is not None
    headings = ("speed-up", "seeds", "range", "runs lacking", "training", *(("money",) if priced else ()))
    table = _table("Seeds that a speed-up needs, to be found four times in five", headings)
    for row in result["effects"]:
        known = row["seeds"] is not None
        upper = "-" if row["seeds_high"] is None else f"{row['seeds_high']:,}"
        cells = [
            ratio(row["effect"]),
            f"{row['seeds']:,}" if known else "> 10,000",
            f"{row['seeds_low']:,} to {upper}" if known else "-",
            f"{row['runs']:,}" if known else "-",
            hours_text(row["hours"]),
            *([money_text(row["money"], currency_of(result))] if priced else []),
        ]
        table.add_row(*cells)
    return table


def looks_table(result: Mapping[str, Any]) -> Table:
    """A row a declared look: its seeds, its level, and what it alone shows."""
    table = _table(
        f"Looks ({result['looks']['spending']} spending)", ("seeds", "level", "finds alone", "runs lacking", "training")
    )
    for row in result["looks"]["taken"]:
        effect = "-" if row["smallest_effect"] is None else ratio(row["smallest_effect"])
        table.add_row(
            str(row["seeds"]), f"{100 * row['alpha']:.2g} %", effect, f"{row['runs']:,}", hours_text(row["hours"])
        )
    return table


def _table(title: str, headings: tuple[str, ...]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=Text(title), title_justify="left", caption_justify="left", pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if place else "left", no_wrap=True)
    return table


def print_plan(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables, what the plan says, and what to read it with."""
    from rich.text import Text

    if result["noise"] is not None:
        console.print(noise_table(result))
        console.print(effects_table(result))
        if result["looks"]:
            console.print(looks_table(result))
    for said in result["statements"]:
        console.print(Text(f"- {said[:1].upper()}{said[1:]}."))
    for note in result["notes"]:
        console.print(Text(note, style="dim"))


# ---- the page ------------------------------------------------------------------------------------------------------


def write_plan(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of a plan (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_plan(result), path)


def render_plan(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of `plan_study`."""
    if result.get("kind") != "plan" or not result.get("planned"):
        raise InvalidValue(
            f"the page of a plan is drawn from its result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest plan --out wrote"
        )
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from .plan_charts import effects_figure, noise_figure

    draw: dict[str, Any] = {} if result["noise"] is None else {"effects": effects_figure, "noise": noise_figure}
    pictures = pictures_of(result, draw)
    quality, _, sd = quality_units(result["metric"])
    longest = 3600.0 * max((row["hours"] or 0.0 for row in (*result["by_seeds"], *result["effects"])), default=0.0)
    time = time_unit(longest)
    units = {
        "quality": quality,
        "sd": sd,
        "hours": Unit(3600.0 * time.scale, None, time.suffix),
        "money": Unit(1.0, None, currency_of(result)),
        "percent": Unit(100.0, None, "%"),
    }
    return (
        environment()
        .get_template("plan.html.j2")
        .render(
            result=result,
            fig=Figures(result, units),
            units=units,
            command=(result.get("reproduce") or {}).get("command", ""),
            places={},
            flat=any(time_share(cell) == "flat" for cell in (result["noise"] or {"cells": []})["cells"]),
            light=LIGHT,
            dark=DARK,
            heights={name: picture["layout"]["height"] for name, picture in pictures.items()},
            pictures=Markup(script_json(pictures)),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )
