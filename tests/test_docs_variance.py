"""docs/variance.md is the page that its writer makes of the stored figures, and says what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from page_writers import writer_of

ROOT = Path(__file__).parents[1]
LINES = [
    json.loads(line) for line in (ROOT / "benchmarks/results/variance_sources.jsonl").read_text("utf8").splitlines()
][1:]
PAGE = (ROOT / "docs" / "variance.md").read_text("utf8")


def of(what: str) -> list[dict[str, Any]]:
    return [line for line in LINES if line["what"] == what]


def points(value: float) -> str:
    return f"{100 * value:.2f}"


def test_the_page_is_the_one_that_is_written_from_the_stored_lines() -> None:
    assert writer_of("variance_sources").page() == PAGE


def test_every_stored_figure_has_a_row() -> None:
    kinds = ("spread of runs", "source", "pair", "coverage at 95 %")
    kinds += ("equal sources told apart", "unequal sources told apart")
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    for line in of("source"):
        assert any(row.startswith(f"| {line['recipe']} | {line['free']} | {points(line['sd'])} (") for row in rows), (
            line
        )
    for line in of("pair"):
        assert any(f"| {line['ratio']:.2f} | {line['low']:.2f} to {line['high']:.2f} |" in row for row in rows), line
    for line in of("equal sources told apart"):
        start = f"| {line['values']} | {line['sources']} | {line['runs']} | {100 * line['rate']:.1f} % ("
        assert any(row.startswith(start) for row in rows), line
    assert all(of(kind) for kind in kinds) and sum(len(of(kind)) for kind in kinds) < len(rows)


def test_equal_sources_are_told_apart_no_more_often_than_the_page_says() -> None:
    """By the exact 99 % bounds of 4,000 studies: 5 %, and for values as skewed as an exponential what the page says."""
    equal = of("equal sources told apart")
    for line in equal:
        assert line["studies"] == 4000, line
        assert line["at_least"] <= 0.05 or line["values"].startswith("skewed"), line
    worst = max(line["rate"] for line in equal)
    assert f"as skewed as an exponential it is up to {100 * worst:.1f} %" in PAGE and worst < 0.07
    assert max(line["by_f"] for line in equal) > 0.2, "the F interval would not do"


def test_the_runs_that_are_said_to_tell_do() -> None:
    for line in of("unequal sources told apart"):
        assert line["at_most"] > 0.75 and line["at_least"] < 0.9, line
