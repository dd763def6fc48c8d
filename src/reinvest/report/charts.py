"""The two pictures: quality against training time, and speed-ups with their intervals.

Names of arms are escaped, since plotly reads a subset of HTML in texts. Every trace that shows figures says in
`meta` where in the JSON they are.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..evaluation.settings import is_accuracy
from .numbers import pointer, significant
from .palette import LIGHT, SYMBOLS, Theme, rgba
from .speedups import speedup_figure
from .style import axis, finite, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["quality_figure", "speedup_figure"]

TICKS = (
    *((10.0**k * m, f"{10.0**k * m:g} s") for k in range(-3, 1) for m in (1, 2, 5)),
    (10, "10 s"),
    (20, "20 s"),
    (30, "30 s"),
    *((60.0 * m, f"{m} min") for m in (1, 2, 5, 10, 20, 30)),
    *((3600.0 * h, f"{h} h") for h in (1, 2, 5, 10)),
    *((86400.0 * d, f"{d:,} d") for k in range(4) for d in (10**k, 2 * 10**k, 5 * 10**k)),
)


def quality_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Quality against training seconds: mean curves with bands, every run, unfinished runs, predicted curves.

    The time axis is logarithmic. Predictions are dashed and start hidden behind their legend entry.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    low, high = _quality_range(result)
    arms = list(result["arms"].items())
    for place, (name, arm) in enumerate(arms):
        _band(figure, arm["curve"], name, theme.colour(place))
    for place, (name, arm) in reversed(list(enumerate(arms))):  # the baseline last, so that it lies on top
        _curve(figure, arm, name, theme.colour(place), SYMBOLS[place % len(SYMBOLS)], rank=place + 1)
    shown = False
    for place, (name, arm) in enumerate(arms):
        shown |= _unfinished(
            figure, arm["points"], name, theme.colour(place), low + 0.022 * (high - low), first=not shown
        )
    shown = False
    for place, (name, arm) in enumerate(arms):
        if arm["predicted"] is not None:
            shown |= _predicted(figure, arm["predicted"], name, theme.colour(place), first=not shown)
    seconds = finite([p["seconds"] for _, arm in arms for p in arm["points"] if (p["seconds"] or 0) > 0])
    figure.update_layout(**layout(theme), height=520, hovermode="closest")
    figure.update_xaxes(**time_axis(seconds), **axis(theme), title={"text": "training time", "standoff": 8})
    share = is_accuracy(result["task"]["metric"])
    figure.update_yaxes(
        range=[low, high], tickformat=".0%" if share and high - low > 0.04 else ".1%" if share else "~g", **axis(theme)
    )
    return figure


def _quality_range(result: Mapping[str, Any]) -> tuple[float, float]:
    """All runs and mean curves fit; bands may leave the picture by more than a quarter of its height."""
    inside = finite(
        [q for a in result["arms"].values() for q in (*(p["quality"] for p in a["points"]), *a["curve"]["quality"])]
    )
    if not inside:
        return 0.0, 1.0
    low, high = min(inside), max(inside)
    span = max(high - low, 1e-6 * max(1.0, abs(high)))
    band = finite([q for a in result["arms"].values() for q in (*a["curve"]["low"], *a["curve"]["high"])])
    floor, ceiling = min([*band, low]), max([*band, high])
    return max(floor, low - 0.25 * span) - 0.06 * span, min(ceiling, high + 0.25 * span) + 0.04 * span


def _band(figure: go.Figure, curve: Mapping[str, Any], name: str, colour: str) -> None:
    known = [
        (s, lo, hi)
        for s, lo, hi in zip(curve["seconds"], curve["low"], curve["high"], strict=True)
        if lo is not None and hi is not None
    ]
    if known:
        draw_band(figure, known, name, rgba(colour, 0.13), path=pointer("arms", name, "curve"))


def draw_band(
    figure: go.Figure, rows: Sequence[tuple[float, float, float]], name: str, fill: str, *, path: str, **at: int
) -> None:
    """Fill between the low and high ends of rows (x, low, high); part of the arm's entry in the legend."""
    x = [row[0] for row in rows]
    figure.add_scatter(
        x=x + x[::-1],
        y=[row[2] for row in rows] + [row[1] for row in reversed(rows)],
        fill="toself",
        fillcolor=fill,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        name=label(name),
        meta={"kind": "band", "path": path},
        **at,
    )


