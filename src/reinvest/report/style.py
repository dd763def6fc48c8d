"""What both pictures share: typeface, axes, safe labels, and how one figure becomes the other theme's."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from .palette import Theme

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif'


def label(name: str, longest: int = 26) -> str:
    """An arm's name for a plotly text: shortened, and harmless whatever it contains."""
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return html.escape(short, quote=False)


def finite(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values if v is not None and math.isfinite(v)]


def layout(theme: Theme) -> dict[str, Any]:
    return {
        "template": "none",
        "font": {"family": FONT, "size": 13, "color": theme.text},
        "paper_bgcolor": theme.surface,
        "plot_bgcolor": theme.surface,
        "margin": {"l": 52, "r": 16, "t": 16, "b": 48},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 13},
            "groupclick": "togglegroup",
            "itemsizing": "constant",
        },
        "hoverlabel": {
            "bgcolor": theme.surface,
            "bordercolor": theme.quiet,
            "font": {"family": FONT, "color": theme.text},
            "align": "left",
        },
    }


def axis(theme: Theme) -> dict[str, Any]:
    return {
        "gridcolor": theme.grid,
        "linecolor": theme.quiet,
        "tickcolor": theme.quiet,
        "tickfont": {"color": theme.quiet, "size": 12},
        "title_font": {"color": theme.quiet, "size": 12},
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "automargin": True,
    }


def theme_changes(light: Any, dark: Any, path: tuple[str | int, ...] = ()) -> list[list[Any]]:
    """Where two figures of one shape (as plain JSON) differ: [path, light value, dark value] for each place."""
    if isinstance(light, dict) and isinstance(dark, dict):
        return [c for k in light for c in theme_changes(light[k], dark[k], (*path, k))]
    if isinstance(light, list) and isinstance(dark, list):
        return [c for i, (a, b) in enumerate(zip(light, dark, strict=True)) for c in theme_changes(a, b, (*path, i))]
    return [] if light == dark else [[list(path), light, dark]]
