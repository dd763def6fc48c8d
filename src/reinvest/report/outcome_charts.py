"""The pictures of outcomes: accuracies with what luck alone would give, agreement of examples, of runs, and by class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .numbers import pointer
from .palette import LIGHT, Theme, rgba
from .style import axis, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

WRITTEN = 12
"""Runs up to which every cell of the churn picture has its number in it."""
TICKS = 12
BARS = 40
"""Classes or subgroups that are drawn at most: those that divide the runs most."""
Z95 = 1.96


def run_names(result: Mapping[str, Any]) -> list[str]:
    """What pictures call the runs: their seeds, or beginnings of their ids where seeds are shared or not known."""
    seeds = [run["seed"] for run in result["runs"]]
    if None in seeds or len(set(seeds)) < len(seeds):
        return [run["run"][:8] for run in result["runs"]]
    return [f"seed {seed}" for seed in seeds]


def accuracy_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The accuracy of each run with its interval, over the band in which independent errors alone would spread them."""
    import plotly.graph_objects as go

    figure, runs, names = go.Figure(), result["runs"], run_names(result)
    whole = result["whole"]
    middle, places = whole["accuracy"], list(range(len(runs)))
    for name, sd, alpha in (("floor", "floor", 0.07), ("band", "sampling_sd", 0.2)):
        reach = Z95 * whole["spread"][sd]
        figure.add_vrect(
            x0=middle - reach,
            x1=middle + reach,
            fillcolor=rgba(theme.arms[0], alpha),
            line={"width": 0},
            layer="below",
            name=name,
        )
    figure.add_vline(x=middle, line={"color": theme.quiet, "width": 1.2, "dash": "dot"})
    figure.add_scatter(
        x=[run["accuracy"] for run in runs],
        y=places,
        mode="markers",
        marker={"size": 9 if len(runs) <= 30 else 6, "color": theme.arms[1]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [run["high"] - run["accuracy"] for run in runs],
            "arrayminus": [run["accuracy"] - run["low"] for run in runs],
            "color": rgba(theme.arms[1], 0.55),
            "thickness": 1.6,
            "width": 0,
        },
        customdata=[
            [label(n), f"{100 * r['low']:.2f} to {100 * r['high']:.2f} %"] for n, r in zip(names, runs, strict=True)
        ],
        hovertemplate="<b>%{customdata[0]}</b><br>%{x:.2%}, 95 %: %{customdata[1]}<extra></extra>",
        name="accuracy",
        meta={"kind": "accuracy", "path": "/runs"},
    )
    every = math.ceil(len(runs) / 40)
    figure.update_layout(**layout(theme), height=100 + min(30 * len(runs), 720), showlegend=False, hovermode="closest")
    figure.update_xaxes(**axis(theme), tickformat=".1%", title={"text": "accuracy", "standoff": 8})
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=places[::every],
        ticktext=[label(n) for n in names[::every]],
        range=[len(runs) - 0.4, -0.6],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    return figure


