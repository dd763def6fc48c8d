"""The page of suspects, one HTML file that needs nothing else, and their table in the terminal."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from .html import environment, script_json, write_page
from .numbers import Figures
from .palette import DARK, LIGHT, map_colours
from .png import png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

PER_CHUNK = 200
"""Pictures that the page decodes at once when one of them comes into sight."""
LONGEST = 64
"""Pixels of the longer side of a picture on the page."""
KEYS = 30
"""Classes of label maps whose colours the page explains, at most."""
ROWS = 20
ARMS = 4


def write_suspects(
    result: Mapping[str, Any],
    path: str | Path,
    *,
    pictures: NDArray[np.uint8] | None = None,
    maps: NDArray[np.int64] | None = None,
    texts: Sequence[str] | None = None,
) -> Path:
    """Write the page of suspects; returns its path.

    result: what `suspects_text.plain` gives, with "title", "created", "version" and "reproduce". pictures: uint8 [S, H, W] or
    [S, H, W, 3], one a suspect, at most 64 pixels high and wide; they go into the page as PNG: of 1,000 in colour 3 MB at
    32 x 32, 10 MB at 64 x 64. maps: the label of each pixel of them, int64 [S, H, W], below 0 for none, shown in colours
    beside them. texts: or the text of each suspect. Goes to a temporary name first, so a page is there whole or not at
    all. Raises InvalidValue for other results, and for pictures that are larger or not one a suspect.
    """
    return write_page(render_suspects(result, pictures=pictures, maps=maps, texts=texts), path)


def render_suspects(
    result: Mapping[str, Any],
    *,
    pictures: NDArray[np.uint8] | None = None,
    maps: NDArray[np.int64] | None = None,
    texts: Sequence[str] | None = None,
) -> str:
    """The page's HTML. Raises InvalidValue as `write_suspects` does."""
    if result.get("kind") != "suspects" or "suspects" not in result:
        raise InvalidValue(
            f"the page of suspects is drawn from what find_suspects found, got kind {result.get('kind')!r}; pass "
            "suspects_text.plain(suspects)"
        )
    from markupsafe import Markup

    count = len(result["suspects"]["id"])
    _check(count, pictures, maps, texts)
    twin = {
        **result,
        "pictures": pictures is not None,
        "pictures_per_chunk": PER_CHUNK,
        "maps": None if maps is None else _keys(maps),
        "texts": None if texts is None else list(texts),
    }
    return (
        environment()
        .get_template("suspects.html.j2")
        .render(
            result=twin,
            fig=Figures(twin, {}),
            places={f"arm {place}": place for place in range(1, ARMS + 1)},
            light=LIGHT,
            dark=DARK,
            chunks=[Markup(script_json(chunk)) for chunk in _chunks(pictures, maps)],
            twin=Markup(script_json(twin)),
        )
    )


def _check(
    count: int, pictures: NDArray[np.uint8] | None, maps: NDArray[np.int64] | None, texts: Sequence[str] | None
) -> None:
    shapes = [None if given is None else given.shape[:3] for given in (pictures, maps)]
    if maps is not None and shapes[0] != shapes[1]:
        raise InvalidValue(
            f"label maps have a number a pixel of the pictures beside them, got {shapes[1]} for {shapes[0]}; make them alike"
        )
    for what, given in (("pictures", pictures), ("texts", texts)):
        if given is not None and len(given) != count:
            raise InvalidValue(
                f"{what} are one a suspect, got {len(given)} for {count}; pass them in the suspects' order"
            )
    if pictures is not None and max(pictures.shape[1:3]) > LONGEST:
        raise InvalidValue(
            f"pictures on the page have at most {LONGEST} pixels a side, got {list(pictures.shape[1:3])}; make them smaller"
        )


def _keys(maps: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The classes that are on these maps, the most frequent first, with their colours."""
    import numpy as np

    labels, counts = np.unique(maps[maps >= 0], return_counts=True)
    colours = map_colours(int(labels.max(initial=-1)) + 1)
    order = np.argsort(-counts, kind="stable")[:KEYS]
    return [{"label": int(label), "colour": colours[label]} for label in labels[order]]


def _chunks(
    pictures: NDArray[np.uint8] | None, maps: NDArray[np.int64] | None
) -> Iterable[list[str] | list[list[str]]]:
    """Pictures as text, so many together; where there are maps, each beside its map."""
    if pictures is None:
        return
    for start in range(0, len(pictures), PER_CHUNK):
        some = slice(start, start + PER_CHUNK)
        shown = [_text(one) for one in pictures[some]]
        yield (
            shown
            if maps is None
            else [list(pair) for pair in zip(shown, map(_text, _painted(maps[some])), strict=True)]
        )


def _text(picture: NDArray[np.uint8]) -> str:
    return base64.b64encode(png(picture)).decode("ascii")


def _painted(maps: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Maps in the colours of their classes, uint8 [n, H, W, 3]; white where a pixel has no label."""
    import numpy as np

    colours = ["#ffffff", *map_colours(int(maps.max(initial=-1)) + 1)]
    table = np.array([[int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in colours], np.uint8)
    found: NDArray[np.uint8] = table[maps.clip(min=-1) + 1]
    return found


# ---- the terminal --------------------------------------------------------------------------------------------------


def print_suspects(result: Mapping[str, Any], console: Console, rows: int = ROWS) -> None:
    """Print how many there are of each kind, the first of them, and what to read the list with."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    kinds = list(result["kinds"])
    found = ", ".join(
        f"{entry['listed']:,} {kind}" for kind, entry in result["kinds"].items() if entry["found"] or entry["listed"]
    )
    console.print(Text(f"{result['title']}: {found or 'none'}", style="bold"))
    columns, table = result["suspects"], Table(box=SIMPLE_HEAD, pad_edge=False)
    sure = any(value is not None for value in columns["probability"])
    table.add_column("id", justify="right")
    table.add_column("kind")
    labelled = result["labelled"]
    for heading in ("given label", "suggested") if labelled else ():
        table.add_column(heading, overflow="fold", max_width=24)
    answers = ("said in", "learned") if labelled else ()
    headings = ("rank", *(["probability"] if sure else []), *answers, "mean loss", "above")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in range(min(rows, len(columns["id"]))):
        one = {name: values[row] for name, values in columns.items()}
        learned = "never" if one["learned"] is None else f"epoch {one['learned']}"
        cells = [
            f"{one['score']:.4f}",
            *([_probability(one["probability"])] if sure else []),
            *([_share(one["share"]), learned] if labelled else []),
            f"{one['mean_loss']:.3g}",
            _share(one["percentile"]),
        ]
        names = [Text(label_name(result, one[what])) for what in ("label", "suggested")] if labelled else []
        table.add_row(str(one["id"]), kinds[one["kind"]], *names, *cells)
    if columns["id"]:
        console.print(table)
    left = len(columns["id"]) - rows
    if left > 0:
        console.print(Text(f"... and {left:,} more on the page", style="dim"))
    for statement in result["statements"]:
        console.print(Text(f"{statement[:1].upper()}{statement[1:]}.", style="dim"))


def label_name(result: Mapping[str, Any], label: int) -> str:
    """The name of a class, or its number; "" for none."""
    if label < 0:
        return ""
    names = result["class_names"]
    return str(label) if names is None else str(names[label])


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %" if 0.995 < value < 1 else f"{100 * value:.0f} %"


def _probability(value: float | None) -> str:
    """An estimate is never sure."""
    return "> 99 %" if value is not None and value > 0.995 else _share(value)
