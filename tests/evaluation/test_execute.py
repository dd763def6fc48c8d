"""Arms of three kinds leave runs in the store, nothing is trained twice, and a study stops at a fair point."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import reinvest as ri
from reinvest.core.errors import LoopError
from reinvest.evaluation import execute as module
from reinvest.evaluation.execute import Machine, Stopped, execute, run_one
from reinvest.evaluation.plan import Job, found, plan

BASE = ri.Recipe(task="digits", model="mlp", batch_size=64)
DURATIONS = ["2st", "4st", "8st", "16st"]
SCRIPT = """
import argparse, os
import reinvest as ri
p = argparse.ArgumentParser(); p.add_argument("--duration"); p.add_argument("--seed", type=int); a = p.parse_args()
if a.seed == 13:
    raise SystemExit("out of luck")
if a.seed != 14:
    with ri.Store(os.environ["REINVEST_STORE"]).record("mine", task="digits", seed=a.seed) as run:
        run.log(split="test", accuracy=0.5)
"""


def own_arm(duration: str, seed: int, store: Any) -> Any:
    """A callable arm that records its run."""
    with store.record("mine", task="digits", seed=seed, config={"duration": duration}) as run:
        run.log(split="test", accuracy=0.7)
    return run.run


def no_run(duration: str, seed: int, store: Any) -> Any:
    """A callable arm that forgets to return its run."""


@pytest.fixture
def command(tmp_path: Path) -> str:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    return f"python {script} --duration {{duration}} --seed {{seed}}"


def job(what: Any, seed: int = 1) -> Job:
    return Job("arm", "2st", 0, seed, what, f"{seed:032x}")


def test_recipe_callable_and_command_leave_a_run_that_is_found_again(tmp_path: Path, command: str) -> None:
    store = ri.Store(tmp_path / "store")
    for what, quality in ((own_arm, 0.7), (command, 0.5)):
        one = job(what, seed=len(str(what)))
        run = run_one(one, store, Machine())
        assert run.quality("accuracy") == quality
        assert found(one, store).id == run.id
    study = ri.Study(baseline=BASE, arms={"a": BASE.with_(batch_size=32)}, durations=DURATIONS, seeds=3)
    first = plan(study)[0]
    assert run_one(first, store, Machine()).id == found(first, store).id


def test_faults_of_commands_and_callables_are_one_sentence(tmp_path: Path, command: str) -> None:
    store = ri.Store(tmp_path / "store")
    for what, seed, words in (
        (command, 13, "out of luck"),
        (command, 14, "leaves a recorded run"),
        (no_run, 1, "returns its Run"),
        ("python nowhere.py --duration {duration} --seed {seed}", 1, "exit code"),
    ):
        with pytest.raises(LoopError) as caught:
            run_one(job(what, seed), store, Machine())
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_study_stops_only_between_replicates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[Job] = []

    def slow(jobs: Any, store: Any, machine: Any, on_done: Any) -> None:
        done.extend(jobs)
        time.sleep(0.05)

    monkeypatch.setattr(module, "_batch", slow)
    study = ri.Study(baseline=BASE, arms={"a": BASE.with_(batch_size=32)}, durations=DURATIONS, seeds=9)
    jobs = plan(study)
    with pytest.raises(Stopped) as stopped:
        execute(jobs, None, Machine(), max_seconds=0.18)
    assert len(done) == stopped.value.replicates * 8
    assert 1 <= stopped.value.replicates < 9
    done.clear()
    assert execute(jobs, None, Machine()) == 9
    assert done == jobs
