"""The page of a sequence study: every figure is the result's, nothing is fetched, and names cannot break it."""

from __future__ import annotations

import copy
import io
import json
import re
import sys
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from page import Page, agrees, at
from rich.console import Console

sys.path.append(str(Path(__file__).parents[1] / "studies"))
from fake_runs import FakeRun, FakeStore, Trainer, name_of, plan_of, planted, priced

from reinvest.core.errors import InvalidValue
from reinvest.report.sequence import print_sequence, render_sequence, write_sequence
from reinvest.report.sequence_charts import cost_figure, places_of, position_figure, time_figure
from reinvest.studies.sequence import run_sequence

HOSTILE = '<script>alert("1")</script> & <b>größer</b> ✨'
QUIET: dict[str, Any] = {"workers": 1, "threads": 1}


@lru_cache(maxsize=4)
def _made(kind: str) -> dict[str, Any]:
    changes: dict[str, Any] = {"sequences": 3, "target": 0.85, "title": HOSTILE}
    arms: dict[str, Any] = {"scratch": "scratch", HOSTILE: {"reuse": "records", "length": 0.5}, "worse": "forward"}
    if kind == "short":
        changes["durations"] = ["40st", "80st"]
    with TemporaryDirectory() as folder:
        store = FakeStore(Path(folder))
        if kind == "pool":
            outside = store.put(FakeRun(plan_of().recipe(0, "320st"), 99, 0.9))
            changes["teachers"] = {"pool": [outside.id], "cost": "sunk"}
        plan = plan_of(**changes, arms=arms)
        prices = priced(plan, {name_of(plan, HOSTILE): 1.02, name_of(plan, "worse"): 1.9})
        train = Trainer(planted(2.0), noise=0.004, once=0.01)
        return run_sequence(plan, store, train=train, prices=prices, **QUIET).result


def sample(kind: str = "full") -> dict[str, Any]:
    return copy.deepcopy(_made(kind))


@pytest.fixture(params=["full", "short", "pool"])
def made(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Page]:
    result = sample(request.param)
    return result, Page(render_sequence(result))


def test_every_figure_is_the_one_of_the_json(made: tuple[dict[str, Any], Page]) -> None:
    result, page = made
    assert len(page.figures) > 100
    for figure in page.figures:
        assert agrees(figure, at(result, figure.path)), figure
    assert json.loads(page.scripts["result"]) == result


def test_verdicts_drift_cost_and_flags_are_said(made: tuple[dict[str, Any], Page]) -> None:
    result, page = made
    paths = {figure.path for figure in page.figures}
    for name, arm in result["arms"].items():
        if name == result["baseline"]:
            continue
        key = name.replace("~", "~0").replace("/", "~1")
        assert f"/arms/{key}/drift/slope" in paths
        if arm["judged"] is not None:
            assert f"/arms/{key}/judged/sentence" in paths
            assert f"/arms/{key}/relative_time" in paths
        if "break_even" in arm:
            assert f"/arms/{key}/break_even/sequences" in paths
    for k in range(len(result["positions"])):
        assert f"/positions/{k}/cumulated" in paths
    for k, flag in enumerate(result["flags"]):
        assert f"/flags/{k}" in paths
        assert flag in page.text
    for run in result["runs"]:
        assert run["run"] in page.html


def test_it_needs_nothing_from_outside_and_names_stay_text(made: tuple[dict[str, Any], Page]) -> None:
    _, page = made
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed")
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, value)
    outside = page.html.replace(page.scripts["result"], "").replace(page.scripts["pictures"], "")
    assert '<script>alert("1")' not in outside
    assert "größer" in page.text
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "default-src" in str(a.get("content")))
    assert "default-src 'none'" in str(policy)


def test_the_pictures_show_the_results_own_values() -> None:
    result = sample()
    places = places_of(result)
    assert list(places.values()) == [0, 1, 2]
    cost = json.loads(cost_figure(result).to_json())
    marks = [t for t in cost["data"] if t["meta"]["kind"] == "points"]
    for name, trace in zip(places, marks, strict=True):
        own = [p for p in result["points"] if p["arm"] == name]
        assert trace["x"] == [p["seconds"] for p in own]
        assert trace["y"] == [p["quality"] for p in own]
        assert "<script" not in trace["name"]
    lines = [t for t in cost["data"] if t["meta"]["kind"] == "curve"]
    assert [len(t["x"]) for t in lines] == [4, 4, 4]
    positions = json.loads(position_figure(result).to_json())
    drawn = [t for t in positions["data"] if t["meta"]["kind"] == "positions"]
    assert len(drawn) == 4 * 3
    for trace in drawn:
        cells = [at(result, path) for path in trace["meta"]["path"]]
        assert trace["y"] == [c["quality"] for c in cells]
        assert trace["x"] == [c["position"] for c in cells] == [1, 2, 3]
    assert sum(t.get("showlegend") is not False for t in drawn) == 3
    bars = json.loads(time_figure(result).to_json())
    found = {t["meta"]["path"]: t["x"] for t in bars["data"] if t["meta"]["kind"] == "bar"}
    for path, ends in found.items():
        assert ends == [1.0, at(result, path)]
    for trace in (t for t in bars["data"] if t["meta"]["kind"] == "interval"):
        low, high = at(result, trace["meta"]["path"])["relative_time_interval"]
        assert [(low is None), (high is None)] == trace["meta"]["open"]
        for end, value in zip((low, high), trace["x"], strict=True):
            assert end is None or end == value


def test_without_a_verdict_there_is_no_picture_of_times() -> None:
    page = Page(render_sequence(sample("short")))
    assert set(json.loads(page.scripts["pictures"])) == {"quality", "position"}
    assert "plot-speedup" not in page.html.replace(page.scripts["pictures"], "")
    assert "no verdict about time" in page.text


@pytest.mark.parametrize("kind", ["full", "short", "pool"])
def test_the_terminal_shows_every_arm_once_and_its_figures(kind: str) -> None:
    result = sample(kind)
    target = io.StringIO()
    print_sequence(result, Console(file=target, width=200, highlight=False))
    text = target.getvalue()
    for name, arm in result["arms"].items():
        if arm["judged"] is not None:
            assert arm["judged"]["sentence"] in text
            assert arm["verdict"] in text
            assert name in text
    for flag in result["flags"]:
        assert flag in " ".join(text.split())
    if kind == "short":
        row = result["at_durations"][-1]
        assert re.search(rf"{re.escape(row['duration'])} +[+-]{abs(100 * row['gain']):.2f}", text)


def test_it_is_written_whole_and_other_results_are_refused(tmp_path: Path) -> None:
    file = write_sequence(sample(), tmp_path / "deep" / "page.html")
    assert file.read_text(encoding="utf8").endswith("</html>\n")
    assert list(file.parent.iterdir()) == [file]
    for other in ({"kind": "comparison", "arms": {"a": {}}}, {"kind": "sequence", "arms": {}}):
        with pytest.raises(InvalidValue, match="drawn from its result"):
            render_sequence(other)
