"""The pictures of a plan: the smallest effect that a number of seeds shows, and the noise of seeds in units of time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..evaluation.plan_text import currency_of, hours_text, money_text
from .numbers import FLAT, pointer, ratio
from .palette import LIGHT, Theme, rgba
from .style import axis, finite, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

TICKS = 6
"""Numbers of seeds that are written at the axis, with their hours above."""
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def effects_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The smallest speed-up that is found four times in five against the seeds, with what they cost along the top."""
    import plotly.graph_objects as go

    figure = go.Figure()
    rows = [row for row in result["by_seeds"] if row["smallest_effect"] is not None]
    seeds = [row["seeds"] for row in rows]
    top = _top(rows)
    figure.add_scatter(
        x=seeds + seeds[::-1],
        y=[top if row["high"] is None else row["high"] for row in rows] + [row["low"] for row in reversed(rows)],
        fill="toself",
        fillcolor=rgba(theme.arms[0], 0.14),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name="as far as the noise is known",
        meta={"kind": "band", "path": "/by_seeds"},
    )
    figure.add_scatter(
        x=seeds,
        y=[row["smallest_effect"] for row in rows],
        mode="lines+markers",
        line={"color": theme.arms[0], "width": 2.2},
        marker={"size": 6, "color": theme.arms[0]},
        customdata=[[_cost(row, currency_of(result))] for row in rows],
        hovertemplate="%{x} seeds find %{y:.3f}<br>%{customdata[0]}<extra></extra>",
        name="smallest speed-up found four times in five",
        meta={"kind": "effects", "path": "/by_seeds"},
    )
    # A second axis is drawn only for a trace of its own.
    figure.add_scatter(x=seeds, y=[None] * len(seeds), xaxis="x2", hoverinfo="skip", showlegend=False, mode="markers")
    _planned(figure, result, theme)
    ticks = _ticks(seeds)
    at = {row["seeds"]: row for row in rows}
    figure.update_layout(**layout(theme), height=430, hovermode="closest")
    figure.update_layout(margin={"t": 96, "r": 28}, legend={"y": 1.2})
    shown = {"tickmode": "array", "tickvals": ticks, "range": [seeds[0] - 0.5, seeds[-1] + 0.5] if seeds else None}
    figure.update_xaxes(**axis(theme), **shown, title={"text": "seeds of every arm and duration", "standoff": 8})
    figure.update_layout(
        xaxis2={
            **axis(theme),
            **shown,
            "ticktext": [_price(at[n], currency_of(result)) for n in ticks],
            "overlaying": "x",
            "matches": "x",
            "side": "top",
            "showgrid": False,
            "title": {"text": "training still to pay", "standoff": 6},
        }
    )
    figure.update_yaxes(**axis(theme), range=[1.0, top], title={"text": "speed-up", "standoff": 8})
    return figure


def _top(rows: Sequence[Mapping[str, Any]]) -> float:
    """Upper end of the axis: the whole line, and of the band what leaves the line readable."""
    effects = finite([row["smallest_effect"] for row in rows]) or [1.5]
    highest = max(finite([row["high"] for row in rows]) or effects)
    return 1.0 + 1.08 * min(highest - 1.0, 2.0 * (max(effects) - 1.0))


def _ticks(seeds: Sequence[int]) -> list[int]:
    every = max(1, math.ceil(len(seeds) / TICKS))
    return list(seeds[::every])


def _price(row: Mapping[str, Any], currency: str) -> str:
    if row["hours"] is None:
        return f"{row['runs']:,} runs"
    return hours_text(row["hours"]) + ("" if row["money"] is None else f"<br>{money_text(row['money'], currency)}")


def _cost(row: Mapping[str, Any], currency: str) -> str:
    return f"{row['runs']:,} runs still to train" + ("" if row["hours"] is None else f": {_price(row, currency)}")


