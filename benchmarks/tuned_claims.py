"""Print the table of docs/tuning.md: two claims about recipes beside the claims about the methods, all arms tuned.

python -m benchmarks.tuned_claims
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.planted_table import table

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "tuning_cifar10.json"
CLAIMS = {"label smoothing": "label_smoothing", "progressive resizing": "progressive_resizing"}
HEAD = ("arm", "the recipe, tuned baseline", "the method, both tuned", "could have seen", "budget", "what won")


def said(verdict: Mapping[str, Any]) -> str:
    """A verdict with its speed-up and interval."""
    if verdict["speedup"] is None:
        return str(verdict["verdict"])
    low, high = ("open" if verdict[end] is None else f"{verdict[end]:.3g}" for end in ("low", "high"))
    return f"{verdict['verdict']}, {verdict['speedup']:.3g} ({low} to {high})"


def winners_of(arm: Mapping[str, Any]) -> str:
    """The tuned values that won, from the smallest to the largest, or how often each choice did."""
    parts = []
    for path in arm["space"]:
        values = [winner["values"][path] for winner in arm["winners"]]
        name = path.rpartition(".")[2].replace("_", " ")
        low, high = min(values), max(values)
        parts.append(f"{name} {low:.2g}" + ("" if low == high else f" to {high:.2g}"))
    return ", ".join(parts)


def rows_of(result: Mapping[str, Any]) -> list[Sequence[str]]:
    """One row an arm: the baseline's has no verdicts."""
    rows: list[Sequence[str]] = []
    for name, arm in result["arms"].items():
        budget = f"{arm['budget']['trials']} trials, {arm['budget']['seconds']:.0f} s"
        verdict, seen, claim = arm["verdict"], "", ""
        if name in CLAIMS:
            stored = json.loads((ROOT / "claims" / f"{CLAIMS[name]}.json").read_text(encoding="utf8"))
            claim, seen = said(stored["arms"][name]["verdict"]), f"{verdict['smallest_effect']:.3g}"
        rows.append([name, claim, said(verdict) if verdict else "", seen, budget, winners_of(arm)])
    return rows


def page_table() -> str:
    """The table as the page has it."""
    return "\n".join(table(HEAD, rows_of(json.loads(RESULT.read_text(encoding="utf8")))))


if __name__ == "__main__":
    print(page_table())
