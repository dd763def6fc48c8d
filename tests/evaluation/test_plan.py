"""Every run of a study has its own seed, and every prefix of whole replicates is a fair comparison."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import reinvest as ri
from reinvest.evaluation.plan import describe, found, plan

BASE = ri.Recipe(task="digits", model="mlp", batch_size=64)
DURATIONS = ["2ep", "4ep", "8ep", "16ep"]


def study(**changes: Any) -> ri.Study:
    arms = {"a": BASE.with_(ri.LabelSmoothing(0.1)), "b": BASE.with_(batch_size=32)}
    return ri.Study(**{"baseline": BASE, "arms": arms, "durations": DURATIONS, "seeds": 4, **changes})


def test_seeds_are_fresh_for_every_arm_duration_and_replicate_and_stay_the_same() -> None:
    jobs = plan(study())
    assert len(jobs) == 3 * 4 * 4
    assert len({job.seed for job in jobs}) == len(jobs)
    assert all(0 <= job.seed < 2**31 for job in jobs)
    assert [job.seed for job in plan(study())] == [job.seed for job in jobs]


def test_more_seeds_or_arms_keep_the_runs_there_were() -> None:
    before = {job.identity for job in plan(study())}
    wider = study(seeds=6, arms={**study().arms, "c": BASE.with_(ri.EMA())})
    assert before < {job.identity for job in plan(wider)}


def test_declared_pairs_share_seeds_between_arms_but_not_between_durations() -> None:
    jobs = plan(study(pairs="duration"))
    seeds = {}
    for job in jobs:
        seeds.setdefault((job.duration, job.replicate), set()).add(job.seed)
    assert all(len(s) == 1 for s in seeds.values())
    assert len(set().union(*seeds.values())) == 4 * 4


def test_each_replicate_holds_every_arm_at_every_duration_once_and_turns_the_order_round() -> None:
    jobs = plan(study())
    for replicate, group in itertools.groupby(jobs, key=lambda job: job.replicate):
        cells = Counter((job.arm, job.duration) for job in group)
        assert len(cells) == 12 and set(cells.values()) == {1}, replicate
    first = [job.arm for job in jobs[:3]]
    second = [job.arm for job in jobs[3:6]]
    assert second == first[::-1]


def test_a_command_arm_is_described_by_its_text_and_its_file(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text("print(1)")
    command = f"python {script} --duration {{duration}} --seed {{seed}}"
    before = describe(command)
    assert describe(command) == before
    script.write_text("print(2)")
    assert describe(command) != before


def test_a_command_that_runs_a_module_is_described_by_the_modules_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "described_pkg"
    (package / "tool").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "tool" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    for module, file in (("described_pkg.mod", "mod.py"), ("described_pkg.tool", "tool/__main__.py")):
        command = f"python -m {module} {{duration}} {{seed}}"
        absent = describe(command)
        (package / file).write_text("print(1)")
        before = describe(command)
        assert describe(command) == before != absent
        (package / file).write_text("print(2)")
        assert describe(command) not in (before, absent)
    assert describe("python -m nowhere.at.all {duration} {seed}").endswith("[]]")


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_finished_or_diverged_run_is_found_and_an_interrupted_one_is_not(tmp_path: Path, status: str) -> None:
    store = ri.Store(tmp_path)
    job = plan(study())[0]
    assert found(job, store) is None
    with pytest.raises(RuntimeError), store.record("x", task="digits", identity=job.identity):
        raise RuntimeError
    assert found(job, store) is None
    with store.record("x", task="digits", identity=job.identity) as run:
        run.finish(status)
    assert found(job, store).status == status
