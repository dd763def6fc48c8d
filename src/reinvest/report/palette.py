"""Colours and marks: the Okabe-Ito set in arm order, one set of shades per theme, and a sign for every verdict.

No meaning rests on colour alone: arms also differ by marker, verdicts by sign and word, predictions by dashes.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "hexagon")
"""Marker of each arm in order, the baseline first."""

SIGNS = {
    "better": "▲",
    "worse": "▼",
    "mixed": "◆",
    "equivalent": "=",
    "inconclusive": "?",
    "not comparable": "⊘",
}


@dataclass(frozen=True)
class Theme:
    """Shades of one theme: the baseline's and the arms' colours, text, quiet text, grid lines, and the surface."""

    baseline: str
    arms: tuple[str, ...]
    text: str
    quiet: str
    grid: str
    surface: str

    def colour(self, place: int) -> str:
        """Colour of the arm at `place` (0: the baseline); beyond the set the colours come round again."""
        return self.baseline if place == 0 else self.arms[(place - 1) % len(self.arms)]


LIGHT = Theme(
    baseline="#3b3b3b",
    arms=("#0072b2", "#d55e00", "#009e73", "#b8578c", "#e69f00", "#56b4e9", "#a89a00"),
    text="#1d1c1a",
    quiet="#66635c",
    grid="#e7e4dd",
    surface="#ffffff",
)
DARK = Theme(
    baseline="#d6d4cf",
    arms=("#4fa3e3", "#f0803c", "#2cc295", "#e28fbd", "#f0b43c", "#9cd6f7", "#efe35a"),
    text="#e9e7e2",
    quiet="#a09d96",
    grid="#2e3239",
    surface="#1a1d22",
)


TURN = 0.618034
"""Hues that are this part of a circle apart stay apart, however many there are."""
BRIGHT = ((0.75, 0.85), (0.45, 0.95), (0.9, 0.55))
"""Saturation and value, in turns."""


def map_colours(count: int) -> list[str]:
    """Colours of `count` classes of a label map, "#rrggbb" each; the first ones do not depend on how many follow."""
    found = [colorsys.hsv_to_rgb(k * TURN % 1, *BRIGHT[k % len(BRIGHT)]) for k in range(count)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in found]


def rgba(colour: str, alpha: float) -> str:
    """A "#rrggbb" colour made translucent, alpha in [0, 1]."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