def _planned(figure: go.Figure, result: Mapping[str, Any], theme: Theme) -> None:
    """Where the plan lies, and the seeds of the effects that were asked for."""
    planned = result["planned"]
    figure.add_vline(x=planned["seeds"], line={"color": theme.quiet, "width": 1.4, "dash": "dot"}, name="planned")
    if planned["smallest_effect"] is not None:
        figure.add_scatter(
            x=[planned["seeds"]],
            y=[planned["smallest_effect"]],
            mode="markers",
            marker={"size": 12, "symbol": "diamond", "color": theme.arms[1]},
            hovertemplate="planned: %{x} seeds find %{y:.3f}<extra></extra>",
            name="as planned",
            meta={"kind": "planned", "path": "/planned"},
        )
    known = [e for e in result["effects"] if e["seeds"] is not None and e["seeds"] <= result["by_seeds"][-1]["seeds"]]
    for row in known:
        figure.add_annotation(
            x=row["seeds"],
            y=row["effect"],
            text=ratio(row["effect"]),
            showarrow=True,
            arrowcolor=theme.quiet,
            ax=26,
            ay=-26,
            font={"color": theme.quiet, "size": 12},
            name=pointer("effects", result["effects"].index(row)),
        )


def noise_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The seed noise of one run in units of time, a row a duration, with the range in which it is known."""
    import plotly.graph_objects as go

    cells = result["noise"]["cells"]
    places = list(range(len(cells)))
    known = [(k, c) for k, c in enumerate(cells) if c["sd_time"] is not None and c["sd_time"] <= FLAT]
    figure = go.Figure()
    figure.add_scatter(
        x=[c["sd_time"] for _, c in known],
        y=[k for k, _ in known],
        mode="markers",
        marker={"size": 10, "color": theme.arms[0]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [c["sd_time_high"] - c["sd_time"] for _, c in known],
            "arrayminus": [c["sd_time"] - c["sd_time_low"] for _, c in known],
            "color": rgba(theme.arms[0], 0.5),
            "thickness": 1.8,
            "width": 0,
        },
        customdata=[
            [label(c["duration"]), f"{100 * c['sd_time_low']:.2g} to {100 * c['sd_time_high']:.2g} %"] for _, c in known
        ],
        hovertemplate="<b>%{customdata[0]}</b><br>%{x:.2%} of time, 95 %: %{customdata[1]}<extra></extra>",
        name="noise of a run",
        meta={"kind": "noise", "path": "/noise/cells"},
    )
    ends = finite([c[name] for _, c in known for name in ("sd_time_low", "sd_time_high")]) or [0.01, 1.0]
    low, high = math.log10(min(ends)) - 0.08, min(math.log10(max(ends)), 1.0) + 0.08
    for k in sorted(set(places) - {place for place, _ in known}):
        figure.add_annotation(
            x=0.5 * (low + high),
            y=k,
            text="flat: quality hardly depends on time",
            showarrow=False,
            font={"color": theme.quiet, "size": 12},
            name=pointer("noise", "cells", k, "sd_time"),
        )
    figure.update_layout(**layout(theme), height=110 + 42 * len(cells), showlegend=False, hovermode="closest")
    _noise_axes(figure, [label(c["duration"], 14) for c in cells], (low, high), theme)
    return figure


def _noise_axes(figure: go.Figure, durations: Sequence[str], ends: tuple[float, float], theme: Theme) -> None:
    """Shares of time on a logarithmic axis (ends: decimal logarithms), and a row a duration, the first on top."""
    ticks = [v for v in SHARES if ends[0] <= math.log10(v) <= ends[1]]
    every = max(1, math.ceil(len(ticks) / TICKS))
    figure.update_xaxes(
        **axis(theme),
        type="log",
        range=list(ends),
        tickmode="array",
        tickvals=ticks[::every],
        ticktext=[f"{100 * v:g} %" for v in ticks[::every]],
        title={"text": "seed noise of one run, in units of training time", "standoff": 8},
    )
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=list(range(len(durations))),
        ticktext=list(durations),
        range=[len(durations) - 0.4, -0.6],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
