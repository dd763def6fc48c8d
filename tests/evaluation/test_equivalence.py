"""Systems-only changes: what alters quality is caught, what only alters speed is called so, and what is not shown is said."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import reinvest as ri
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.evaluation.equivalence import MARGIN, OUTCOMES, SystemsVerdict, systems_verdict
from reinvest.evaluation.same_maths import same_maths
from reinvest.evaluation.timing import ArmTiming

DURATIONS = (60, 120, 240, 480, 960)
BASE = ri.Recipe(task="digits", model={"name": "convnet"}, batch_size=64, duration="40st")


def drawn(
    rng: np.random.Generator, *, worth: float = 1.0, lift: float = 1.0, n: int = 5, sd: float = 0.001
) -> list[Any]:
    """Two arms on VERDICT's standard curve; worth: of the method's steps in the baseline's; lift: of its error."""
    rows = []
    for arm, factor, raised in (("base", 1.0, 1.0), ("method", worth, lift)):
        for steps in DURATIONS:
            for _ in range(n):
                error = raised * (0.03 + 0.2 * (factor * steps / 60) ** -0.6)
                quality = 1 - error + sd * rng.standard_normal()
                rows.append(
                    {"arm": arm, "duration": f"{steps}st", "seed": len(rows), "steps": steps, "quality": quality}
                )
    return [{**row, "seconds": 0.01 * row["steps"]} for row in rows]


def timed(ratio: float, sd: float = 0.004, df: float = 7.0) -> ArmTiming:
    return ArmTiming({("", 0): 1.0}, 1.0, math.log(ratio), sd * sd, df)


def outcomes(count: int, seed: int, timing: ArmTiming, **truth: Any) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    found = [systems_verdict(drawn(rng, **truth), "base", "method", timing).outcome for _ in range(count)]
    return {name: found.count(name) for name in OUTCOMES}


def at_most(count: int, trials: int, rate: float) -> bool:
    return bool(stats.binomtest(count, trials, rate, alternative="greater").pvalue > 0.01)


@pytest.mark.parametrize("at", [1 + MARGIN, 1 / (1 + MARGIN)])
def test_a_change_at_the_margin_is_hardly_ever_called_the_same(at: float) -> None:
    """The error of the equivalence: a change worth exactly the margin passes in alpha = 5 % of the studies at most."""
    found = outcomes(120, 1, timed(0.8), worth=at, n=10, sd=0.0005)
    assert at_most(found["faster, same maths"] + found["same speed"] + found["slower"], 120, 0.05), found


@pytest.mark.parametrize("truth", [{"worth": 1.3}, {"worth": 0.8}, {"lift": 1.1}])
def test_a_change_of_quality_is_caught(truth: dict[str, float]) -> None:
    found = outcomes(40, 2, timed(0.7), **truth)
    assert found["quality differs"] >= 38, found


def test_a_pure_change_of_speed_is_called_so_at_the_stated_power() -> None:
    """With as many seeds as first studies of the same noise ask for, at least 80 % of new studies show it."""
    rng = np.random.default_rng(3)
    asked = [systems_verdict(drawn(rng, n=3, sd=0.004), "base", "method", timed(0.9)).needed for _ in range(15)]
    needed = int(np.median([n for n in asked if n is not None]))
    assert 10 < needed < 200, asked
    found = outcomes(60, 4, timed(0.9), n=needed, sd=0.004)["faster, same maths"]
    assert not stats.binomtest(found, 60, 0.8, alternative="less").pvalue < 0.01, (needed, found)


@pytest.mark.parametrize(("ratio", "outcome"), [(0.9, "faster, same maths"), (1.0, "same speed"), (1.1, "slower")])
def test_with_the_same_maths_the_block_decides(ratio: float, outcome: str) -> None:
    assert outcomes(5, 10, timed(ratio), n=10, sd=0.0003)[outcome] == 5


def test_too_few_seeds_are_said_with_the_number_that_would_do() -> None:
    found = systems_verdict(drawn(np.random.default_rng(5), n=3, sd=0.004), "base", "method", timed(0.9))
    assert found.outcome == "not shown" and found.needed is not None and found.needed > 3
    assert f"{found.needed} seeds for each arm and duration would show it" in found.sentence
    assert found.to_dict()["needed"] == found.needed


def test_copies_of_paired_runs_need_no_further_seeds() -> None:
    """Bit-identical maths and the same seeds: every difference is 0, and the interval no wider than the grid of shifts."""
    rows = drawn(np.random.default_rng(6), n=3, sd=0.004)
    ours = [row for row in rows if row["arm"] == "base"]
    both = [*ours, *({**row, "arm": "method"} for row in ours)]
    found = systems_verdict(both, "base", "method", timed(0.9), pairs="duration")
    assert found.outcome == "faster, same maths"
    assert found.steps == 1.0 and 0.97 < found.steps_low <= 1.0 <= found.steps_high < 1.03


def test_seconds_of_the_points_do_not_matter() -> None:
    rows = drawn(np.random.default_rng(7), n=10)
    slow = [{**row, "seconds": row["seconds"] * (9 if row["arm"] == "method" else 1)} for row in rows]
    assert systems_verdict(slow, "base", "method", timed(0.9)) == systems_verdict(rows, "base", "method", timed(0.9))


