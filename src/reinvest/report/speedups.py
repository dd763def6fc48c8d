"""The picture of speed-ups: every arm and its windows as intervals on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .numbers import pointer, ratio
from .palette import LIGHT, SYMBOLS, Theme, rgba
from .style import axis, finite, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

RATIO_TICKS = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.25,
    0.33,
    0.5,
    0.67,
    0.8,
    0.9,
    1.0,
    1.1,
    1.25,
    1.5,
    2.0,
    3.0,
    4.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
)


def interval_rows(result: Mapping[str, Any]) -> Iterator[tuple[int, str, str, str, Mapping[str, Any] | None]]:
    """(place, arm, row label, JSON pointer, {"speedup", "low", "high"} or None if refused), in reading order."""
    for place, (name, arm) in enumerate(result["arms"].items()):
        judged = arm["verdict"]
        if judged is None:
            continue
        refused = judged["verdict"] == "not comparable"
        yield place, name, "", pointer("arms", name, "verdict"), None if refused else judged
        for number, window in enumerate(judged["windows"]):
            yield place, name, window["name"], pointer("arms", name, "verdict", "windows", number), window


def speedup_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Speed-ups with intervals on a logarithmic axis, one row per arm and three thinner ones for its windows.

    An interval that is open runs to the edge of the picture and ends in an arrow.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    rows = list(interval_rows(result))
    edges = ratio_range([row for *_, row in rows])
    heights: list[float] = []
    for place, name, part, path, row in rows:
        last = heights[-1] if heights else 0.0
        heights.append(last - (1.0 if part else 1.55 if heights else 0.0))
        if row is None:
            draw_refused(figure, heights[-1], theme)
        else:
            draw_interval(
                figure, row, heights[-1], edges, f"{label(name)} {part}".strip(), path, Style(theme, place, bool(part))
            )
    figure.update_layout(
        **layout(theme),
        height=90 + round(25 * (1 - (heights[-1] if heights else 0.0))),
        showlegend=False,
        hovermode="closest",
    )
    ratio_axis(figure, theme, edges, "← slower  ·  speed-up  ·  faster →", unit="×")
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=heights,
        range=[(heights[-1] if heights else 0.0) - 0.8, 0.8],
        ticktext=[p or f"<b>{label(n, 22)}</b>" for _, n, p, _, _ in rows],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(meta={"narrow": [p or f"<b>{label(n, 11)}</b>" for _, n, p, _, _ in rows]})
    return figure


class Style:
    """How one interval is drawn: the whole range strong, its windows thin."""

    def __init__(self, theme: Theme, place: int, window: bool) -> None:
        self.colour = rgba(theme.colour(place), 0.8 if window else 0.38)
        self.arrow = rgba(theme.colour(place), 0.8 if window else 1.0)
        self.width = 2.0 if window else 10.0
        self.size = 11 if window else 15
        self.marker = {
            "symbol": SYMBOLS[place % len(SYMBOLS)],
            "size": 6.5 if window else 9.5,
            "color": theme.colour(place),
        }


def draw_interval(
    figure: go.Figure, row: Mapping[str, Any], y: float, edges: tuple[float, float], name: str, path: str, style: Style
) -> None:
    """One row: the whole range as a thick line with its estimate, windows as thin ones."""
    left, right = 10 ** edges[0], 10 ** edges[1]
    low, high = row["low"], row["high"]
    text = [name, _words(row["speedup"], low, high)]
    hover = {"customdata": [text, text], "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>"}
    figure.add_scatter(
        x=[left if low is None else low, right if high is None else high],
        y=[y, y],
        mode="lines",
        line={"color": style.colour, "width": style.width},
        name=name,
        meta={"kind": "interval", "path": path, "open": [low is None, high is None]},
        **hover,
    )
    for end, open_end, symbol in ((left, low is None, "triangle-left"), (right, high is None, "triangle-right")):
        if open_end:
            figure.add_scatter(
                x=[end],
                y=[y],
                mode="markers",
                marker={"symbol": symbol, "size": style.size, "color": style.arrow},
                cliponaxis=False,
                hoverinfo="skip",
                name=name,
                meta={"kind": "arrow", "path": path},
            )
    if row["speedup"] is not None:
        figure.add_scatter(
            x=[row["speedup"]],
            y=[y],
            mode="markers",
            marker=style.marker,
            name=name,
            meta={"kind": "estimate", "path": path},
            **hover,
        )


def draw_refused(figure: go.Figure, y: float, theme: Theme, text: str = "⊘ not comparable") -> None:
    """A row without an interval: what cannot be compared, or another word in its place."""
    figure.add_annotation(
        x=0,
        xref="x",
        y=y,
        text=text,
        showarrow=False,
        xanchor="left",
        xshift=8,
        font={"color": theme.quiet, "size": 12},
    )


def _words(speedup: float | None, low: float | None, high: float | None) -> str:
    """An interval in words, as hovering shows it."""
    if low is None and high is None:
        span = "open on both sides"
    elif high is None:
        span = f"at least {ratio(low or 0.0)}"
    else:
        span = f"at most {ratio(high)}" if low is None else f"{ratio(low)} to {ratio(high)}"
    return span if speedup is None else f"{ratio(speedup)} ({span})"


def ratio_range(rows: Sequence[Mapping[str, Any] | None]) -> tuple[float, float]:
    """Ends of the axis as powers of ten: every finite end, 1, and some room."""
    values = finite([row[k] for row in rows if row is not None for k in ("speedup", "low", "high")])
    logs = [math.log10(v) for v in values if v > 0] + [math.log10(0.85), math.log10(1.18)]
    room = 0.08 * (max(logs) - min(logs))
    return min(logs) - room, max(logs) + room


def ratio_axis(figure: go.Figure, theme: Theme, edges: tuple[float, float], title: str, *, unit: str = "") -> None:
    """Make the x axis one of ratios, logarithmic between `edges` (exponents of 10), with a line at 1."""
    figure.add_vline(x=1.0, line={"color": theme.text, "width": 1.2})
    ticks = ratio_ticks(edges)
    figure.update_xaxes(
        **axis(theme),
        type="log",
        range=list(edges),
        tickmode="array",
        tickvals=ticks,
        ticktext=[f"{t:g}{unit}" for t in ticks],
        title={"text": title, "standoff": 8},
    )


def ratio_ticks(edges: tuple[float, float]) -> list[float]:
    """Round ratios inside the axis that do not crowd each other; 1 is always among them."""
    inside = [t for t in RATIO_TICKS if edges[0] <= math.log10(t) <= edges[1]]
    kept = [1.0]
    for tick in sorted(inside, key=lambda t: abs(math.log(t))):
        if all(abs(math.log10(tick / k)) > 0.09 * (edges[1] - edges[0]) for k in kept):
            kept.append(tick)
    return sorted(kept)
