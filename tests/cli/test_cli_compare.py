"""`reinvest compare` and `reinvest demo`: studies from files, run, interrupted, continued, judged."""

from __future__ import annotations

import io
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
from reinvest.evaluation.demo import demo_study
from reinvest.evaluation.plan import plan
from reinvest.evaluation.study import Study, load_study
from reinvest.store import Store

EXAMPLES = Path(__file__).parents[2] / "examples"
TASK = {"name": "digits", "train_examples": 96}
STUDY: dict[str, Any] = {
    "title": "Small",
    "baseline": {"task": TASK, "model": "mlp", "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.05}},
    "arms": {"smooth": {"methods": [{"LabelSmoothing": {"alpha": 0.1}}], "about": "a tenth"}},
    "durations": ["2ep", "4ep", "8ep", "16ep"],
    "seeds": 3,
}


def write(**changes: Any) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))


def test_a_dry_run_says_runs_hours_and_bytes_and_trains_nothing(call: Call) -> None:
    write()
    said = call("compare", "study.yaml", "--dry-run", "--workers", "1")
    assert said.code == 0
    assert "24 runs: 0 in the store, 24 to train" in said.out
    assert "of disk" in said.out
    assert "ms a step" in said.out
    cost = call("compare", "study.yaml", "--dry-run", "--json", "--workers", "1").data
    assert (cost["runs"], cost["found"]) == (24, 0)
    assert cost["hours"] > 0
    assert cost["disk_bytes"] > 0
    assert not Path("runs").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `STUDY` has been compared: study.yaml, study.html, study.json and the store."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write()
        assert main(["compare", "study.yaml", "--workers", "1"]) == 0
    return folder


def test_a_study_is_run_and_its_result_and_report_are_written(trained: Path) -> None:
    result = json.loads((trained / "study.json").read_text())
    assert result["reproduce"]["command"] == "reinvest compare study.yaml --store runs"
    assert result["arms"]["smooth"]["about"] == "a tenth"
    assert result["cost"]["runs"] == 24
    assert result["cost"]["found"] == 0
    assert (trained / "study.html").stat().st_size > 100_000
    assert Counter(run.status for run in Store(trained / "runs").runs()) == {"finished": 24}


