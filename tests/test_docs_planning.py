"""The figures in docs/planning.md are those of the stored simulations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLANS = ("obrien-fleming", "pocock", "naive")


def lines(name: str) -> list[dict[str, Any]]:
    text = (ROOT / "benchmarks" / "results" / f"{name}.jsonl").read_text(encoding="utf8")
    return [json.loads(line) for line in text.splitlines()]


def share(entry: dict[str, Any]) -> str:
    """A rate with its exact 99 % bounds."""
    return f"{100 * entry['rate']:.1f} % ({100 * entry['at_least']:.1f} to {100 * entry['at_most']:.1f})"


def looks_table() -> list[str]:
    rows = ["| study | obrien-fleming | pocock | naive |", "|---|---|---|---|"]
    for line in lines("looks"):
        seeds = "" if line["setting"].startswith("null") else ", {:.1f} seeds"
        cells = [share(line[plan]) + seeds.format(line[plan]["mean_seeds"]) for plan in PLANS]
        rows.append(f"| {line['setting'].replace('null', 'no difference')} | {' | '.join(cells)} |")
    return rows


def power_table() -> list[str]:
    rows = ["| planned study | speed-up | seeds | found |", "|---|---|---|---|"]
    for line in lines("plan_power"):
        asked = line["seeds"]
        seeds = f"{asked}" if isinstance(asked, int) else f"{asked[1]:g} ({asked[0]:g} to {asked[2]:g})"
        effect = "none" if line.get("truth") == 1.0 else f"{line['effect']:.3g}"
        rows.append(f"| {line['setting']} | {effect} | {seeds} | {share(line)} |")
    return rows


def test_every_row_of_both_tables_is_in_the_document() -> None:
    text = (ROOT / "docs" / "planning.md").read_text(encoding="utf8").splitlines()
    for row in (*looks_table(), *power_table()):
        assert row in text, row


def test_looks_keep_the_error_rate_and_naive_peeking_does_not() -> None:
    """Of the stored figures: no exact 99 % bound of declared looks lies beyond 5 %, and every one of naive ones does."""
    null = [line for line in lines("looks") if line["setting"].startswith("null")]
    assert len(null) == 4 and all(line["reps"] >= 1000 for line in null)
    for line in null:
        assert line["obrien-fleming"]["at_least"] <= 0.05 and line["pocock"]["at_least"] <= 0.05, line
        assert line["naive"]["at_least"] > 0.05, line


def test_planning_from_a_pilot_makes_no_false_findings() -> None:
    (null,) = [line for line in lines("plan_power") if line.get("truth") == 1.0]
    assert null["reps"] >= 1000 and null["at_least"] <= 0.05
