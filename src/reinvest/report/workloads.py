"""The page of several workloads, one HTML file that needs nothing else, and their table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from .html import environment, pictures_of, script_json, write_page
from .numbers import Figures, pointer, ratio
from .palette import DARK, LIGHT, SIGNS, SYMBOLS, Theme
from .speedups import Style, draw_interval, draw_refused, ratio_axis, ratio_range
from .style import axis, label, layout
from .text import STYLES

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from rich.console import Console

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def write_workloads(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of several workloads (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_workloads(result), path)


def render_workloads(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of several workloads."""
    if result.get("kind") != "workloads" or not result.get("workloads"):
        raise InvalidValue(
            f"the page of workloads is drawn from their result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest workloads --out wrote"
        )
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    pictures = pictures_of(result, {"profile": profile_figure, "forest": forest_figure})
    return (
        environment()
        .get_template("workloads.html.j2")
        .render(
            result=result,
            fig=Figures(result, {}),
            arms=list(result["profiles"]),
            places=_places(result),
            signs=SIGNS,
            symbols=SYMBOLS,
            units={},
            light=LIGHT,
            dark=DARK,
            heights={name: picture["layout"]["height"] for name, picture in pictures.items()},
            pictures=Markup(script_json(pictures)),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def _places(result: Mapping[str, Any]) -> dict[str, int]:
    return {arm: place for place, arm in enumerate(result["profiles"], start=1)}


def profile_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Share of workloads in which an arm needs at most a given share of the baseline's time; the baseline jumps at 1."""
    import plotly.graph_objects as go

    figure = go.Figure()
    steps = {arm: result["profiles"][arm] for arm in result["profiles"]}
    rows = [{"speedup": r, "low": None, "high": None} for each in steps.values() for r, _ in each]
    edges = ratio_range(rows)
    left, right = 10 ** edges[0], 10 ** edges[1]
    figure.add_scatter(
        x=[left, 1.0, 1.0, right],
        y=[0.0, 0.0, 1.0, 1.0],
        mode="lines",
        line={"color": theme.baseline, "width": 1.6},
        name=label(result["baseline"]),
        hoverinfo="skip",
        meta={"kind": "baseline", "path": "/baseline"},
    )
    for place, (arm, each) in enumerate(steps.items(), start=1):
        x, y, before = [left], [0.0], 0.0
        for value, share in each:
            x += [value, value]
            y += [before, share]
            before = share
        figure.add_scatter(
            x=[*x, right],
            y=[*y, before],
            mode="lines",
            line={"color": theme.colour(place), "width": 2.4, "dash": DASHES[(place - 1) % len(DASHES)]},
            name=label(arm),
            hovertemplate=f"<b>{label(arm)}</b><br>%{{y:.0%}} within %{{x:.3g}} of the time<extra></extra>",
            meta={"kind": "profile", "path": pointer("profiles", arm)},
        )
    figure.update_layout(**layout(theme), height=380, hovermode="closest")
    ratio_axis(figure, theme, edges, "← saves time  ·  time at equal quality, baseline = 1  ·  costs time →")
    figure.update_yaxes(
        **axis(theme), range=[-0.03, 1.05], tickformat=".0%", title={"text": "share of workloads", "standoff": 8}
    )
    return figure


def forest_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Speed-up of every arm on every workload with its interval, and the mean over workloads where there is one."""
    import plotly.graph_objects as go

    figure, rows = go.Figure(), _forest_rows(result)
    edges = ratio_range([None if refused else row for _, _, _, row, refused in rows])
    heights: list[float] = []
    before = ""
    for text, arm, path, row, refused in rows:
        last = heights[-1] if heights else 0.0
        heights.append(last - (0.0 if not heights else 1.0 if text == before else 1.5))
        before = text
        if refused:
            draw_refused(figure, heights[-1], theme)
        else:
            style = Style(theme, _places(result)[arm], not path.startswith("/means"))
            draw_interval(figure, row, heights[-1], edges, f"{label(arm)}, {label(text)}", path, style)
    figure.update_layout(
        **layout(theme), height=100 + round(24 * (1 - heights[-1])), showlegend=False, hovermode="closest"
    )
    ratio_axis(figure, theme, edges, "← slower  ·  speed-up at equal quality  ·  faster →", unit="×")
    several = len(result["profiles"]) > 1
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=heights,
        ticktext=[f"{label(t, 20)}{f' · {label(a, 14)}' if several else ''}" for t, a, *_ in rows],
        range=[heights[-1] - 0.8, 0.8],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(meta={"narrow": [label(t, 8) + (f" · {label(a, 5)}" if several else "") for t, a, *_ in rows]})
    return figure


def _forest_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str, Mapping[str, Any], bool]]:
    """(row label, arm, JSON pointer, figures, refused), workload by workload, the means last."""
    rows = []
    for place, workload in enumerate(result["workloads"]):
        for arm, entry in workload["arms"].items():
            path = pointer("workloads", place, "arms", arm)
            rows.append((workload["name"], arm, path, entry, entry["verdict"] == "not comparable"))
    means = [("mean", arm, pointer("means", arm), m, False) for arm, m in result["means"].items() if m["speedup"]]
    return [*rows, *means]


# ---- the terminal --------------------------------------------------------------------------------------------------


def print_workloads(result: Mapping[str, Any], console: Console) -> None:
    """Print a row a workload and arm, then for each arm its counts, its shares and its mean or why there is none."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=Text(result["title"]), title_justify="left", pad_edge=False)
    for heading in ("workload", "arm", "verdict", "speed-up", "interval"):
        table.add_column(heading, justify="right" if heading in ("speed-up", "interval") else "left", overflow="fold")
    for workload in result["workloads"]:
        for arm, entry in workload["arms"].items():
            table.add_row(
                Text(workload["name"]),
                Text(arm),
                Text(entry["verdict"], style=STYLES.get(entry["verdict"], "")),
                "" if entry["speedup"] is None else ratio(entry["speedup"]),
                _interval(entry),
            )
    console.print(table)
    for arm in result["profiles"]:
        console.print(Text(f"{arm}: {summary(result, arm)}"))


def summary(result: Mapping[str, Any], arm: str) -> str:
    """One arm over all workloads in a sentence."""
    count = len(result["workloads"])
    words = ", ".join(f"{number} {word}" for word, number in result["counts"][arm].items())
    within = max((share for r, share in result["profiles"][arm] if r <= 1.0), default=0.0)
    text = f"{words}; no more time than the baseline in {round(within * count)} of {count} by the estimates"
    mean = result["means"][arm]
    if mean["speedup"] is None:
        return f"{text}; {mean['reason']}"
    return (
        f"{text}; mean speed-up {ratio(mean['speedup'])} (95 % interval {ratio(mean['low'])} to {ratio(mean['high'])})"
    )


def _interval(entry: Mapping[str, Any]) -> str:
    low, high = entry["low"], entry["high"]
    if low is None and high is None:
        return "" if entry["verdict"] == "not comparable" else "open"
    if high is None:
        return f"at least {ratio(low)}"
    return f"at most {ratio(high)}" if low is None else f"{ratio(low)} to {ratio(high)}"
