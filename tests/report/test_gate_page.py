"""The page of a gate: every figure is in its twin, names are escaped, the picture holds both parts and the margin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from page import Page, agrees, at
from rich.console import Console
from sample_gate import gate

from reinvest.core.errors import InvalidValue
from reinvest.report.gate import print_gate, render_gate
from reinvest.report.gate_charts import gate_figure


@pytest.fixture
def result() -> dict[str, Any]:
    return gate()


def test_every_figure_on_the_page_is_in_the_twin(result: dict[str, Any]) -> None:
    page = Page(render_gate(result))
    assert len(page.figures) > 25
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result


def test_names_are_escaped(result: dict[str, Any]) -> None:
    text = render_gate(result)
    body = text[: text.index("<script>")]
    assert "<now>" not in body and "&lt;now&gt;" in body and "<b>chip" not in body and "<i>note" not in body


def test_the_picture_holds_intervals_open_ends_and_the_margin(result: dict[str, Any]) -> None:
    figure = gate_figure(result)
    lines = [t for t in figure.data if t.meta["kind"] == "interval"]
    assert tuple(lines[0].x) == (1.2, 1.9) and lines[1].x[1] == 2.0
    assert [t.meta["open"] for t in lines] == [[False, False], [True, False]]
    band = next(s for s in figure.layout.shapes if s.name == "margin")
    assert (band.x0, band.x1) == (1.0, 1.05)
    assert 10 ** figure.layout.xaxis.range[1] > 1.05
    result["parts"][0] |= {"ratio": None, "low": None, "high": None}
    assert any("not comparable" in a.text for a in gate_figure(result).layout.annotations)


def test_a_gate_without_a_timing_block_has_a_page(result: dict[str, Any]) -> None:
    result |= {"timing": None, "changed": {}, "notes": []}
    page = Page(render_gate(result))
    assert not [f for f in page.figures if f.path.startswith("/timing")]


def test_the_terminal_says_the_word_the_parts_and_the_notes(result: dict[str, Any]) -> None:
    console = Console(record=True, width=120)
    print_gate(result, console)
    text = console.export_text()
    assert all(t in text for t in ("REGRESSED", "1.5 times", "at most 2", "batch_size: 64 -> 32", "note"))


def test_other_results_are_refused() -> None:
    with pytest.raises(InvalidValue, match="reinvest gate --out wrote"):
        render_gate({"kind": "comparison"})
