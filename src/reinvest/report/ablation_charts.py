"""The pictures of an ablation: what each method does to the time at equal quality, and which pairs interact."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .numbers import MINUS, pointer
from .palette import LIGHT, Theme, rgba
from .speedups import Style, draw_interval, draw_refused, ratio_axis, ratio_range
from .style import axis, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

LEAST = math.log(1.25)
"""Full colour is for an interaction of a quarter of the time at least, so that noise stays pale."""

SAYS = {"on top": "on top of the others", "alone": "alone"}


def single_rows(result: Mapping[str, Any]) -> list[tuple[int, str, str, dict[str, Any]]]:
    """(place of the method, method, question, effect with its place in the result), method by method."""
    numbered = [{**e, "at": k} for k, e in enumerate(result["effects"]) if e["question"] in SAYS]
    rows = []
    for place, method in enumerate(result["methods"], start=1):
        for question in SAYS:
            rows += [
                (place, method["name"], question, e)
                for e in numbered
                if e["question"] == question and e["methods"] == [method["name"]]
            ]
    return rows


def effect_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Ratios of times with intervals, for each method on top of the others (thick) and alone (thin)."""
    import plotly.graph_objects as go

    figure = go.Figure()
    rows = single_rows(result)
    drawn = [{"speedup": e["time"], "low": e["low"], "high": e["high"]} for *_, e in rows]
    edges = ratio_range([None if e["reason"] else row for row, (*_, e) in zip(drawn, rows, strict=True)])
    heights: list[float] = []
    before = ""
    for (place, method, question, effect), row in zip(rows, drawn, strict=True):
        last = heights[-1] if heights else 0.0
        heights.append(last - (0.0 if not heights else 0.9 if method == before else 1.5))
        before = method
        if effect["reason"]:
            draw_refused(figure, heights[-1], theme)
        else:
            style = Style(theme, place, question == "alone")
            path = pointer("effects", effect["at"], "time")
            draw_interval(figure, row, heights[-1], edges, f"{label(method)} {SAYS[question]}", path, style)
    figure.update_layout(
        **layout(theme),
        height=110 + round(28 * (1 - (heights[-1] if heights else 0.0))),
        showlegend=False,
        hovermode="closest",
    )
    ratio_axis(figure, theme, edges, "← saves time  ·  time at equal quality, without the method = 1  ·  costs time →")
    texts = [f"<b>{label(m, 22)}</b> {SAYS[q]}" if q == "on top" else SAYS[q] for _, m, q, _ in rows]
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=heights,
        ticktext=texts,
        range=[(heights[-1] if heights else 0.0) - 0.8, 0.8],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    narrow = [f"<b>{label(m, 11)}</b>" if q == "on top" else "alone" for _, m, q, _ in rows]
    figure.update_layout(meta={"narrow": narrow})
    return figure


def matrix_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The interaction of every pair: change of the time at equal quality beyond what each does alone."""
    import plotly.graph_objects as go

    names = [m["name"] for m in result["methods"]]
    pairs = {tuple(e["methods"]): (k, e) for k, e in enumerate(result["effects"]) if e["question"] == "together"}
    values: list[list[float | None]] = [[None] * len(names) for _ in names]
    figure = go.Figure()
    for (a, b), (_, effect) in pairs.items():
        for i, j in ((names.index(a), names.index(b)), (names.index(b), names.index(a))):
            values[i][j] = None if effect["time"] is None else math.log(effect["time"])
    reach = max([abs(v) for row in values for v in row if v is not None] + [LEAST])
    figure.add_heatmap(
        z=values,
        x=list(range(len(names))),
        y=list(range(len(names))),
        zmin=-reach,
        zmax=reach,
        colorscale=_scale(theme),
        showscale=False,
        hoverinfo="skip",
        xgap=3,
        ygap=3,
        meta={"kind": "matrix", "path": "/effects"},
    )
    for (a, b), (k, effect) in pairs.items():
        for i, j in ((names.index(a), names.index(b)), (names.index(b), names.index(a))):
            figure.add_annotation(
                x=j,
                y=i,
                text=_cell(effect),
                showarrow=False,
                font={"color": theme.text, "size": 12},
                name=pointer("effects", k, "time"),
            )
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "fixedrange": True, "showgrid": False}
    size = 60 + 52 * len(names)
    figure.update_layout(**layout(theme), height=size + 40, showlegend=False)
    figure.update_xaxes(**axis(theme), **ticks, ticktext=[label(n, 14) for n in names], side="bottom")
    figure.update_yaxes(**axis(theme), **ticks, ticktext=[label(n, 14) for n in names], autorange="reversed")
    figure.update_layout(meta={"narrow": [label(n, 9) for n in names]})
    return figure


def _scale(theme: Theme) -> list[list[Any]]:
    """From "help each other" through nothing to "in each other's way"; a theme's first two colours, never alone: the
    cells have signs and numbers."""
    return [[0.0, rgba(theme.arms[0], 0.55)], [0.5, rgba(theme.quiet, 0.06)], [1.0, rgba(theme.arms[1], 0.55)]]


def _cell(effect: Mapping[str, Any]) -> str:
    if effect["time"] is None:
        return "–"
    text = f"{100 * (effect['time'] - 1):+.0f} %".replace("-", MINUS)
    return f"<b>{text}</b> *" if effect["shown"] else text
