"""The pictures of a search for spikes: loss and gradient norm over the steps, and the layers around a spike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .numbers import pointer, significant
from .palette import LIGHT, Theme, rgba
from .style import axis, finite, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROWS = 40
"""Layers in a heat map at most: those that rose first."""
LEAST_ROWS = 4
"""Rows that its height has at least, so that the scale beside it can be read."""
DRAWN = 6
"""Spikes with a heat map at most: the highest."""
LOGARITHMIC = 20.0
"""Ratio of highest to lowest value from which an axis is logarithmic."""
FEW_DECADES = 1e3
"""Ratio up to which the marks of such an axis are at 1, 2, 5, 10 and so on."""


def signals_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Each signal over the steps (or epochs) in a panel of its own, spikes as bands with a mark at the peak."""
    from plotly.subplots import make_subplots

    signals = {name: s for name, s in result["series"].items() if finite(s["values"])}
    figure = make_subplots(rows=max(1, len(signals)), cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for row, (name, series) in enumerate(signals.items(), start=1):
        figure.add_scatter(
            x=series["steps"],
            y=series["values"],
            mode="lines",
            line={"color": theme.colour(row - 1), "width": 1.4},
            name=name,
            showlegend=False,
            hovertemplate=f"{result['source'][:-1]} %{{x}}<br>{name} %{{y:.4g}}<extra></extra>",
            meta={"kind": "signal", "path": pointer("series", name, "values")},
            row=row,
            col=1,
        )
        values = finite(series["values"])
        wide = min(values) > 0 and max(values) > LOGARITHMIC * min(values)
        # Of a decade or two plotly names all digits, one over the other.
        ticks = {"dtick": "D2"} if wide and max(values) < FEW_DECADES * min(values) else {}
        kind = "log" if wide else "linear"
        figure.update_yaxes(**axis(theme), **ticks, type=kind, tickformat="~g", title={"text": name}, row=row, col=1)
    if result.get("unjudged"):
        figure.add_vrect(
            x0=-0.5,
            x1=result["unjudged"] - 0.5,
            fillcolor=rgba(theme.quiet, 0.14),
            line={"width": 0},
            layer="below",
            name=pointer("unjudged"),
            row="all",
            col=1,
        )
    for k, spike in enumerate(result["spikes"]):
        _mark(figure, signals, k, spike, theme)
    figure.update_layout(**layout(theme), height=90 + 210 * max(1, len(signals)), hovermode="closest")
    figure.update_xaxes(**axis(theme))
    figure.update_xaxes(title={"text": result["source"][:-1], "standoff": 8}, row=max(1, len(signals)), col=1)
    return figure


def _mark(figure: go.Figure, signals: Mapping[str, Any], k: int, spike: Mapping[str, Any], theme: Theme) -> None:
    colour = theme.arms[1]
    for row, name in enumerate(signals, start=1):
        figure.add_vrect(
            x0=spike["start"] - 0.5,
            x1=spike["end"] + 0.5,
            fillcolor=rgba(colour, 0.16),
            line={"color": rgba(colour, 0.7), "width": 1},
            name=pointer("spikes", k),
            row=row,
            col=1,
        )
        value = spike["loss" if name == "loss" else "gradient_norm"]
        if name in spike["signals"] and value is not None:
            at = spike["peak" if name == "loss" else "gradient_peak"]
            figure.add_scatter(
                x=[at],
                y=[value],
                mode="markers",
                marker={"symbol": "diamond", "size": 9, "color": colour},
                showlegend=False,
                name=f"spike {k + 1}",
                hovertemplate=f"spike {k + 1}: {name} {significant(value)}<extra></extra>",
                meta={"kind": "spike", "path": pointer("spikes", k)},
                row=row,
                col=1,
            )


def drawn_spikes(result: Mapping[str, Any]) -> list[int]:
    """Places of the spikes that have a heat map: the highest of those whose layers are known, in order of time."""
    known = [k for k, s in enumerate(result["spikes"]) if any(finite(row) for row in s["heat"]["z"])]
    known.sort(key=lambda k: -(float("inf") if result["spikes"][k]["z"] is None else result["spikes"][k]["z"]))
    return sorted(known[:DRAWN])


def heat_figure(result: Mapping[str, Any], place: int, theme: Theme = LIGHT) -> go.Figure:
    """Robust z of each layer's gradient norm in the steps around spike number `place`."""
    import plotly.graph_objects as go

    heat = result["spikes"][place]["heat"]
    layers, z = heat["layers"][:ROWS], heat["z"][:ROWS]
    top = 3.0 * result["threshold"]
    figure = go.Figure()
    figure.add_heatmap(
        x=heat["steps"],
        y=list(range(len(layers))),
        # What is not finite is beyond any scale.
        z=[[top if v is None else min(max(v, 0.0), top) for v in row] for row in z],
        customdata=[["not finite" if v is None else f"{v:.3g}" for v in row] for row in z],
        zmin=0.0,
        zmax=top,
        colorscale=[[0.0, rgba(theme.quiet, 0.05)], [1 / 3, rgba(theme.arms[1], 0.35)], [1.0, theme.arms[1]]],
        colorbar={
            "thickness": 10,
            "tickfont": {"color": theme.quiet},
            "outlinewidth": 0,
            "title": {"text": "z"},
            "tickvals": [0.0, result["threshold"], top],
        },
        hovertemplate="step %{x}<br>robust z %{customdata}<extra></extra>",
        meta={"kind": "heat", "path": pointer("spikes", place, "heat", "z")},
    )
    figure.update_layout(**layout(theme), height=110 + 20 * max(LEAST_ROWS, len(layers)), showlegend=False)
    figure.update_xaxes(**axis(theme), title={"text": "step", "standoff": 6}, showgrid=False)
    ticks = {"tickmode": "array", "tickvals": list(range(len(layers))), "fixedrange": True, "showgrid": False}
    figure.update_yaxes(**axis(theme), **ticks, ticktext=[label(n, 24) for n in layers], autorange="reversed")
    figure.update_layout(meta={"narrow": [label(n, 11) for n in layers]})
    return figure
