"""The page of an ablation: every figure is in its twin, names are escaped, pictures hold the effects."""

from __future__ import annotations

import json
import math

import pytest
from page import Page, agrees, at
from sample_ablation import ablation, effect

from reinvest.core.errors import InvalidValue
from reinvest.report.ablation import effect_word, effects_table, print_ablation, render_ablation, write_ablation
from reinvest.report.ablation_charts import effect_figure, matrix_figure, single_rows


@pytest.fixture
def result():
    return ablation()


def test_every_figure_on_the_page_is_in_the_twin(result):
    page = Page(render_ablation(result))
    assert len(page.figures) > 20
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result


def test_names_are_escaped(result):
    text = render_ablation(result)
    body = text[: text.index("<script>")]
    assert "<b>A" not in body and "&lt;b&gt;A" in body
    assert "too &lt;few&gt; seeds" in body


def test_the_picture_holds_each_effect_with_its_interval(result):
    figure = effect_figure(result)
    lines = [t for t in figure.data if t.meta["kind"] == "interval"]
    assert tuple(lines[0].x) == (0.7, 0.9)
    assert [t.meta["open"] for t in lines] == [[False, False], [False, False], [False, True]]
    assert [row[1:3] for row in single_rows(result)] == [
        ("<b>A", "on top"),
        ("<b>A", "alone"),
        ("B", "on top"),
        ("B", "alone"),
    ]
    assert any("not comparable" in a.text for a in figure.layout.annotations)


def test_the_matrix_is_symmetric_with_the_logs_of_the_ratios(result):
    figure = matrix_figure(result)
    z = figure.data[0].z
    assert z[0][1] == z[1][0] == pytest.approx(math.log(1.3))
    assert z[0][0] is None and z[1][1] is None
    assert [a.text for a in figure.layout.annotations] == ["<b>+30 %</b> *"] * 2


def test_words_of_effects(result):
    assert [effect_word(e) for e in result["effects"]] == [
        "better",
        "worse",
        "inconclusive",
        "not comparable",
        "worse",
    ]
    assert effect_word(effect("alone", ["A"], None, None, None, False)) == "inconclusive"
    assert effect_word(effect("alone", ["A"], 1.0, 0.99, 1.01, False, verdict="equivalent")) == "equivalent"


def test_an_effect_that_is_known_by_a_bound_alone_is_drawn_and_named(result):
    bounds = [effect("on top", ["<b>A"], None, None, 0.35, True), effect("on top", ["B"], None, 2.8, None, True)]
    result["effects"][:2] = bounds
    assert [effect_word(e) for e in bounds] == ["better", "worse"]
    assert effect_word(effect("on top", ["B"], None, None, 0.35, True, verdict="mixed")) == "mixed"
    lines = [t for t in effect_figure(result).data if t.meta["kind"] == "interval"]
    assert [t.meta["open"] for t in lines[:2]] == [[True, False], [False, False]]
    page = Page(render_ablation(result))
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure


def test_the_terminal_says_the_same(result):
    from rich.console import Console

    console = Console(record=True, width=160, force_terminal=False)
    print_ablation(result, console)
    text = console.export_text()
    for part in (
        "-20.0 %",
        "-30.0 % to -10.0 %",
        "at least +10.0 %",
        "get in each other's way",
        "too <few> seeds",
        "left out",
    ):
        assert part in text, part
    assert effects_table(result, "together").row_count == 1


def test_other_results_are_refused(result, tmp_path):
    with pytest.raises(InvalidValue, match="drawn from its result, got kind 'sequence'"):
        render_ablation({"kind": "sequence"})
    assert write_ablation(result, tmp_path / "a.html").stat().st_size > 10**6
