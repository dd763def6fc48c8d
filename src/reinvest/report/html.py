"""The report: one HTML file that needs nothing else, drawn from a comparison result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from ..core.files import write_whole
from .costs import cost_units, cost_words
from .numbers import Figures, Unit, pointer, quality_units, time_unit
from .palette import DARK, LIGHT, SIGNS, SYMBOLS, Theme
from .style import theme_changes
from .text import OPEN, is_open, shared_flags

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def write_report(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the report of `result` as one HTML file (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a report is there whole or not at all. Raises InvalidValue for a value that is
    not a comparison result.
    """
    page = render(result)
    return write_page(page, path)


def write_page(page: str, path: str | Path) -> Path:
    """Write a page to `path` under a temporary name first, with its folder made; returns the path."""
    return write_whole(path, page, durable=True)


def render(result: Mapping[str, Any]) -> str:
    """The report's HTML. Raises InvalidValue for a value that is not a comparison result."""
    if result.get("kind") != "comparison" or not result.get("arms"):
        raise InvalidValue(
            f"a report is drawn from a comparison result, got kind {result.get('kind')!r}; "
            "pass the JSON file that compare or verdict wrote"
        )
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    units = _units(result) | cost_units(result)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            fig=Figures(result, units),
            judged=[name for name, arm in result["arms"].items() if arm["verdict"] is not None],
            windowed=[
                n for n, arm in result["arms"].items() if arm["verdict"] is not None and arm["verdict"]["windows"]
            ],
            refused=[
                n
                for n, arm in result["arms"].items()
                if arm["verdict"] is not None and arm["verdict"]["verdict"] == "not comparable"
            ],
            unfinished=any(
                p["status"] not in ("finished", None) for arm in result["arms"].values() for p in arm["points"]
            ),
            shared=shared_flags(result),
            open=OPEN if is_open(result) else None,
            places={name: place for place, name in enumerate(result["arms"])},
            quietest=_extreme(result, min),
            loudest=_extreme(result, max),
            steps=_decomposition(result),
            units=units,
            cost_words=cost_words(result),
            signs=SIGNS,
            symbols=SYMBOLS,
            light=LIGHT,
            dark=DARK,
            pictures=Markup(script_json(_pictures(result))),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The templates, which escape everything that they are given."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        capitalize_first=_capitalised,
        pointer=lambda path: pointer(*path),
        pretty=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    )
    return environment


def _capitalised(text: str) -> str:
    """The first letter large; inside a figure's span, the first letter of what is shown."""
    from markupsafe import Markup

    if isinstance(text, Markup):
        start, mark, rest = text.partition(">")
        return start + mark + rest[:1].upper() + rest[1:]
    return text[:1].upper() + text[1:]


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that holds it, whatever the strings in it say."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _units(result: Mapping[str, Any]) -> dict[str, Unit]:
    seconds = [p["seconds"] for arm in result["arms"].values() for p in arm["points"] if p["seconds"] is not None]
    quality, gain, sd = quality_units(result["task"]["metric"])
    cost = result["cost"].get("seconds") or 0.0
    return {
        "time": time_unit(max(seconds, default=1.0)),
        "quality": quality,
        "gain": gain,
        "sd": sd,
        "cost": time_unit(cost),
    }


def _extreme(result: Mapping[str, Any], choose: Any) -> str | None:
    """The arm with the smallest or largest effect that could have been seen; None if no arm says."""
    known = {n: a["verdict"]["smallest_effect"] for n, a in result["arms"].items() if a["verdict"] is not None}
    known = {n: v for n, v in known.items() if v is not None}
    name: str | None = choose(known, key=known.__getitem__) if known else None
    return name


def _decomposition(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Bars of fewer steps and cheaper steps, by arm: left end and width in per cent of one shared log axis around 1."""
    import math

    known = {}
    for name, arm in result["arms"].items():
        judged = arm["verdict"] or {}
        steps, seconds = judged.get("steps_ratio"), judged.get("seconds_ratio")
        if steps and seconds:
            known[name] = (math.log(steps), math.log(steps) + math.log(seconds))
    reach = 1.08 * max((abs(v) for ends in known.values() for v in ends), default=0.0) or 1.0
    bars = {}
    for name, (first, total) in known.items():
        at = [50.0 + 50.0 * v / reach for v in (0.0, first, total)]
        bars[name] = {
            "steps_left": min(at[0], at[1]),
            "steps_width": abs(at[1] - at[0]),
            "seconds_left": min(at[1], at[2]),
            "seconds_width": abs(at[2] - at[1]),
            "total": at[2],
        }
    return bars


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    from .charts import quality_figure, speedup_figure

    return pictures_of(result, {"quality": quality_figure, "speedup": speedup_figure})


def pictures_of(
    result: Mapping[str, Any], draw: Mapping[str, Callable[[Mapping[str, Any], Theme], Any]]
) -> dict[str, Any]:
    """Figures by name as plotly JSON in light colours, and where the dark ones differ."""
    out = {}
    for name, make in draw.items():
        light, dark = (json.loads(make(result, theme).to_json()) for theme in (LIGHT, DARK))
        out[name] = {"data": light["data"], "layout": light["layout"], "dark": theme_changes(light, dark)}
    return out
