"""The page of a search for spikes: every figure is in its twin, names are escaped, pictures hold signals and layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page import Page, agrees, at
from sample_spikes import quiet, spike, spikes

from reinvest.core.errors import InvalidValue
from reinvest.report.palette import DARK, LIGHT
from reinvest.report.spike_charts import DRAWN, drawn_spikes, heat_figure, signals_figure
from reinvest.report.spikes import print_spikes, render_spikes, spikes_table, write_spikes
from reinvest.report.style import theme_changes


@pytest.fixture
def result() -> dict[str, Any]:
    return spikes()


def test_every_figure_on_the_page_is_in_the_twin(result: dict[str, Any]) -> None:
    page = Page(render_spikes(result))
    assert len(page.figures) > 40
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result
    for text in ("few examples", "the update before", "not known", "it came <again>", "lower spikes have none",
                 "The first <30> of 100 steps"):  # fmt: skip
        assert text in page.text, text


def test_names_are_escaped(result: dict[str, Any]) -> None:
    text = render_spikes(result)
    body = text[: text.index("<script>")]
    assert "<b>stem" not in body and "&lt;b&gt;stem" in body and "<i>mine" not in body
    assert "Without &lt;it&gt;, the spike vanishes." in body
    assert "<b>stem" not in json.dumps(heat_figure(result, 0).to_plotly_json()["layout"], default=str)


def test_the_picture_holds_both_signals_and_marks_the_spikes(result: dict[str, Any]) -> None:
    figure = signals_figure(result)
    lines = {t.meta["path"]: t for t in figure.data if t.meta["kind"] == "signal"}
    assert list(lines["/series/loss/values"].y) == result["series"]["loss"]["values"]
    assert "/series/gradient norm/values" in lines
    bands = {s.name: (s.x0, s.x1) for s in figure.layout.shapes}
    assert bands["/spikes/0"] == (39.5, 42.5) and len(figure.layout.shapes) == 8
    assert bands["/unjudged"] == (-0.5, 29.5)
    grey = next(s.fillcolor for s in figure.layout.shapes if s.name == "/unjudged")
    assert grey.startswith("rgba(102,99,92,"), "the caption calls it grey"
    marks = [(t.x[0], t.y[0]) for t in figure.data if t.meta["kind"] == "spike"]
    assert (41, 4.125) in marks and (40, 40.5) in marks


def test_a_signal_of_many_sizes_is_logarithmic(result: dict[str, Any]) -> None:
    assert signals_figure(result).layout.yaxis.type == "linear"
    result["series"]["loss"]["values"][5] = 900.0
    figure = signals_figure(result)
    assert figure.layout.yaxis.type == "log" and figure.layout.yaxis2.type == "linear"
    assert figure.layout.yaxis.dtick == "D2", "of few decades plotly would write 6, 7, 8, 9 over each other"
    result["series"]["loss"]["values"][5] = 9e6
    assert signals_figure(result).layout.yaxis.dtick is None


def test_the_heat_map_shows_z_up_to_three_thresholds(result: dict[str, Any]) -> None:
    (heat,) = heat_figure(result, 0).data
    assert list(heat.z[0]) == [0.0, 1.0, 0.0, 18.0, 18.0, 1.0, 0.0]
    assert heat.z[1][4] == 18.0 and heat.customdata[1][4] == "not finite" and heat.customdata[0][3] == "80.2"
    assert list(heat.x) == result["spikes"][0]["heat"]["steps"]


def test_the_scale_of_a_heat_map_of_one_layer_can_be_read(result: dict[str, Any]) -> None:
    heat = result["spikes"][0]["heat"]
    heat["layers"], heat["z"] = heat["layers"][:1], heat["z"][:1]
    figure = heat_figure(result, 0)
    assert list(figure.data[0].colorbar.tickvals) == [0.0, 6.0, 18.0] and figure.layout.height >= 190


def test_only_the_highest_spikes_with_layers_are_drawn(result: dict[str, Any]) -> None:
    assert drawn_spikes(result) == [0, 1]
    result["spikes"] = [spike(10 * k + 10, "batch", z=float(k)) for k in range(9)]
    assert drawn_spikes(result) == list(range(9 - DRAWN, 9))
    page = Page(render_spikes(result))
    pictures = json.loads(page.scripts["pictures"])
    assert set(pictures) == {"signals", *(f"heat-{k}" for k in range(9 - DRAWN, 9))}
    ids = [attributes.get("id") for _, attributes in page.tags]
    assert all(f"plot-{name}" in ids and f"print-{name}" in ids for name in pictures)


def test_results_of_before_have_a_page_without_notes(result: dict[str, Any]) -> None:
    old = {k: v for k, v in result.items() if k not in ("unjudged", "notes")}
    assert "cannot be judged" not in Page(render_spikes(old)).text
    assert all(shape.name != "/unjudged" for shape in signals_figure(old).layout.shapes)
    assert all(shape.name != "/unjudged" for shape in signals_figure({**result, "unjudged": 0}).layout.shapes)


def test_both_themes_have_one_shape(result: dict[str, Any]) -> None:
    for draw in (signals_figure, lambda r, t: heat_figure(r, 0, t)):
        light, dark = (json.loads(draw(result, theme).to_json()) for theme in (LIGHT, DARK))
        assert theme_changes(light, dark)


def test_without_spikes_and_steps_the_page_says_what_was_searched() -> None:
    page = Page(render_spikes(quiet()))
    assert "The spikes" not in page.text and "3 epochs" in page.text
    assert "One value an epoch;" in page.text
    assert len(signals_figure(quiet()).data) == 1
    assert set(json.loads(page.scripts["pictures"])) == {"signals"}


def test_the_terminal_says_the_same(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(record=True, width=160, force_terminal=False)
    print_spikes(result, console)
    print_spikes({**quiet(), "unjudged": 0}, console)
    text = console.export_text()
    for part in ("4.12", "11.5", "a few examples", "<b>stem", "it came <again>.", "lower spikes have none",
                 "the first <30> of 100 steps cannot be judged"):  # fmt: skip
        assert part in text, part
    assert "no spike above robust z 6 in 3 epochs of run 0123456789abcdef" in text
    assert spikes_table(result).row_count == 3


def test_of_a_run_without_a_step_that_can_be_judged_no_spike_is_denied() -> None:
    from rich.console import Console

    console = Console(record=True, width=160, force_terminal=False)
    print_spikes({**quiet(), "unjudged": 3}, console)
    text = console.export_text()
    assert "none of the 3 epochs of run 0123456789abcdef can be judged, so nothing is said of spikes" in text
    assert "no spike above" not in text


def test_a_page_is_a_file_and_other_results_are_refused(result: dict[str, Any], tmp_path: Path) -> None:
    assert write_spikes(result, tmp_path / "page.html").stat().st_size > 10**6
    with pytest.raises(InvalidValue, match="got kind 'comparison'; pass the JSON file that reinvest spikes wrote"):
        render_spikes({"kind": "comparison"})
