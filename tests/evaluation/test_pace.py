"""Points whose seconds a step vary wildly between the runs of an arm say so: no verdict changes, its evidence does."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinvest.evaluation import pace, verdict
from reinvest.evaluation.pace import LIMIT, pace_flags
from reinvest.evaluation.points import read_points

DURATIONS = (10, 20, 40, 80)


def rows(arm: str = "plain", label: str = "{}ep", steps: bool = True, **more: Any) -> list[dict[str, Any]]:
    """Three runs of each duration, all at a second an epoch."""
    draw = random.Random(arm)
    return [
        {
            "arm": arm,
            "duration": label.format(d),
            "seed": 100 * k + d,
            "seconds": float(d),
            "quality": 0.9 - 0.3 * (d / 10) ** -0.7 + draw.gauss(0, 0.003),
            **({"steps": 16 * d} if steps else {}),
            **more,
        }
        for d in DURATIONS
        for k in range(3)
    ]


def flags(points: list[dict[str, Any]], *names: str) -> list[str]:
    return pace_flags(read_points(points), names or ("plain",))


def slowed(points: list[dict[str, Any]], at: int, by: float) -> list[dict[str, Any]]:
    return [{**p, "seconds": p["seconds"] * (by if k == at else 1.0)} for k, p in enumerate(points)]


@pytest.mark.parametrize("by", [2.3, 1 / 2.3])
def test_one_run_on_another_machine_is_named(by: float) -> None:
    (said,) = flags(slowed(rows(), 4, by))
    assert said.startswith("plain: seconds a step differ between runs")
    assert f"{'2.3' if by > 1 else '0.435'} times the middle one at (duration 20ep, seed 120)" in said
    assert "machine" in said


@pytest.mark.parametrize(
    ("label", "steps", "word"), [("{}ep", False, "seconds an epoch"), ("{}", False, "seconds over the duration")]
)
def test_without_steps_the_label_is_the_length(label: str, steps: bool, word: str) -> None:
    points = rows(label=label, steps=steps)
    assert flags(points) == []
    # A whole duration on another machine differs from the other ones alone.
    (said,) = flags([{**p, "seconds": p["seconds"] * (2.0 if "80" in p["duration"] else 1.0)} for p in points])
    assert said.startswith(f"plain: {word} ") and "2 times" in said


def test_labels_in_words_are_compared_inside_a_duration() -> None:
    words = dict(zip(DURATIONS, ("short", "middle", "long", "longest"), strict=True))
    points = [{**p, "duration": words[int(p["seconds"])]} for p in rows(steps=False)]
    assert flags(points) == []
    (said,) = flags(slowed(points, 4, 3.0))
    assert "seconds of one duration" in said and "(duration middle, seed 120)" in said


@given(st.floats(1.0 / (LIMIT - 0.001), LIMIT - 0.001), st.integers(0, 11))
def test_ordinary_scatter_is_not_flagged(by: float, at: int) -> None:
    assert flags(slowed(rows(), at, by)) == []


def test_only_finished_runs_with_a_time_count_and_only_the_arms_asked_for() -> None:
    points = rows()
    points[0].update(status="diverged", seconds=900.0)
    points[1].update(seconds=float("nan"))
    assert flags([*points, *slowed(rows("fast"), 0, 5.0)]) == []
    assert len(flags([*points, *slowed(rows("fast"), 0, 5.0)], "plain", "fast")) == 1


def test_a_flag_changes_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [*slowed(rows(), 0, 4.0), *rows("fast", seconds=1.0)]
    for p in points:
        p["seconds"] = p["seconds"] if p["arm"] == "plain" else float(p["duration"][:-2]) / 1.5
    judged = {limit: one(points, limit, monkeypatch) for limit in (LIMIT, 100.0)}
    told, silent = (judged[limit]["fast"] for limit in (LIMIT, 100.0))
    assert [f for f in told.flags if f not in silent.flags] == flags(points) != []
    assert {**told.to_dict(), "flags": 0} == {**silent.to_dict(), "flags": 0}


def one(points: list[dict[str, Any]], limit: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The verdicts where a run is flagged beyond `limit`."""
    with monkeypatch.context() as patch:
        patch.setattr(pace, "LIMIT", limit)
        return verdict(points, "plain")


def test_where_a_block_timed_the_arms_the_pace_of_runs_says_nothing() -> None:
    points = [*slowed(rows(), 0, 4.0), *rows("fast")]
    timing = {"fast": {"log_ratio_variance": 1e-6, "df": 9.0}}
    assert any("differ between runs" in f for f in verdict(points, "plain")["fast"].flags)
    assert not any("differ between runs" in f for f in verdict(points, "plain", timing=timing)["fast"].flags)
