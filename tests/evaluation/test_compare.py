"""A whole comparison on real digits: runs, timing block, verdicts, result file; a second one trains nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reinvest as ri
from reinvest.core.errors import CorruptFile, InvalidValue, SchemaTooNew
from reinvest.evaluation.compare import Listener, Verdicts, compare, estimate, judge
from reinvest.evaluation.plan import found, plan
from reinvest.evaluation.result import read_result, write_result

BASE = ri.Recipe(
    task="digits", model={"name": "mlp", "hidden": [16]}, batch_size=64, optimizer={"name": "sgd", "lr": 0.05}
)
DURATIONS = ["8st", "16st", "32st", "64st"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Verdicts, Verdicts, list[int]]:
    store = ri.Store(tmp_path_factory.mktemp("compare"))
    trained: list[int] = []
    listener = Listener(planned=lambda jobs, todo: trained.append(len(todo)))
    arms = {"sam": BASE.with_(ri.SAM(0.05)), "half rate": BASE.with_(optimizer={"name": "sgd", "lr": 0.012})}
    settings: dict[str, Any] = {
        "durations": DURATIONS,
        "seeds": 4,
        "store": store,
        "workers": 1,
        "threads": 1,
        "listener": listener,
    }
    return store, compare(BASE, arms, **settings), compare(BASE, arms, **settings), trained


def test_large_effects_are_found_with_their_decomposition(outcome: Any) -> None:
    _, verdicts, _, _ = outcome
    assert verdicts["sam"].verdict == "worse"
    assert verdicts["half rate"].verdict == "worse"
    timing = verdicts.result["timing"]["arms"]
    assert 1.4 < timing["sam"]["ratio"] < 3.5
    assert verdicts["sam"].seconds_ratio < 0.75
    assert 0.7 < timing["half rate"]["ratio"] < 1.4
    assert verdicts["half rate"].high < 1.0


def test_the_second_comparison_trains_nothing_and_keeps_the_qualities(outcome: Any) -> None:
    _, first, second, trained = outcome
    assert trained == [48, 0]
    for name, arm in first.result["arms"].items():
        again = second.result["arms"][name]["points"]
        assert [(p["run"], p["quality"], p["steps"]) for p in arm["points"]] == [
            (p["run"], p["quality"], p["steps"]) for p in again
        ]
    assert second.result["cost"]["found"] == 48


def test_seconds_come_from_the_block_and_are_equal_inside_a_cell(outcome: Any) -> None:
    _, verdicts, _, _ = outcome
    for name, arm in verdicts.result["arms"].items():
        each = verdicts.result["timing"]["arms"][name]["seconds_per_step"]
        for duration in DURATIONS:
            seconds = {p["seconds"] for p in arm["points"] if p["duration"] == duration}
            assert len(seconds) == 1
            assert seconds.pop() == pytest.approx(each * int(duration[:-2]), rel=0.5)


def test_the_result_is_strict_json_and_comes_back(outcome: Any, tmp_path: Path) -> None:
    _, verdicts, _, _ = outcome
    file = write_result(verdicts.result, tmp_path / "r.json")
    text = file.read_text()
    json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert read_result(file) == json.loads(text) == verdicts.result
    study = ri.Study.from_dict(__import__("yaml").safe_load(verdicts.result["reproduce"]["study"]))
    assert study.durations == tuple(DURATIONS) and study.seeds == 4
    for name, content, error in (
        ("a.json", "{", CorruptFile),
        ("b.json", "{}", CorruptFile),
        ("c.json", '{"kind": "comparison", "schema": 99}', SchemaTooNew),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(error):
            read_result(tmp_path / name)
    with pytest.raises(InvalidValue, match="does not exist"):
        read_result(tmp_path / "absent.json")


def test_runs_on_other_hardware_are_not_compared(outcome: Any) -> None:
    store = outcome[0]
    study = ri.Study(baseline=BASE, arms={"sam": BASE.with_(ri.SAM(0.05))}, durations=DURATIONS, seeds=4)
    runs: dict[Any, Any] = {job: found(job, store) for job in plan(study)}

    class Elsewhere:
        def __init__(self, run: Any) -> None:
            self.run = run

        def __getattr__(self, name: str) -> Any:
            facts = self.run.facts
            return (
                {**facts, "hardware": {**facts["hardware"], "device": "Other CPU"}}
                if name == "facts"
                else getattr(self.run, name)
            )

    moved = {job: Elsewhere(run) if job.arm == "sam" else run for job, run in runs.items()}
    refused = judge(study, moved, None)["sam"]
    assert refused.verdict == "not comparable"
    assert "Other CPU" in refused.reasons[0] and "same machine" in refused.reasons[0]
    allowed = judge(study, runs, None)["sam"]
    # Seconds of runs this short scatter too much for a verdict on a busy machine; the hardware is no reason, though.
    assert all("same machine" not in reason for reason in allowed.reasons)
    assert any("timing not checked" in flag for flag in allowed.flags)


def test_an_estimate_counts_runs_found_and_disk(outcome: Any, tmp_path: Path) -> None:
    store = outcome[0]
    study = ri.Study(baseline=BASE, arms={"sam": BASE.with_(ri.SAM(0.05))}, durations=DURATIONS, seeds=4)
    cost = estimate(study, store, threads=1)
    assert (cost["runs"], cost["found"], cost["hours"], cost["disk_bytes"]) == (32, 32, 0.0, 0)
    fresh = estimate(replace(study, seeds=3), ri.Store(tmp_path), threads=1)
    assert (fresh["runs"], fresh["found"]) == (24, 0)
    assert 0 < fresh["hours"] < 1 and fresh["disk_bytes"] > 24 * 4 * 16 * 64
    assert fresh["seconds_per_step"]["sam"] > fresh["seconds_per_step"]["baseline"]


def test_too_little_time_is_said_and_what_ran_is_kept(tmp_path: Path) -> None:
    store = ri.Store(tmp_path)
    with pytest.raises(InvalidValue, match="finished runs are kept"):
        compare(
            BASE,
            {"s": BASE.with_(ri.EMA())},
            durations=DURATIONS,
            seeds=3,
            store=store,
            workers=1,
            threads=1,
            max_hours=1e-9,
        )
    assert len(store.runs(status="finished")) == 0 or len(store.runs(status="finished")) % 8 == 0


def test_a_diverged_run_stays_in_the_comparison(tmp_path: Path) -> None:
    store = ri.Store(tmp_path)
    wild = BASE.with_(optimizer={"name": "sgd", "lr": 1e30})
    verdicts = compare(BASE, {"wild": wild}, durations=DURATIONS, seeds=3, store=store, workers=1, threads=1)
    assert verdicts["wild"].verdict == "not comparable"
    assert any("diverged" in reason for reason in verdicts["wild"].reasons)
    points = verdicts.result["arms"]["wild"]["points"]
    assert len(points) == 12 and {p["status"] for p in points} == {"diverged"}
    assert all(p["quality"] is None or math.isfinite(p["quality"]) for p in points)
