"""The page of a sequence study, one HTML file that needs nothing else, and its table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue
from .html import environment, pictures_of, script_json, write_page
from .numbers import MINUS, Figures, Unit, quality_units, ratio, time_unit
from .palette import DARK, LIGHT, SIGNS, SYMBOLS
from .text import STYLES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DRIFT = {
    "falls": "falls from run to run",
    "rises": "rises from run to run",
    "none shown": "none shown",
    "too short": "too few hand-overs to tell",
    "not known": "not known",
}
"""What happens to the quality gained over scratch along the sequence."""


def write_sequence(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of a sequence study (about 5 MB, nearly all of it plotly.js); returns its path.

    Goes to a temporary name first, so a page is there whole or not at all. Raises InvalidValue for other results.
    """
    return write_page(render_sequence(result), path)


def render_sequence(result: Mapping[str, Any]) -> str:
    """The page's HTML. Raises InvalidValue for a value that is not the result of a sequence study."""
    if result.get("kind") != "sequence" or not result.get("arms"):
        raise InvalidValue(
            f"the page of a sequence study is drawn from its result, got kind {result.get('kind')!r}; "
            "pass the JSON file that reinvest sequence wrote"
        )
    import yaml
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from .sequence_charts import places_of

    units = _units(result)
    places = places_of(result)
    return (
        environment()
        .get_template("sequence.html.j2")
        .render(
            result=result,
            fig=Figures(result, units),
            units=units,
            places=places,
            others=[n for n in result["arms"] if n != result["baseline"]],
            cells={(c["arm"], c["duration"], c["position"]): k for k, c in enumerate(result["positions"])},
            shared=_shared(result),
            chosen={name: chosen_text(arm) for name, arm in result["arms"].items()},
            drift_words=DRIFT,
            signs=SIGNS,
            symbols=SYMBOLS,
            light=LIGHT,
            dark=DARK,
            plan=yaml.safe_dump(result["plan"], sort_keys=False, allow_unicode=True),
            pictures=Markup(script_json(_pictures(result))),
            twin=Markup(script_json(result)),
            plotly=Markup(get_plotlyjs()),
        )
    )


def _units(result: Mapping[str, Any]) -> dict[str, Unit]:
    seconds = [p["seconds"] for p in result["points"] if p["seconds"] is not None]
    quality, gain, sd = quality_units(result["metric"]["name"])
    return {
        "time": time_unit(max(seconds, default=1.0)),
        "quality": quality,
        "gain": gain,
        "sd": sd,
        "seconds": Unit(suffix="s"),
    }


def _shared(result: Mapping[str, Any]) -> list[str]:
    """Flags of all judged arms in the same words, but for the arms' own names: said once."""
    flags = [arm["judged"]["flags"] for arm in result["arms"].values() if arm["judged"] is not None]
    return [f for f in flags[0] if all(f in other for other in flags)] if len(flags) > 1 else []


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    from .sequence_charts import cost_figure, position_figure, time_figure

    draw = {"quality": cost_figure, "position": position_figure}
    if any(arm["judged"] is not None for arm in result["arms"].values()):
        draw["speedup"] = time_figure
    return pictures_of(result, draw)


# ---- the terminal --------------------------------------------------------------------------------------------------


def sequence_table(result: Mapping[str, Any]) -> Table:
    """One row per arm: verdict, total time at equal quality with interval, gain at equal time, drift."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD, title=Text(result["title"]), title_justify="left", caption_justify="left", pad_edge=False
    )
    table.caption = Text(
        f"time: of a whole sequence at equal quality, where {result['baseline']!r} takes 1 (below 1 is faster)"
    )
    gain = quality_units(result["metric"]["name"])[1]
    for heading in ("arm", "re-use", "verdict"):
        table.add_column(heading, overflow="fold")
    for heading in ("time", "interval", f"gain at equal time{', ' if gain.suffix else ''}{gain.suffix}"):
        table.add_column(heading, justify="right", no_wrap=heading == "interval")
    table.add_column("drift of the gain")
    for name, arm in result["arms"].items():
        if name == result["baseline"]:
            continue
        judged = arm["judged"] or {}
        word = arm["verdict"] or "no verdict"
        table.add_row(
            Text(name),
            Text(arm["policy"]),
            Text(word, style=STYLES.get(word, "dim")),
            "" if arm["relative_time"] is None else ratio(arm["relative_time"]),
            interval_text(arm["relative_time_interval"]) if judged and word != "not comparable" else "",
            "" if judged.get("gain") is None else gain.show(judged["gain"]).replace(MINUS, "-"),
            arm["drift"]["verdict"],
        )
    return table


def differences_table(result: Mapping[str, Any]) -> Table:
    """At each duration: quality gained over scratch and cost relative to it, paired over sequences."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    gain = quality_units(result["metric"]["name"])[1]
    table = Table(box=SIMPLE_HEAD, title="at these durations", title_justify="left", pad_edge=False)
    table.add_column("arm", overflow="fold")
    table.add_column("runs of")
    suffix = f", {gain.suffix}" if gain.suffix else ""
    for heading in (f"quality gained{suffix}", "95 % interval", "time, scratch = 1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result["at_durations"]:
        ends = [row["gain_low"], row["gain_high"]]
        shown = "" if None in ends else " to ".join(gain.show(v).replace(MINUS, "-") for v in ends)
        table.add_row(
            Text(row["arm"]),
            row["duration"],
            "" if row["gain"] is None else gain.show(row["gain"]).replace(MINUS, "-"),
            shown,
            "" if row["cost_ratio"] is None else ratio(row["cost_ratio"]),
        )
    return table


def interval_text(ends: Any) -> str:
    """An interval of ratios in words."""
    low, high = ends
    if low is None and high is None:
        return "open"
    if high is None:
        return f"at least {ratio(low)}"
    return f"at most {ratio(high)}" if low is None else f"{ratio(low)} to {ratio(high)}"


def chosen_text(arm: Mapping[str, Any]) -> str:
    """What an arm's runs re-use where that was advised, "" for other arms and results of earlier versions."""
    counts = [f"{c['methods']} in {c['runs']:,} run{'' if c['runs'] == 1 else 's'}" for c in arm.get("chosen") or ()]
    return f"advise chose {', '.join(counts)}" if counts else ""


def print_sequence(result: Mapping[str, Any], console: Console) -> None:
    """Print the verdicts (or the differences, where there is none), each arm's sentence, and what to read it with."""
    from rich.padding import Padding
    from rich.text import Text

    judged = {n: a["judged"] for n, a in result["arms"].items() if a["judged"] is not None}
    console.print(sequence_table(result) if judged else differences_table(result))
    console.print()
    shared = _shared(result)
    for name, values in judged.items():
        console.print(Text.assemble((name, "bold"), ": ", values["sentence"]))
        for line in (*values["reasons"][1:], *(f for f in values["flags"] if f not in shared)):
            console.print(Padding(Text(f"- {line}", style="dim"), (0, 0, 0, 2)))
    for name, arm in result["arms"].items():
        if text := chosen_text(arm):
            console.print(Text.assemble((name, "bold"), ": ", text))
    for flag in shared:
        console.print(Text(f"all arms: {flag}", style="dim"))
    for flag in result["flags"]:
        console.print(Text(f"the study: {flag}", style="dim"))
