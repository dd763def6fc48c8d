"""Effects and interactions out of points with known answers, Holm's correction in closed form, and error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

import reinvest as ri
from reinvest.studies.ablation_effects import Effect, Judge, corrected, effects_of
from reinvest.studies.ablation_plan import ablation_plan

METHODS = ({"name": "Mixup", "alpha": 0.2}, {"name": "LabelSmoothing"}, {"name": "EMA"})
DECLARED = {"metric": "accuracy"}


def plan_of(count=2):
    recipe = ri.Recipe(task="digits", model="mlp", duration="8ep", methods=METHODS[:count])
    return ablation_plan(recipe)


def points_of(plan, factors, pair=1.0, noise=0.002, seed=0, seeds=5):
    """Quality 0.9 - 0.4 / time**0.5 of a clock that runs `factor` times as fast for each method, `pair` for both."""
    draw = np.random.default_rng(seed)
    rows = []
    for name, members in plan.arms.items():
        speed = math.prod(factors[k] for k in members) * (pair if {0, 1} <= members else 1.0)
        for duration in (1, 2, 4, 8):
            for s in range(seeds):
                quality = 0.9 - 0.4 / math.sqrt(duration * speed) + noise * draw.normal()
                rows.append(
                    {
                        "arm": name,
                        "duration": f"{duration}ep",
                        "seed": s,
                        "seconds": float(duration),
                        "quality": quality,
                    }
                )
    return rows


def judged(points, plan):
    return {(e.question, *e.methods): e for e in effects_of(plan, Judge(points, None, DECLARED))}


def test_planted_effects_come_out_as_ratios_of_times():
    plan = plan_of(3)
    found = judged(points_of(plan, (1.25, 0.8, 1.0), noise=1e-4), plan)
    for question in ("on top", "alone"):
        assert found[question, "Mixup"].time == pytest.approx(0.8, rel=0.02)
        assert found[question, "LabelSmoothing"].time == pytest.approx(1.25, rel=0.02)
        assert found[question, "EMA"].time == pytest.approx(1.0, rel=0.02)
        assert found[question, "Mixup"].shown and found[question, "LabelSmoothing"].shown
    for effect in found.values():
        if effect.question == "together":
            assert effect.time == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("pair", [0.7, 1.4])
def test_a_planted_interaction_is_found_and_its_interval_holds_it(pair):
    """20 ablations: with a coverage of 0.95 fewer than 16 intervals hold the truth with probability 0.003."""
    plan = plan_of(2)
    key = ("together", "Mixup", "LabelSmoothing")
    found = [judged(points_of(plan, (1.2, 1.1), pair, seed=seed), plan)[key] for seed in range(20)]
    assert math.fsum(math.log(e.time) for e in found) / 20 == pytest.approx(-math.log(pair), abs=0.01)
    assert sum(e.low < 1 / pair < e.high for e in found) >= 16
    assert all(e.shown for e in found)


def test_effects_are_against_the_arms_that_they_name():
    plan = plan_of(3)
    found = judged(points_of(plan, (1.1, 1.1, 1.1)), plan)
    assert (found["on top", "EMA"].arm, found["on top", "EMA"].against) == ("all", "Mixup + LabelSmoothing")
    assert (found["alone", "EMA"].arm, found["alone", "EMA"].against) == ("EMA", "plain")
    assert found["together", "Mixup", "EMA"].arm == "Mixup + EMA"


@pytest.mark.parametrize(("factor", "verdict"), [(8.0, "better"), (1 / 3, "worse")])
def test_an_effect_beyond_the_measured_range_has_the_bound_that_is_known_and_no_other(factor, verdict):
    plan = plan_of(2)
    found = judged(points_of(plan, (factor, 1.0)), plan)
    for question in ("on top", "alone"):
        effect = found[question, "Mixup"]
        assert (effect.time, effect.verdict, effect.shown) == (None, verdict, True)
        known, other = (effect.high, effect.low) if verdict == "better" else (effect.low, effect.high)
        assert known == pytest.approx(8**-0.5 if verdict == "better" else 8**0.5)
        assert other is None


def test_arms_of_unlike_machines_are_not_compared_and_the_others_are():
    plan = plan_of(2)
    here, there = {"hardware": {"threads": 1}}, {"hardware": {"threads": 2}}
    facts = {name: [here, there] if name == "Mixup" else [here] for name in plan.arms}
    effects = effects_of(plan, Judge(points_of(plan, (1.2, 1.1)), None, DECLARED, facts=facts))
    found = {(e.question, *e.methods): e for e in effects}
    for key in (("on top", "LabelSmoothing"), ("alone", "Mixup"), ("together", "Mixup", "LabelSmoothing")):
        assert found[key].time is None and found[key].p is None and not found[key].shown
        assert "needs equal threads, got 1 and 2" in found[key].reason
    for key in (("on top", "Mixup"), ("alone", "LabelSmoothing")):
        assert found[key].time is not None and not found[key].reason


def effect(p):
    return Effect("alone", ("A",), "A", "plain", 0.9, 0.8, 1.0, p)


def test_holm_in_closed_form():
    found = corrected([effect(p) for p in (0.01, 0.04, 0.03, None, 0.005)], 0.05)
    assert [e.p_holm for e in found] == pytest.approx([0.03, 0.06, 0.06, None, 0.02])
    assert [e.shown for e in found] == [True, False, False, False, True]


def test_adjusted_values_never_fall_and_never_pass_one():
    found = corrected([effect(p) for p in (0.5, 0.02, 0.021, 0.9)], 0.05)
    ordered = [e.p_holm for e in sorted(found, key=lambda e: e.p)]
    assert ordered == sorted(ordered)
    assert max(ordered) <= 1.0


def test_what_cannot_be_compared_says_why_and_has_no_figure():
    plan = plan_of(2)
    points = points_of(plan, (1.1, 1.1))
    for point in points:
        if point["arm"] == "Mixup":
            point["quality"] = 0.5  # the same for every seed
    found = judged(points, plan)
    effect = found["alone", "Mixup"]
    assert effect.time is None and effect.verdict == "not comparable" and effect.reason
    assert found["together", "Mixup", "LabelSmoothing"].reason


def test_error_of_timing_widens_the_effects():
    plan = plan_of(2)
    points = points_of(plan, (1.2, 1.1))
    timing = {name: {"log_ratio_variance": 0.02**2, "df": 9} for name in plan.arms if name != "plain"}
    plain, widened = (effects_of(plan, Judge(points, t, DECLARED)) for t in (None, timing))
    for a, b in zip(plain, widened, strict=True):
        assert b.high / b.low > a.high / a.low


def test_nothing_planted_is_rarely_found():
    """60 ablations of two methods without any effect: each question's family-wise rate, 0.05 aimed at.

    At a true rate of 0.05 more than 8 of 60 happen with probability 0.004; at 0.25 they do with 0.97.
    """
    plan = plan_of(2)
    false = dict.fromkeys(("on top", "alone", "together"), 0)
    for seed in range(60):
        found = effects_of(plan, Judge(points_of(plan, (1.0, 1.0), seed=seed), None, DECLARED))
        for question in false:
            false[question] += any(e.shown for e in found if e.question == question)
    assert max(false.values()) <= 8, false
