"""A plan says what the verdict itself would say of a copy of the baseline, and designs planned for 80 % find that often."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulated_points as sim
from curve_arms import DURATIONS, curves, fixed_seeds
from scipy.stats import beta, chi2

import reinvest as ri
from reinvest.core.errors import InvalidValue
from reinvest.evaluation import verdict
from reinvest.evaluation.compare import estimate, run_study
from reinvest.evaluation.design import Noise, noise_of
from reinvest.evaluation.drawing import drawable_arm
from reinvest.evaluation.looks import levels
from reinvest.evaluation.pilot import train_pilot
from reinvest.evaluation.plan import plan
from reinvest.evaluation.planning import plan_study

SMALL = {"rho": 0.4, "paired": False}


def pilot(
    n: int, *, sd: float = 0.004, k: int = 5, seed: int = 3, curve: sim.Curve = sim.standard
) -> list[dict[str, Any]]:
    return sim.arm_points("a", curve, sim.durations(k), n, sd, np.random.default_rng(seed))


def noise(points: list[dict[str, Any]], **changes: Any) -> Noise:
    built, variances, _ = drawable_arm(points, "a", higher_is_better=True, test_examples=None)
    assert built is not None and variances is not None
    return noise_of(built, **{**SMALL, **changes})


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_plan_for_the_seeds_of_its_pilot_is_what_the_verdict_says_of_a_copy(n: int) -> None:
    points = pilot(max(n, 3))
    copy = [{**p, "arm": "b", "seed": p["seed"] + 1000} for p in points]
    said = verdict(points + copy, "a")["b"]
    shown = noise(points).design(max(n, 3))
    assert shown.smallest_effect(0.05) == pytest.approx(said.smallest_effect, rel=1e-12)
    assert shown.df == pytest.approx(said.df, rel=1e-9)


def test_more_seeds_show_less_by_the_root_of_their_number() -> None:
    known = noise(pilot(3))
    # Where noise is small against the steps of the curve, cells move it in proportion.
    small, large = known.design(100), known.design(10_000)
    assert large.se == pytest.approx(small.se / 10.0, rel=1e-3)
    assert large.df / small.df == pytest.approx(9999 / 99, rel=1e-3)
    effects = [known.design(n).smallest_effect(0.05) for n in range(3, 30)]
    assert all(a > b > 1.0 for a, b in itertools.pairwise(effects))


def test_uneven_pilots_and_declared_pairs() -> None:
    even, points = pilot(3), pilot(6)
    uneven = [p for k, p in enumerate(points) if k % 6 < (3 if p["duration"] in "024" else 6)]
    assert noise(uneven).runs == 3
    assert noise(uneven).design(5).se == pytest.approx(noise(points).design(5).se, rel=0.6)
    alone, paired = noise(even).design(4), noise(even, paired=True).design(4)
    assert paired.se == pytest.approx(alone.se) and paired.df == pytest.approx(alone.df / 2)


def test_one_run_curves_are_blocks() -> None:
    """Seeds that are repeated over durations cost power, and the plan knows it."""
    times = sim.durations(5)
    shared = sim.arm_points("a", sim.standard, times, 4, 0.004, np.random.default_rng(1), seeds=[range(4)] * 5)
    built, _, _ = drawable_arm(shared, "a", higher_is_better=True, test_examples=None)
    assert built is not None
    design = noise_of(built, **SMALL).design(4)
    copy = [{**p, "arm": "b", "seed": p["seed"] + 1000} for p in shared]
    said = verdict(shared + copy, "a")["b"]
    assert design.df == pytest.approx(said.df) and design.smallest_effect(0.05) == pytest.approx(said.smallest_effect)
    assert noise_of(built, **SMALL).design(8).df == pytest.approx(design.df * 7 / 3)


def test_the_seeds_needed_are_the_fewest_that_show_the_effect() -> None:
    known = noise(pilot(4, sd=0.006))
    for effect in (1.05, 1.1, 1.3):
        needed = known.design(4).seeds_for(effect, 0.05)
        assert needed is not None
        assert known.design(needed).smallest_effect(0.05) <= effect * 1.002
        if needed > 3:
            assert known.design(needed - 1).smallest_effect(0.05) >= effect * 0.998


def test_the_range_is_that_of_an_estimated_variance() -> None:
    design = noise(pilot(3)).design(5)
    low, high = design.factors
    assert low == pytest.approx(math.sqrt(design.known_df / chi2.ppf(0.975, design.known_df)))
    assert high == pytest.approx(math.sqrt(design.known_df / chi2.ppf(0.025, design.known_df)))
    assert low < 1.0 < high


def test_designs_planned_for_80_per_cent_find_about_that() -> None:
    """The noise known, the plan's seeds or effect taken: benchmarks/plan_power.py has more settings and repetitions."""
    exact = sim.arm_points("a", sim.standard, sim.durations(4), 400, 0.004, np.random.default_rng(8))
    effect = noise(exact).design(4).smallest_effect(0.05)
    rng, reps, hits = np.random.default_rng(21), 120, 0
    for _ in range(reps):
        points = sim.two_arms(sim.standard, sim.faster(sim.standard, effect), rng, n=4, k=4, sd=0.004)
        hits += verdict(points, "a")["b"].verdict == "better"
    assert beta.ppf(0.01, hits, reps - hits + 1) <= 0.85 and beta.ppf(0.99, hits + 1, reps - hits) >= 0.75, hits


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    fixed_seeds(monkeypatch)
    return ri.Store(tmp_path / "runs")


