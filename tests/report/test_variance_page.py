"""The page of a variance: every figure is in its twin, names are escaped, pictures hold the figures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from page import Page, agrees, at
from sample_variance import variance_result

from reinvest.core.errors import InvalidValue
from reinvest.report.variance import (
    RUNS,
    has_pairs,
    pairs_table,
    print_variance,
    render_variance,
    table_rows,
    write_variance,
)
from reinvest.report.variance_charts import against_figure, agreement_figure, sources_figure, spread_figure


@pytest.fixture
def result() -> dict[str, Any]:
    return variance_result()


@pytest.mark.parametrize("sources", [True, False])
@pytest.mark.parametrize("accuracy", [True, False])
def test_every_figure_on_the_page_is_in_the_twin(sources: bool, accuracy: bool) -> None:
    result = variance_result(sources=sources, accuracy=accuracy)
    page = Page(render_variance(result))
    assert len(page.figures) > 40
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result
    assert ("Which source of randomness makes runs differ" in page.text) == sources
    assert ("Binomial" in page.text) == accuracy
    assert set(json.loads(page.scripts["pictures"])) == {"spread"} | ({"sources"} if sources else set()) | (
        {"agreement", "against"} if accuracy else set()
    )


def test_names_are_escaped_and_what_was_found_is_said(result: dict[str, Any]) -> None:
    text = render_variance(result)
    body = text[: text.index("<script>")]
    assert "<b>pets" not in body and "&lt;b&gt;pets" in body
    shown = Page(text).text
    for part in (
        "Too <few> runs.",
        "was left out: interrupted",
        "1 of 13 runs diverged",
        "Left over",
        "With which of two runs vary more",
        "<i>pets other (duration 2ep)",
    ):
        assert part in shown, part


def test_dots_are_the_runs_and_curves_the_spreads(result: dict[str, Any]) -> None:
    figure = spread_figure(result)
    *curves, dots = figure.data
    assert list(dots.x) == [run["value"] for run in result["runs"]] and max(dots.y) < 0
    assert [curve.meta["path"] for curve in curves] == ["/summary/sd", "/test/predicted_sd", "/test/floor"]
    for curve in curves:
        sd, middle = at(result, curve.meta["path"]), result["summary"]["mean"]
        k = 80
        ratio = curve.y[k] / curve.y[60]
        assert ratio == pytest.approx(math.exp(-0.5 * ((curve.x[k] - middle) / sd) ** 2))
    band = next(shape for shape in figure.layout.shapes if shape.name == "/summary/low")
    assert (band.x0, band.x1) == (result["summary"]["low"], result["summary"]["high"])
    assert max(y for curve in curves for y in curve.y) == pytest.approx(1.0)


def test_equal_runs_are_stacked_and_have_a_picture() -> None:
    result = variance_result(4)
    result["summary"] |= {"sd": 0.0, "mean": 0.9, "low": 0.9, "high": 0.9}
    for run in result["runs"]:
        run["value"] = 0.9
    dots = spread_figure(result).data[-1]
    assert sorted(dots.y, reverse=True) == pytest.approx([-0.07 - 0.075 * k for k in range(4)])


def test_sources_are_drawn_with_their_intervals(result: dict[str, Any]) -> None:
    figure = sources_figure(result)
    paths = [trace.meta["path"] for trace in figure.data]
    assert paths == ["/" + "/".join(map(str, row)) for row in table_rows(result)]
    for trace in figure.data:
        part = at(result, trace.meta["path"])
        assert trace.x[0] == pytest.approx(100 * part["sd"])
        assert trace.x[0] + trace.error_x.array[0] == pytest.approx(100 * part["sd_high"])
        assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(100 * part["sd_low"])


def test_two_recipes_are_drawn_run_by_run_with_their_means(result: dict[str, Any]) -> None:
    figure = against_figure(result)
    runs, mean, other_runs, other_mean = figure.data
    assert list(runs.x) == [run["value"] for run in result["runs"]]
    assert list(other_runs.x) == result["against"]["values"]
    for trace in (mean, other_mean):
        summary = at(result, trace.meta["path"])
        assert list(trace.x) == [summary["low"], summary["mean"], summary["high"]]
    assert len({*runs.y, *mean.y, *other_runs.y, *other_mean.y}) == 4
    assert "&lt;i&gt;" in figure.layout.yaxis.ticktext[0]


def test_the_curve_of_agreement_is_cut_above_what_divides_the_runs(result: dict[str, Any]) -> None:
    figure = agreement_figure(result)
    (curve,) = figure.data
    assert list(curve.x) == [0.0, 0.2, 0.5, 0.9, 1.0]
    assert [row[0] for row in curve.customdata] == [0.0, 0.01, 0.04, 0.12, 1.0]
    assert figure.layout.yaxis.range[1] == pytest.approx(1.15 * 0.12) and curve.line.shape == "hv"


def test_a_page_is_drawn_without_torch() -> None:
    code = "import sys, reinvest.report.variance, reinvest.report.variance_charts; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_many_runs_are_folded_away() -> None:
    assert f"{5} more" in Page(render_variance(variance_result(RUNS + 5))).text


def test_the_terminal_says_the_same(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(record=True, width=160, force_terminal=False)
    print_variance(result, console)
    text = console.export_text()
    for part in (
        result["title"],
        "initial weights",
        "left over",
        "<i>pets other",
        "told apart",
        "too <few> runs",
        "beef",
    ):
        assert (part in text) == (part != "beef"), part
    for statement in result["statements"]:
        assert statement[:60] in text


def test_pairs_say_whether_they_are_told_apart(result: dict[str, Any]) -> None:
    from rich.console import Console

    pairs = result["sources"]["compared"]["pairs"]
    assert {bool(pair["larger"]) for pair in pairs} == {True, False}
    console = Console(record=True, width=200, force_terminal=False)
    console.print(pairs_table(result))
    rows = [line for line in console.export_text().splitlines() if " to " in line]
    assert [
        (" yes " in row, f"{pair['low']:.2f} to {pair['high']:.2f}" in row)
        for row, pair in zip(rows, pairs, strict=True)
    ] == [(bool(pair["larger"]), True) for pair in pairs]
    # Below five runs each there is no such table, on the page or in the terminal.
    few = variance_result(each=3)
    assert not has_pairs(few) and "With which of two runs vary more" not in Page(render_variance(few)).text
    assert not has_pairs(variance_result(sources=False))


def test_other_results_are_refused(result: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="drawn from its result, got kind 'ablation'"):
        render_variance({"kind": "ablation"})
    assert write_variance(result, tmp_path / "v.html").stat().st_size > 10**6