def _curve(figure: go.Figure, arm: Mapping[str, Any], name: str, colour: str, symbol: str, *, rank: int) -> None:
    """The mean curve and, in the same legend group, every finished run."""
    points = [
        p
        for p in arm["points"]
        if p["quality"] is not None and p["seconds"] is not None and p["status"] in ("finished", None)
    ]
    curve, marker = arm["curve"], {"symbol": symbol, "size": 7.5, "color": colour}
    if curve["seconds"]:
        figure.add_scatter(
            x=curve["seconds"],
            y=curve["quality"],
            mode="lines",
            line={"color": colour, "width": 2.2},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
            name=label(name),
            meta={"kind": "curve", "path": pointer("arms", name, "curve")},
        )
    figure.add_scatter(
        x=[p["seconds"] for p in points],
        y=[p["quality"] for p in points],
        mode="markers",
        marker={**marker, "opacity": 0.62, "line": {"width": 0}},
        legendrank=rank,
        legendgroup=name,
        name=label(name),
        customdata=[_about(p, name) for p in points],
        hovertemplate=_HOVER,
        meta={"kind": "points", "path": pointer("arms", name, "points")},
    )


_HOVER = (
    "<b>%{customdata[0]}</b><br>%{customdata[1]}, seed %{customdata[2]}<br>%{customdata[3]}<br>"
    "quality %{customdata[4]}<br>run %{customdata[5]}<extra></extra>"
)


def _about(point: Mapping[str, Any], name: str) -> list[str]:
    """What hovering over a run tells: arm, duration, seed, seconds, quality (or how the run ended), run id."""
    quality = point["status"] if point["quality"] is None else f"{point['quality']:.6g}"
    seconds = "seconds not known" if point["seconds"] is None else f"{significant(point['seconds'], 4)} s"
    run = point["run"] or "not in a store"
    return [html.escape(str(v), quote=False) for v in (name, point["duration"], point["seed"], seconds, quality, run)]


def _unfinished(
    figure: go.Figure, points: Sequence[Mapping[str, Any]], name: str, colour: str, floor: float, *, first: bool
) -> bool:
    """Runs that diverged or stopped, as crosses on the lower edge (they have no quality); True if there were any."""
    lost = [p for p in points if p["status"] not in ("finished", None) and (p["seconds"] or 0) > 0]
    if not lost:
        return False
    figure.add_scatter(
        x=[p["seconds"] for p in lost],
        y=[floor] * len(lost),
        mode="markers",
        cliponaxis=False,
        marker={"symbol": "x-thin", "size": 11, "color": colour, "line": {"color": colour, "width": 2.4}},
        customdata=[_about({**p, "quality": None}, name) for p in lost],
        hovertemplate=_HOVER,
        legendgroup="unfinished",
        showlegend=first,
        legendrank=1001,
        name="diverged or unfinished run",
        meta={"kind": "unfinished", "path": pointer("arms", name, "points")},
    )
    return True


def _predicted(figure: go.Figure, predicted: Mapping[str, Any], name: str, colour: str, *, first: bool) -> bool:
    drawn = False
    for kind, dash in (("shift", "dash"), ("lift", "dot")):
        if not finite(predicted[kind]):
            continue
        figure.add_scatter(
            x=predicted["seconds"],
            y=predicted[kind],
            mode="lines",
            line={"color": colour, "width": 1.6, "dash": dash},
            visible="legendonly",
            legendgroup="predicted",
            legendrank=1002,
            showlegend=first and not drawn,
            name="predicted, not measured",
            customdata=[[label(name)]] * len(predicted["seconds"]),
            hovertemplate="%{customdata[0]}: predicted, not measured<extra></extra>",
            meta={"kind": "predicted", "path": pointer("arms", name, "predicted")},
        )
        drawn = True
    return drawn


def time_axis(seconds: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis that holds all `seconds` with some room."""
    first, last = (math.log10(min(seconds)), math.log10(max(seconds))) if seconds else (0.0, 1.0)
    room = max(0.05 * (last - first), 0.03)
    ends = (first - room, last + room)
    ticks = [(v, t) for v, t in TICKS if ends[0] <= math.log10(v) <= ends[1]]
    if len(ticks) < 2:
        return {"type": "log", "range": list(ends), "ticksuffix": " s", "nticks": 5}
    thin = math.ceil(len(ticks) / 9)
    return {
        "type": "log",
        "range": list(ends),
        "tickmode": "array",
        "tickvals": [v for v, _ in ticks[::thin]],
        "ticktext": [t for _, t in ticks[::thin]],
    }
