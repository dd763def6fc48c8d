"""The page of a recipe's variance, one HTML file that needs nothing else, and its tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from ..studies.variance_text import ABOUT
from .html import environment, pictures_of, script_json, write_page
from .numbers import Figures, Unit, quality_units
from .outcomes import plain_table
from .palette import DARK, LIGHT

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

RUNS = 20
"""Runs that the page lists without folding them away."""


def write_variance(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page (about 5 MB, nearly all of it plotly.js); returns its path. Raises InvalidValue for other results."""
    return write_page(render_variance(result), path)


def render_variance(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of `variance`."""
    if result.get("kind") != "variance" or not result.get("runs"):
        raise InvalidValue(
            f"the page of a variance is drawn from its result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest variance --out wrote"
        )
    import yaml
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    quality, _, sd = quality_units(result["task"]["metric"])
    recipe, pictures = result["recipe"], _pictures(result)
    return (
        environment()
        .get_template("variance.html.j2")
        .render(
            result=result,
            fig=Figures(result, {"quality": quality, "sd": sd, "rate": Unit(100, 2, "%")}),
            units={"quality": quality, "sd": sd},
            about=ABOUT,
            parts=table_rows(result),
            command=(result.get("reproduce") or {}).get("command", ""),
            recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else "",
            heights={name: picture["layout"]["height"] for name, picture in pictures.items()},
            shown=RUNS,
            places={},
            light=LIGHT,
            dark=DARK,
            pictures=Markup(script_json(pictures)),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def table_rows(result: Mapping[str, Any]) -> list[tuple[str | int, ...]]:
    """The paths of the rows of the table of sources: each source, nothing, everything; [] without sources."""
    if result["sources"] is None:
        return []
    parts: list[tuple[str | int, ...]] = [("sources", "parts", k) for k in range(len(result["sources"]["parts"]))]
    return [*parts, ("sources", "none"), ("sources", "whole")]


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    from .variance_charts import agreement_figure, sources_figure, spread_figure

    draw = {"spread": spread_figure}
    if result["sources"] is not None:
        draw["sources"] = sources_figure
    if result["agreement"] is not None:
        draw["agreement"] = agreement_figure
    return pictures_of(result, draw)


# ---- the terminal --------------------------------------------------------------------------------------------------


def spread_table(result: Mapping[str, Any]) -> Table:
    """The standard deviations beside each other: observed, and what would explain it."""
    headings = ("standard deviation", "", "95 % interval", "what it is")
    table, sd = plain_table(result["title"], headings, words=headings[-1:]), _sd(result)
    summary, test, agreement = result["summary"], result["test"], result["agreement"]
    ends = f"{sd(summary['sd_low'])} to {sd(summary['sd_high'])}"
    table.add_row("observed", sd(summary["sd"]), ends, f"of {summary['n']} runs")
    if test is not None:
        table.add_row("predicted", sd(test["predicted_sd"]), "", "of runs that are calibrated together")
        table.add_row("binomial floor", sd(test["floor"]), "", f"of any one accuracy on {test['examples']:,} examples")
    spread = None if agreement is None else agreement["spread"]
    if spread is not None:
        table.add_row("independent errors", sd(spread["sampling_sd"]), "", "of the runs on these examples")
        ends = f"{sd(spread['low'])} to {sd(spread['high'])}"
        table.add_row("between the runs", sd(spread["sd"]), ends, "on the whole distribution")
    return table


def sources_table(result: Mapping[str, Any]) -> Table:
    """A row a source: its standard deviation and share of the variance, with intervals."""
    sources, sd = result["sources"], _sd(result)
    headings = ("what is free", "runs", "mean", "sd", "95 % interval", "share of variance", "95 % interval")
    table, quality = (
        plain_table(f"By source, {sources['runs']} runs each", headings),
        quality_units(result["task"]["metric"])[0],
    )
    for part in (*sources["parts"], sources["none"], sources["whole"]):
        shares = ("-", "-")
        if part["share"] is not None:
            shares = (
                f"{100 * part['share']:.0f} %",
                f"{100 * part['share_low']:.0f} to {100 * part['share_high']:.0f} %",
            )
        mean = f"{quality.show(part['mean'])} {quality.suffix}".strip()
        ends = f"{sd(part['sd_low'])} to {sd(part['sd_high'])}"
        table.add_row(ABOUT[part["source"]], str(part["runs"]), mean, sd(part["sd"]), ends, *shares)
    left = sources["unexplained"]
    if left["share"] is not None:
        ends = f"{100 * left['low']:.0f} to {100 * left['high']:.0f} %"
        table.add_row("not explained by one at a time", "", "", "", "", f"{100 * left['share']:.0f} %", ends)
    return table


def _sd(result: Mapping[str, Any]) -> Any:
    unit = quality_units(result["task"]["metric"])[2]
    return lambda value: f"{unit.show(value)} {unit.suffix}".strip()


def print_variance(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables, what was found, and what to read it with."""
    from rich.text import Text

    console.print(spread_table(result))
    if result["sources"] is not None:
        console.print(sources_table(result))
    for statement in result["statements"]:
        console.print(Text(f"- {statement}"))
    for one in result["left_out"]:
        console.print(Text(f"left out: run {one['run']}, seed {one['seed']}: {one['why']}", style="dim"))
    for note in result["notes"]:
        console.print(Text(note, style="dim"))
