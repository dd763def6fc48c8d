"""The page of an equal tuning, one HTML file that needs nothing else, and its tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from ..studies.tune_plan import listed, shown
from ..studies.tune_result import claim_text
from .html import environment, pictures_of, script_json, write_page
from .numbers import Figures, Unit, quality_units, time_unit
from .palette import DARK, LIGHT, SIGNS, SYMBOLS
from .text import STYLES, print_verdicts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SAMPLERS = {"qmc": "quasi-random (scrambled Sobol points)", "tpe": "TPE"}


def write_tuning(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of a tuning (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_tuning(result), path)


def render_tuning(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of a tuning."""
    if result.get("kind") != "tuning" or not result.get("tried"):
        raise InvalidValue(
            f"the page of a tuning is drawn from its result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest tune wrote"
        )
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    units, pictures = _units(result), _pictures(result)
    words = {name: arm["verdict"]["verdict"] for name, arm in result["arms"].items() if arm["verdict"] is not None}
    ran = result["comparison"]["arms"] if result["comparison"] is not None else ()
    return (
        environment()
        .get_template("tune.html.j2")
        .render(
            result=result,
            fig=Figures(result, units),
            units=units,
            places={name: place for place, name in enumerate(result["arms"])},
            claim=claim_text(result),
            sampler=SAMPLERS.get(result["sampler"], result["sampler"]),
            spaces={name: space_lines(arm["space"]) for name, arm in result["arms"].items()},
            left_out=[name for name in words if name not in ran],
            judged=any(word != "not comparable" for word in words.values()),
            shown=shown,
            values=lambda winner: ", ".join(listed(winner["values"])),
            symbols=SYMBOLS,
            signs=SIGNS,
            light=LIGHT,
            dark=DARK,
            # A picture without a height of its own place is lost when a window becomes narrow.
            heights={name: picture["layout"]["height"] for name, picture in pictures.items()},
            pictures=Markup(script_json(pictures)),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def space_lines(space: Mapping[str, Any]) -> list[str]:
    """A declared space in words, a line for each tuned value."""
    lines = []
    for path, axis in space.items():
        if isinstance(axis, list):
            lines.append(f"{path}: {', '.join(map(shown, axis))}")
            continue
        whole = isinstance(axis["low"], int) and isinstance(axis["high"], int)
        scale = f"{' whole numbers' if whole else ''}{' on a log scale' if axis.get('log') else ''}"
        lines.append(f"{path}:{scale or ''} {shown(axis['low'])} to {shown(axis['high'])}")
    return lines


def _units(result: Mapping[str, Any]) -> dict[str, Unit]:
    quality, _, _ = quality_units(result["task"]["metric"])
    spent = [arm["budget"]["seconds"] or 0.0 for arm in result["arms"].values()]
    return {"quality": quality, "time": time_unit(max(spent, default=1.0)), "seconds": Unit(suffix="s")}


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    from .tune_charts import best_of_figure, final_figure, tried_figure

    draw: dict[str, Any] = {"tried": tried_figure}
    if any(arm["best_of"] for arm in result["arms"].values()):
        draw["best_of"] = best_of_figure
    if result["comparison"] is not None:
        draw["quality"] = final_figure
    return pictures_of(result, draw)


# ---- the terminal --------------------------------------------------------------------------------------------------


def arms_table(result: Mapping[str, Any]) -> Table:
    """A row an arm and study: its budget, the winner's validation quality and its values."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    quality, time = _units(result)["quality"], _units(result)["time"]
    table = Table(box=SIMPLE_HEAD, title=Text(result["title"]), title_justify="left", pad_edge=False)
    table.caption, table.caption_justify = (
        Text("winners by validation; device time of all trials: steps x seconds of a step, timed side by side"),
        "left",
    )
    table.add_column("arm", overflow="fold")
    for heading in ("trials", "diverged", f"device time, {time.suffix}", f"own clocks, {time.suffix}"):
        table.add_column(heading, justify="right", no_wrap=True)
    if result["studies"] > 1:
        table.add_column("study", justify="right")
    table.add_column(f"best{', ' + quality.suffix if quality.suffix else ''}", justify="right")
    table.add_column("its values", overflow="fold")
    for name, arm in result["arms"].items():
        budget = arm["budget"]
        spent = [_shown(time, budget[clock]) for clock in ("seconds", "own_clock")]
        first = [escape(name), str(budget["trials"]), str(budget["diverged"]), *spent]
        for k, winner in enumerate(arm["winners"] or [None]):
            row = first if k == 0 else [""] * len(first)
            study = [] if result["studies"] == 1 else ["" if winner is None else str(winner["study"])]
            best = "" if winner is None else quality.show(winner["quality"])
            values = "all diverged" if winner is None else ", ".join(listed(winner["values"]))
            table.add_row(*row, *study, best, escape(values))
    return table


def _shown(unit: Unit, value: float | None) -> str:
    return "-" if value is None else unit.show(value)


def print_tuning(result: Mapping[str, Any], console: Console) -> None:
    """Print budgets and winners, the verdicts, and what they are about."""
    from rich.text import Text

    console.print(arms_table(result))
    if result["comparison"] is not None:
        console.print()
        print_verdicts(result["comparison"], console)
    ran = set() if result["comparison"] is None else set(result["comparison"]["arms"])
    for name, arm in result["arms"].items():
        if arm["verdict"] is not None and name not in ran:
            console.print(Text.assemble((name, STYLES["not comparable"]), ": ", arm["verdict"]["sentence"]))
    console.print(Text(claim_text(result), style="bold"))
    for name, arm in result["arms"].items():
        for line in edge_lines(name, arm):
            console.print(Text(line, style="dim"))
    for flag in result["flags"]:
        console.print(Text(flag, style="dim"))


def edge_lines(name: str, arm: Mapping[str, Any]) -> list[str]:
    """Where winners lie at the end of their range, in words: the best may lie beyond it."""
    at: dict[str, int] = {}
    for winner in arm["winners"]:
        for path in winner["edges"]:
            at[path] = at.get(path, 0) + 1
    many = len(arm["winners"])
    return [
        f"{name}: the winner{f' of {count} of {many} studies' if many > 1 else ''} lies at the end of its range of {path}: "
        "the best may lie beyond it"
        for path, count in at.items()
    ]
