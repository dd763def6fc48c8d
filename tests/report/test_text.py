"""The verdicts in the terminal."""

from __future__ import annotations

import io
from typing import Any

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
