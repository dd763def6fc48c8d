"""The pictures of a variance: runs against what luck alone would give, agreement of examples, and sources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..evaluation.settings import is_accuracy
from ..studies.variance_text import ABOUT
from .palette import LIGHT, Theme, rgba
from .style import axis, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

POINTS = 121
"""Of each bell curve."""
STACKED = 24
"""Columns in which dots of about the same value are stacked."""


def spread_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Every run as a dot, under the bell curves of the spreads that are observed, predicted, and those of the test set."""
    import plotly.graph_objects as go

    figure, summary, test = go.Figure(), result["summary"], result["test"]
    values = [run["value"] for run in result["runs"]]
    share = is_accuracy(result["task"]["metric"])
    curves = [("observed", summary["sd"], theme.arms[1], "solid", "/summary/sd")]
    if test is not None:
        curves += [
            ("luck with these examples (predicted)", test["predicted_sd"], theme.arms[0], "dash", "/test/predicted_sd"),
            ("any one accuracy (binomial)", test["floor"], theme.quiet, "dot", "/test/floor"),
        ]
    widest = max([sd for _, sd, *_ in curves] + [0.0])
    reach = max(3.2 * widest, 1.15 * max(abs(v - summary["mean"]) for v in values)) or 1e-3
    top = max([_density(0.0, sd) for _, sd, *_ in curves if sd > 0] or [1.0])
    for name, sd, colour, dash, path in curves:
        if sd > 0:
            at = [reach * (2 * k / (POINTS - 1) - 1) for k in range(POINTS)]
            figure.add_scatter(
                x=[summary["mean"] + d for d in at],
                y=[_density(d, sd) / top for d in at],
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash},
                hoverinfo="skip",
                name=name,
                meta={"kind": "curve", "path": path},
            )
    heights = _stacks(values, reach)
    figure.add_scatter(
        x=values,
        y=[-0.07 - 0.075 * height for height in heights],
        mode="markers",
        marker={"size": 9 if len(values) <= 60 else 6, "color": rgba(theme.arms[1], 0.75)},
        customdata=[[run["seed"], run["run"]] for run in result["runs"]],
        hovertemplate=f"<b>seed %{{customdata[0]}}</b><br>%{{x{':.2%' if share else ''}}}<br>run %{{customdata[1]}}<extra></extra>",
        showlegend=False,
        name="runs",
        meta={"kind": "runs", "path": "/runs"},
    )
    figure.add_vrect(
        x0=summary["low"],
        x1=summary["high"],
        fillcolor=rgba(theme.arms[1], 0.12),
        line={"width": 0},
        layer="below",
        name="/summary/low",
    )
    figure.update_layout(**layout(theme), height=380, hovermode="closest")
    figure.update_xaxes(
        **axis(theme),
        range=[summary["mean"] - reach, summary["mean"] + reach],
        tickformat=".1%" if share else "~g",
        title={"text": result["task"]["metric"], "standoff": 8},
    )
    figure.update_yaxes(
        **axis(theme), range=[-0.12 - 0.075 * (max(heights) + 1), 1.06], showticklabels=False, fixedrange=True
    )
    figure.update_yaxes(showgrid=False)
    return figure


def _density(distance: float, sd: float) -> float:
    return math.exp(-0.5 * (distance / sd) ** 2) / sd


def _stacks(values: Sequence[float], reach: float) -> list[int]:
    """How many dots lie above each in its column."""
    seen: dict[int, int] = {}
    heights = []
    for value in values:
        column = round(value / (2 * reach) * STACKED * 2)
        heights.append(seen.get(column, 0))
        seen[column] = heights[-1] + 1
    return heights


