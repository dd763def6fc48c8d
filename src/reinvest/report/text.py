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

OPEN = "inconclusive"
"""The verdict that more seeds may change into another."""
COULD_HAVE_SEEN = "could have seen: a true speed-up of this size is found four times in five by as many runs"
SEEDS_TO_DECIDE = (
    "seeds to decide: runs an arm and duration that would decide four times in five, if the estimate were the truth"
)


def verdict_table(result: Mapping[str, Any]) -> Table:
    """A table with one row per arm: verdict, speed-up, interval, gain at equal time, smallest effect, seeds needed."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD, title=Text(result["title"]), title_justify="left", caption_justify="left", pad_edge=False
    )
    metric = result["task"]["metric"]
    gain = quality_units(metric)[1]
    undecided = is_open(result)
    said = [f"speed-up at equal quality against {result['baseline']!r}: above 1 is faster; a gain above 0 is better"]
    said += [COULD_HAVE_SEEN, *([SEEDS_TO_DECIDE] if undecided else [])]
    table.caption = Text("\n".join(said))
    table.add_column("arm", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    gained = f"gain at equal time, {gain.suffix or metric}"
    for heading in ("speed-up", "interval", gained, "could have seen", *(["seeds to decide"] if undecided else [])):
        table.add_column(Text(heading), justify="right", no_wrap=heading == "interval")
    for name, arm in result["arms"].items():
        judged = arm["verdict"]
        if judged is None:
            continue
        shown = "" if judged["gain"] is None else gain.show(judged["gain"]).replace(MINUS, "-")
        effect = judged["smallest_effect"]
        table.add_row(
            Text(name),
            Text(judged["verdict"], style=STYLES.get(judged["verdict"], "")),
            _interval(judged, "-") if judged["speedup"] is None else ratio(judged["speedup"]),
            _interval(judged),
            shown,
            "" if effect is None else ratio(effect),
            *([_seeds(judged)] if undecided else []),
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


def is_open(result: Mapping[str, Any]) -> bool:
    """Whether any arm has a verdict that more seeds might decide."""
    return any(arm["verdict"] is not None and arm["verdict"]["verdict"] == OPEN for arm in result["arms"].values())


def _seeds(judged: Mapping[str, Any]) -> str:
    """The seeds that would decide an arm: "" where it is decided or refused."""
    if judged["verdict"] != OPEN:
        return ""
    return "-" if judged["seeds_needed"] is None else f"{judged['seeds_needed']:,}"


def _interval(judged: Mapping[str, Any], unknown: str = "open") -> str:
    low, high = judged["low"], judged["high"]
    if judged["verdict"] == "not comparable":
        return ""
    if low is None and high is None:
        return unknown
    if high is None:
        return f"at least {ratio(low)}"
    return f"at most {ratio(high)}" if low is None else f"{ratio(low)} to {ratio(high)}"
