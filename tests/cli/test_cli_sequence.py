"""`reinvest sequence`: a real small study on digits, run, found again, interrupted, and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from calling import Call

from reinvest.cli.main import main
from reinvest.store import Store

STUDY: dict[str, Any] = {
    "title": "Two in a row",
    "base": {
        "task": {"name": "digits", "train_examples": 192},
        "model": "mlp",
        "batch_size": 32,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    },
    "positions": 2,
    "arms": {"scratch": {"reuse": "scratch"}, "records": {"reuse": "records"}},
    "durations": ["1ep", "2ep", "4ep", "8ep"],
    "sequences": 3,
    "target": 0.7,
}


def write(**changes: Any) -> None:
    values = {k: v for k, v in {**STUDY, **changes}.items() if v is not None}
    Path("study.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `STUDY` has been run: study.yaml, study.html, study.json and the store."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write()
        assert main(["sequence", "study.yaml", "--workers", "1"]) in (0, 3)
    return folder


def test_a_dry_run_says_runs_and_hours_and_trains_nothing(call: Call) -> None:
    write()
    said = call("sequence", "study.yaml", "--dry-run", "--workers", "1")
    assert said.code == 0
    # 3 sequences x 4 durations x (one first run + one follower in each arm).
    assert "36 runs: 0 in the store, 36 to train" in said.out
    assert "ms a step" in said.out
    cost = call("sequence", "study.yaml", "--dry-run", "--json", "--workers", "1").data
    assert (cost["runs"], cost["found"], cost["verdict"]) == (36, 0, True)
    assert cost["hours"] > 0
    assert not Path("runs").exists()
    write(durations=["1ep"])
    assert "no verdict about time" in call("sequence", "study.yaml", "--dry-run").out


def test_a_sequence_is_run_judged_and_kept(trained: Path) -> None:
    result = json.loads((trained / "study.json").read_text())
    kept = json.loads((trained / "runs" / "studies" / "two-in-a-row.json").read_text())
    assert result == kept
    assert result["reproduce"]["command"] == "reinvest sequence study.yaml --store runs"
    assert (result["cost"]["runs"], result["cost"]["found"]) == (36, 0)
    assert (trained / "study.html").stat().st_size > 100_000
    store = Store(trained / "runs")
    assert Counter(run.status for run in store.runs()) == {"finished": 36}
    taught = [run for run in store.runs() if run.parents]
    assert len(taught) == 12
    for run in taught:
        # A follower's only parent is the first run of its own sequence.
        assert run.reuse == [{"run": run.parents[0], "how": "records"}]
        assert not store.get(run.parents[0]).parents
        assert run.cost["one_off_seconds"] > 0
    rows = {(r["arm"], r["duration"], r["sequence"], r["position"]): r for r in result["runs"]}
    for (arm, duration, number, position), row in rows.items():
        assert row["steps"] == 6 * int(duration[:-2])
        assert row["quality"] == store.get(row["run"]).quality("accuracy", "test")
        if (arm, position) == ("records", 2):
            assert store.get(row["run"]).parents == [rows["scratch", duration, number, 1]["run"]]
    block = result["timing"][0]
    assert block["recipes"][0]["ratio"] == 1.0
    plain, distilled = (r["seconds_per_step"] for r in block["recipes"])
    row = rows["records", "8ep", 0, 2]
    assert row["seconds"] == pytest.approx(48 * distilled + row["one_off"], rel=0.2)
    assert rows["scratch", "8ep", 0, 2]["seconds"] == pytest.approx(48 * plain, rel=0.2)
    assert result["arms"]["records"]["verdict"] in (
        "better", "worse", "mixed", "equivalent", "inconclusive", "not comparable",
    )  # fmt: skip


def test_a_study_run_again_finds_its_runs(call: Call, trained: Path) -> None:
    words = ("sequence", str(trained / "study.yaml"), "--store", str(trained / "runs"), "--workers", "1")
    said = call(*words, "--json", "--own-clock", "--out", "again.html")
    assert "36 runs, 36 of them in the store already" in said.err
    data = said.data
    assert data["cost"]["found"] == 36
    assert (data["report"], data["result"]) == ("again.html", "again.json")
    assert any("own clocks" in flag for flag in data["flags"])
    assert json.loads(Path("again.json").read_text())["arms"] == data["arms"]
    shown = call(*words, "--own-clock", "--out", "again.html")
    for word in ("records", "an estimate", "drift", "Page: again.html"):
        assert word in shown.out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arms": {"records": "records"}}, "add the arm 'scratch"),
        ({"arms": {"scratch": "scratch", "x": "recrods"}}, "did you mean 'records'?"),
        ({"arms": {"scratch": "scratch", "x": {"reuse": "records", "wieght": 1}}}, "did you mean 'weight'?"),
        ({"sequences": 2}, "at least 3 of them"),
        ({"durations": ["1min"]}, "write e.g. [2ep, 4ep, 8ep, 16ep]"),
        ({"durations": "2ep"}, "are a list, got '2ep'; write [2ep]"),
        (
            {"positions": [{}, {"model": "convnet"}], "arms": {"scratch": "scratch", "x": "warm start"}},
            "fallback: records",
        ),
        ({"teachers": {"pool": ["0123456789abcdef"]}}, "no run '0123456789abcdef'"),
        ({"metric": "f1"}, "accuracy, loss"),
        ({"base": {"task": "digits", "model": "mlp", "batch_size": 5000}}, "batch_size"),
        ({"base": {"task": "digots", "model": "mlp"}}, "did you mean 'digits'?"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_runs(
    call: Call, changes: dict[str, Any], expected: str
) -> None:
    write(**changes)
    said = call("sequence", "study.yaml", "--workers", "1")
    assert said.code == 2
    assert expected in said.sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--max-hours", "0"], "--max-hours is above 0"),
        (["--workers", "0"], "workers is 1 or more"),
        (["--out", "nowhere/r.html"], "a folder that exists"),
        (["--out", "r.pdf"], "an HTML file, got 'r.pdf'; write --out report.html"),
        (["--device", "gpu7"], "gpu7"),
        (["--sequences", "7"], "--sequences"),
    ],
)
def test_options_out_of_range_are_refused(call: Call, words: list[str], expected: str) -> None:
    write()
    said = call("sequence", "study.yaml", *words)
    assert said.code == 2
    assert expected in said.err.splitlines()[-1]
    assert not Store("runs").runs()


def test_the_help_has_examples_that_parse(call: Call) -> None:
    said = call("sequence", "--help")
    assert said.code == 0
    assert "reinvest sequence examples/sequence.yaml --dry-run" in said.out
    example = Path(__file__).parents[2] / "examples" / "sequence.yaml"
    dry = call("sequence", str(example), "--dry-run", "--json").data
    assert dry["verdict"]
    assert dry["runs"] > 0


PATIENCE = 300.0


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(tmp_path: Path) -> None:
    slow = {**STUDY, "durations": ["8ep", "16ep", "24ep", "32ep"], "target": None}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({k: v for k, v in slow.items() if v is not None}))
    command = [
        sys.executable, "-m", "reinvest.cli.main", "sequence", "study.yaml", "--workers", "2", "--own-clock", "--json",
    ]  # fmt: skip
    settings: dict[str, Any] = {
        "cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
    }  # fmt: skip
    process = subprocess.Popen(command, **settings)
    store = Store(tmp_path / "runs")
    end = time.monotonic() + PATIENCE
    while Counter(run.status for run in store.runs())["finished"] < 3:
        assert process.poll() is None, "the process ended before"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert json.loads(out)["kind"] == "Interrupted"
    assert "finished runs are kept" in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    before = Counter(run.status for run in store.runs())
    assert not before["running"]
    command[command.index("--workers") + 1] = "1"
    done = subprocess.run(command, check=False, timeout=PATIENCE, **settings)
    assert done.returncode in (0, 3), done.stderr
    assert json.loads(done.stdout)["cost"]["found"] == before["finished"]
    assert Counter(run.status for run in store.runs()) == {"finished": 36}
