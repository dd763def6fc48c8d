"""The page of an ablation: every figure is in its twin, names are escaped, pictures hold the effects."""

from __future__ import annotations

import json
import math

import pytest
from page import Page, agrees, at

from reinvest.core.errors import InvalidValue
from reinvest.report.ablation import effect_word, effects_table, print_ablation, render_ablation, write_ablation
from reinvest.report.ablation_charts import effect_figure, matrix_figure, single_rows


def effect(question, methods, time, low, high, shown, **more):
    base = {
        "arm": "all",
        "against": "plain",
        "p": 0.01,
        "p_holm": 0.02,
        "verdict": "better",
        "reason": "",
        "sentence": "",
    }
    return {
        "question": question,
        "methods": methods,
        "time": time,
        "low": low,
        "high": high,
        "shown": shown,
        **base,
        **more,
    }


@pytest.fixture
def result():
    point = {"duration": "1ep", "seed": 1, "steps": 4, "seconds": 2.0, "quality": 0.5, "status": "finished", "run": "x"}
    cell = {
        "duration": "1ep",
        "n": 3,
        "seconds": 2.0,
        "quality": 0.5,
        "sd": 0.1,
        "sd_time": 0.1,
        "binomial_floor": 0.01,
    }
    arm = {"methods": ["<b>A"], "points": [point], "cells": [cell], "seconds_per_step": 0.01, "ratio": 1.1}
    return {
        "schema": 1,
        "kind": "ablation",
        "title": "which <help>",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "task": {"name": "digits", "metric": "accuracy", "higher_is_better": True, "test_examples": 100},
        "recipe": {"task": {"name": "digits"}},
        "methods": [{"name": "<b>A", "arguments": {}}, {"name": "B", "arguments": {}}],
        "durations": ["1ep"],
        "seeds": 3,
        "arms": {"plain": arm | {"methods": []}, "all": arm, "B": arm},
        "effects": [
            effect("on top", ["<b>A"], 0.8, 0.7, 0.9, True),
            effect("on top", ["B"], 1.2, 1.1, None, True, verdict="worse"),
            effect("alone", ["<b>A"], 0.9, 0.8, 1.1, False, verdict="inconclusive"),
            effect("alone", ["B"], None, None, None, False, reason="too <few> seeds", verdict="not comparable"),
            effect("together", ["<b>A", "B"], 1.3, 1.2, 1.4, True, verdict=""),
        ],
        "adverse": [["<b>A", "B"]],
        "flags": ["left out: the pairs"],
        "timing": None,
        "facts": {"hardware": {"cpu": "some"}, "software": {}},
        "cost": {"runs": 9, "found": 0, "seconds": 1.0},
        "reproduce": {"command": "reinvest ablate x.yaml", "study": ""},
    }


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
