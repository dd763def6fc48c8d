"""Cost at equal quality on the page of a comparison and in the terminal: seconds, money, energy, memory, re-use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .numbers import Unit, ratio, significant

if TYPE_CHECKING:
    from rich.table import Table

WHOSE = {"device": "allocated on the device", "process": "resident set of the process"}
SMALL = 0.01
"""Money below which a run's is shown for 1,000 of them, and joules below a tenth of a kilojoule as they are."""


def cost_units(result: Mapping[str, Any]) -> dict[str, Unit]:
    """Units of money, energy and memory, without suffixes: these stand in the headings, see `cost_words`."""
    thousand, joules = _small(result)
    return {
        "money": Unit(scale=1000 if thousand else 1),
        "energy": Unit(scale=1 if joules else 1e-3),
        "memory": Unit(scale=1e-9, decimals=2),
    }


def cost_words(result: Mapping[str, Any]) -> dict[str, str]:
    """What the headings say: "money" (its currency, "" without prices), "energy" ("" without meters), "memory" (whose)."""
    costs = result.get("costs") or {"arms": {}, "currency": None}
    thousand, joules = _small(result)
    entries = costs["arms"].values()
    whose = sorted({entry["memory"]["of"] for entry in entries if entry["memory"] is not None})
    return {
        "money": "" if costs["currency"] is None else f"{costs['currency']}{', 1,000 runs' if thousand else ''}",
        "energy": "" if not any(entry["energy"] for entry in entries) else "J" if joules else "kJ",
        "memory": " or ".join(WHOSE[name] for name in whose),
    }


def _small(result: Mapping[str, Any]) -> tuple[bool, bool]:
    costs = result.get("costs") or {"arms": {}}

    def largest(axis: str) -> float:
        return max((e[axis]["value"] or 0.0 for e in costs["arms"].values() if e[axis]), default=0.0)

    return largest("money") < SMALL, largest("energy") < 100.0


def cost_table(result: Mapping[str, Any]) -> Table:
    """A row an arm: what its runs take for the quality of the baseline's longest, on each axis that is known."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    costs, units, words = result["costs"], cost_units(result), cost_words(result)
    at = f"Cost at equal quality ({result['baseline']} at {costs['at']['duration']}; arms by their speed-up over the whole range)"
    table = Table(box=SIMPLE_HEAD, title=Text(at), title_justify="left", pad_edge=False)
    table.add_column("arm", overflow="fold")
    headings = [
        "seconds",
        *([words["money"]] if words["money"] else []),
        *([words["energy"]] if words["energy"] else []),
    ]
    for heading in (*headings, "over baseline", f"peak memory, GB ({words['memory']})" if words["memory"] else ""):
        if heading:
            table.add_column(heading, justify="right")
    for name, entry in costs["arms"].items():
        cells = [_shown(Unit(), entry["seconds"])]
        cells += [_shown(units[axis], entry[axis]) for axis in ("money", "energy") if words[axis]]
        cells.append(_ratio(entry["seconds"]))
        if words["memory"]:
            cells.append("-" if entry["memory"] is None else units["memory"].show(entry["memory"]["value"]))
        table.add_row(Text(name), *cells)
    return table


def _shown(unit: Unit, entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None or entry["value"] is None else unit.show(entry["value"])


def _ratio(seconds: Mapping[str, Any] | None) -> str:
    known = seconds is not None and seconds.get("ratio") is not None
    return ratio(seconds["ratio"]) if known and seconds is not None else ""


def reuse_lines(result: Mapping[str, Any]) -> list[str]:
    """A sentence for every arm that re-uses earlier runs: marginal, full, and from which re-use on it pays."""
    found = []
    for name, entry in (result.get("costs") or {"arms": {}})["arms"].items():
        reuse = entry["reuse"]
        if reuse is None:
            continue
        begun = f"{name} re-uses {len(reuse['runs'])} earlier run{'' if len(reuse['runs']) == 1 else 's'}"
        if reuse["full"] is None or reuse["full"]["ratio"] is None:
            found.append(f"{begun}; {reuse['reason'] or 'without a speed-up its full cost is not known'}")
            continue
        pays = reuse["break_even"]
        ends = f" ({pays['low'] or 'never'} to {pays['high'] or 'never'})"
        uses = (
            f"it pays from re-use {pays['uses']} on{ends}"
            if pays["uses"]
            else "it saves nothing that could pay for them"
        )
        found.append(
            f"{begun} ({significant(reuse['earlier_seconds'])} s): {ratio(reuse['marginal']['ratio'])} of the baseline's time if "
            f"they are free, {ratio(reuse['full']['ratio'])} if they are charged to one run; {uses}"
        )
    return found
