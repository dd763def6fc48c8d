"""The pictures of an equal tuning: what was tried, how good the best of k trials is, and the winners' comparison."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..evaluation.settings import is_accuracy
from .charts import quality_figure
from .numbers import Unit, pointer, quality_units
from .palette import LIGHT, SYMBOLS, Theme
from .style import axis, finite, label, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

PANEL = 250
"""Pixels of height of one tuned value."""


def panels_of(result: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """(path, whether it is a list of choices) of everything that was tuned, each once, in the order of the arms."""
    found = [
        (path, isinstance(axis_of, list)) for arm in result["arms"].values() for path, axis_of in arm["space"].items()
    ]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class _Sheet:
    """The figure of the trials on its way: what has an entry in the legend already, and where diverged trials are put."""

    figure: go.Figure
    result: Mapping[str, Any]
    theme: Theme
    floor: float
    top: float
    named: set[str]


def tried_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Validation quality against each tuned value, a panel a value; winners are ringed, diverged trials at the bottom."""
    from plotly.subplots import make_subplots

    panels = panels_of(result)
    figure = make_subplots(rows=len(panels), cols=1, vertical_spacing=min(0.09, 0.3 / len(panels)))
    sheet = _Sheet(figure, result, theme, *_range(result), set())
    for row, (path, choices) in enumerate(panels, start=1):
        for place, (name, arm) in enumerate(result["arms"].items()):
            if path in arm["space"] and isinstance(arm["space"][path], list) == choices:
                _trials(sheet, name, path, place, row)
        _axes(sheet, path, choices, row)
    figure.update_layout(**layout(theme), height=70 + PANEL * len(panels), hovermode="closest")
    return figure


def best_of_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """The expected best validation quality of k trials, for k up to half of those of a study."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for place, (name, arm) in enumerate(result["arms"].items()):
        figure.add_scatter(
            x=[p["k"] for p in arm["best_of"]],
            y=[p["quality"] for p in arm["best_of"]],
            mode="lines+markers",
            line={"color": theme.colour(place), "width": 2.2},
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8, "color": theme.colour(place)},
            name=label(name),
            hovertemplate=f"{label(name)}<br>best of %{{x}}: %{{y:.4g}}<extra></extra>",
            meta={"kind": "best_of", "path": pointer("arms", name, "best_of")},
        )
    figure.update_layout(**layout(theme), height=340, hovermode="closest", showlegend=True)
    most = max((p["k"] for arm in result["arms"].values() for p in arm["best_of"]), default=1)
    title = {"text": "trials k of one study", "standoff": 8}
    figure.update_xaxes(**axis(theme), title=title, range=[0.7, most + 0.3], nticks=min(most, 10) + 1, tickformat="d")
    known = [p["quality"] for arm in result["arms"].values() for p in arm["best_of"]]
    figure.update_yaxes(**axis(theme), tickformat=_format(result, max(known, default=1.0) - min(known, default=0.0)))
    return figure


def final_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """Test quality of the winners' runs against training time."""
    figure = quality_figure(result["comparison"], theme)
    for trace in figure.data:
        if trace.meta and "path" in trace.meta:
            trace.meta = {**trace.meta, "path": "/comparison" + trace.meta["path"]}
    return figure


