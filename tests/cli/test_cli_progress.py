"""What a long comparison says of itself: runs are counted, not points, and no time is told before any was measured."""

from __future__ import annotations

from typing import Any

import pytest

import reinvest as ri
from reinvest.cli._study import Display
from reinvest.evaluation.plan import Job, plan
from reinvest.evaluation.study import Study

BASE = ri.Recipe(task="digits", model="mlp", batch_size=256)


def jobs_of(kind: str) -> list[Job]:
    arms = {"smooth": BASE.with_({"name": "LabelSmoothing", "alpha": 0.2})}
    return plan(Study(baseline=BASE, arms=arms, durations=("4st", "8st", "16st", "32st"), seeds=3, curve=kind))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("reinvest.cli._study.time.monotonic", made)
    return made


def said(display: Display, clock: Clock, job: Job, seconds: float, capfd: Any) -> str:
    """What is printed when a run is finished so many seconds after the one before."""
    clock.now += seconds
    display.finished(job)
    return str(capfd.readouterr().err)


@pytest.mark.parametrize(
    ("kind", "first", "runs"),
    [
        ("separate", "24 runs, 0 of them in the store already", 24),
        ("cyclic", "6 runs for 24 points, 0 of them in the store already", 6),
        ("cooldown-branch", "24 runs, 0 of them in the store already", 24),
    ],
)
def test_runs_are_counted(clock: Clock, capfd: Any, kind: str, first: str, runs: int) -> None:
    jobs, display = jobs_of(kind), Display()
    display.planned(jobs, jobs)
    assert capfd.readouterr().err.strip() == first
    lines = [said(display, clock, job, 20.0, capfd) for job in sorted(jobs, key=lambda job: job.identity)]
    told = [line for line in lines if line]
    assert len(told) == runs and f"{runs}/{runs} runs" in told[-1] and f"training: 1/{runs} runs" in told[0]
    assert display.worked == pytest.approx(display.work)


def test_time_is_told_once_it_was_measured_and_start_up_is_no_part_of_it(clock: Clock, capfd: Any) -> None:
    jobs = [job for job in jobs_of("separate") if job.duration == "8st"][:5]
    display = Display()
    display.planned(jobs, jobs)
    capfd.readouterr()
    lines = [
        said(display, clock, job, seconds, capfd) for job, seconds in zip(jobs, (100, 20, 20, 20, 20), strict=True)
    ]
    assert lines[0] == "training: 1/5 runs, time left not known yet\n"
    assert "about 1 min 0 s left" in lines[1] and "about 40 s left" in lines[2]
    assert "about 20 s left" in lines[3]


def test_two_workers_that_end_together_measure_nothing(clock: Clock, capfd: Any) -> None:
    jobs = [job for job in jobs_of("separate") if job.duration == "4st"]
    display = Display()
    display.planned(jobs, jobs)
    capfd.readouterr()
    said(display, clock, jobs[0], 100, capfd)
    display._said = -100.0
    assert "not known yet" in said(display, clock, jobs[1], 0.0, capfd)


def test_a_branch_is_the_share_of_its_run_that_it_trains(clock: Clock) -> None:
    display, jobs = Display(), jobs_of("cooldown-branch")
    display.planned(jobs, jobs)
    # Three seeds of two arms: a trunk of 32 steps and the last fifths of 4, 8 and 16.
    assert display.work == pytest.approx(6 * (32 + 0.2 * 28))


def test_runs_whose_recipe_is_not_known_beforehand_are_counted_one_by_one(clock: Clock, capfd: Any) -> None:
    planned = [Job("scratch", f"{k}st", 0, k, BASE, "") for k in (4, 8, 16, 32)]
    display = Display()
    display.planned(planned, planned[1:])
    assert capfd.readouterr().err.strip() == "4 runs, 1 of them in the store already"
    done = [Job(job.arm, job.duration, 0, job.seed, BASE, f"identity {job.seed}") for job in planned[1:]]
    lines = [said(display, clock, job, 20.0, capfd) for job in done]
    assert [f"training: {k}/3 runs" in line for k, line in enumerate(lines, start=1)] == [True] * 3
    assert display.worked == pytest.approx(display.work) == pytest.approx(56.0)
