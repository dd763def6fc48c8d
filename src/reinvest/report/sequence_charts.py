"""The pictures of a sequence study: quality against cumulated cost, quality by position, time at equal quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..evaluation.settings import is_accuracy
from .charts import draw_band, time_axis
from .numbers import pointer, significant
from .palette import LIGHT, SYMBOLS, Theme, rgba
from .speedups import Style, draw_interval, ratio_axis, ratio_range
from .style import axis, finite, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go


def places_of(result: Mapping[str, Any]) -> dict[str, int]:
    """Place of each arm in colours and marks: the baseline 0, the others from 1 in their order."""
    others = [name for name in result["arms"] if name != result["baseline"]]
    return {result["baseline"]: 0, **{name: k for k, name in enumerate(others, start=1)}}


def _share(result: Mapping[str, Any]) -> bool:
    return is_accuracy(result["metric"]["name"])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def cost_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Mean quality of whole sequences against their cumulated seconds: one mark a sequence, lines through the means."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, place in places_of(result).items():
        points = [p for p in result["points"] if p["arm"] == name and p["quality"] is not None and p["seconds"]]
        colour, symbol = theme.colour(place), SYMBOLS[place % len(SYMBOLS)]
        cells = [[p for p in points if p["duration"] == d] for d in result["durations"]]
        cells = [c for c in cells if c]
        figure.add_scatter(
            x=[math.exp(_mean([math.log(p["seconds"]) for p in c])) for c in cells],
            y=[_mean([p["quality"] for p in c]) for c in cells],
            mode="lines",
            line={"color": colour, "width": 2.2},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
            name=label(name),
            meta={"kind": "curve", "path": "/points"},
        )
        figure.add_scatter(
            x=[p["seconds"] for p in points],
            y=[p["quality"] for p in points],
            mode="markers",
            marker={"symbol": symbol, "size": 7.5, "color": colour, "opacity": 0.62, "line": {"width": 0}},
            legendrank=place + 1,
            legendgroup=name,
            name=label(name),
            customdata=[
                [
                    label(name, 60),
                    label(str(p["duration"])),
                    p["sequence"],
                    f"{significant(p['seconds'], 4)} s",
                    f"{p['quality']:.6g}",
                ]
                for p in points
            ],
            hovertemplate="<b>%{customdata[0]}</b><br>runs of %{customdata[1]}, sequence %{customdata[2]}<br>"
            "%{customdata[3]} in all<br>mean quality %{customdata[4]}<extra></extra>",
            meta={"kind": "points", "path": "/points"},
        )
    seconds = finite([p["seconds"] for p in result["points"] if (p["seconds"] or 0) > 0])
    figure.update_layout(**layout(theme), height=520, hovermode="closest")
    figure.update_xaxes(
        **time_axis(seconds), **axis(theme), title={"text": "training time of a whole sequence", "standoff": 8}
    )
    figure.update_yaxes(tickformat=".0%" if _share(result) else "~g", **axis(theme))
    return figure


def position_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Quality at each position of the sequence with 95 % bands, one panel a duration, two in a row."""
    from plotly.subplots import make_subplots

    durations = result["durations"]
    rows = math.ceil(len(durations) / 2)
    columns = min(2, len(durations))
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[f"runs of {label(str(d))}" for d in durations],
        horizontal_spacing=0.1,
        vertical_spacing=0.22 / rows if rows > 1 else 0.2,
    )
    cells = {(c["arm"], c["duration"], c["position"]): (k, c) for k, c in enumerate(result["positions"])}
    for panel, duration in enumerate(durations):
        at = {"row": panel // columns + 1, "col": panel % columns + 1}
        for name, place in places_of(result).items():
            own = [cells[name, duration, p] for p in range(1, result["length"] + 1) if (name, duration, p) in cells]
            _line(figure, [c for c in own if c[1]["quality"] is not None], name, theme, place, first=panel == 0, at=at)
    figure.update_layout(**layout(theme), height=120 + 250 * rows, hovermode="closest")
    figure.update_annotations(font={"size": 12, "color": theme.quiet})
    figure.update_xaxes(**axis(theme), dtick=1, title={"text": "run of the sequence", "standoff": 4})
    figure.update_yaxes(tickformat=".0%" if _share(result) else "~g", **axis(theme))
    figure.update_layout(legend={"y": 1.0 + 40 / (250 * rows)}, margin={"t": 30})
    return figure


def _line(
    figure: go.Figure,
    cells: Sequence[tuple[int, Mapping[str, Any]]],
    name: str,
    theme: Theme,
    place: int,
    *,
    first: bool,
    at: Mapping[str, int],
) -> None:
    colour = theme.colour(place)
    x = [c["position"] for _, c in cells]
    known = [c for _, c in cells if c["quality_low"] is not None and c["quality_high"] is not None]
    if known:
        rows = [(c["position"], c["quality_low"], c["quality_high"]) for c in known]
        draw_band(figure, rows, name, rgba(colour, 0.12), path="/positions", **at)
    figure.add_scatter(
        x=x,
        y=[c["quality"] for _, c in cells],
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 7, "color": colour},
        legendgroup=name,
        legendrank=place + 1,
        showlegend=first,
        name=label(name),
        customdata=[[label(name, 60), f"{c['quality']:.6g}"] for _, c in cells],
        hovertemplate="<b>%{customdata[0]}</b><br>run %{x}<br>mean quality %{customdata[1]}<extra></extra>",
        meta={"kind": "positions", "path": [pointer("positions", k) for k, _ in cells]},
        **at,
    )


def time_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Bars of total time at equal quality relative to scratch, with intervals, on a logarithmic axis around 1."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = [n for n in result["arms"] if n != result["baseline"]]
    rows = {n: _row(result["arms"][n]) for n in names}
    edges = ratio_range(list(rows.values()))
    places = places_of(result)
    for k, name in enumerate(names):
        row, place = rows[name], places[name]
        if row is None:
            figure.add_annotation(
                x=0, xref="x", y=-k, text="no estimate", showarrow=False, xanchor="left", xshift=8,
                font={"color": theme.quiet, "size": 12},
            )  # fmt: skip
            continue
        if row["speedup"] is not None:
            figure.add_scatter(
                x=[1.0, row["speedup"]],
                y=[-k, -k],
                mode="lines",
                line={"color": rgba(theme.colour(place), 0.22), "width": 24},
                hoverinfo="skip",
                name=label(name),
                meta={"kind": "bar", "path": pointer("arms", name, "relative_time")},
            )
        style = Style(theme, place, True)
        draw_interval(figure, row, -k, edges, label(name), pointer("arms", name), style)
    figure.update_layout(**layout(theme), height=100 + 46 * max(1, len(names)), showlegend=False, hovermode="closest")
    ratio_axis(figure, theme, edges, "← less time  ·  total time at equal quality, scratch = 1  ·  more time →")
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=[-k for k in range(len(names))],
        ticktext=[f"<b>{label(n, 22)}</b>" for n in names],
        range=[-len(names) + 0.4, 0.6],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(meta={"narrow": [f"<b>{label(n, 11)}</b>" for n in names]})
    return figure


def _row(arm: Mapping[str, Any]) -> dict[str, Any] | None:
    if arm["judged"] is None or arm["verdict"] == "not comparable":
        return None
    low, high = arm["relative_time_interval"]
    return {"speedup": arm["relative_time"], "low": low, "high": high}
