"""The page of a plan: every figure is in its twin, names are escaped, pictures hold effects, costs and noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page import Page, agrees, at
from sample_plan import plan_result, unknown_noise

from reinvest.core.errors import InvalidValue
from reinvest.report.palette import DARK, LIGHT
from reinvest.report.plan import print_plan, render_plan, write_plan
from reinvest.report.plan_charts import effects_figure, noise_figure
from reinvest.report.style import theme_changes


@pytest.fixture
def result() -> dict[str, Any]:
    return plan_result()


def test_every_figure_on_the_page_is_in_the_twin(result: dict[str, Any]) -> None:
    page = Page(render_plan(result))
    assert len(page.figures) > 120
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result
    for text in (
        "finds <a lot>",
        "more than 10,000",
        "at least 28",
        "USD",
        "Spending: pocock",
        "reinvest plan '<study>.yaml'",
    ):
        assert text in page.text, text


def test_names_are_escaped(result: dict[str, Any]) -> None:
    text = render_plan(result)
    body = text[: text.index("<script>")]
    for bad in ("<b>line", "<i>mine", "<b>one", "<a lot>", "<study>"):
        assert bad not in body, bad


def test_the_picture_holds_effects_their_range_and_what_seeds_cost(result: dict[str, Any]) -> None:
    figure = effects_figure(result)
    traces = {t.meta["kind"]: t for t in figure.data if t.meta}
    line = traces["effects"]
    assert list(line.x) == [row["seeds"] for row in result["by_seeds"]]
    assert list(line.y) == [row["smallest_effect"] for row in result["by_seeds"]]
    assert len(traces["band"].y) == 2 * len(line.y)
    assert (traces["planned"].x[0], traces["planned"].y[0]) == (8, 1.08)
    top = figure.layout.xaxis2
    assert list(top.tickvals) == list(figure.layout.xaxis.tickvals) and len(top.tickvals) <= 6
    assert top.ticktext[0] == "3 h<br>7.50 USD"
    # 55 seeds lie outside the picture, and 10,000 did not suffice for the other.
    assert [(a.x, a.y) for a in figure.layout.annotations] == [(6, 1.1)]
    low, high = figure.layout.yaxis.range
    assert low == 1.0 and max(line.y) < high < 1.0 + 3 * (max(line.y) - 1.0)


def test_noise_is_drawn_in_units_of_time_and_flat_durations_are_said(result: dict[str, Any]) -> None:
    figure = noise_figure(result)
    (dots,) = figure.data
    assert list(dots.x) == [0.041, 0.052, 0.31] and list(dots.y) == [0, 1, 2]
    assert dots.error_x.array[0] == pytest.approx(0.041 * 5.3) and dots.error_x.arrayminus[0] == pytest.approx(
        0.041 * 0.48
    )
    assert [(a.y, a.name) for a in figure.layout.annotations] == [(3, "/noise/cells/3/sd_time")]
    assert figure.layout.xaxis.type == "log"


def test_both_themes_have_one_shape(result: dict[str, Any]) -> None:
    for draw in (effects_figure, noise_figure):
        light, dark = (json.loads(draw(result, theme).to_json()) for theme in (LIGHT, DARK))
        assert theme_changes(light, dark)


def test_without_noise_the_page_says_what_to_do() -> None:
    page = Page(render_plan(unknown_noise()))
    assert "add --pilot 3" in page.text and "The noise of seeds" not in page.text and "Money" not in page.text
    assert json.loads(page.scripts["pictures"]) == {}


def test_the_terminal_says_the_same(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(record=True, width=160, force_terminal=False)
    print_plan(result, console)
    print_plan(unknown_noise(), console)
    text = console.export_text()
    for part in (
        "4.1 % (2.1 to 26 %)",
        "flat",
        "> 10,000",
        "28 to -",
        "4 to 31",
        "pocock spending",
        "2.5 %",
        "finds <a lot>.",
    ):
        assert part in text, part
    assert "The noise is not known; add --pilot 3." in text
    assert "flat: quality hardly rises with time there" in text
    result["noise"]["cells"].pop()
    print_plan(result, console)
    assert "flat" not in console.export_text()


def test_a_flat_duration_is_explained_on_the_page(result: dict[str, Any]) -> None:
    result["noise"]["cells"][2]["sd_time"] = 90.0
    text = " ".join(Page(render_plan(result)).text.split())
    assert "flat" in [f.shown for f in Page(render_plan(result)).figures]
    assert "“flat” or a dash: quality hardly rises with time there" in text


def test_small_sums_keep_their_digits(result: dict[str, Any]) -> None:
    result["planned"]["money"] = result["effects"][2]["money"] = 1.71e-05
    page = Page(render_plan(result))
    shown = {f.path: f.shown for f in page.figures}
    assert shown["/effects/2/money"] == "0.0000171 USD"
    assert all(agrees(figure, at(result, figure.path)) for figure in page.figures)


def test_a_plan_of_before_was_in_euros(result: dict[str, Any]) -> None:
    del result["currency"]
    assert "7.50 EUR" in effects_figure(result).layout.xaxis2.ticktext[0]
    assert " EUR" in Page(render_plan(result)).text


def test_a_page_is_a_file_and_other_results_are_refused(result: dict[str, Any], tmp_path: Path) -> None:
    assert write_plan(result, tmp_path / "page.html").stat().st_size > 10**6
    with pytest.raises(InvalidValue, match="got kind 'comparison'; pass the JSON file that reinvest plan --out wrote"):
        render_plan({"kind": "comparison"})