def test_speed_is_the_blocks_and_an_unclear_one_asks_for_rounds() -> None:
    rows = drawn(np.random.default_rng(8), n=10, sd=0.0005)
    found = systems_verdict(rows, "base", "method", timed(0.8))
    low, high = timed(0.8).interval()
    assert (found.speed, found.speed_low, found.speed_high) == pytest.approx((1.25, 1 / high, 1 / low))
    assert "1.25 times faster" in found.sentence
    unclear = systems_verdict(rows, "base", "method", timed(1.0, sd=0.03))
    assert unclear.outcome == "not shown" and "rounds of the timing block" in unclear.sentence
    # 2 % in a log ratio of sd .03 at 10 rounds: (z.95 + z.9)^2 (.03 / .0198)^2 x 10 rounds.
    assert unclear.needed == pytest.approx(10 * ((1.645 + 1.282) * 0.03 / math.log(1.02)) ** 2, rel=0.05)
    assert "no timing block" in systems_verdict(rows, "base", "method").sentence
    assert "slower" in systems_verdict(rows, "base", "method", timed(1.3)).sentence


def test_points_that_cannot_be_compared_are_said_to_be() -> None:
    rows = drawn(np.random.default_rng(9), n=3)
    without = [{k: v for k, v in row.items() if k != "steps"} for row in rows]
    found = systems_verdict(without, "base", "method", timed(0.9))
    assert found.outcome == "not comparable" and found.sentence.startswith("Not comparable: ")
    with pytest.raises(UnknownName):
        systems_verdict(rows, "base", "other")


def test_every_outcome_has_a_sentence_and_plain_values() -> None:
    for outcome in OUTCOMES:
        made = SystemsVerdict("m", "b", outcome, speed=0.9, speed_low=0.8, speed_high=0.95, reason="why")
        assert made.sentence.endswith((".", "why")) and made.to_dict()["steps_low"] is None


# ---- the quick look at the weights -----------------------------------------------------------------------------


def test_the_same_recipe_is_bit_identical_and_a_neutral_method_too() -> None:
    assert same_maths(BASE, BASE).result == "bit-identical"
    found = same_maths(BASE, BASE.with_(ri.GradientClipping(norm=1e9)))
    assert (found.result, found.distance) == ("bit-identical", 0.0) and "bit-identical." in found.sentence


def test_another_layout_rounds_and_other_maths_differ() -> None:
    layout = same_maths(BASE, BASE.with_("ChannelsLast"))
    assert layout.result in ("bit-identical", "equal to rounding") and layout.distance <= layout.limit
    smooth = same_maths(BASE, BASE.with_(ri.LabelSmoothing(0.1)))
    assert smooth.result == "different" and smooth.distance > 0.01
    faster = same_maths(BASE, BASE.with_(optimizer={"name": "sgd", "lr": 0.2}))
    assert faster.result == "different"


def test_other_parameters_are_not_compared() -> None:
    found = same_maths(BASE, BASE.with_(model={"name": "mlp", "hidden": [8]}))
    assert found.result == "other parameters" and found.to_dict()["distance"] is None


# ---- declared in a study ---------------------------------------------------------------------------------------


def study(**changes: Any) -> dict[str, Any]:
    arms = {"layout": {"methods": ["ChannelsLast"], "systems_only": True}, "smooth": {"methods": ["LabelSmoothing"]}}
    base = {"task": "digits", "model": "convnet", "batch_size": 64}
    return {"baseline": base, "arms": arms, "durations": ["2ep", "4ep", "8ep", "16ep"], **changes}


def test_a_declaration_survives_the_studys_file() -> None:
    made = ri.Study.from_dict(study())
    assert made.systems_only == ("layout",)
    written = made.to_dict()
    assert written["arms"]["layout"]["systems_only"] is True and "systems_only" not in written["arms"]["smooth"]
    assert ri.Study.from_dict(written) == made
    both = ri.Study.from_dict(study(systems_only=["smooth"]))
    assert set(both.systems_only) == {"layout", "smooth"} and ri.Study.from_dict(both.to_dict()).systems_only
    off = study()
    off["arms"]["layout"]["systems_only"] = False
    assert ri.Study.from_dict(off).systems_only == ()


def test_declarations_that_name_no_arm_are_refused() -> None:
    with pytest.raises(UnknownName, match="arm in systems_only"):
        ri.Study.from_dict(study(systems_only=["none"]))
    with pytest.raises(InvalidValue, match="true or false, got 'yes'"):
        wrong = study()
        wrong["arms"]["layout"]["systems_only"] = "yes"
        ri.Study.from_dict(wrong)
    with pytest.raises(InvalidValue, match="list of arms, got 3"):
        ri.Study.from_dict(study(systems_only=3))


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A true systems change and a planted one that alters the maths, both declared, on digits."""
    base = BASE.with_(duration="8st")
    arms = {"layout": base.with_("ChannelsLast"), "planted": base.with_(ri.LabelSmoothing(0.2))}
    verdicts = ri.compare(
        base,
        arms,
        durations=["8st", "16st", "32st", "64st"],
        seeds=3,
        store=ri.Store(tmp_path_factory.mktemp("systems")),
        workers=1,
        threads=1,
        again=False,
        pairs="duration",
        metric="loss",
        systems_only=tuple(arms),
    )
    return dict(verdicts.result)


def test_channels_last_is_the_same_maths_on_digits(declared: dict[str, Any]) -> None:
    found = declared["systems"]["layout"]
    assert found["maths"]["result"] in ("bit-identical", "equal to rounding")
    # What a step costs is the machine's affair; that nothing was learnt otherwise is not.
    assert (
        found["outcome"] in ("faster, same maths", "same speed", "slower")
        or "the quality is the same" in found["sentence"]
    )
    assert 1 / 1.05 < found["steps_low"] <= found["steps_high"] < 1.05


def test_a_planted_change_of_the_maths_is_caught_on_digits(declared: dict[str, Any]) -> None:
    found = declared["systems"]["planted"]
    assert found["outcome"] == "quality differs" and found["maths"]["result"] == "different"
    assert "this change alters the maths" in found["sentence"]
    assert found["steps"] is None or found["steps"] < 1