def test_without_runs_the_plan_says_what_is_lacking_and_what_to_do(store: Any) -> None:
    found = plan_study(curves("fast", seeds=3), store)
    assert found["noise"] is None and found["planned"]["smallest_effect"] is None
    assert "2 finished runs or more at every duration" in found["reason"] and "--pilot 3" in found["reason"]
    assert "60st 0, 120st 0, 240st 0, 480st 0" in found["reason"]
    assert found["cost"]["runs"] == 24 and found["cost"]["found"] == 0


def test_a_pilot_is_the_beginning_of_the_study(store: Any) -> None:
    study = curves("fast", seeds=3)
    assert train_pilot(study, store, 2) == 8
    assert train_pilot(study, store, 2) == 0
    found = plan_study(study, store)
    assert (found["cost"]["runs"], found["cost"]["found"]) == (24, 8)
    assert found["noise"]["arm"] == "baseline" and found["noise"]["runs"] == 2
    assert any("2 runs" in note for note in found["notes"])
    run_study(study, store)
    assert plan_study(study, store)["cost"]["found"] == 24


def test_a_plan_holds_noise_effects_seeds_hours_and_money(store: Any) -> None:
    study = curves("same", seeds=4)
    train_pilot(study, store, 3)
    found = plan_study(study, store, effects=[1.02, 1.5], price=2.0)
    cells = found["noise"]["cells"]
    assert [c["duration"] for c in cells] == DURATIONS and [c["n"] for c in cells] == [3] * 4
    assert all(c["sd_low"] < c["sd"] < c["sd_high"] for c in cells)
    for cell in cells:
        # Of a power law of exponent .6 above .03, the slope is .6 times the part that falls.
        error = 1.0 - cell["quality"]
        assert cell["sd_time"] == pytest.approx(cell["sd"] / (0.6 * (error - 0.03)), rel=0.35)
    rows = found["by_seeds"]
    assert [r["seeds"] for r in rows] == list(range(3, rows[-1]["seeds"] + 1)) and rows[-1]["seeds"] >= 10
    (planned,) = [r for r in rows if r["seeds"] == 4]
    assert planned["smallest_effect"] == found["planned"]["smallest_effect"]
    assert planned["low"] < planned["smallest_effect"] < planned["high"]
    assert planned["runs"] == 2 * 4 * 4 - 12 == found["cost"]["runs"] - found["cost"]["found"]
    # Arms that are no recipes have no price of their own: their runs so far say what one takes.
    assert planned["hours"] == pytest.approx((900 * 4 + 900) / 3600)
    assert planned["money"] == pytest.approx(2.0 * planned["hours"])
    assert [e["effect"] for e in found["effects"]] == [1.02, 1.5]
    tight, wide = found["effects"]
    assert tight["seeds"] > wide["seeds"] >= 3 and tight["seeds_low"] <= tight["seeds"] <= tight["seeds_high"]
    assert tight["money"] == pytest.approx(2.0 * tight["hours"])


