"""The page of a tuning: every figure is in its twin, names are escaped, pictures hold every trial and both curves."""

from __future__ import annotations

import json
import math

import pytest
from page import Page, agrees, at
from sample_results import HOSTILE
from sample_tuning import tuning

from reinvest.core.errors import InvalidValue
from reinvest.report.tune import arms_table, edge_lines, print_tuning, render_tuning, space_lines, write_tuning
from reinvest.report.tune_charts import best_of_figure, final_figure, panels_of, tried_figure


@pytest.fixture
def result():
    return tuning()


def test_every_figure_on_the_page_is_in_the_twin(result):
    page = Page(render_tuning(result))
    assert len(page.figures) > 60
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result
    for part in (
        "better",
        "Claim: method. Each arm was tuned 3 times",
        "every trial diverged",
        "all 4 trials of 'dear'",
    ):
        assert part in page.text, part
    assert "may lie beyond it" in page.text and "quasi-random" in page.text


def test_the_lead_says_what_happened(result):
    def lead():
        text = render_tuning(result)
        return " ".join(text[text.index('<p class="lead">') : text.index("<h2>The verdict")].split())

    assert "those of dear were not), and judged on test" in lead()
    del result["arms"]["dear"]
    result["tried"] = [t for t in result["tried"] if t["arm"] != "dear"]
    result["prices"]["steps"] = [row for row in result["prices"]["steps"] if row["arm"] != "dear"]
    assert "at 5 durations, and judged on test" in lead()
    result["arms"][HOSTILE]["verdict"]["verdict"] = "not comparable"
    assert "at 5 durations, and could not be judged on test" in lead()
    result["comparison"] = result["timing"] = None
    assert "No arm could be judged, so that no winner was run again" in lead() and "fresh" not in lead()


def test_prices_and_the_runs_own_clocks_are_shown(result):
    page = Page(render_tuning(result))
    paths = {figure.path for figure in page.figures}
    assert {f"/prices/steps/{k}/ratio" for k in range(4)} <= paths
    assert "/arms/plain/budget/own_clock" in paths and "/tried/0/own_clock" in paths
    assert "methods.LabelSmoothing.alpha 0.2" in page.text and "the middle of its space" in page.text


def test_names_are_escaped(result):
    text = render_tuning(result)
    body = text[: text.index("<noscript>")]
    assert HOSTILE not in body and "&lt;script&gt;alert" in body
    assert "timing &lt;disturbed&gt;" in body.lower() and "A &lt;note&gt;" in body and "Another &lt;note&gt;" in body
    for draw in (tried_figure, best_of_figure, final_figure):
        assert "<script>" not in draw(result).to_json()


def test_a_panel_for_each_tuned_value_holds_all_trials_of_its_arms(result):
    panels = panels_of(result)
    assert panels == [
        ("optimizer.lr", False),
        ("methods.LabelSmoothing.alpha", True),
        ("optimizer.lr", True),
        ("batch_size", False),
    ]
    figure = tried_figure(result)
    seen = [(t.meta["value"], k) for t in figure.data if t.name != "winner" for k in t.meta["at"]]
    wanted = [(path, k) for k, t in enumerate(result["tried"]) for path in t["values"]]
    assert sorted(seen) == sorted(wanted)
    for trace in figure.data:
        for x, y, k in zip(trace.x, trace.y, trace.meta["at"], strict=True):
            trial = result["tried"][k]
            assert x == trial["values"][trace.meta["value"]]
            if trace.name == "diverged":
                assert trial["quality"] is None and y < min(t["quality"] or 1.0 for t in result["tried"])
            else:
                assert y == trial["quality"]
    ringed = {result["tried"][k]["run"] for t in figure.data if t.name == "winner" for k in t.meta["at"]}
    assert ringed == {w["run"] for arm in result["arms"].values() for w in arm["winners"]}


