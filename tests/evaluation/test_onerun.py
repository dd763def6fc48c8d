"""A curve out of one run: its points are read where separate runs would end, and belong together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import t

import reinvest as ri
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.evaluation import onerun
from reinvest.evaluation.calibrating import calibrate, calibration_cost, told
from reinvest.evaluation.compare import estimate, run_study
from reinvest.evaluation.plan import plan
from reinvest.evaluation.study import Study
from reinvest.loop.branches import marked_steps
from reinvest.loop.session import Session
from reinvest.methods.schedules import cooldown, cycle_ends, cyclic

BASE = ri.Recipe(task="digits", model="mlp", batch_size=256, schedule={"name": "cosine", "warmup": 0.25, "final": 0.01})
DURATIONS = ("4st", "8st", "16st", "32st")


def study(kind: str, **changes: Any) -> Study:
    arms = {"smoothing": BASE.with_({"name": "LabelSmoothing", "alpha": 0.2})}
    return Study(baseline=BASE, arms=arms, durations=DURATIONS, seeds=3, curve=kind, **changes)


def test_cycles_end_at_the_durations() -> None:
    made = onerun.cyclic(BASE, DURATIONS)
    arguments = {k: v for k, v in made.schedule.items() if k != "name"}
    ends = cycle_ends(**{k: v for k, v in arguments.items() if k != "final"})
    assert [end * 32 for end in ends] == pytest.approx([4, 8, 16, 32], abs=1e-12) and made.duration == "32st"
    assert cyclic(ends[0], **arguments) == pytest.approx(0.01) and cyclic(2 / 32, **arguments) == pytest.approx(1.0)
    tripled = onerun.cyclic(BASE, ("2ep", "6ep", "18ep", "54ep"))
    ends = cycle_ends(4, growth=3.0, warmup=tripled.schedule["warmup"])
    assert [end * 54 for end in ends] == pytest.approx([2, 6, 18, 54], abs=1e-12)


def test_branches_begin_where_their_cool_down_does_and_warm_up_alike() -> None:
    whole = onerun.trunk(BASE, DURATIONS)
    assert [f * 32 for f in whole.schedule["forks"]] == pytest.approx([3.2, 6.4, 12.8])
    for duration in DURATIONS:
        made, steps = onerun.branch(BASE, duration, DURATIONS), int(duration[:-2])
        arguments = {k: v for k, v in made.schedule.items() if k != "name"}
        assert arguments["warmup"] * steps == pytest.approx(1.0)
        assert cooldown(0.8, **arguments) == pytest.approx(1.0, abs=1e-6) and cooldown(
            1.0, **arguments
        ) == pytest.approx(0.01)


def test_prices_in_steps() -> None:
    assert onerun.share_of_separate("separate", DURATIONS) == 1.0
    assert onerun.share_of_separate("cyclic", DURATIONS) == pytest.approx(32 / 60)
    assert onerun.share_of_separate("cooldown-branch", DURATIONS) == pytest.approx((32 + 0.2 * 28) / 60)


def test_a_replicate_is_one_run_or_one_trunk_with_its_branches() -> None:
    separate, one, trunks = (plan(study(kind)) for kind in onerun.KINDS)
    assert len({job.identity for job in separate}) == len(separate) == 2 * 4 * 3
    assert len(one) == 24 and len({job.identity for job in one}) == 6
    assert {(job.duration, job.share) for job in one} == {(d, int(d[:-2]) / 32) for d in DURATIONS}
    assert len({job.identity for job in trunks}) == 24 and {job.trunk is None for job in trunks} == {True, False}
    assert all((job.trunk is None) == (job.duration == "32st") for job in trunks)
    for jobs in (one, trunks):
        seeds = {(job.arm, job.replicate): job.seed for job in jobs}
        assert all(job.seed == seeds[job.arm, job.replicate] for job in jobs) and len(set(seeds.values())) == 6


@pytest.mark.parametrize("kind", ["cyclic", "cooldown-branch"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_of_one_run_an_arm(tmp_path: Path, kind: str, workers: int) -> None:
    if kind == "cyclic" and workers == 2:
        pytest.skip("workers make no difference beyond trunks and branches")
    store, seen = ri.Store(tmp_path / "runs"), []
    from reinvest.evaluation.compare import Listener

    verdicts = run_study(study(kind), store, workers=workers, listener=Listener(done=seen.append))
    result = verdicts.result
    points = [p for arm in result["arms"].values() for p in arm["points"]]
    assert len(points) == 24 and {p["steps"] for p in points} == {4, 8, 16, 32}
    assert len(store.runs()) == (6 if kind == "cyclic" else 24) and len(seen) == 24
    assert "not comparable" not in {v.verdict for v in verdicts.values()}
    flags = " ".join(verdicts["smoothing"].flags)
    assert "not calibrated against separate runs" in flags
    again = run_study(study(kind), store, workers=1)
    cost = {**again.result["cost"], "seconds": 0.0}
    runs = 6 if kind == "cyclic" else 24
    assert cost == {"runs": runs, "found": runs, "points": 24, "seconds": 0.0} and len(store.runs()) == (
        6 if kind == "cyclic" else 24
    )
    longest = [p["quality"] for p in result["arms"]["baseline"]["points"] if p["steps"] == 32]
    whole = {r.seed: r.quality("accuracy") for r in store.runs() if r.steps == 32}
    assert set(longest) <= set(whole.values())


def test_calibration_is_told(tmp_path: Path) -> None:
    store = ri.Store(tmp_path / "runs")
    assert calibrate(study("cyclic"), store, 2, workers=1) == 4
    verdicts = run_study(study("cyclic"), store, workers=1)
    rows = verdicts.result["calibration"]["rows"]
    assert [row["duration"] for row in rows] == ["4st", "32st"]
    assert all(
        row["separate"] == 2 and row["runs"] == 3 and row["low"] <= row["difference"] <= row["high"] for row in rows
    )
    assert any("off that of separate runs of the baseline" in flag for flag in verdicts["smoothing"].flags)
    assert calibrate(study("cyclic"), store, 2, workers=1) == 0
    with pytest.raises(InvalidValue, match="2 or more runs a duration, got 1"):
        calibrate(study("cyclic"), store, 1)
    with pytest.raises(InvalidValue, match="their own calibration"):
        calibrate(study("separate"), store, 2)


def test_how_far_points_are_off_is_told_in_points_of_accuracy() -> None:
    row = {"duration": "8st", "runs": 3, "separate": 2, "difference": 0.0152, "low": -0.004, "high": 0.0344}
    (_, said) = told(study("cyclic", metric="accuracy"), [row])
    assert said == "accuracy off that of separate runs of the baseline by +1.52 points (-0.40 to +3.44) at 8st"
    (_, said) = told(study("cyclic", metric="loss"), [row])
    assert said == "loss off that of separate runs of the baseline by +0.0152 (-0.004 to +0.0344) at 8st"


def test_what_a_calibration_costs_is_known_before(tmp_path: Path) -> None:
    store = ri.Store(tmp_path / "runs")
    before = calibration_cost(study("cyclic"), store, 2, workers=1)
    assert (before["runs"], before["found"]) == (4, 0) and before["hours"] > 0.0
    # A run of 4 and one of 32 steps each, at the price of a step that the estimate has.
    step = before["seconds_per_step"]
    assert before["hours"] * 3600 == pytest.approx(2 * (4 + 32) * step)
    assert calibrate(study("cyclic"), store, 2, workers=1) == 4
    after = calibration_cost(study("cyclic"), store, 3, workers=1)
    assert (after["runs"], after["found"]) == (6, 4)
    with pytest.raises(InvalidValue, match="2 or more runs a duration, got 1"):
        calibration_cost(study("cyclic"), store, 1)
    with pytest.raises(InvalidValue, match="their own calibration"):
        calibration_cost(study("separate"), store, 2)


def test_deviations_are_welch_s() -> None:
    rows = onerun.deviations(
        {"1ep": [0.5, 0.6, 0.7], "2ep": [0.7]}, {"1ep": [0.4, 0.5], "2ep": [0.8, 0.9], "4ep": [1.0]}
    )
    assert [row["duration"] for row in rows] == ["1ep"]
    assert rows[0]["difference"] == pytest.approx(0.15)
    df = (0.01 / 3 + 0.005 / 2) ** 2 / ((0.01 / 3) ** 2 / 2 + (0.005 / 2) ** 2 / 1)
    assert rows[0]["high"] - 0.15 == pytest.approx(0.15 - rows[0]["low"]) == pytest.approx(0.0763763 * t.ppf(0.975, df))
    same = onerun.deviations({"1ep": [0.5, 0.5]}, {"1ep": [0.5, 0.5]})[0]
    assert same["difference"] == same["low"] == same["high"] == 0.0


def test_what_one_run_cannot_stand_for_is_refused() -> None:
    with pytest.raises(UnknownName, match="separate"):
        study("spiral")
    with pytest.raises(InvalidValue, match=r"arm 'ahead'.*go by how long the run is, got EMA"):
        Study(baseline=BASE, arms={"ahead": BASE.with_("EMA")}, durations=DURATIONS, seeds=3, curve="cyclic")
    with pytest.raises(InvalidValue, match="needs recipes, got a command"):
        Study(baseline=BASE, arms={"c": "python x.py {duration} {seed}"}, durations=DURATIONS, curve="cyclic")
    with pytest.raises(InvalidValue, match="cycles grow by one factor, got durations 4st, 8st, 16st, 30st"):
        Study(
            baseline=BASE,
            arms={"b": BASE.with_(batch_size=64)},
            durations=("4st", "8st", "16st", "30st"),
            curve="cyclic",
        )
    with pytest.raises(InvalidValue, match=r"whole epochs or steps, got 0\.5ep"):
        halves = ("0.5ep", "1ep", "2ep", "4ep")
        Study(baseline=BASE, arms={"b": BASE.with_(batch_size=64)}, durations=halves, curve="cooldown-branch")


def test_a_trunk_that_diverges_costs_only_what_begins_behind_it(tmp_path: Path, monkeypatch: Any) -> None:
    durations = ("16st", "32st", "64st", "128st")
    arms = {"smoothing": BASE.with_({"name": "LabelSmoothing", "alpha": 0.2})}
    plan_of = Study(baseline=BASE, arms=arms, durations=durations, seeds=3, curve="cooldown-branch")
    lost = next(job.seed for job in plan(plan_of) if job.arm == "baseline" and job.replicate == 1)
    step = Session.step

    def poisoned(self: Session, batch: Any) -> Any:
        loss = step(self, batch)
        late = self.total_steps == 128 and self.seed == lost and self.methods.context.step >= 30
        return loss * float("nan") if late else loss

    monkeypatch.setattr(Session, "step", poisoned)
    store = ri.Store(tmp_path / "runs")
    for _ in range(2):
        result = run_study(plan_of, store, workers=1).result
        status = {p["duration"]: p["status"] for p in result["arms"]["baseline"]["points"] if p["seed"] == lost}
        # Noticed at the second look, step 32: behind the forks at 13 and 26, before the one at 51.
        assert status == {"16st": "finished", "32st": "finished", "64st": "diverged", "128st": "diverged"}
        assert len(store.runs()) == 23 and result["cost"]["runs"] == 24
    assert result["cost"]["found"] == 24


@pytest.mark.parametrize(
    ("lost_at", "expected"),
    [
        # Looked at every 16 steps: noticed at 16, before a cycle ended; at 48, behind the read at 40 that is NaN; at 48.
        (10, ["diverged"] * 4),
        (35, ["finished", "diverged", "diverged", "diverged"]),
        (45, ["finished", "finished", "diverged", "diverged"]),
        (None, ["finished"] * 4),
    ],
)
def test_a_cyclic_run_that_diverges_late_keeps_the_cycles_that_ended_before(
    tmp_path: Path, monkeypatch: Any, lost_at: int | None, expected: list[str]
) -> None:
    made, step = onerun.cyclic(BASE, ("20st", "40st", "80st", "160st")), Session.step

    def poisoned(self: Session, batch: Any) -> Any:
        late = lost_at is not None and self.methods.context.step == lost_at
        loss = step(self, batch)
        if late:
            for weight in self.model.parameters():
                weight.data.fill_(float("nan"))
        return loss

    monkeypatch.setattr(Session, "step", poisoned)
    run = ri.train(made, 0, ri.Store(tmp_path / "runs"), evaluations=1, progress=False)
    assert run.status == ("finished" if lost_at is None else "diverged")
    read = [onerun.reading(run, "accuracy", share) for share in onerun.ends(made)]
    assert [one["status"] for one in read] == expected
    for one, steps in zip(read, (20, 40, 80, 160), strict=True):
        assert math.isfinite(one["quality"]) == (one["status"] == "finished")
        if one["status"] == "finished":
            assert one["steps"] == steps and 0.0 < one["seconds"] <= (run.seconds or 0.0)


def test_every_cycle_is_read_where_durations_are_rounded() -> None:
    rounded = ("1000st", "1778st", "3162st", "5623st")  # four to a factor of ten
    arms = {"smoothing": BASE.with_({"name": "LabelSmoothing", "alpha": 0.2})}
    jobs = plan(Study(baseline=BASE, arms=arms, durations=rounded, seeds=3, curve="cyclic"))
    assert isinstance(jobs[0].what, ri.Recipe)
    read = marked_steps(jobs[0].what.schedule, "reads", 5623) | {5623}
    assert {round(job.share * 5623) for job in jobs} == read
    for job in jobs:
        assert round(job.share * 5623) == pytest.approx(int(job.duration[:-2]), rel=1e-3)


def test_separate_runs_of_half_epochs_have_a_price() -> None:
    assert onerun.share_of_separate("separate", ("0.5ep", "1ep", "2ep", "4ep")) == 1.0


@pytest.mark.parametrize("kind", ["cyclic", "cooldown-branch"])
def test_schedules_that_the_curve_would_drop_are_refused(kind: str) -> None:
    def made(arm: ri.Recipe, base: ri.Recipe = BASE, durations: Any = DURATIONS) -> Study:
        return Study(baseline=base, arms={"other": arm}, durations=durations, seeds=3, curve=kind)

    with pytest.raises(InvalidValue, match=r"one schedule for all arms, got another one for 'other'"):
        made(BASE.with_(schedule={"name": "linear", "warmup": 0.25, "final": 0.01}))
    made(BASE.with_(schedule={**BASE.schedule, "final": 0.1}))
    warmed = BASE.with_(schedule={**BASE.schedule, "warmup": 0.5})
    if kind == "cyclic":
        with pytest.raises(InvalidValue, match="got another one for 'other'"):
            made(warmed)
    else:
        made(warmed)
        late = BASE.with_(schedule={"name": "cosine", "warmup": 0.9})
        with pytest.raises(InvalidValue, match=r"warms up before its cool-down at 0\.8 of it, got warmup=0\.9"):
            made(late.with_(batch_size=64), late)
    with pytest.raises(InvalidValue, match="durations of a curve out of one run increase, got 32st, 16st, 8st, 4st"):
        made(BASE.with_(batch_size=64), durations=DURATIONS[::-1])


def test_declared_pairs_are_pairs(tmp_path: Path) -> None:
    verdicts = run_study(study("cyclic", pairs="duration"), ri.Store(tmp_path / "runs"), workers=1)
    assert not any("pairs were declared but" in flag for flag in verdicts["smoothing"].flags)
    apart = run_study(study("cyclic"), ri.Store(tmp_path / "runs"), workers=1)
    assert not any("pairs" in flag for flag in apart["smoothing"].flags)


def test_a_calibration_of_an_arm_that_names_an_earlier_run_by_a_prefix_is_found(tmp_path: Path) -> None:
    store = ri.Store(tmp_path / "runs")
    earlier = ri.train(BASE.with_(duration="4st"), 0, store).id
    base = BASE.with_(ri.WarmStart(earlier[:9]))
    arms = {"smoothing": base.with_({"name": "LabelSmoothing", "alpha": 0.2})}
    taught = Study(baseline=base, arms=arms, durations=DURATIONS, seeds=3, curve="cyclic")
    told = []
    assert calibrate(taught, store, 2, workers=1, planned=lambda jobs, todo: told.append((len(jobs), len(todo)))) == 4
    assert told == [(4, 4)]
    rows = run_study(taught, store, workers=1).result["calibration"]["rows"]
    assert [row["separate"] for row in rows] == [2, 2]


def test_an_estimate_counts_a_run_once(tmp_path: Path) -> None:
    store = ri.Store(tmp_path / "runs")
    separate, one = (estimate(study(kind), store, workers=1) for kind in ("separate", "cyclic"))
    assert (separate["runs"], one["runs"], one["found"]) == (24, 6, 0)
    assert one["disk_bytes"] < separate["disk_bytes"] / 2


def test_the_kind_is_part_of_a_study_s_text() -> None:
    read = Study.from_dict(study("cyclic").to_dict())
    assert read.curve == "cyclic" and [j.identity for j in plan(read)] == [j.identity for j in plan(study("cyclic"))]
    assert "curve" not in study("separate").to_dict()