def test_looks_are_planned_with_their_levels(store: Any) -> None:
    plain_study = curves("same", seeds=8)
    train_pilot(plain_study, store, 3)
    plain_plan = plan_study(plain_study, store)
    found = plan_study(curves("same", seeds=8, looks=[3, 5, 8], spending="pocock"), store, effects=[1.01, 2.0])
    looks = found["looks"]["taken"]
    assert [row["seeds"] for row in looks] == [3, 5, 8]
    assert tuple(row["alpha"] for row in looks) == levels((3, 5, 8), 0.05, "pocock")
    assert [row["smallest_effect"] for row in looks] == sorted((row["smallest_effect"] for row in looks), reverse=True)
    # Looks cost a little power at the end of the study, and spare seeds where the effect is large.
    assert found["planned"]["smallest_effect"] > plain_plan["planned"]["smallest_effect"]
    small, large = found["looks"]["effects"]
    assert small["mean_seeds"] > 7.5 and large["mean_seeds"] == pytest.approx(3.0, abs=0.05)
    assert large["found"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"effects": [1.0]}, "an effect is a speed-up above 1, got 1"),
        ({"effects": [0.9]}, "got 0.9"),
        ({"effects": []}, "at least one"),
        ({"price": 0.0}, "a price is above 0, got 0"),
    ],
)
def test_what_cannot_be_planned_is_refused(store: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        plan_study(curves("same", seeds=3), store, **settings)


def test_a_pilot_of_one_run_is_refused(store: Any) -> None:
    with pytest.raises(InvalidValue, match="a pilot has 2 seeds or more, got 1; write --pilot 3"):
        train_pilot(curves("same"), store, 1)


def test_hours_are_told_as_far_as_runs_tell_them(store: Any) -> None:
    study = curves("same", seeds=3)
    nothing = plan_study(study, store)
    assert nothing["planned"]["hours"] is None and "hours are not known" in nothing["notes"][-1]
    train_pilot(study, store, 2)
    some = plan_study(study, store)
    assert some["planned"]["hours"] == pytest.approx((900 + 3 * 900) / 3600)
    assert "no runs of 'same' say what one takes: its hours are counted as those of 'baseline'" in some["notes"]


def test_another_arm_speaks_for_a_baseline_without_runs(tmp_path: Path) -> None:
    store, study = ri.Store(tmp_path / "runs"), curves("fast", seeds=3)
    swapped = ri.Study(baseline=study.arms["fast"], arms={"plain": study.baseline}, durations=DURATIONS, seeds=3)
    train_pilot(swapped, store, 3)
    found = plan_study(study, store)
    assert found["noise"]["arm"] == "fast" and found["cost"]["found"] == 12
    assert "the noise is that of 'fast', because the baseline has too few runs" in found["notes"]


def test_a_branch_and_the_whole_run_of_its_seed_are_one_seed(tmp_path: Path) -> None:
    store, durations = ri.Store(tmp_path), ["6st", "12st", "24st", "48st"]
    schedule = {"name": "cooldown", "share": 0.25}
    base = ri.Recipe(task="digits", model="mlp", batch_size=256, schedule=schedule)
    for seed in (1, 2):
        for duration in durations:
            ri.train(base.with_(duration=duration), seed, store, progress=False)
    trunk = base.with_(duration="48st", schedule={**schedule, "forks": [0.75 * 12 / 48]})
    branch = ri.train(
        base.with_(duration="12st"), 1, store, trunk=ri.train(trunk, 1, store, progress=False), progress=False
    )
    assert "branch" in branch.facts and len(store.runs()) == 10
    study = ri.Study(baseline=base, arms={"twice": base.with_("SAM")}, durations=durations, seeds=3)
    assert [cell["n"] for cell in plan_study(study, store, workers=1)["noise"]["cells"]] == [2, 2, 2, 2]


def test_hours_of_recipes_are_those_of_runs_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ri.Recipe(task="digits", model="mlp", batch_size=256)
    arms, durations = {"twice": base.with_("SAM")}, ["4st", "8st", "16st", "32st"]
    study, store = ri.Study(baseline=base, arms=arms, durations=durations, seeds=3), ri.Store(tmp_path)

    def trial(recipe: Any, machine: Any) -> tuple[float, int, int, int, int]:
        return (0.2 if recipe.methods else 0.1), 1000, 100, 10, 4

    monkeypatch.setattr("reinvest.evaluation.estimate.probe", trial)
    first = plan_study(study, store, workers=1)
    assert first["planned"]["hours"] == pytest.approx(3 * 60 * (0.1 + 0.2) / 3600)
    assert any("a first guess, by a dozen trial steps" in note for note in first["notes"])
    train_pilot(study, store, 2, workers=1)
    runs = store.runs()
    step = sum(run.seconds for run in runs) / sum(run.steps for run in runs)
    then = plan_study(study, store, workers=1)
    # One seed of the baseline is left, and the other arm takes twice the time in trial steps.
    assert then["planned"]["hours"] == pytest.approx(60 * step * (1 + 3 * 2) / 3600)
    assert not any("first guess" in note for note in then["notes"])
    told = estimate(study, store, workers=1)
    assert told["hours"] == pytest.approx(then["planned"]["hours"])
    assert told["seconds_per_step"] == pytest.approx({"baseline": step, "twice": 2 * step})


def test_hours_here_are_not_those_of_runs_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ri.Recipe(task="digits", model="mlp", batch_size=256)
    study = ri.Study(
        baseline=base, arms={"twice": base.with_("SAM")}, durations=["4st", "8st", "16st", "32st"], seeds=3
    )
    store = ri.Store(tmp_path)
    monkeypatch.setattr("reinvest.evaluation.estimate.probe", lambda recipe, machine: (0.1, 1000, 100, 10, 4))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("reinvest.core.hardware._processor", lambda: "another processor")
        for job in [job for job in plan(study) if job.arm == "baseline" and job.replicate < 2]:
            ri.train(job.what, job.seed, store, progress=False)
    then = plan_study(study, store, workers=1)
    assert then["cost"]["found"] == 8
    assert then["planned"]["hours"] == pytest.approx(60 * 0.1 * (1 + 3) / 3600)
    assert any("a first guess, by a dozen trial steps" in note for note in then["notes"])


def test_a_run_that_stands_for_several_durations_is_counted_once(tmp_path: Path) -> None:
    base = ri.Recipe(task="digits", model="mlp", batch_size=256)
    arms, durations = {"smooth": base.with_("LabelSmoothing")}, ["4st", "8st", "16st", "32st"]
    study, store = ri.Study(baseline=base, arms=arms, durations=durations, seeds=3, curve="cyclic"), ri.Store(tmp_path)
    train_pilot(study, store, 2, workers=1)
    found = plan_study(study, store, workers=1)
    assert (found["cost"]["runs"], found["cost"]["found"], found["planned"]["runs"]) == (6, 2, 4)
    assert found["by_seeds"][-1]["runs"] == 2 * found["by_seeds"][-1]["seeds"] - 2