def agreement_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The share of examples on which two runs agree with at most a chance: what lies left of 1 depends on the seed."""
    import plotly.graph_objects as go

    agreement = result["agreement"]
    curve, below = agreement["curve"], agreement["below"]
    divided = [point for point in curve if point[0] < 1]
    top = 1.15 * max([share for _, share in divided] + [0.01])
    x, y = [0.0, *(level for level, _ in curve)], [0.0, *(share for _, share in curve)]
    figure = go.Figure()
    figure.add_scatter(
        x=x,
        y=[min(share, top) for share in y],
        mode="lines",
        line={"color": theme.arms[0], "width": 2.2, "shape": "hv"},
        fill="tozeroy",
        fillcolor=rgba(theme.arms[0], 0.1),
        customdata=[[share] for share in y],
        hovertemplate="two runs agree with a chance of at most %{x:.2f}<br>on %{customdata[0]:.2%} of the examples<extra></extra>",
        name="examples",
        meta={"kind": "agreement", "path": "/agreement/curve"},
    )
    figure.add_vline(x=below, line={"color": theme.arms[1], "width": 1.6, "dash": "dash"}, name="/agreement/below")
    figure.update_layout(**layout(theme), height=320, showlegend=False, hovermode="closest")
    figure.update_xaxes(
        **axis(theme),
        range=[-0.01, 1.01],
        tickformat=".1f",
        title={"text": "chance that two runs agree", "standoff": 8},
    )
    figure.update_yaxes(
        **axis(theme),
        range=[0, top],
        tickformat=".1%" if top < 0.1 else ".0%",
        title={"text": "share of examples", "standoff": 10},
    )
    return figure


def sources_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The standard deviation with each source alone free, nothing and everything, with 95 % intervals."""
    import plotly.graph_objects as go

    sources, share = result["sources"], is_accuracy(result["task"]["metric"])
    rows = [(f"/sources/parts/{k}", part) for k, part in enumerate(sources["parts"])]
    rows += [("/sources/none", sources["none"]), ("/sources/whole", sources["whole"])]
    scale, suffix = (100, " points") if share else (1, "")
    figure, places = go.Figure(), list(range(len(rows)))
    reach = scale * max(part["sd_high"] for _, part in rows) or 1.0
    colours = [theme.arms[0]] * len(sources["parts"]) + [theme.quiet, theme.arms[1]]
    for place, (path, part), colour in zip(places, rows, colours, strict=True):
        sd, low, high = (scale * part[name] for name in ("sd", "sd_low", "sd_high"))
        figure.add_scatter(
            x=[sd],
            y=[place],
            mode="markers",
            marker={"size": 10, "color": colour},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - sd],
                "arrayminus": [sd - low],
                "color": rgba(colour, 0.6),
                "thickness": 1.8,
                "width": 0,
            },
            customdata=[[f"{low:.3g} to {high:.3g}{suffix}"]],
            hovertemplate=f"<b>{label(ABOUT[part['source']], 40)}</b><br>%{{x:.3g}}{suffix}, 95 %: %{{customdata[0]}}<extra></extra>",
            name=ABOUT[part["source"]],
            meta={"kind": "source", "path": path},
        )
    figure.update_layout(**layout(theme), height=110 + 42 * len(rows), showlegend=False, hovermode="closest")
    figure.update_xaxes(
        **axis(theme),
        range=[-0.03 * reach, 1.05 * reach],
        title={"text": f"standard deviation of {result['task']['metric']}{', points' if share else ''}", "standoff": 8},
    )
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=places,
        ticktext=[label(ABOUT[part["source"]], 30) for _, part in rows],
        range=[len(rows) - 0.4, -0.6],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(meta={"narrow": [label(ABOUT[part["source"]], 12) for _, part in rows]})
    return figure


def against_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Every run of the two recipes as a dot, a row each, with the 95 % interval of the mean under them."""
    import plotly.graph_objects as go

    other, share = result["against"], is_accuracy(result["task"]["metric"])
    rows = (
        ("/runs", [run["value"] for run in result["runs"]], "/summary", result["summary"], theme.arms[1]),
        ("/against/values", other["values"], "/against/summary", other["summary"], theme.arms[0]),
    )
    figure, shown = go.Figure(), ":.2%" if share else ""
    for place, (path, values, mean_path, summary, colour) in enumerate(rows):
        figure.add_scatter(
            x=values,
            y=[place - 0.12] * len(values),
            mode="markers",
            marker={"size": 9, "color": rgba(colour, 0.6)},
            hovertemplate=f"%{{x{shown}}}<extra></extra>",
            meta={"kind": "runs", "path": path},
        )
        figure.add_scatter(
            x=[summary["low"], summary["mean"], summary["high"]],
            y=[place + 0.16] * 3,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": [0, 10, 0], "symbol": "line-ns-open", "color": colour, "line": {"width": 2}},
            hovertemplate=f"%{{x{shown}}}<extra>mean and its 95 % interval</extra>",
            meta={"kind": "mean", "path": mean_path},
        )
    figure.update_layout(**layout(theme), height=200, showlegend=False, hovermode="closest")
    figure.update_xaxes(
        **axis(theme), tickformat=".1%" if share else "~g", title={"text": result["task"]["metric"], "standoff": 8}
    )
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=[0, 1],
        ticktext=[label(name, 30) for name in other["names"]],
        range=[1.5, -0.5],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(meta={"narrow": [label(name, 12) for name in other["names"]]})
    return figure
