"""The picture of a gate: what the recipe needs over what its baseline needs, against nothing and against the margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .numbers import pointer
from .palette import LIGHT, SIGNS, Theme, rgba
from .speedups import Style, draw_interval, draw_refused, ratio_axis, ratio_range
from .style import axis, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

WITHOUT = {
    "not comparable": f"{SIGNS['not comparable']} not comparable",
    "regressed": f"{SIGNS['worse']} its runs did not end",
    "undecided": f"{SIGNS['inconclusive']} open on both sides",
}
"""What stands in the place of an interval, by verdict."""
SHORT = {"steps": "steps", "time": "training time"}


def gate_figure(result: Mapping[str, Any], theme: Theme = LIGHT) -> go.Figure:
    """A row a part, with its interval; the band from 1 to 1 + margin holds the losses that need not be excluded."""
    import plotly.graph_objects as go

    figure, parts = go.Figure(), result["parts"]
    limit = 1.0 + result["margin"]
    rows = [{"speedup": part["ratio"], "low": part["low"], "high": part["high"]} for part in parts]
    low, high = ratio_range([*rows, {"speedup": limit, "low": None, "high": None}])
    edges = (low, max(high, math.log10(limit) + 0.02))
    figure.add_vrect(
        x0=1.0,
        x1=limit,
        fillcolor=rgba(theme.arms[1], 0.12),
        line={"width": 0},
        layer="below",
        name="margin",
    )
    for place, (part, row) in enumerate(zip(parts, rows, strict=True)):
        if all(value is None for value in row.values()):
            draw_refused(figure, -place, theme, WITHOUT[part["verdict"]])
        else:
            path = pointer("parts", place)
            draw_interval(figure, row, -place, edges, SHORT[part["name"]], path, Style(theme, 1, False))
    figure.update_layout(**layout(theme), height=110 + 44 * len(parts), showlegend=False, hovermode="closest")
    ratio_axis(figure, theme, edges, "← needs less  ·  over what the baseline needs = 1  ·  needs more →")
    texts = [f"<b>{SHORT[part['name']]}</b>" for part in parts]
    figure.update_yaxes(
        **axis(theme),
        tickmode="array",
        tickvals=[-place for place in range(len(parts))],
        ticktext=texts,
        range=[-len(parts) + 0.4, 0.6],
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(meta={"narrow": ["<b>steps</b>", "<b>time</b>"][: len(parts)]})
    return figure