def consistency_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """How many examples have which self-consistency; a bar that would dwarf the others is cut, and says its height."""
    import plotly.graph_objects as go

    positions = result.get("positions")
    counts, below, size = result["histogram"], result["below"], positions or result["examples"]
    unit = "examples" if positions is None else "positions"
    bins = len(counts)
    heights = [count / size for count in counts]
    others = max(heights[:-1])
    top = 1.3 * others if 0 < 1.3 * others < heights[-1] else 1.08 * max(heights)
    arbitrary = [(k + 1) / bins <= below + 1e-9 for k in range(bins)]
    figure = go.Figure()
    figure.add_bar(
        x=[(k + 0.5) / bins for k in range(bins)],
        y=heights,
        width=0.88 / bins,
        marker={
            "color": [rgba(theme.arms[1] if low else theme.arms[0], 0.8) for low in arbitrary],
            "line": {"width": 0},
        },
        customdata=[[f"{k / bins:.2f} to {(k + 1) / bins:.2f}", f"{count:,}"] for k, count in enumerate(counts)],
        hovertemplate="self-consistency %{customdata[0]}<br>%{customdata[1]} " + unit + ", %{y:.2%}<extra></extra>",
        name=unit,
        meta={"kind": "histogram", "path": "/histogram"},
    )
    figure.add_vline(x=below, line={"color": theme.arms[1], "width": 1.6, "dash": "dash"}, name="threshold")
    if heights[-1] > top:
        figure.add_annotation(
            x=1 - 0.5 / bins,
            y=top,
            yanchor="top",
            xanchor="right",
            xshift=-20,
            text=f"{100 * heights[-1]:.1f} % ↑",
            showarrow=False,
            font={"color": theme.text, "size": 12},
            name="/histogram/19",
        )
    figure.update_layout(**layout(theme), height=330, showlegend=False, bargap=0)
    figure.update_xaxes(
        **axis(theme),
        range=[-0.01, 1.01],
        tickformat=".1f",
        title={"text": "chance that two runs agree", "standoff": 8},
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(
        **axis(theme),
        range=[0, top],
        tickformat=".1%" if top < 0.1 else ".0%",
        title={"text": f"share of {unit}", "standoff": 10},
    )
    return figure


def churn_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The share of examples on which each two runs differ, from none to the largest that there is."""
    import plotly.graph_objects as go

    names, churn = run_names(result), result["churn"]
    places = list(range(len(names)))
    figure = go.Figure()
    figure.add_heatmap(
        z=[[None if i == j else value for j, value in enumerate(row)] for i, row in enumerate(churn)],
        x=places,
        y=places,
        zmin=0.0,
        zmax=max(max(row) for row in churn) or 1.0,
        colorscale=[[0.0, rgba(theme.arms[0], 0.03)], [1.0, rgba(theme.arms[0], 0.62)]],
        customdata=[[f"{label(a)} and {label(b)}" for b in names] for a in names],
        hovertemplate="%{customdata}<br>differ on %{z:.2%}<extra></extra>",
        colorbar={
            "thickness": 10,
            "tickfont": {"color": theme.quiet},
            "outlinewidth": 0,
            "tickformat": ".1%",
            "nticks": 5,
        },
        xgap=2,
        ygap=2,
        meta={"kind": "churn", "path": "/churn"},
    )
    if len(names) <= WRITTEN:
        for i in places:
            for j in (j for j in places if i != j):
                figure.add_annotation(
                    x=j,
                    y=i,
                    text=f"{100 * churn[i][j]:.1f}",
                    showarrow=False,
                    font={"color": theme.text, "size": 12},
                    name=pointer("churn", i, j),
                )
    every = math.ceil(len(names) / TICKS)
    ticks = {"tickmode": "array", "tickvals": places[::every], "fixedrange": True, "showgrid": False}
    texts = [label(name, 12) for name in names[::every]]
    figure.update_layout(**layout(theme), height=100 + min(40 * len(names), 560))
    figure.update_xaxes(**axis(theme), **ticks, ticktext=texts)
    figure.update_yaxes(**axis(theme), **ticks, ticktext=texts, autorange="reversed")
    figure.update_layout(meta={"narrow": [text.removeprefix("seed ") for text in texts]})
    return figure


def groups_figure(result: Mapping[str, Any], which: str, theme: Theme = LIGHT) -> go.Figure:
    """Churn of each class ("by_class") or subgroup ("by_group") as bars, and the share of arbitrary decisions as marks."""
    import plotly.graph_objects as go

    order = sorted(range(len(result[which])), key=lambda k: -result[which][k]["churn"])[:BARS]
    groups = [result[which][k] for k in order]
    places = list(range(len(groups)))
    unit = "examples" if result.get("positions") is None else "positions"
    told = [[label(g["name"], 40), f"{g[unit]:,}", f"{100 * g['accuracy']:.2f} %"] for g in groups]
    hover = "<b>%{customdata[0]}</b>, %{customdata[1]} " + unit + ", accuracy %{customdata[2]}<br>"
    figure = go.Figure()
    figure.add_bar(
        x=[group["churn"] for group in groups],
        y=places,
        orientation="h",
        width=0.66,
        marker={"color": rgba(theme.arms[0], 0.6), "line": {"width": 0}},
        customdata=told,
        hovertemplate=hover + "two runs differ on %{x:.2%}<extra></extra>",
        name="two runs differ (churn)",
        meta={"kind": "churn", "path": pointer(which)},
    )
    figure.add_scatter(
        x=[group["arbitrary"] for group in groups],
        y=places,
        mode="markers",
        marker={"symbol": "diamond", "size": 8, "color": theme.arms[1]},
        customdata=told,
        hovertemplate=hover + "arbitrary %{x:.2%}<extra></extra>",
        name="arbitrary decisions",
        meta={"kind": "arbitrary", "path": pointer(which)},
    )
    figure.add_vline(x=result["whole"]["churn"], line={"color": theme.quiet, "width": 1.2, "dash": "dot"}, name="whole")
    figure.update_layout(**layout(theme), height=120 + 24 * len(groups), hovermode="closest", bargap=0)
    figure.update_xaxes(
        **axis(theme), tickformat=".0%", rangemode="tozero", title={"text": f"share of the {unit}", "standoff": 8}
    )
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=places,
        ticktext=[label(group["name"], 22) for group in groups],
        range=[len(groups) - 0.4, -0.6],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(meta={"narrow": [label(group["name"], 11) for group in groups]})
    return figure
