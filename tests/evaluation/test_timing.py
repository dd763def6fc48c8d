"""The paired timing block: strata are counted exactly, regular extra work is charged, twins are told apart by nothing."""

from __future__ import annotations

import math
import sys
import time
import types
from collections.abc import Hashable, Iterator
from typing import ClassVar

import numpy as np
import pytest

import reinvest as ri
from reinvest.core.errors import InvalidValue
from reinvest.evaluation.timing import ArmTiming, run_seconds, strata_of, timing_block, trimmed_mean
from reinvest.loop.session import Session

BASE = ri.Recipe(task="digits", model="mlp", batch_size=64, duration="50st")
CARD = ri.Card("t", "t", 2000, "none", "weights", "none", "nothing", ("all",))


class Sleeper(ri.Method):
    """Sleeps 10 ms on every fifth step, and says so if asked to."""

    card = CARD
    neutral: ClassVar = {"milliseconds": 0.0}

    def __init__(self, milliseconds: float = 10.0) -> None:
        self.milliseconds = milliseconds

    def weights(self, context: ri.Context) -> None:
        if context.step % 5 == 0:
            time.sleep(self.milliseconds / 1000)


class Declared(Sleeper):
    """The same, declared."""

    def kind(self, context: ri.Context) -> Hashable:
        return "sleeps" if (context.step + 1) % 5 == 0 else "works"


@pytest.fixture(autouse=True)
def importable() -> Iterator[None]:
    module = types.ModuleType("timing_methods")
    module.Sleeper, module.Declared = Sleeper, Declared  # type: ignore[attr-defined]
    sys.modules["timing_methods"] = module
    yield
    del sys.modules["timing_methods"]


def test_strata_count_every_step_once() -> None:
    session = Session(BASE.with_("timing_methods:Declared", duration="100st"), 0)
    with session.attached():
        strata = strata_of(session, 100)
    assert {k: len(v) for k, v in strata.items()} == {
        (kind, tenth): count for tenth in range(10) for kind, count in (("('works',)", 8), ("('sleeps',)", 2))
    }
    assert sorted(s for steps in strata.values() for s in steps) == list(range(100))


def test_a_run_is_priced_by_its_strata_and_unknown_tenths_take_the_nearest() -> None:
    timing = ArmTiming({("a", 0): 1.0, ("a", 9): 3.0, ("b", 5): 10.0}, 2.0, 0.0, 0.0, 9)
    assert run_seconds(timing, {("a", 0): 2, ("a", 9): 1, ("b", 5): 1}) == 15.0
    assert run_seconds(timing, {("a", 1): 2, ("a", 8): 2, ("c", 0): 1}) == 2 + 6 + 2.0


@pytest.mark.parametrize("method", ["Sleeper", "Declared"])
def test_ten_milliseconds_on_every_fifth_step_cost_two_a_step(method: str) -> None:
    seen = []
    for _ in range(3):  # another program may take the machine during a block, hardly during three of them
        block = timing_block({"base": BASE, "sleeps": BASE.with_(f"timing_methods:{method}")}, "base")
        extra = block.arms["sleeps"].seconds_per_step - block.arms["base"].seconds_per_step
        seen.append((block.clock, extra))
        # Free of charge would be 0, charged on every step 0.010; a sleep on a busy machine is longer, never shorter.
        if block.clock == "wall" and "waits or sleeps" in block.notes[0] and 0.0014 < extra < 0.005:
            return
    pytest.fail(f"no block charged about 2 ms a step: {seen}")


def test_the_baseline_is_the_unit_and_the_variance_falls_with_rounds() -> None:
    block = timing_block({"base": BASE, "twin": BASE.with_(ri.GradientClipping(norm=1000.0))}, "base", rounds=12)
    assert block.rounds == 12
    assert block.arms["base"].log_ratio == 0.0 and block.arms["base"].log_ratio_variance == 0.0
    twin = block.arms["twin"]
    # On a busy machine rounds are measured again, and more than were asked for may be kept; a tenth is trimmed at each end.
    kept = block.facts["rounds_kept"]
    assert kept >= 12 and twin.df == kept - 2 * (kept // 10) - 1 and twin.log_ratio_variance > 0
    low, high = twin.interval()
    assert low < math.exp(twin.log_ratio) < high


def test_too_few_rounds_and_a_missing_baseline_are_refused() -> None:
    with pytest.raises(InvalidValue, match="at least 10 rounds, got 3"):
        timing_block({"base": BASE}, "base", rounds=3)
    with pytest.raises(InvalidValue, match="time it too"):
        timing_block({"base": BASE}, "other")


def test_the_trimmed_mean_ignores_one_wild_round_and_agrees_with_scipy() -> None:
    from scipy import stats

    values = [0.01 * k for k in range(12)]
    mean, variance, df = trimmed_mean(values)
    assert mean == pytest.approx(float(stats.trim_mean(np.array(values), 1 / 12)))
    assert df == 9
    winsorised = np.clip(values, values[1], values[-2])
    assert variance == pytest.approx(float(winsorised.var(ddof=1)) * 11 / (10 * 9))
    assert trimmed_mean([*values[:-1], 50.0]) == (mean, variance, df)
