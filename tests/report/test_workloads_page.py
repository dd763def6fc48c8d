"""The page of several workloads: every figure is in its twin, names are escaped, pictures hold profiles and intervals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from page import Page, agrees, at
from rich.console import Console
from sample_workloads import sample

from reinvest.core.errors import InvalidValue
from reinvest.report.workloads import forest_figure, print_workloads, profile_figure, render_workloads, summary


@pytest.fixture
def result() -> dict[str, Any]:
    return sample()


def test_every_figure_on_the_page_is_in_the_twin_and_names_are_escaped(result: dict[str, Any]) -> None:
    text = render_workloads(result)
    page = Page(text)
    assert len(page.figures) > 25
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result
    body = text[: text.index("<script>")]
    assert "<i>b" not in body and "&lt;i&gt;b" in body and "<b>title" not in body and "<too few>" not in body


def test_a_profile_is_a_staircase_that_ends_at_its_share(result: dict[str, Any]) -> None:
    figure = profile_figure(result)
    lines = {t.meta["path"]: t for t in figure.data if t.meta["kind"] == "profile"}
    a, b = lines["/profiles/a"], lines["/profiles/<i>b"]
    assert list(a.x)[1:7] == [0.25, 0.25, 0.8, 0.8, 1.0, 1.0] and list(a.y)[-1] == 1.0
    assert list(b.y)[-1] == pytest.approx(2 / 3) and b.y[0] == 0.0
    assert a.line.dash != b.line.dash and "<i>" not in b.name
    (plain,) = [t for t in figure.data if t.meta["kind"] == "baseline"]
    assert list(plain.x)[1:3] == [1.0, 1.0]


def test_the_forest_has_a_row_for_each_entry_and_each_mean(result: dict[str, Any]) -> None:
    figure = forest_figure(result)
    drawn = [t.meta["path"] for t in figure.data if t.meta["kind"] == "interval"]
    assert len(drawn) == 6 and drawn[-1] == "/means/a"
    assert sum("not comparable" in a.text for a in figure.layout.annotations) == 1
    assert [True in t.meta["open"] for t in figure.data if t.meta["kind"] == "interval"].count(True) == 1


def test_the_terminal_has_rows_counts_and_means(result: dict[str, Any]) -> None:
    console = Console(record=True, width=120)
    print_workloads(result, console)
    text = " ".join(console.export_text().split())
    for expected in ("birds <1>", "at least 4.00", "0.400 to 0.600", "mean speed-up 1.20", "no claim: <few>"):
        assert expected in text
    assert "in 3 of 3" in summary(result, "a") and "in 1 of 3" in summary(result, "<i>b")


def test_other_results_are_refused() -> None:
    with pytest.raises(InvalidValue, match="reinvest workloads --out wrote"):
        render_workloads({"kind": "comparison"})
