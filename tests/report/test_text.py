"""The verdicts in the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from sample_results import HOSTILE, every_kind

from reinvest.report.text import print_verdicts, verdict_table


def printed(result: dict[str, Any], width: int = 140) -> str:
    out = io.StringIO()
    print_verdicts(result, Console(file=out, width=width))
    return out.getvalue()


def test_every_arm_has_a_row_and_a_sentence() -> None:
    result = every_kind()
    text = printed(result, 400)
    judged = {n: a["verdict"] for n, a in result["arms"].items() if a["verdict"] is not None}
    assert verdict_table(result).row_count == len(judged) == 6
    for name, verdict in judged.items():
        assert f"{name}: {verdict['sentence']}" in text


def test_open_ends_read_at_least_and_refusals_have_no_interval() -> None:
    rows = {
        line.split("  ")[0].strip(): line for line in printed(every_kind(), 300).splitlines() if "  " in line.strip()
    }
    assert "at least 4.00" in rows["teacher"]
    assert "open" not in rows["two seeds only"]
    assert "1.27" in rows["EMA"]


def cells(result: dict[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Headings of the table, and the cells of every arm's row."""
    table = verdict_table(result)
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    rows = list(zip(*columns, strict=True))
    return [str(column.header) for column in table.columns], {row[0]: list(row) for row in rows}


def test_seeds_to_decide_stand_where_nothing_is_decided_and_are_explained_there() -> None:
    result = every_kind()
    headings, rows = cells(result)
    place = headings.index("seeds to decide")
    for name, arm in result["arms"].items():
        if arm["verdict"] is not None:
            undecided = arm["verdict"]["verdict"] == "inconclusive"
            needed = arm["verdict"]["seeds_needed"]
            assert rows[name][place] == ("" if not undecided else "-" if needed is None else f"{needed:,}"), name
    assert "runs an arm and duration" in printed(result, 300)
    result["arms"] = {n: a for n, a in result["arms"].items() if (a["verdict"] or {}).get("verdict") != "inconclusive"}
    assert "seeds to decide" not in cells(result)[0] and "runs an arm and duration" not in printed(result, 300)


def test_without_an_estimate_the_bound_is_the_speed_up() -> None:
    result = every_kind()
    headings, rows = cells(result)
    place = headings.index("speed-up")
    assert result["arms"]["teacher"]["verdict"]["speedup"] is None and rows["teacher"][place] == "at least 4.00"
    result["arms"]["teacher"]["verdict"].update(low=None, high=0.25)
    assert cells(result)[1]["teacher"][place] == "at most 0.250"
    result["arms"]["teacher"]["verdict"].update(low=None, high=None)
    assert cells(result)[1]["teacher"][place] == "-"
    assert rows["two seeds only"][place] == ""


@pytest.mark.parametrize(
    ("metric", "heading", "shown"),
    [
        ("accuracy", "gain at equal time, points", "+11.32"),
        ("test_accuracy", "gain at equal time, points", "+11.32"),
        ("val/acc", "gain at equal time, points", "+11.32"),
        ("mean_iou", "gain at equal time, mean_iou", "+0.113"),
        ("loss", "gain at equal time, loss", "+0.113"),
    ],
)
def test_a_gain_has_the_unit_of_its_metric(metric: str, heading: str, shown: str) -> None:
    result = every_kind()
    result["task"]["metric"] = metric
    result["arms"]["EMA"]["verdict"]["gain"] = 0.1132
    headings, rows = cells(result)
    assert rows["EMA"][headings.index(heading)] == shown


def test_markup_in_names_is_text() -> None:
    result = every_kind()
    result["arms"]["[red]x[/]"] = result["arms"].pop("EMA")
    result["title"] = "[bold]title"
    text = printed(result, 300)
    assert "[red]x[/]" in text
    assert "[bold]title" in text
    assert HOSTILE in text


def test_a_flag_that_all_arms_carry_is_said_once() -> None:
    text = printed(every_kind(timed=False), 300)
    assert text.count("timing not checked: seconds are taken as given") == 1


def test_it_fits_a_narrow_terminal() -> None:
    assert all(len(line) <= 80 for line in printed(every_kind(), 80).splitlines())


def test_nothing_of_it_needs_more_than_ascii_in_a_plain_terminal() -> None:
    result = every_kind()
    result["arms"] = {n: a for n, a in result["arms"].items() if n != HOSTILE}
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    print_verdicts(result, Console(file=stream, width=120))
    assert b"teacher" in raw.getvalue()
