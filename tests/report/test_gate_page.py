"""The page of a gate: every figure is in its twin, names are escaped, the picture holds both parts and the margin."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from page import Page, agrees, at
from rich.console import Console
from sample_gate import gate

from reinvest.core.errors import InvalidValue
from reinvest.report.gate import changes, print_gate, render_gate
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


@pytest.mark.parametrize(
    ("verdict", "drawn", "written"),
    [
        ("not comparable", "⊘ not comparable", "–"),
        ("regressed", "▼ its runs did not end", "–"),
        ("undecided", "? open on both sides", "open on both sides"),
    ],
)
def test_a_part_without_numbers_says_why(result: dict[str, Any], verdict: str, drawn: str, written: str) -> None:
    result["parts"][0] |= {"verdict": verdict, "ratio": None, "low": None, "high": None}
    assert drawn in [a.text for a in gate_figure(result).layout.annotations]
    body = render_gate(result)
    (cell,) = re.findall(
        r'data-label="95 % interval">(.*?)</td>',
        body[body.index("<tbody>") : body.index("</tr>", body.index("<tbody>"))],
    )
    assert Page(cell).text.strip() == written


def test_a_gate_without_a_timing_block_has_a_page(result: dict[str, Any]) -> None:
    result |= {"timing": None, "changed": {}, "notes": []}
    page = Page(render_gate(result))
    assert not [f for f in page.figures if f.path.startswith("/timing")]


def test_the_terminal_says_the_word_the_parts_and_the_notes(result: dict[str, Any]) -> None:
    console = Console(record=True, width=120)
    print_gate(result, console)
    text = console.export_text()
    assert all(t in text for t in ("REGRESSED", "1.5 times", "at most 2", "batch size: 64 -> 32", "note"))


@pytest.mark.parametrize(
    ("name", "then", "now", "said"),
    [
        ("batch_size", 64, 32, [("batch size", "64", "32")]),
        ("precision", "fp32", "bf16", [("precision", "fp32", "bf16")]),
        (
            "optimizer",
            {"name": "sgd", "lr": 0.1, "momentum": 0.9},
            {"name": "sgd", "lr": 0.05, "nesterov": True},
            [("optimizer lr", "0.1", "0.05"), ("optimizer momentum", "0.9", "not given"),
             ("optimizer nesterov", "not given", "yes")],
        ),
        ("optimizer", {"name": "sgd", "lr": 0.1}, {"name": "adamw"}, [("optimizer", "sgd (lr 0.1)", "adamw")]),
        ("model", {"name": "mlp", "hidden": [32]}, {"name": "mlp", "hidden": [64, 64]},
         [("model hidden", "32", "64, 64")]),
        ("methods", [], [{"name": "SAM", "rho": 0.1}, {"name": "EMA"}], [("methods", "none", "SAM (rho 0.1), EMA")]),
        ("methods", None, [{"name": "SAM", "groups": {"a": [1, 2]}}],
         [("methods", "not given", "SAM (groups (a 1, 2))")]),
        ("seeds", None, {"dropout": 3}, [("seeds", "not given", "dropout 3")]),
        ("seeds", {"dropout": 3}, {"dropout": 4}, [("seeds dropout", "3", "4")]),
    ],
)  # fmt: skip
def test_changes_of_a_recipe_are_words(name: str, then: Any, now: Any, said: list[tuple[str, str, str]]) -> None:
    assert changes({name: [then, now]}) == said


def test_the_page_tells_changes_in_words(result: dict[str, Any]) -> None:
    result["changed"] = {"optimizer": [{"name": "sgd", "lr": 0.1}, {"name": "sgd", "lr": 0.05}]}
    page = Page(render_gate(result))
    assert "optimizer lr" in page.text and "0.1 → 0.05" in page.text and "{'" not in page.text


def test_no_ratio_on_the_page_stands_without_what_it_is_a_ratio_to(result: dict[str, Any]) -> None:
    text = " ".join(Page(render_gate(result)).text.split())
    assert "2.00 times the baseline's (95 % interval 1.90 to 2.10)" in text and "Times the baseline's" in text


def test_other_results_are_refused() -> None:
    with pytest.raises(InvalidValue, match="reinvest gate --out wrote"):
        render_gate({"kind": "comparison"})
