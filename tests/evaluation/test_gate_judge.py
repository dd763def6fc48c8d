"""A recipe against a stored baseline: what counts as regressed, what as not, and how rarely a copy is called worse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import betaincinv
from simulated_points import faster, flat, standard

from reinvest.evaluation.gate import BASELINE, PRESENT, GateSettings, Part, combined, judge_gate
from reinvest.evaluation.timing import ArmTiming

DURATIONS = (60, 120, 240, 480)
SETTINGS = GateSettings(metric="accuracy", higher_is_better=True)


def rows(curve: Any, rng: np.random.Generator, *, seeds: int = 5, sd: float = 0.004, each: float = 0.01) -> list[dict]:
    """Points of one recipe: `each` seconds a step."""
    return [
        {
            "duration": f"{steps}st",
            "seed": 1000 * steps + k,
            "steps": steps,
            "seconds": steps * each,
            "quality": float(1 - curve(np.array([float(steps)]))[0] + sd * rng.standard_normal()),
            "status": "finished",
        }
        for steps in DURATIONS
        for k in range(seeds)
    ]


def block(ratio: float, sd: float = 0.005) -> ArmTiming:
    return ArmTiming({}, 0.01 * ratio, math.log(ratio), sd * sd, 17.0)


def words(found: Any) -> dict[str, str]:
    return {part.name: part.verdict for part in found}


def test_a_copy_of_the_baseline_is_not_regressed_without_any_doubt() -> None:
    points = rows(standard, np.random.default_rng(0))
    found = judge_gate(points, points, None, SETTINGS)
    assert words(found) == {"steps": "not regressed", "time": "not regressed"}
    assert all(part.ratio == pytest.approx(1.0, abs=1e-12) for part in found)
    assert combined(found) == "not regressed"


def test_more_steps_to_equal_quality_is_a_regression_with_the_right_ratio() -> None:
    rng = np.random.default_rng(1)
    found = judge_gate(rows(standard, rng, sd=0.001), rows(faster(standard, 1 / 1.5), rng, sd=0.001), None, SETTINGS)
    steps = found[0]
    assert steps.name == "steps" and steps.verdict == "regressed"
    assert steps.low < 1.5 < steps.high and steps.ratio == pytest.approx(1.5, rel=0.03)
    assert combined(found) == "regressed"


def test_dearer_steps_are_a_regression_in_time_alone() -> None:
    points = rows(standard, np.random.default_rng(2))
    dearer = [{**p, "seconds": p["seconds"] * 1.3} for p in points]
    found = judge_gate(points, dearer, block(1.3), SETTINGS)
    assert words(found) == {"steps": "not regressed", "time": "regressed"}
    assert found[1].ratio == pytest.approx(1.3, rel=1e-6) and found[1].low < 1.3 < found[1].high
    assert combined(found) == "regressed"


def test_the_error_of_the_timing_block_decides_what_time_can_say() -> None:
    points = rows(standard, np.random.default_rng(3))
    sharp = judge_gate(points, points, block(1.0, 0.005), SETTINGS)
    blunt = judge_gate(points, points, block(1.0, 0.05), SETTINGS)
    assert words(sharp)["time"] == "not regressed"
    assert words(blunt)["time"] == "undecided"
    assert math.log(blunt[1].high) == pytest.approx(2.1098 * 0.05, rel=1e-4)  # t(17) times the block's own error
    assert blunt[1].seeds_needed is None and "rounds" in blunt[1].reason
    rng = np.random.default_rng(3)
    blunt = judge_gate(rows(standard, rng, sd=0.0005), rows(standard, rng, sd=0.0005), block(1.0, 0.05), SETTINGS)
    assert words(blunt) == {"steps": "not regressed", "time": "undecided"}
    assert blunt[1].seeds_needed is None and "rounds" in blunt[1].reason


def test_a_faster_recipe_is_not_regressed_and_a_gain_needs_no_margin() -> None:
    rng = np.random.default_rng(4)
    strict = GateSettings(metric="accuracy", higher_is_better=True, margin=0.0)
    found = judge_gate(rows(standard, rng), rows(faster(standard, 1.5), rng), None, strict)
    assert combined(found) == "not regressed"


def test_a_wide_interval_is_undecided_and_says_how_many_seeds_would_decide() -> None:
    rng = np.random.default_rng(5)
    one, two = rows(standard, rng, seeds=3, sd=0.008), rows(standard, rng, seeds=3, sd=0.008)
    found = judge_gate(one, two, None, SETTINGS)
    assert combined(found) == "undecided"
    assert found[0].low < 1 < found[0].high and found[0].high > 1.05
    assert found[0].seeds_needed is not None and found[0].seeds_needed > 3


def test_a_loss_of_quality_shows_for_metrics_that_fall_too() -> None:
    rng = np.random.default_rng(6)
    settings = GateSettings(metric="loss", higher_is_better=False)
    one = [{**p, "quality": 1 - p["quality"]} for p in rows(standard, rng, sd=0.001)]
    two = [{**p, "quality": 1 - p["quality"]} for p in rows(faster(standard, 0.7), rng, sd=0.001)]
    assert combined(judge_gate(one, two, None, settings)) == "regressed"
    assert combined(judge_gate(two, one, None, settings)) == "not regressed"


def test_runs_that_diverge_now_and_did_not_before_are_a_regression() -> None:
    points = rows(standard, np.random.default_rng(7))
    broken = [{**p, "status": "diverged", "quality": math.nan} if k % 3 == 0 else p for k, p in enumerate(points)]
    found = judge_gate(points, broken, None, SETTINGS)
    assert combined(found) == "regressed"
    assert "7 of 20" in found[0].reason and "0 of 20" in found[0].reason
    assert combined(judge_gate(broken, points, None, SETTINGS)) == "not comparable"


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.25, 0.5])
def test_runs_that_diverge_as_often_as_before_are_no_regression(rate: float) -> None:
    """Over every number of lost runs on both sides, a recipe that loses as many is called worse once in forty at most."""
    points = rows(standard, np.random.default_rng(7), seeds=3)

    def lost(many: int) -> list[dict]:
        return [{**p, "status": "diverged", "quality": None} if k < many else p for k, p in enumerate(points)]

    chance = [math.comb(12, k) * rate**k * (1 - rate) ** (12 - k) for k in range(13)]
    called = [
        chance[ours] * chance[theirs]
        for ours in range(13)
        for theirs in range(ours + 1, 13)
        if 5 * theirs > 12 and combined(judge_gate(lost(ours), lost(theirs), None, SETTINGS)) == "regressed"
    ]
    assert called and sum(called) <= 0.025
    assert combined(judge_gate(lost(2), lost(3), None, SETTINGS)) == "not comparable"


def test_what_cannot_be_compared_says_why() -> None:
    points = rows(standard, np.random.default_rng(8))
    found = judge_gate(points, [p for p in points if p["seed"] % 1000 < 2], None, SETTINGS)
    assert combined(found) == "not comparable"
    assert "seeds" in found[0].reason


def test_a_flat_baseline_leaves_it_undecided_and_says_what_to_choose() -> None:
    rng = np.random.default_rng(9)
    found = judge_gate(rows(flat, rng), rows(flat, rng), None, SETTINGS)
    assert combined(found) == "undecided"
    assert "shorter durations" in found[0].reason


def test_arms_are_named_for_the_picture() -> None:
    assert (BASELINE, PRESENT) == ("baseline", "present")


@pytest.mark.parametrize("sd", [0.002, 0.008])
def test_the_same_recipe_is_rarely_called_regressed(sd: float) -> None:
    """Independent seeds of one truth: at most 2.5 % a part; the exact 99 % bound of the count must allow it."""
    rng = np.random.default_rng(10)
    trials, wrong = 240, 0
    for _ in range(trials):
        found = judge_gate(rows(standard, rng, sd=sd), rows(standard, rng, sd=sd), None, SETTINGS)
        wrong += combined(found) == "regressed"
    lowest = 0.0 if wrong == 0 else float(betaincinv(wrong, trials - wrong + 1, 0.01))
    assert lowest <= 0.025


def test_a_recipe_at_the_margin_is_rarely_passed() -> None:
    """A loss of exactly the margin passes in at most 2.5 %."""
    rng = np.random.default_rng(11)
    trials, passed = 240, 0
    for _ in range(trials):
        worse = rows(faster(standard, 1 / 1.05), rng, sd=0.002)
        passed += combined(judge_gate(rows(standard, rng, sd=0.002), worse, None, SETTINGS)) == "not regressed"
    lowest = 0.0 if passed == 0 else float(betaincinv(passed, trials - passed + 1, 0.01))
    assert lowest <= 0.025


def told(low: float, high: float, ratio: float = math.nan, **more: Any) -> str:
    return Part("steps", "regressed", ratio, low, high, reason="a loss is shown", **more).sentence


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (told(1.29, math.inf), "at least 1.29 times the baseline's to equal quality (95 % interval)"),
        (told(0.0, 0.5), "at most 0.5 times the baseline's to equal quality (95 % interval)"),
        (told(1.29, 1.7), "1.29 to 1.7 times the baseline's to equal quality (95 % interval)"),
        (told(1.29, 1.7, 1.46), "1.46 times the baseline's to equal quality (95 % interval 1.29 to 1.7)"),
        (told(1.29, math.inf, 1.46), "1.46 times the baseline's to equal quality (95 % interval: at least 1.29)"),
        (told(1.29, 1.7, 1.46, level=0.99), "1.46 times the baseline's to equal quality (99 % interval 1.29 to 1.7)"),
    ],
)
def test_no_ratio_stands_without_what_it_is_a_ratio_to(part: str, said: str) -> None:
    assert part == f"steps: regressed; {said}; a loss is shown"


def test_runs_that_are_equal_need_no_interval() -> None:
    points = rows(standard, np.random.default_rng(0))
    steps, seconds = (part.sentence for part in judge_gate(points, points, None, SETTINGS))
    assert steps == "steps: not regressed; exactly the baseline's; every run is equal to the baseline's with its seed"
    assert seconds == "training time" + steps.removeprefix("steps")


def test_a_gain_beyond_chance_is_said() -> None:
    rng = np.random.default_rng(12)
    steps = judge_gate(rows(standard, rng, sd=0.001), rows(faster(standard, 1.5), rng, sd=0.001), None, SETTINGS)[0]
    assert steps.verdict == "not regressed" and steps.high < 1.0 and steps.reason == "a gain is shown"
    points = rows(standard, rng)
    cheaper = judge_gate(points, [{**p, "seconds": 0.7 * p["seconds"]} for p in points], block(0.7), SETTINGS)[1]
    assert cheaper.verdict == "not regressed" and cheaper.reason.endswith("and a step costs less")


def test_a_crossing_is_told_in_the_direction_of_a_gate() -> None:
    """Better in short runs and worse in long ones: regressed, in words of what the present recipe needs."""
    rng = np.random.default_rng(13)

    def crossing(steps: np.ndarray) -> np.ndarray:
        return standard(steps * np.exp(0.5 - np.log(steps / 60.0) / np.log(8.0)))

    steps = judge_gate(rows(standard, rng, sd=0.0005), rows(crossing, rng, sd=0.0005), None, SETTINGS)[0]
    assert steps.judged is not None and steps.judged.verdict == "mixed" and steps.low < 1.0 < steps.high
    assert steps.verdict == "regressed"
    assert steps.reason == "it needs more in the long runs, though less in the short ones"


def test_a_baseline_that_mostly_diverged_passes_nothing_not_even_itself() -> None:
    points = rows(standard, np.random.default_rng(7))
    broken = [{**p, "status": "diverged", "quality": None} if k % 5 else p for k, p in enumerate(points)]
    for present in (points, broken):
        found = judge_gate(broken, present, None, SETTINGS)
        assert words(found) == {"steps": "not comparable", "time": "not comparable"}
        assert found[0].reason.startswith("16 of 20 of the baseline's runs did not end in a usable model")
    one_lost = [{**p, "status": "diverged", "quality": None} if k == 3 else p for k, p in enumerate(points)]
    assert combined(judge_gate(one_lost, one_lost, None, SETTINGS)) == "not regressed"


def test_a_refusal_speaks_of_the_baseline_and_the_present_recipe() -> None:
    points = rows(standard, np.random.default_rng(8))
    steps = judge_gate(points, [p for p in points if p["seed"] % 1000 < 2], None, SETTINGS)[0]
    assert "the present recipe" in steps.reason and "arm '" not in steps.reason and not steps.reason.endswith(".")


def test_seeds_that_would_decide_come_with_what_to_do() -> None:
    rng = np.random.default_rng(5)
    one, two = rows(standard, rng, seeds=3, sd=0.008), rows(standard, rng, seeds=3, sd=0.008)
    steps = judge_gate(one, two, None, SETTINGS)[0]
    assert f"{steps.seeds_needed:,} seeds a duration on either side would decide" in steps.reason
    assert "record the baseline with as many" in steps.reason
