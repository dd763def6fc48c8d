"""docs/variance.md says the figures of the stored benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINES = [
    json.loads(line) for line in (ROOT / "benchmarks/results/variance_sources.jsonl").read_text("utf8").splitlines()
][1:]
PAGE = (ROOT / "docs" / "variance.md").read_text("utf8")


def of(what: str) -> list[dict[str, Any]]:
    return [line for line in LINES if line["what"] == what]


def points(value: float) -> str:
    return f"{100 * value:.2f}"


def test_every_row_of_the_page_is_a_stored_figure() -> None:
    rows = []
    for line in of("spread of runs"):
        between = f"{points(line['between_runs_sd'])} ({points(line['between_runs_low'])} to {points(line['between_runs_high'])})"
        observed = f"{points(line['sd'])} ({points(line['sd_low'])} to {points(line['sd_high'])})"
        rows.append(
            f"| {line['recipe']} | {points(line['mean'])} % | {observed} | {points(line['predicted_sd'])} | "
            f"{points(line['floor'])} | {between} | {points(line['churn'])} % |"
        )
    for line in of("source"):
        share = "" if line["share"] is None else f"{100 * line['share']:.0f} %"
        ends = "" if line["share"] is None else f"{100 * line['share_low']:.0f} to {100 * line['share_high']:.0f} %"
        rows.append(f"| {line['recipe']} | {line['free']} | {points(line['sd'])} | {share} | {ends} |")
    for line in of("coverage at 95 %"):
        bca = "" if line["bca"] is None else f"{100 * line['bca']:.1f} %"
        rows.append(f"| {line['values']} | {line['runs']} | {100 * line['t']:.1f} % | {bca} |")
    missing = [row for row in rows if row not in PAGE]
    assert not missing, "\n".join(missing)
    assert sum(
        line.startswith(("| plain", "| augmented", "| normal", "| skewed")) for line in PAGE.splitlines()
    ) == len(rows)
