"""The page of outcomes: every figure is in its twin, names are escaped, pictures hold the figures."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from page import Page, agrees, at
from rich.console import Console
from sample_outcomes import outcomes_result, positions_result

from reinvest.core.errors import InvalidValue
from reinvest.report.outcome_charts import (
    accuracy_figure,
    churn_figure,
    consistency_figure,
    groups_figure,
    run_names,
)
from reinvest.report.outcomes import SHOWN, print_outcomes, render_outcomes, write_outcomes


@pytest.fixture
def result() -> dict[str, Any]:
    return outcomes_result()


@pytest.mark.parametrize("groups", [True, False])
def test_every_figure_on_the_page_is_in_the_twin(groups: bool) -> None:
    result = outcomes_result(groups=groups)
    page = Page(render_outcomes(result))
    assert len(page.figures) > 60
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result
    assert ("By subgroup" in page.text) == groups


def test_names_are_escaped_and_what_was_found_is_said(result: dict[str, Any]) -> None:
    text = render_outcomes(result)
    body = text[: text.index("<script>")]
    assert "<b>cat" not in body and "&lt;b&gt;cat" in body
    assert "<i>dark" not in body and "&lt;i&gt;dark" in body
    shown = Page(text).text
    for part in ("Two runs differ on", "Too <few> runs.", "has no vote: diverged", "same logits bit for bit"):
        assert part in shown, part


def test_the_accuracies_lie_on_their_intervals_over_the_bands_of_luck(result: dict[str, Any]) -> None:
    figure = accuracy_figure(result)
    (dots,) = figure.data
    assert list(dots.x) == [run["accuracy"] for run in result["runs"]]
    assert dots.x[0] + dots.error_x.array[0] == pytest.approx(result["runs"][0]["high"])
    assert dots.x[0] - dots.error_x.arrayminus[0] == pytest.approx(result["runs"][0]["low"])
    bands = {shape.name: shape for shape in figure.layout.shapes if shape.name}
    spread, middle = result["whole"]["spread"], result["whole"]["accuracy"]
    assert bands["band"].x1 - middle == pytest.approx(1.96 * spread["sampling_sd"])
    assert middle - bands["floor"].x0 == pytest.approx(1.96 * spread["floor"])
    assert list(figure.layout.yaxis.ticktext) == ["seed 0", "seed 1", "seed 2", "seed 3"]


def test_the_histogram_holds_every_example_and_marks_the_arbitrary(result: dict[str, Any]) -> None:
    figure = consistency_figure(result)
    (bars,) = figure.data
    assert [round(y * result["examples"]) for y in bars.y] == result["histogram"]
    colours = list(bars.marker.color)
    assert colours[:12] == [colours[0]] * 12 and colours[12:] == [colours[-1]] * 8 and colours[0] != colours[-1]


def test_a_bar_that_dwarfs_the_others_is_cut_and_says_its_height() -> None:
    result = outcomes_result()
    result["histogram"] = [0] * 10 + [2] + [0] * 8 + [88]
    figure = consistency_figure(result)
    assert figure.layout.yaxis.range[1] == pytest.approx(1.3 * 2 / 90)
    assert [note.text for note in figure.layout.annotations] == ["97.8 % ↑"]
    result["histogram"] = [0] * 19 + [90]
    figure = consistency_figure(result)
    assert figure.layout.yaxis.range[1] > 1 and not figure.layout.annotations


def test_the_churn_of_pairs_is_drawn_and_written(result: dict[str, Any]) -> None:
    figure = churn_figure(result)
    churn = result["churn"]
    assert figure.data[0].z[0][0] is None and figure.data[0].z[0][1] == churn[0][1] == figure.data[0].z[1][0]
    assert figure.data[0].zmin == 0.0 and figure.data[0].zmax == max(map(max, churn))
    assert len(figure.layout.annotations) == 12
    many = churn_figure(outcomes_result(runs=14))
    assert not many.layout.annotations and len(many.layout.xaxis.tickvals) == 7


def test_classes_are_drawn_by_how_far_they_divide_the_runs() -> None:
    result = outcomes_result(size=300, classes=50)
    bars, marks = groups_figure(result, "by_class").data
    assert len(bars.x) == 40 and list(bars.x) == sorted((g["churn"] for g in result["by_class"]), reverse=True)[:40]
    first = max(result["by_class"], key=lambda g: g["churn"])
    assert marks.x[0] == first["arbitrary"]
    text = Page(render_outcomes(result)).text
    assert "The 40 most divided of 50." in text and "All 50 classes" in text


def test_runs_are_called_by_their_ids_where_seeds_do_not_tell_them_apart(result: dict[str, Any]) -> None:
    assert run_names(result)[1] == "seed 1"
    result["runs"][1]["seed"] = 0
    assert run_names(result) == ["11111111", "22222222", "33333333", "44444444"]
    result["runs"][1]["seed"] = None
    assert run_names(result)[0] == "11111111"


def test_runs_that_agree_on_everything_have_a_page_too() -> None:
    result = outcomes_result()
    result["disputed"] = []
    result["churn"] = [[0.0] * 4] * 4
    assert "None: all runs say the same of every example." in Page(render_outcomes(result)).text
    assert churn_figure(result).data[0].zmax == 1.0


def test_many_disputed_examples_are_folded_away(result: dict[str, Any]) -> None:
    assert len(result["disputed"]) > SHOWN
    assert f"{len(result['disputed']) - SHOWN} more" in Page(render_outcomes(result)).text


def test_the_terminal_says_the_same(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(record=True, width=160, force_terminal=False)
    print_outcomes(result, console)
    text = console.export_text()
    first = result["disputed"][0]
    for part in (
        "Outcomes: 4 runs of pets net",
        f"{100 * result['runs'][0]['accuracy']:.2f} %",
        "<b>cat",
        "<i>dark",
        "too <few> runs",
        "no vote: run beef, seed 9: diverged",
        str(first["id"]),
        *result["statements"],
    ):
        assert part in text, part


def test_other_results_are_refused(result: dict[str, Any], tmp_path: Any) -> None:
    with pytest.raises(InvalidValue, match="drawn from their result, got kind 'ablation'"):
        render_outcomes({"kind": "ablation"})
    assert write_outcomes(result, tmp_path / "o.html").stat().st_size > 10**6


def test_a_page_about_pixels_counts_positions() -> None:
    result = positions_result()
    page = Page(render_outcomes(result))
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    for part in ("labelled positions of the 30", "<b>sky", "agree on a position", "an example's positions"):
        assert part in page.text, part
    assert "binomial" not in page.text.lower() and "Votes: class" not in page.text
    bars = consistency_figure(result).data[0]
    assert bars.name == "positions" and sum(bars.y) == pytest.approx(1.0)
    console = Console(record=True, width=160, file=io.StringIO())
    print_outcomes(result, console)
    text = console.export_text()
    assert "two runs agree on" in text and "positions" in text and "votes" not in text