def test_what_is_pointed_at_has_the_digits_of_the_tables(result):
    told = [row for trace in tried_figure(result).data for row in trace.customdata]
    best = max(t["quality"] for t in result["tried"] if t["quality"] is not None)
    assert any(row[4] == f"{100 * best:.2f} %" for row in told)
    assert any(row[4] == "diverged" for row in told)
    result["task"]["metric"] = "loss"
    assert any(row[4] == f"{best:.3f}" for trace in tried_figure(result).data for row in trace.customdata)


def test_log_axes_where_they_were_declared_and_choices_as_categories(result):
    figure = tried_figure(result)
    assert [figure.layout[f"xaxis{k}"].type for k in ("", 2, 3)] == ["log", "category", "category"]
    assert list(figure.layout.xaxis2.categoryarray) == ["0.1", "0.2"]
    # All of the declared range is shown: 0.05 to 1 in logs, 16 to 64.
    low, high = figure.layout.xaxis.range
    assert -1.5 < low < math.log10(0.05) and 0.0 < high < 0.1
    assert figure.layout.xaxis4.range[0] < 16 and figure.layout.xaxis4.range[1] > 64
    assert [figure.layout[f"xaxis{k}"].title.text for k in ("", 4)] == ["optimizer.lr", "batch_size"]


def test_the_curves_of_both_arms_are_drawn_as_stored(result):
    figure = best_of_figure(result)
    for trace, arm in zip(figure.data, result["arms"].values(), strict=True):
        assert list(trace.x) == [p["k"] for p in arm["best_of"]] == [1, 2]
        assert list(trace.y) == [p["quality"] for p in arm["best_of"]]


def test_the_comparison_is_drawn_with_places_in_this_result(result):
    paths = {t.meta["path"] for t in final_figure(result).data if t.meta and "path" in t.meta}
    assert paths and all(path.startswith("/comparison/arms/") for path in paths)
    for path in paths:
        at(result, path)


def test_a_result_without_a_comparison_has_no_such_picture(result):
    result["comparison"] = result["timing"] = None
    for arm in result["arms"].values():
        arm["best_of"] = []
    page = Page(render_tuning(result))
    assert set(json.loads(page.scripts["pictures"])) == {"tried"}
    assert "Every trial diverged" in page.text


def test_spaces_in_words():
    assert space_lines(
        {"a.lr": {"low": 0.05, "high": 1.0, "log": True}, "b": {"low": 1, "high": 4}, "c": [1, None]}
    ) == [
        "a.lr: on a log scale 0.05 to 1",
        "b: whole numbers 1 to 4",
        "c: 1, None",
    ]


def test_winners_at_the_end_of_a_range_are_named(result):
    assert edge_lines("plain", result["arms"]["plain"]) == [
        "plain: the winner of 1 of 3 studies lies at the end of its range of optimizer.lr: the best may lie beyond it"
    ]
    assert edge_lines("dear", result["arms"]["dear"]) == []


def test_the_terminal_says_the_same(result):
    from rich.console import Console

    console = Console(record=True, width=170, force_terminal=False)
    print_tuning(result, console)
    text = console.export_text()
    for part in (
        "claim: method",
        "all diverged",
        "better",
        "all 4 trials of 'dear'",
        "may lie beyond it",
        "batch_size",
    ):
        assert part in text or part == "batch_size", part
    assert arms_table(result).row_count == 3 + 3 + 1
    for winner in result["arms"]["plain"]["winners"]:
        assert f"lr {winner['values']['optimizer.lr']:.4g}" in text
    for clock in ("seconds", "own_clock"):
        assert f"{result['arms']['plain']['budget'][clock] / 60:.1f}" in text


def test_other_results_are_refused(result, tmp_path):
    with pytest.raises(InvalidValue, match="drawn from its result, got kind 'sequence'"):
        render_tuning({"kind": "sequence"})
    assert write_tuning(result, tmp_path / "a.html").stat().st_size > 10**6
