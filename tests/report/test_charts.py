"""The two pictures say what the JSON says."""

from __future__ import annotations

import html
import json
import math
from typing import Any

import pytest
from page import at
from sample_results import every_kind

from reinvest.report.charts import quality_figure, speedup_figure
from reinvest.report.palette import DARK, LIGHT, SIGNS, SYMBOLS
from reinvest.report.style import label, theme_changes


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return every_kind()


def traces(figure: Any, kind: str) -> list[dict[str, Any]]:
    return [t for t in json.loads(figure.to_json())["data"] if t["meta"]["kind"] == kind]


def test_curves_points_and_predictions_are_the_json_values(result: dict[str, Any]) -> None:
    figure = quality_figure(result)
    assert len(traces(figure, "points")) == len(traces(figure, "curve")) == len(result["arms"]) == 7
    for trace in traces(figure, "curve"):
        curve = at(result, trace["meta"]["path"])
        assert (trace["x"], trace["y"]) == (curve["seconds"], curve["quality"])
    for trace in traces(figure, "points"):
        done = [p for p in at(result, trace["meta"]["path"]) if p["status"] == "finished"]
        assert (trace["x"], trace["y"]) == ([p["seconds"] for p in done], [p["quality"] for p in done])
        assert [html.unescape(c[5]) for c in trace["customdata"]] == [p["run"] for p in done]
    for trace in traces(figure, "band"):
        curve = at(result, trace["meta"]["path"])
        assert (
            trace["y"] == [h for h in curve["high"] if h is not None] + [v for v in curve["low"] if v is not None][::-1]
        )
    for trace in traces(figure, "predicted"):
        predicted = at(result, trace["meta"]["path"])
        assert trace["y"] in (predicted["shift"], predicted["lift"])


def test_predictions_are_dashed_labelled_and_hidden_at_first(result: dict[str, Any]) -> None:
    found = traces(quality_figure(result), "predicted")
    assert found
    assert {t["name"] for t in found} == {"predicted, not measured"}
    assert all(t["visible"] == "legendonly" and t["line"]["dash"] in ("dash", "dot") for t in found)
    assert sum(t["showlegend"] for t in found) == 1


def test_unfinished_runs_are_marked_at_their_seconds(result: dict[str, Any]) -> None:
    (trace,) = traces(quality_figure(result), "unfinished")
    lost = [p for p in at(result, trace["meta"]["path"]) if p["status"] == "diverged"]
    assert trace["x"] == [p["seconds"] for p in lost]
    assert {c[4] for c in trace["customdata"]} == {"diverged"}


def test_the_time_axis_is_logarithmic_and_holds_every_run(result: dict[str, Any]) -> None:
    axis = quality_figure(result).layout.xaxis
    seconds = [p["seconds"] for a in result["arms"].values() for p in a["points"]]
    assert axis.type == "log"
    assert axis.range[0] < math.log10(min(seconds)) < math.log10(max(seconds)) < axis.range[1]


def test_intervals_are_the_json_values_and_open_ends_are_arrows(result: dict[str, Any]) -> None:
    figure = speedup_figure(result)
    edges = [10**v for v in figure.layout.xaxis.range]
    intervals = traces(figure, "interval")
    assert len(intervals) == 4 * 5
    for trace in intervals:
        row = at(result, trace["meta"]["path"])
        assert trace["meta"]["open"] == [row["low"] is None, row["high"] is None]
        for drawn, value, edge in zip(trace["x"], (row["low"], row["high"]), edges, strict=True):
            assert drawn == (pytest.approx(edge) if value is None else value)
    for trace in traces(figure, "estimate"):
        assert trace["x"] == [at(result, trace["meta"]["path"])["speedup"]]
    assert len(traces(figure, "arrow")) == 4
    assert 1.0 in figure.layout.xaxis.tickvals
    assert "not comparable" in figure.layout.annotations[0].text


def test_names_are_harmless_in_plotly_texts(result: dict[str, Any]) -> None:
    for figure in (quality_figure(result), speedup_figure(result)):
        drawn = json.loads(figure.to_json())
        texts = [drawn["layout"]["yaxis"].get("ticktext"), drawn["layout"].get("annotations")]
        texts += [(t["name"], t.get("customdata")) for t in drawn["data"]]
        assert "<script" not in json.dumps(texts)
        assert "&lt;script&gt;" in json.dumps(texts)
    assert label("<b>x</b>") == "&lt;b&gt;x&lt;/b&gt;"
    assert label("a" * 40) == "a" * 25 + "…"


def test_the_dark_figure_differs_in_colours_alone(result: dict[str, Any]) -> None:
    light, dark = (json.loads(quality_figure(result, theme).to_json()) for theme in (LIGHT, DARK))
    changes = theme_changes(light, dark)
    assert changes
    for path, before, after in changes:
        assert str(before).startswith(("#", "rgba")) and str(after).startswith(("#", "rgba")), path


def test_arms_differ_without_colour() -> None:
    assert len(set(SYMBOLS)) == len(SYMBOLS) == len(LIGHT.arms) + 1
    assert len(set(SIGNS.values())) == len(SIGNS) == 6


def test_an_empty_comparison_can_be_drawn(result: dict[str, Any]) -> None:
    bare = {
        **result,
        "arms": {
            "baseline": {
                **result["arms"]["baseline"],
                "points": [],
                "cells": [],
                "curve": {k: [] for k in ("seconds", "quality", "low", "high")},
            }
        },
    }
    assert quality_figure(bare).layout.xaxis.type == "log"
    assert speedup_figure(bare).layout.xaxis.type == "log"