def test_a_study_run_again_finds_its_runs(call: Call, trained: Path) -> None:
    words = ("compare", str(trained / "study.yaml"), "--store", str(trained / "runs"), "--workers", "1")
    said = call(*words, "--json", "--out", "again.html")
    assert said.code == 0
    assert "24 runs, 24 of them in the store already" in said.err
    assert "NoEffectWarning" not in said.err
    data = said.data
    assert set(data["verdicts"]) == {"smooth"}
    assert data["cost"]["found"] == 24
    assert data["timing"]["rounds"] >= 10
    assert (data["report"], data["result"]) == ("again.html", "again.json")
    twin = json.loads(Path("again.json").read_text())
    assert twin["arms"]["smooth"]["verdict"] == data["verdicts"]["smooth"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"durations": ["2ep", "4ep", "8ep"]}, "at least 4 durations"),
        ({"durations": ["2ep", "4ep", "8ep", "80ep"]}, "at most a factor 3"),
        ({"durations": ["1", "2", "4", "8"]}, "a duration without a unit"),
        ({"durations": ["1min", "2min", "4min", "8min"]}, "minutes"),
        ({"seeds": 2}, "at least 3 seeds"),
        ({"arms": {}}, "at least one arm"),
        ({"arms": {"x": {"methods": ["Mixip"]}}}, "did you mean 'Mixup'?"),
        ({"arms": {"x": {"task": "mnist"}}}, "one task"),
        ({"arms": {"x": {"command": "python mine.py"}}}, "{duration}"),
        ({"arms": {"x": {"callable": "nowhere_at_all:f"}}}, "no module"),
        ({"sedes": 3}, "did you mean 'seeds'?"),
        ({"metric": "f1"}, "f1"),
    ],
)
def test_a_plan_that_cannot_end_in_a_verdict_is_refused(call: Call, changes: dict[str, Any], expected: str) -> None:
    write(**changes)
    said = call("compare", "study.yaml", "--workers", "1")
    assert said.code == 2
    assert expected in said.sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--max-hours", "0"], "--max-hours is above 0"),
        (["--max-hours", "soon"], "--max_hours takes a number"),
        (["--workers", "0"], "workers is 1 or more"),
        (["--out", "nowhere/r.html"], "a folder that exists"),
        (["--out", "r.pdf"], "an HTML file"),
        (["--device", "gpu7"], "gpu7"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_runs(call: Call, words: list[str], expected: str) -> None:
    write()
    said = call("compare", "study.yaml", *words)
    assert said.code == 2
    assert expected in said.err.splitlines()[-1]
    assert not Store("runs").runs()


class HourGlass:
    """The `time` of a machine on which an hour passes between two looks at the clock."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return 3600.0 * self.looks

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def test_too_few_hours_for_a_verdict_keep_what_is_finished(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    monkeypatch.setattr("reinvest.evaluation.execute.time", HourGlass())
    said = call("compare", "study.yaml", "--workers", "1", "--max-hours", "1.5")
    assert said.code == 2
    assert "finished runs are kept" in said.err
    assert Counter(run.status for run in Store("runs").runs()) == {"finished": 8}


def test_a_calibration_is_part_of_the_printed_command(call: Call) -> None:
    write(curve="cyclic")
    words = ("compare", "study.yaml", "--workers", "1", "--no-again", "--calibrate", "2")
    said = call(*words)
    assert said.code == 0 and "4 runs, 0 of them in the store already" in said.err
    result = json.loads(Path("study.json").read_text())
    assert result["reproduce"]["command"].endswith("--calibrate 2 --no-again")
    assert {row["duration"] for row in result["calibration"]["rows"]} == {"2ep", "16ep"}


def test_a_dry_run_tells_of_the_calibration_too(call: Call) -> None:
    write(curve="cyclic")
    words = ("compare", "study.yaml", "--workers", "1", "--calibrate", "2", "--dry-run")
    said = call(*words)
    assert said.code == 0 and "6 runs for 24 points: 0 in the store, 6 to train" in said.out
    assert "calibration: 4 separate runs of baseline, 0 in the store, 4 to train, about " in said.out
    data = call(*words, "--json").data
    assert (data["runs"], data["points"]) == (6, 24)
    assert (data["calibration"]["runs"], data["calibration"]["found"]) == (4, 0) and data["calibration"]["hours"] > 0
    assert not Path("runs").exists()
    assert "2 or more runs a duration, got 1" in call(*words[:-2], "1", "--dry-run").sentence
    write()
    assert "leave --calibrate out" in call(*words).sentence


def test_the_calibration_is_asked_about_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write(curve="cyclic")
    monkeypatch.setattr("reinvest.cli.compare.asks", lambda yes, out: not yes)
    monkeypatch.setattr(
        "reinvest.evaluation.calibrating.calibration_cost",
        lambda *words, **more: {"runs": 4, "found": 1, "hours": 2.0, "seconds_per_step": 1.0},
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    said = call("compare", "study.yaml", "--workers", "1", "--calibrate", "2")
    assert said.code == 0 and "9 runs, about 2.0 hours; go on? [y/N]" in said.err and "nothing was run" in said.err


def test_a_file_that_is_no_study_is_refused(call: Call) -> None:
    for content in ("", "- a", "a: [", "baseline: {task: digits, model: mlp}"):
        Path("study.yaml").write_text(content)
        said = call("compare", "study.yaml")
        assert said.code == 2
        assert said.sentence
    Path("study.py").write_text("study = 3\n")
    assert "study = ri.Study(...)" in call("compare", "study.py").sentence


PATIENCE = 900.0
"""Seconds for what must happen some time: on a busy machine it takes long, and then it is not wrong."""


def waits_for(found: Any, process: subprocess.Popen[str]) -> None:
    """Until `found()`; a `process` that ends before that ends the wait."""
    end = time.monotonic() + PATIENCE
    while not found():
        assert process.poll() is None or found(), "the process ended before"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(tmp_path: Path) -> None:
    slow = {**STUDY, "durations": ["60ep", "120ep", "180ep", "240ep"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(slow))
    command = [sys.executable, "-m", "reinvest.cli.main", "compare", "study.yaml", "--workers", "1", "--json"]
    settings: dict[str, Any] = {
        "cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
    }  # fmt: skip
    process = subprocess.Popen(command, **settings)
    waits_for(lambda: len(list(tmp_path.glob("runs/runs/*/run.json"))) >= 3, process)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert json.loads(out)["kind"] == "Interrupted"
    last = err.strip().splitlines()[-1]
    assert "finished runs are kept" in last
    assert "the same command continues" in last
    assert "Traceback" not in err
    store = Store(tmp_path / "runs")
    before = Counter(run.status for run in store.runs())
    assert before["finished"] >= 2
    assert before["interrupted"] <= 1
    assert not before["running"]

    done = subprocess.run(command, check=False, timeout=PATIENCE, **settings)
    assert done.returncode in (0, 3), done.stderr
    assert json.loads(done.stdout)["cost"]["found"] == before["finished"]
    assert Counter(run.status for run in store.runs()) == {"finished": 24}


def test_workers_go_when_interrupted_and_when_their_parent_is_killed(tmp_path: Path) -> None:
    slow = {**STUDY, "durations": ["10000ep", "20000ep", "30000ep", "40000ep"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(slow))
    command = [sys.executable, "-m", "reinvest.cli.main", "compare", "study.yaml", "--workers", "2"]
    store = Store(tmp_path / "runs")
    for stop in (signal.SIGINT, signal.SIGKILL):
        with (tmp_path / "err").open("w") as err:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=err, stderr=err, start_new_session=True)
            try:
                waits_for(lambda: Counter(run.status for run in store.runs())["running"] == 2, process)
                time.sleep(0.5)
                if stop == signal.SIGINT:
                    os.killpg(process.pid, stop)
                else:
                    process.send_signal(stop)
                process.wait(timeout=PATIENCE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        # Workers whose parent is gone notice it by themselves.
        end = time.monotonic() + PATIENCE
        while Counter(run.status for run in store.runs())["running"]:
            assert time.monotonic() < end, "a worker outlived its parent"
            time.sleep(0.05)
        assert {run.status for run in store.runs()} == {"interrupted"}
        assert (process.returncode == 130) == (stop == signal.SIGINT)
    assert len(store.runs()) == 2


def test_an_arm_may_be_a_command_and_a_failing_one_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = EXAMPLES / "own_loop.py"
    command = f"python {loop} --duration {{duration}} --seed {{seed}}"
    write(baseline={"command": f"{command} --smoth 0.1"}, arms={"smooth": {"command": command}})
    said = call("compare", "study.yaml")
    assert said.code == 2
    assert "ends with exit code 0, got 2" in said.err
    assert "--smoth" in said.err


def test_the_demo_is_a_study_that_its_own_text_rebuilds() -> None:
    study = demo_study()
    assert study.seeds >= 10
    assert list(study.durations) == ["3ep", "6ep", "12ep", "24ep"]
    assert len(study.arms) == 3
    again = Study.from_dict(yaml.safe_load(yaml.safe_dump(study.to_dict(), sort_keys=False)))
    assert again.about == study.about
    assert [job.identity for job in plan(again)] == [job.identity for job in plan(study)]


def test_the_demo_command(call: Call, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def small(seeds: int = 3) -> Study:
        asked.append(seeds)
        return Study.from_dict({**STUDY, "seeds": seeds})

    monkeypatch.setattr("reinvest.evaluation.demo.demo_study", small)
    said = call("demo", "--quick", "--store", str(trained / "runs"))
    assert said.code == 0
    assert asked == [3]
    for expected in ("smooth", "Report: report.html", "Every figure in it: report.json", "Smallest speed-up"):
        assert expected in said.out
    assert "at least 3 seeds" in call("demo", "--seeds", "2").err


@pytest.mark.parametrize("name", ["study.yaml", "study.py", "own_loop_study.yaml"])
def test_the_example_studies_can_be_planned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert len(plan(load_study(EXAMPLES / name))) >= 24


def test_the_example_loop_records_a_run(tmp_path: Path) -> None:
    environment = {**os.environ, "REINVEST_STORE": str(tmp_path / "runs")}
    command = [sys.executable, str(EXAMPLES / "own_loop.py"), "--duration", "2ep", "--smooth", "0.1"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    (run,) = Store(tmp_path / "runs").runs()
    assert run.status == "finished"
    assert run.quality("accuracy") > 0.3
