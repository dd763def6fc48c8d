"""The page of a recipe's variance, one HTML file that needs nothing else, and its tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from ..evaluation.variance_ratio import COMPARED_FROM, MOST_RUNS
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
            pairs=has_pairs(result),
            enough=enough(result),
            most=MOST_RUNS,
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
    from .variance_charts import against_figure, agreement_figure, sources_figure, spread_figure

    draw = {"spread": spread_figure}
    if result["sources"] is not None:
        draw["sources"] = sources_figure
    if result["agreement"] is not None:
        draw["agreement"] = agreement_figure
    if result["against"] is not None:
        draw["against"] = against_figure
    return pictures_of(result, draw)


# ---- the terminal --------------------------------------------------------------------------------------------------


def spread_table(result: Mapping[str, Any]) -> Table:
    """The standard deviations beside each other: observed, and what would explain it."""
    sd = _sd(result)
    headings = ("standard deviation", sd.suffix or "value", "95 % interval", "of what")
    table = plain_table(result["title"], headings, words=headings[-1:])
    summary, test, agreement = result["summary"], result["test"], result["agreement"]
    ends = _between(sd, summary["sd_low"], summary["sd_high"])
    table.add_row("observed", sd.show(summary["sd"]), ends, f"the {summary['n']} runs")
    if test is not None:
        table.add_row("predicted luck", sd.show(test["predicted_sd"]), "", "runs equally good, calibrated together")
    spread = None if agreement is None else agreement["spread"]
    if spread is not None:
        table.add_row(
            "luck if errors are independent", sd.show(spread["sampling_sd"]), "", "these runs, these examples"
        )
        ends = _between(sd, spread["low"], spread["high"])
        table.add_row("left between the runs", sd.show(spread["sd"]), ends, "on endlessly many examples")
    if test is not None:
        table.add_row("binomial", sd.show(test["floor"]), "", f"any one accuracy on {test['examples']:,} examples")
    return table


def sources_table(result: Mapping[str, Any]) -> Table:
    """A row a source: its standard deviation and share of the variance, with intervals."""
    sources, sd = result["sources"], _sd(result)
    quality = quality_units(result["task"]["metric"])[0]
    mean, spread = (f"{name}, {unit.suffix}".removesuffix(", ") for name, unit in (("mean", quality), ("sd", sd)))
    headings = ("what is free", "runs", mean, spread, "95 % interval", "of variance", "95 % interval")
    table = plain_table(f"One source free at a time, {sources['runs']} runs each", headings)
    for part in (*sources["parts"], sources["none"], sources["whole"]):
        shares = ("-", "-")
        if part["share"] is not None and enough(result):
            shares = (
                f"{100 * part['share']:.0f} %",
                f"{100 * part['share_low']:.0f} to {100 * part['share_high']:.0f} %",
            )
        ends = _between(sd, part["sd_low"], part["sd_high"])
        row = (ABOUT[part["source"]], str(part["runs"]), quality.show(part["mean"]), sd.show(part["sd"]), ends)
        table.add_row(*row, *shares)
    left = sources["unexplained"]
    if left["share"] is not None and enough(result):
        ends = f"{100 * left['low']:.0f} to {100 * left['high']:.0f} %"
        table.add_row("left over", "", "", "", "", f"{100 * left['share']:.0f} %", ends)
    return table


def pairs_table(result: Mapping[str, Any]) -> Table:
    """A row a pair of sources: with which runs vary more, and what that rests on."""
    compared = result["sources"]["compared"]
    many = len(compared["pairs"]) > 1
    title = f"With which of two sources runs vary more (intervals: 95 %{', all together' if many else ''})"
    headings = ("larger spread observed", "than", "times", "interval", "told apart", "runs needed, each")
    table = plain_table(title, headings, words=headings[1:2])
    for pair in compared["pairs"]:
        times = "-" if pair["ratio"] is None else f"{pair['ratio']:.2f}"
        ends = "-" if pair["low"] is None or pair["high"] is None else f"{pair['low']:.2f} to {pair['high']:.2f}"
        needed = "-" if pair["larger"] or pair["ratio"] is None else f"over {MOST_RUNS:,}"
        names = (ABOUT[pair["first"]], ABOUT[pair["second"]])
        told = "yes" if pair["larger"] else "no"
        table.add_row(*names, times, ends, told, f"{pair['needed']:,}" if pair["needed"] else needed)
    return table


def enough(result: Mapping[str, Any]) -> bool:
    """Whether every source has the runs from which on shares and pairs are shown."""
    return result["sources"] is not None and result["sources"]["compared"]["runs"] >= COMPARED_FROM


def has_pairs(result: Mapping[str, Any]) -> bool:
    """Whether there are sources that were set against each other."""
    return enough(result) and bool(result["sources"]["compared"]["pairs"])


def _sd(result: Mapping[str, Any]) -> Unit:
    return quality_units(result["task"]["metric"])[2]


def _between(unit: Unit, low: float, high: float) -> str:
    return f"{unit.show(low)} to {unit.show(high)}"


def print_variance(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables, what was found, and what to read it with."""
    from rich.text import Text

    console.print(spread_table(result))
    if result["sources"] is not None:
        console.print(sources_table(result))
    if has_pairs(result):
        console.print(pairs_table(result))
    for statement in result["statements"]:
        console.print(Text(f"- {statement}"))
    for one in result["left_out"]:
        console.print(Text(f"left out: run {one['run']}, seed {one['seed']}: {one['why']}", style="dim"))
    for note in result["notes"]:
        console.print(Text(note, style="dim"))
