"""Write docs/methods.md from the catalogue, the measured costs and the stored comparisons.

python -m benchmarks.method_table [--out docs/methods.md]

Costs are those of benchmarks/results/method_costs.jsonl (python -m benchmarks.method_costs). Verdicts are those of stored
comparisons (benchmarks/results and claims) in which an arm differs from the baseline by one method and nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reinvest.core.method import PHASES
from reinvest.core.names import catalogue

ROOT = Path(__file__).parents[1]
COSTS = ROOT / "benchmarks" / "results" / "method_costs.jsonl"
FOLDERS = (ROOT / "claims", ROOT / "benchmarks" / "results")
HEAD = """# The methods

Written by `python -m benchmarks.method_table` from the catalogue, the measured costs and the stored comparisons; a test
compares. `reinvest methods NAME` shows a method's whole card: source, arguments, when it fails.

- **Step**: seconds of a step with the method, plain step = 1, with its 95 % interval: CPU time, one thread, all methods
  interleaved in one process (`python -m benchmarks.method_costs`; {about}). It says nothing about quality.
- **Verdict**: of stored comparisons at desk size on the recipe named there: the same settings in both arms, not tuned for
  each, so about these recipes and not about the method at its best. A dash: none has been run.
"""


def costs() -> tuple[dict[str, dict[str, Any]], str]:
    """({method: line of the benchmark}, what was measured on)."""
    if not COSTS.exists():
        return {}, "not measured yet"
    lines = [json.loads(line) for line in COSTS.read_text(encoding="utf8").splitlines()]
    facts: dict[str, Any] = next((line["facts"] for line in lines if "facts" in line), {})
    found = {line["method"]: line for line in lines if "method" in line}
    cpu = facts.get("hardware", {}).get("cpu", "unknown CPU")
    return found, f"{cpu}, torch {facts.get('software', {}).get('torch', '?')}"


def verdicts() -> dict[str, list[str]]:
    """{method: ["verdict speed-up (low to high), task", ...]} with links, from every stored comparison."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted(folder.glob("*.json")):
            result = json.loads(path.read_text(encoding="utf8"))
            if isinstance(result, dict) and result.get("kind") == "comparison":
                for method, text in judged(result):
                    link = path.relative_to(ROOT).as_posix()
                    found.setdefault(method, []).append(f"[{text}](../{link})")
    return found


def judged(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(method, verdict in words) of the arms that are the baseline and one method."""
    base = result["arms"][result["baseline"]]["recipe"]
    for arm in result["arms"].values():
        recipe, judgement = arm["recipe"], arm["verdict"]
        if base is None or recipe is None or judgement is None:
            continue
        rest = {k: v for k, v in recipe.items() if k not in ("methods", "duration")}
        same = rest == {k: v for k, v in base.items() if k not in ("methods", "duration")}
        added = [m for m in recipe["methods"] if m not in base["methods"]]
        if same and len(added) == 1 and len(recipe["methods"]) == len(base["methods"]) + 1:
            yield added[0]["name"], words(judgement, result["task"]["name"])


def words(judgement: dict[str, Any], task: str) -> str:
    """A verdict in a table cell."""
    value, low, high = (judgement[k] for k in ("speedup", "low", "high"))
    if value is None:
        return f"{judgement['verdict']}, {task}"
    ends = " to ".join("open" if v is None else f"{v:.3g}" for v in (low, high))
    return f"{judgement['verdict']} {value:.3g} ({ends}), {task}"


def step_text(cost: dict[str, Any] | None) -> str:
    """The measured cost of a step in a table cell."""
    if cost is None:
        return "–"
    low, high = cost["interval"]
    given = ", ".join(f"{k} {v}" for k, v in cost["arguments"].items())
    step = f"{cost['ratio']:.3g} ({low:.3g} to {high:.3g})" + (f"; {given}" if given else "")
    return step if cost["model"] == "resnet8" else f"{step}; {cost['model']}"


def watch_row(name: str, method: Any, cost: dict[str, Any] | None) -> str:
    """The line of a method that only watches."""
    card = method.card
    return f"| `{name}` | {card.title} | {', '.join(card.domains)} | {step_text(cost)} |"


def row(name: str, method: Any, cost: dict[str, Any] | None, told: list[str]) -> str:
    """One method's line."""
    card = method.card
    source = f"[{card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv != "none" else "no arXiv id"
    neutral = ", ".join(f"{k} = {v}" for k, v in method.neutral.items())
    cells = (
        f"`{name}`",
        f"{card.paper} ({card.year}), {source}",
        ", ".join(card.domains),
        step_text(cost),
        ", ".join(f"`{c}`" for c in card.conflicts) or "–",
        neutral,
        "; ".join(told) or "–",
    )
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def table() -> str:
    """The whole page."""
    measured, about = costs()
    told = verdicts()
    known: dict[str, Any] = catalogue("method")
    watching = {n: m for n, m in known.items() if m.diagnostic}
    methods = {n: m for n, m in known.items() if not m.diagnostic}
    counted = [m for m in methods.values() if not m.card.experimental]
    lines = [
        HEAD.format(about=about),
        f"{len(counted)} methods, and {len(methods) - len(counted)} experimental ones.",
        "",
    ]
    if watching:
        lines += ["## diagnostics", "", "They watch, and change nothing in training.", ""]
        lines += ["| method | what it does | domains | step |", "|---|---|---|---|"]
        lines += [watch_row(n, m, measured.get(n)) for n, m in watching.items()] + [""]
    for tier, title in ((False, "{}"), (True, "{} (experimental)")):
        for phase in ("start", *PHASES):
            chosen = {n: m for n, m in methods.items() if m.card.phase == phase and m.card.experimental is tier}
            if chosen:
                lines += [f"## {title.format(phase)}", ""]
                lines += [
                    "| method | source | domains | step | excludes | neutral at | verdict |",
                    "|---|---|---|---|---|---|---|",
                ]
                lines += [row(n, m, measured.get(n), told.get(n, [])) for n, m in chosen.items()] + [""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "methods.md")
    parser.parse_args().out.write_text(table(), encoding="utf8")


if __name__ == "__main__":
    main()
