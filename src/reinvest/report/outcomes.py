"""The page of outcomes, one HTML file that needs nothing else, and their tables in the terminal."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from .html import environment, pictures_of, script_json, write_page
from .numbers import Figures, Unit, quality_units
from .palette import DARK, LIGHT, Theme

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from rich.console import Console
    from rich.table import Table

HEADINGS = {"by_group": "subgroup", "by_class": "class"}
SHOWN = 15
"""Disputed examples on the page that are not folded away."""
ROWS = 10
"""Rows of a table in the terminal: the classes or subgroups that divide the runs most, and the most disputed examples."""


def write_outcomes(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of outcomes (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_outcomes(result), path)


def render_outcomes(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of `outcomes`."""
    if result.get("kind") != "outcomes" or not result.get("runs"):
        raise InvalidValue(
            f"the page of outcomes is drawn from their result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest outcomes --out wrote"
        )
    import yaml
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    quality, _, sd = quality_units("accuracy")
    recipe, pictures = result["recipe"], _pictures(result)
    return (
        environment()
        .get_template("outcomes.html.j2")
        .render(
            result=result,
            fig=Figures(result, {"quality": quality, "sd": sd, "rate": Unit(100, 2, "%")}),
            units={"quality": quality, "sd": sd},
            unit=unit_of(result),
            headings={which: what for which, what in HEADINGS.items() if result[which]},
            command=(result.get("reproduce") or {}).get("command", ""),
            recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else "",
            class_name=functools.partial(class_name, result),
            places={},
            light=LIGHT,
            dark=DARK,
            # A picture without a height of its own place is lost when a window becomes narrow.
            heights={name: picture["layout"]["height"] for name, picture in pictures.items()},
            shown=SHOWN,
            pictures=Markup(script_json(pictures)),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def unit_of(result: Mapping[str, Any]) -> str:
    """What was decided on: "example", or "position" where each pixel or token has a label."""
    return "example" if result.get("positions") is None else "position"


def class_name(result: Mapping[str, Any], label: int) -> str:
    """The name of a class, its number where it has none."""
    names = result["class_names"] or []
    return str(names[label]) if label < len(names) else str(label)


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    from .outcome_charts import accuracy_figure, churn_figure, consistency_figure, groups_figure

    draw: dict[str, Any] = {"accuracy": accuracy_figure, "consistency": consistency_figure, "churn": churn_figure}
    draw |= {which: functools.partial(_groups, groups_figure, which) for which in HEADINGS if result[which]}
    return pictures_of(result, draw)


def _groups(draw: Any, which: str, result: Mapping[str, Any], theme: Theme) -> go.Figure:
    return draw(result, which, theme)


# ---- the terminal --------------------------------------------------------------------------------------------------


def runs_table(result: Mapping[str, Any]) -> Table:
    """A row a run: its accuracy with the interval for the finite number of examples, and its mean churn."""
    table = plain_table(result["title"], ("run", "seed", "accuracy", "95 % interval", "differs from others on"))
    for place, run in enumerate(result["runs"]):
        others = [value for other, value in enumerate(result["churn"][place]) if other != place]
        table.add_row(
            run["run"],
            "-" if run["seed"] is None else str(run["seed"]),
            _share(run["accuracy"]),
            f"{_share(run['low'])} to {_share(run['high'])}",
            _share(sum(others) / len(others)),
        )
    return table


def groups_table(result: Mapping[str, Any], which: str) -> Table:
    """A row a class ("by_class") or subgroup ("by_group"), the most divided first."""
    from rich.text import Text

    found = sorted(result[which], key=lambda g: -g["churn"])
    more = f", the {ROWS} most divided of {len(found)}" if len(found) > ROWS else ""
    unit = unit_of(result)
    headings = (f"{unit}s", "accuracy", "vote", "two runs differ on", "arbitrary", "sd between runs")
    table = plain_table(f"By {HEADINGS[which]}{more}", (HEADINGS[which], *headings))
    for group in found[:ROWS]:
        shares = [_share(group[name]) for name in ("accuracy", "majority", "churn", "arbitrary")]
        sd = "-" if group["spread"] is None else f"{100 * group['spread']['sd']:.2f} points"
        table.add_row(Text(group["name"]), f"{group[f'{unit}s']:,}", *shares, sd)
    return table


def disputed_table(result: Mapping[str, Any]) -> Table:
    """The examples that divide the runs most."""
    from rich.text import Text

    if unit_of(result) == "position":
        table = plain_table("Most disputed examples", ("id", "positions", "two runs agree on"))
        for one in result["disputed"][:ROWS]:
            table.add_row(str(one["id"]), f"{one['positions']:,}", _share(one["self_consistency"]))
        return table
    table = plain_table("Most disputed examples", ("id", "label", "votes", "two runs agree"))
    for one in result["disputed"][:ROWS]:
        said = ", ".join(f"{class_name(result, label)} ({count})" for label, count in one["votes"])
        table.add_row(
            str(one["id"]), Text(class_name(result, one["label"])), Text(said), f"{one['self_consistency']:.2f}"
        )
    return table


def plain_table(title: str, headings: tuple[str, ...], words: tuple[str, ...] = ("label", "votes")) -> Table:
    """A table without rows: the first column and `words` flush left, figures flush right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=Text(title), title_justify="left", pad_edge=False)
    for place, heading in enumerate(headings):
        left = place == 0 or heading in words
        table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=not left)
    return table


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def print_outcomes(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables, what was found, and what to read it with."""
    from rich.text import Text

    console.print(runs_table(result))
    for which in HEADINGS:
        if result[which]:
            console.print(groups_table(result, which))
    if result["disputed"]:
        console.print(disputed_table(result))
    for statement in result["statements"]:
        console.print(Text(f"- {statement}"))
    for one in result["left_out"]:
        console.print(Text(f"no vote: run {one['run']}, seed {one['seed']}: {one['why']}", style="dim"))
    for note in result["notes"]:
        console.print(Text(note, style="dim"))
