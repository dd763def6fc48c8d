"""Arms of three kinds leave runs in the store, nothing is trained twice, and a study stops at a fair point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import reinvest as ri
from reinvest.core.errors import LoopError
from reinvest.evaluation import execute as module
from reinvest.evaluation.execute import Machine, Stopped, execute, machine_for, run_one
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


def trained(duration: str, seed: int, store: Any) -> Any:
    """A callable arm that trains with the library, whose run has the identity of its recipe."""
    return ri.train(replace(BASE, duration=duration), seed, store, device="cpu", records=False, progress=False)


def test_a_run_that_an_arm_names_by_a_prefix_is_found_again(tmp_path: Path) -> None:
    store = ri.Store(tmp_path / "runs")
    past = trained("2st", 1, store)
    study = ri.Study(baseline=BASE, arms={"warm": BASE.with_(ri.WarmStart(past.id[:8]))}, durations=DURATIONS, seeds=3)
    assert found(plan(study)[0], store) is None
    for job in plan(study.resolved(lambda run: store.get(run).id))[:2]:
        assert found(job, store) is None
        assert run_one(job, store, Machine(1, 1, "cpu")).identity == job.identity


def elsewhere(duration: str, seed: int, store: Any) -> Any:
    """A callable arm whose run lies in another store."""
    return own_arm(duration, seed, ri.Store(store.path.parent / "other"))


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
        (elsewhere, 1, "in the study's store"),
        ("python nowhere.py --duration {duration} --seed {seed}", 1, "exit code"),
    ):
        with pytest.raises(LoopError) as caught:
            run_one(job(what, seed), store, Machine())
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_arms_that_train_with_the_library_are_found_again(tmp_path: Path) -> None:
    store = ri.Store(tmp_path / "store")
    script = tmp_path / "theirs.py"
    script.write_text(
        "import os, sys, reinvest as ri\n"
        "recipe = ri.Recipe(task='digits', model='mlp', batch_size=64, duration=sys.argv[1])\n"
        "ri.train(recipe, int(sys.argv[2]), ri.Store(os.environ['REINVEST_STORE']), device='cpu', progress=False)\n"
    )
    for what, seed in ((trained, 21), (f"python {script} {{duration}} {{seed}}", 22)):
        one = job(what, seed=seed)
        run = run_one(one, store, Machine())
        assert run.identity != one.identity and run.seed == seed
        assert found(one, store).id == run.id
        assert found(one, ri.Store(tmp_path / "store")).id == run.id
        assert found(replace(one, identity="0" * 32), store) is None
    assert not [f for f in (store.path / "arms").iterdir() if f.suffix != ".json"]
    (store.path / "arms" / f"{one.identity}.json").write_text("{")
    assert found(one, store) is None


def test_a_command_with_two_runs_of_its_own_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        "import os, sys, reinvest as ri\n"
        "for name in 'ab':\n"
        "    with ri.Store(os.environ['REINVEST_STORE']).record(name, task='t', seed=int(sys.argv[2]), identity=name):\n"
        "        pass\n"
    )
    with pytest.raises(LoopError, match="one run with its seed, got 2"):
        run_one(job(f"python {script} {{duration}} {{seed}}", 5), ri.Store(tmp_path / "store"), Machine())


def test_a_command_computes_with_the_threads_of_the_study(tmp_path: Path) -> None:
    script = tmp_path / "threads.py"
    script.write_text(
        "import os, sys, reinvest as ri\n"
        "with ri.Store(os.environ['REINVEST_STORE']).record('x', task='t', seed=int(sys.argv[2])) as run:\n"
        "    run.log(split='test', accuracy=float(os.environ['OMP_NUM_THREADS'] + os.environ['MKL_NUM_THREADS']))\n"
    )
    run = run_one(
        job(f"python {script} {{duration}} {{seed}}", 6), ri.Store(tmp_path / "store"), Machine(workers=1, threads=3)
    )
    assert run.quality("accuracy") == 33.0


def test_arms_that_are_no_recipes_run_one_at_a_time() -> None:
    arms = {"a": BASE.with_(batch_size=32)}
    study = ri.Study(baseline=BASE, arms=arms, durations=DURATIONS)
    assert machine_for(study, 4, 1, "cpu").workers == 4
    mixed = replace(study, arms={**arms, "mine": own_arm})
    assert machine_for(mixed, 4, 1, "cpu").workers == machine_for(mixed, None, 1, "cpu").workers == 1


def test_a_study_stops_only_between_replicates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[Job] = []

    def slow(jobs: Any, store: Any, machine: Any, on_done: Any) -> None:
        done.extend(jobs)
        clock[0] += 1.0

    clock = [0.0]
    monkeypatch.setattr(module, "_batch", slow)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    study = ri.Study(baseline=BASE, arms={"a": BASE.with_(batch_size=32)}, durations=DURATIONS, seeds=9)
    jobs = plan(study)
    with pytest.raises(Stopped) as stopped:
        execute(jobs, None, Machine(), max_seconds=3.5)
    assert stopped.value.replicates == 3
    assert done == jobs[: 3 * 8]
    done.clear()
    assert execute(jobs, None, Machine()) == 9
    assert done == jobs
