"""A whole comparison on real digits: runs, timing block, verdicts, result file; a second one trains nothing."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import reinvest as ri
from reinvest.core.errors import CorruptFile, InvalidValue, SchemaTooNew
from reinvest.evaluation import execute
from reinvest.evaluation.compare import Listener, Verdicts, _direction, compare, estimate, judge
from reinvest.evaluation.plan import found, plan
from reinvest.evaluation.result import read_result, write_result
from reinvest.evaluation.timing import ArmTiming, Block
from reinvest.loop.session import build_task

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
        ("d.json", '{"kind": "comparison", "schema": "x"}', CorruptFile),
        ("e.json", '{"kind": "comparison", "schema": true}', CorruptFile),
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
    assert allowed.reasons or sum("timing not checked" in flag for flag in allowed.flags) == 1


class Measured:
    """A run of known quality and seconds."""

    status, facts, cost = "finished", {}, {}

    def __init__(self, job: Any, seconds: float) -> None:
        self.id, self.steps, self.seconds = job.identity, int(job.duration[:-2]), seconds
        # Not by the job's seed, which follows this file's content: an A/A comparison is "better" now and then.
        drawn = zlib.crc32(f"{job.arm} {job.duration} {job.replicate}".encode())
        noise = 0.002 * np.random.default_rng(drawn).standard_normal()
        self.value = 1 - 0.3 * self.steps**-0.3 + noise

    def quality(self, metric: str, split: str) -> float:
        return self.value


def own_arm(duration: str, seed: int, store: Any) -> Any:
    """An arm that the timing block cannot time."""


def test_a_pair_is_judged_on_one_clock() -> None:
    arms = {"timed": BASE.with_(batch_size=32), "own": own_arm}
    study = ri.Study(baseline=BASE, arms=arms, durations=DURATIONS, seeds=5)
    # By the runs' own seconds all arms are equally fast; the block, made later, finds the machine ten times slower.
    runs = {job: Measured(job, 0.01 * int(job.duration[:-2])) for job in plan(study)}
    strata = {("", tenth): 0.1 for tenth in range(10)}
    names = ("baseline", "timed")
    block = Block(10, "cpu", 1.0, {n: ArmTiming(strata, 0.1, 0.0, 1e-6, 9) for n in names}, [])
    judged = judge(study, runs, block)
    for name in arms:
        assert judged[name].verdict in ("inconclusive", "equivalent") and 0.8 < judged[name].speedup < 1.25, judged
    assert [sum("timing not checked" in f for f in judged[n].flags) for n in arms] == [0, 1]
    seconds = {n: a["points"][0]["seconds"] for n, a in judged.result["arms"].items()}
    assert seconds == pytest.approx({"baseline": 0.8, "timed": 0.8, "own": 0.08})


def test_the_direction_comes_from_the_metric_or_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    study = ri.Study(baseline=BASE, arms={"b": BASE.with_(batch_size=32)}, durations=DURATIONS)
    assert _direction(study) is True
    assert _direction(replace(study, metric="loss")) is False
    assert _direction(replace(study, metric="loss", higher_is_better=True)) is True
    monkeypatch.setattr(build_task(BASE), "higher_is_better", False, raising=False)
    assert _direction(study) is False
    assert _direction(replace(study, higher_is_better=True)) is True


def test_an_estimate_counts_runs_found_and_disk(outcome: Any, tmp_path: Path) -> None:
    store = outcome[0]
    study = ri.Study(baseline=BASE, arms={"sam": BASE.with_(ri.SAM(0.05))}, durations=DURATIONS, seeds=4)
    cost = estimate(study, store, threads=1)
    assert (cost["runs"], cost["found"], cost["hours"], cost["disk_bytes"]) == (32, 32, 0.0, 0)
    fresh = estimate(replace(study, seeds=3), ri.Store(tmp_path), threads=1)
    assert (fresh["runs"], fresh["found"]) == (24, 0)
    assert 0 < fresh["hours"] < 1 and fresh["disk_bytes"] > 24 * 4 * 16 * 64
    assert fresh["seconds_per_step"]["sam"] > fresh["seconds_per_step"]["baseline"]


def test_too_little_time_is_said_and_what_ran_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every look at the clock finds it an hour later: one replicate of an hour, and none more fits into 2.5.
    hours = itertools.count()
    monkeypatch.setattr(execute, "time", SimpleNamespace(monotonic=lambda: 3600.0 * next(hours)))
    store = ri.Store(tmp_path)
    with pytest.raises(InvalidValue, match=r"got 1 within --max-hours 2\.5.*finished runs are kept"):
        compare(
            BASE,
            {"s": BASE.with_(ri.EMA())},
            durations=DURATIONS,
            seeds=3,
            store=store,
            workers=1,
            threads=1,
            max_hours=2.5,
        )
    assert len(store.runs(status="finished")) == 8


def test_a_diverged_run_stays_in_the_comparison(tmp_path: Path) -> None:
    store = ri.Store(tmp_path)
    wild = BASE.with_(optimizer={"name": "sgd", "lr": 1e30})
    verdicts = compare(BASE, {"wild": wild}, durations=DURATIONS, seeds=3, store=store, workers=1, threads=1)
    assert verdicts["wild"].verdict == "not comparable"
    assert any("diverged" in reason for reason in verdicts["wild"].reasons)
    points = verdicts.result["arms"]["wild"]["points"]
    assert len(points) == 12 and {p["status"] for p in points} == {"diverged"}
    assert all(p["quality"] is None or math.isfinite(p["quality"]) for p in points)


class _Nats(ri.Task):
    """Digits measured by the loss in nats, lower is better, under a name of its own."""

    higher_is_better = False

    def score(self, output: Any, target: Any) -> Any:
        return self.criterion(output, target)


def nats() -> ri.Task:
    from sklearn.datasets import load_digits
    from torch import as_tensor

    data = load_digits()
    return _Nats.from_tensors(
        "nats", as_tensor(data.images / 16.0).float().unsqueeze(1), as_tensor(data.target), metric="nats"
    )


def test_a_study_without_a_metric_goes_by_the_tasks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    base = BASE.with_(task="test_compare:nats")
    arms = {"half rate": base.with_(optimizer={"name": "sgd", "lr": 0.012})}
    plain: dict[str, Any] = {
        "durations": DURATIONS,
        "seeds": 3,
        "store": ri.Store(tmp_path),
        "workers": 1,
        "threads": 1,
    }
    found = compare(base, arms, **plain)
    assert (found.result["task"]["metric"], found.result["task"]["higher_is_better"]) == ("nats", False)
    # A lower rate learns less in these few steps: more nats, which is worse.
    assert found["half rate"].gain < 0
    with pytest.raises(ri.ReinvestError, match=r"unknown metric of task .*Known: loss, nats"):
        compare(base, arms, metric="accuracy", **plain)
