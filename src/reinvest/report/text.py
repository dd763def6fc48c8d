"""The verdicts of a comparison in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .costs import cost_table, reuse_lines
from .numbers import MINUS, quality_units, ratio

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES = {
    "better": "bold green",
    "worse": "bold red",
    "mixed": "bold magenta",
    "equivalent": "bold blue",
    "inconclusive": "bold yellow",
    "not comparable": "dim",
}


def verdict_table(result: Mapping[str, Any]) -> Table:
    """A table with one row per arm: verdict, speed-up, interval, gain at equal time, smallest effect, seeds needed."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD, title=Text(result["title"]), title_justify="left", caption_justify="left", pad_edge=False
    )
    table.caption = Text(f"speed-up at equal quality against {result['baseline']!r}; above 1 is faster")
    table.add_column("arm", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    gain = quality_units(result["task"]["metric"])[1]
    gained = f"gain at equal time{', ' if gain.suffix else ''}{gain.suffix}"
    for heading in ("speed-up", "interval", gained, "could have seen", "seeds to decide"):
        table.add_column(heading, justify="right", no_wrap=heading == "interval")
    for name, arm in result["arms"].items():
        judged = arm["verdict"]
        if judged is None:
            continue
        shown = "" if judged["gain"] is None else gain.show(judged["gain"]).replace(MINUS, "-")
        effect, seeds = judged["smallest_effect"], judged["seeds_needed"]
        table.add_row(
            Text(name),
            Text(judged["verdict"], style=STYLES.get(judged["verdict"], "")),
            "" if judged["speedup"] is None else ratio(judged["speedup"]),
            _interval(judged),
            shown,
            "" if effect is None else ratio(effect),
            "" if seeds is None else f"{seeds:,}",
        )
    return table


def print_verdicts(result: Mapping[str, Any], console: Console) -> None:
    """Print the table, then each arm's sentence and what it should be read with (flags)."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(verdict_table(result))
    if result.get("costs"):
        console.print(cost_table(result))
    console.print()
    shared = shared_flags(result)
    for name, arm in result["arms"].items():
        judged = arm["verdict"]
        if judged is None:
            continue
        console.print(Text.assemble((name, "bold"), ": ", judged["sentence"]))
        own = [flag for flag in judged["flags"] if flag not in shared]
        more = judged["reasons"][1:] if judged["verdict"] == "not comparable" else []
        for line in (*more, *own):
            console.print(Padding(Text(f"- {line}", style="dim"), (0, 0, 0, 2)))
    for flag in shared:
        console.print(Text(f"all arms: {flag}", style="dim"))
    for line in reuse_lines(result):
        console.print(Text(line))
    for name, found in (result.get("systems") or {}).items():
        text = f", declared to alter speed alone: {found['outcome']}. {found['sentence']}"
        console.print(Text.assemble((name, "bold"), text))
        if found["maths"] is not None:
            console.print(Padding(Text(f"- {found['maths']['sentence']}", style="dim"), (0, 0, 0, 2)))


def shared_flags(result: Mapping[str, Any]) -> list[str]:
    """Flags that every arm with flags carries, to be said once; none if there is only one such arm."""
    flags = [
        arm["verdict"]["flags"]
        for arm in result["arms"].values()
        if arm["verdict"] is not None and arm["verdict"]["flags"]
    ]
    return [] if len(flags) < 2 else [flag for flag in flags[0] if all(flag in other for other in flags)]


def _interval(judged: Mapping[str, Any]) -> str:
    low, high = judged["low"], judged["high"]
    if judged["verdict"] == "not comparable":
        return ""
    if low is None and high is None:
        return "open"
    if high is None:
        return f"at least {ratio(low)}"
    return f"at most {ratio(high)}" if low is None else f"{ratio(low)} to {ratio(high)}"