def _trials(sheet: _Sheet, name: str, path: str, place: int, row: int) -> None:
    """An arm's trials in the panel of a tuned value, its winners and what diverged."""
    own = [(k, t) for k, t in enumerate(sheet.result["tried"]) if t["arm"] == name]
    won = {winner["run"] for winner in sheet.result["arms"][name]["winners"]}
    unit, _, _ = quality_units(sheet.result["task"]["metric"])
    colour, symbol = sheet.theme.colour(place), SYMBOLS[place % len(SYMBOLS)]
    ring = {"symbol": "circle-open", "size": 17, "color": colour, "line": {"color": colour, "width": 2}}
    cross = {"symbol": "x-thin", "size": 11, "color": colour, "line": {"color": colour, "width": 2.4}}
    groups: Sequence[tuple[str, str, list[tuple[int, Any]], dict[str, Any]]] = (
        (
            name,
            label(name),
            [(k, t) for k, t in own if t["quality"] is not None],
            {"symbol": symbol, "size": 9, "color": colour, "opacity": 0.75},
        ),
        ("winner\n", "winner", [(k, t) for k, t in own if t["run"] in won], ring),
        ("diverged\n", "diverged", [(k, t) for k, t in own if t["quality"] is None], cross),
    )
    for group, shown_as, trials, marker in groups:
        if not trials:
            continue
        sheet.figure.add_scatter(
            x=[_place(t["values"][path]) for _, t in trials],
            y=[sheet.floor if t["quality"] is None else t["quality"] for _, t in trials],
            mode="markers",
            marker=marker,
            cliponaxis=False,
            name=shown_as,
            legendgroup=group,
            legendrank=place if group == name else 1000 + len(shown_as),
            showlegend=group not in sheet.named,
            customdata=[_about(t, unit) for _, t in trials],
            hovertemplate=_HOVER,
            meta={"kind": "tried", "path": pointer("tried"), "at": [k for k, _ in trials], "value": path},
            row=row,
            col=1,
        )
        sheet.named.add(group)


_HOVER = (
    "<b>%{customdata[0]}</b>, study %{customdata[1]}, trial %{customdata[2]}<br>%{customdata[3]}<br>"
    "validation %{customdata[4]}<br>run %{customdata[5]}<extra></extra>"
)


def _about(trial: Mapping[str, Any], unit: Unit) -> list[str]:
    quality = trial["status"] if trial["quality"] is None else f"{unit.show(trial['quality'])} {unit.suffix}".rstrip()
    values = ", ".join(f"{path} = {_place(value)}" for path, value in trial["values"].items())
    texts = (trial["arm"], trial["study"], trial["trial"], values, quality, trial["run"])
    return [html.escape(str(text), quote=False) for text in texts]


def _place(value: Any) -> Any:
    """Where a value stands on its axis: a number itself, anything else by its text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return html.escape(str(value), quote=False)
    return value


def _axes(sheet: _Sheet, path: str, choices: bool, row: int) -> None:
    spaces = [arm["space"][path] for arm in sheet.result["arms"].values() if path in arm["space"]]
    here = [space for space in spaces if isinstance(space, list) == choices]
    look = {**axis(sheet.theme), "title": {"text": html.escape(path, quote=False), "standoff": 4}}
    if choices:
        listed = list(dict.fromkeys(str(_place(value)) for space in here for value in space))
        look |= {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": listed,
            "range": [-0.6, len(listed) - 0.4],
        }
    else:
        low, high = min(space["low"] for space in here), max(space["high"] for space in here)
        logs = any(space.get("log") for space in here)
        look |= _log_ticks(low, high) if logs and low > 0 else {"nticks": 6, "range": _padded(low, high)}
    sheet.figure.update_xaxes(**look, row=row, col=1)
    span = sheet.top - sheet.floor
    around = [sheet.floor - 0.06 * span, sheet.top + 0.06 * span]
    sheet.figure.update_yaxes(**axis(sheet.theme), range=around, tickformat=_format(sheet.result, span), row=row, col=1)


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis with 1, 2 and 5 of every power of ten, or the powers alone where these are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [m * 10.0**k for k in range(first, last + 1) for m in steps]
    around = _padded(math.log10(low), math.log10(high))
    texts = [f"{t:g}" for t in ticks]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": texts, "range": around}


def _padded(low: float, high: float) -> list[float]:
    """The whole of a range, so that trials at its ends are seen to be there, and a little room."""
    room = 0.04 * (high - low)
    return [low - room, high + room]


def _range(result: Mapping[str, Any]) -> tuple[float, float]:
    known = finite([t["quality"] for t in result["tried"]])
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = 0.08 * (high - low) or 0.01
    return (low - room if any(t["quality"] is None for t in result["tried"]) else low), high


def _format(result: Mapping[str, Any], span: float) -> str:
    if not is_accuracy(result["task"]["metric"]):
        return "~g"
    return ".0%" if span > 0.04 else ".1%"
