"""The report as a file: nothing missing, nothing foreign, every figure the JSON's."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from page import Page, agrees, at
from sample_results import CLOSING, HOSTILE, every_kind

from reinvest.core.errors import InvalidValue
from reinvest.core.names import resolve
from reinvest.report.html import render, script_json, write_report

KINDS = ("timed", "untimed")


@pytest.fixture(scope="module", params=KINDS)
def sample(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Page]:
    result = every_kind(timed=request.param == "timed")
    return result, Page(render(result))


def test_every_figure_shown_is_a_value_of_the_json(sample: tuple[dict[str, Any], Page]) -> None:
    result, page = sample
    wrong = [f for f in page.figures if not agrees(f, at(result, f.path))]
    assert not wrong, wrong[:5]
    assert len(page.figures) > 1000


def test_every_number_of_the_json_is_shown_or_drawn(sample: tuple[dict[str, Any], Page]) -> None:
    result, page = sample
    shown = {f.path for f in page.figures}
    for name, arm in result["arms"].items():
        escaped = name.replace("~", "~0").replace("/", "~1")
        for key in ("quality", "seconds", "seed", "run"):
            assert all(f"/arms/{escaped}/points/{i}/{key}" in shown for i in range(len(arm["points"])))
        for key in ("n", "seconds", "quality", "sd", "sd_time", "binomial_floor"):
            assert all(f"/arms/{escaped}/cells/{i}/{key}" in shown for i in range(len(arm["cells"])))
        if arm["verdict"] is None or arm["verdict"]["verdict"] == "not comparable":
            continue
        assert f"/arms/{escaped}/verdict/sentence" in shown
        if arm["verdict"]["speedup"] is not None:
            assert f"/arms/{escaped}/verdict/speedup" in shown
        for key in (
            "low",
            "gain",
            "gain_low",
            "gain_high",
            "df",
            "smallest_effect",
            "pairing",
        ):
            assert f"/arms/{escaped}/verdict/{key}" in shown, (name, key)
        undecided = arm["verdict"]["verdict"] == "inconclusive"
        assert (f"/arms/{escaped}/verdict/seeds_needed" in shown) == undecided, name
        for i in range(3):
            assert f"/arms/{escaped}/verdict/windows/{i}/low" in shown


def test_what_was_refused_and_every_flag_is_said(sample: tuple[dict[str, Any], Page]) -> None:
    result, page = sample
    assert result["refusals"]
    for text in (*result["refusals"], result["tuning"]["text"], result["reproduce"]["command"]):
        assert text in page.text
    for arm in result["arms"].values():
        for flag in (arm["verdict"] or {"flags": []})["flags"]:
            assert flag in page.text


def test_the_verdict_comes_before_the_pictures_and_these_before_the_tables(sample: tuple[dict[str, Any], Page]) -> None:
    html = sample[1].html
    order = [
        html.index(t)
        for t in (
            "<h1>",
            'class="verdicts"',
            "smallest effect",
            'id="plot-quality"',
            'id="plot-speedup"',
            "<table",
            "How to read this",
            "Do it again",
            "Every run",
        )
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("verdict", ["better", "worse", "inconclusive", "not comparable"])
def test_a_badge_says_the_verdict_in_a_word_and_a_sign(sample: tuple[dict[str, Any], Page], verdict: str) -> None:
    found = re.findall(
        rf'<span class="badge {verdict.replace(" ", "-")}"><i aria-hidden="true">(.)</i>{verdict}</span>',
        sample[1].html,
    )
    assert found
    assert len(set(found)) == 1


def test_at_least_is_said_where_there_is_no_estimate(sample: tuple[dict[str, Any], Page]) -> None:
    result, page = sample
    teacher = result["arms"]["teacher"]["verdict"]
    assert teacher["speedup"] is None
    assert teacher["high"] is None
    assert "at least 4.00" in page.text


def test_seeds_to_decide_are_told_only_where_something_is_open() -> None:
    result = every_kind()
    assert "Seeds a cell to decide:" in " ".join(Page(render(result)).text.split())
    result["arms"] = {n: a for n, a in result["arms"].items() if (a["verdict"] or {}).get("verdict") != "inconclusive"}
    text = Page(render(result)).text
    assert "to decide" not in text and "Could" in text


@pytest.mark.parametrize(("metric", "unit"), [("val_acc", "points"), ("loss", "loss")])
def test_a_gain_has_its_unit_on_the_page(metric: str, unit: str) -> None:
    result = every_kind()
    result["task"].update(metric=metric)
    text = " ".join(Page(render(result)).text.split())
    assert f"equal time, {unit}Interval" in text
    assert f"{unit} of val_acc" in text if unit == "points" else "of loss" in text


def test_runs_that_stand_for_several_points_are_told_from_points() -> None:
    result = every_kind()
    assert " points, each" not in Page(render(result)).text and "stands for several" not in Page(render(result)).text
    result["cost"] = {"runs": 34, "found": 0, "points": 170, "seconds": 3.0}
    page = Page(render(result))
    text = " ".join(page.text.split())
    assert "34 training runs for 170 points, each arm" in text and "(a run stands for several)" in text
    assert all(agrees(f, at(result, f.path)) for f in page.figures)


def test_hostile_names_stay_text(sample: tuple[dict[str, Any], Page]) -> None:
    result, page = sample
    assert HOSTILE in result["arms"]
    assert HOSTILE in page.text
    assert CLOSING in page.text
    assert len([t for t, _ in page.tags if t == "script"]) == 4
    assert not [a for t, a in page.tags if t == "img" and "src" in a]
    assert not [a for _, a in page.tags if any(k.startswith("on") for k in a)]
    assert json.loads(page.scripts["result"]) == result


def test_nothing_is_loaded_from_elsewhere(sample: tuple[dict[str, Any], Page]) -> None:
    page = sample[1]
    assert not [
        a for _, a in page.tags if any((a.get(k) or "").startswith(("http", "//")) for k in ("src", "href", "action"))
    ]
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "@import" not in page.html.split("<script>")[0]


def test_plotly_is_in_it_once_and_the_file_is_bounded(sample: tuple[dict[str, Any], Page]) -> None:
    html = sample[1].html
    assert len(re.findall(r"\* plotly\.js v", html)) == 1
    assert len(html.encode()) < 7e6


def test_without_a_timing_block_it_says_so() -> None:
    assert "There was no timing block" in Page(render(every_kind(timed=False))).text


def test_the_report_is_found_by_its_catalogue_name_and_written_whole(tmp_path: Path) -> None:
    import reinvest  # noqa: F401 -- tells the names where the catalogues are

    path = resolve("report", "html")(every_kind(), tmp_path / "new folder" / "report.html")
    assert path.read_text(encoding="utf8").endswith("</html>\n")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("value", [{}, {"kind": "comparison"}, {"kind": "run", "arms": {"a": {}}}])
def test_what_is_not_a_comparison_is_refused(value: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="comparison result"):
        write_report(value, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_an_arm_without_any_finished_run_can_be_reported() -> None:
    result = every_kind()
    arm = result["arms"]["two seeds only"]
    for point in arm["points"]:
        point.update(status="failed", quality=None, seconds=None)
    arm.update(cells=[], predicted=None, curve={"seconds": [], "quality": [], "low": [], "high": []})
    page = Page(render(result))
    assert "no finished run that could be drawn" in page.text
    assert all(agrees(f, at(result, f.path)) for f in page.figures)


def test_a_loss_and_long_runs_take_other_units() -> None:
    result = every_kind()
    result["task"].update(metric="loss", higher_is_better=False, test_examples=None)
    for arm in result["arms"].values():
        for point in arm["points"]:
            point["seconds"] *= 3600
    page = Page(render(result))
    assert all(agrees(f, at(result, f.path)) for f in page.figures)
    assert "lower is better" in page.text
    assert " points" not in page.text.split("The numbers")[1].split("How to read")[0]
    assert any(f.shown.endswith(" h") for f in page.figures)


def test_a_seed_spread_where_the_curve_is_flat_is_a_word() -> None:
    result = every_kind()
    result["arms"]["EMA"]["cells"][-1]["sd_time"] = 9e14
    page = Page(render(result))
    shown = {f.path: f.shown for f in page.figures}
    assert shown["/arms/EMA/cells/4/sd_time"] == "flat"
    assert all(agrees(f, at(result, f.path)) for f in page.figures)


def test_json_in_a_script_cannot_end_it() -> None:
    hostile = {"a": "</script><script>alert(1)</script><!-- & \u2028\u2029"}
    text = script_json(hostile)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == hostile


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_report_that_could_not_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: BaseException, call: str
) -> None:
    def fail(*_: Any) -> None:
        raise kind

    monkeypatch.setattr("reinvest.report.html.render", lambda result: "page")
    (tmp_path / "report.html").write_text("before")
    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(kind)):
        write_report({}, tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "before"
