"""Injected disturbances of a timing block, on a clock that only pretends: what is mended, what is said, what is a cost."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import reinvest as ri
from reinvest.evaluation import calibration, timing
from reinvest.evaluation.timing import Block, timing_block

BASE = ri.Recipe(task="digits", model={"name": "mlp", "hidden": [8]}, batch_size=64, duration="20st")
ARMS = {"base": BASE, "method": BASE.with_(ri.LabelSmoothing(0.1))}
STEP = 0.01


class Machine:
    """A machine whose steps take what it is told: slow(round, arm) is the factor on the seconds of a step.

    arm: "base", "method" or "calibration"; wall: what the wall clock shows for a second of CPU time.
    """

    def __init__(self, slow: Callable[[int, str], float], noise: float = 0.005, wall: float = 1.0) -> None:
        self.slow, self.noise, self.wall, self.round, self.calls = slow, noise, wall, -1, 0
        self.rng = np.random.default_rng(zlib.crc32(b"machine"))

    def _taken(self, arm: str, seconds: float) -> dict[str, float]:
        self.calls += 1
        cpu = seconds * self.slow(self.round, arm) * math.exp(self.noise * self.rng.standard_normal())
        return {"cpu": cpu, "wall": self.wall * cpu}

    def step(self, runner: Any, stratum: Any, device: Any) -> dict[str, float]:
        return self._taken("method" if runner.session.recipe.methods else "base", STEP)

    def mark(self, repetitions: int = 1) -> dict[str, float]:
        return self._taken("calibration", 0.001)

    def on_round(self, turn: int) -> None:
        self.round = turn


Timed = Callable[..., Block]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    def block(slow: Callable[[int, str], float], wall: float = 1.0, **options: Any) -> Block:
        machine = Machine(slow, wall=wall)
        monkeypatch.setattr(timing, "_timed_step", machine.step)
        monkeypatch.setattr(calibration.Calibration, "seconds", machine.mark)
        monkeypatch.setattr(calibration, "company", lambda: calibration.Company(0.0, 0.0, 1.0, 4))
        return timing_block(options.pop("arms", ARMS), "base", on_round=machine.on_round, **options)

    return block


def cost(arm: str) -> float:
    return 1.2 if arm == "method" else 1.0


def ratio(block: Block) -> float:
    return math.exp(block.arms["method"].log_ratio)


def test_a_quiet_machine_takes_the_rounds_asked_for(timed: Timed) -> None:
    block = timed(lambda r, arm: cost(arm))
    assert ratio(block) == pytest.approx(1.2, rel=0.005)
    assert block.flags == () and block.facts["rounds_measured"] == block.facts["rounds_kept"] == 10
    assert block.again is not None
    low, high = block.again.interval()
    assert low < 1.0 < high and block.again.log_ratio != 0.0
    assert set(block.arms) == {"base", "method"}


def test_disturbed_rounds_are_measured_again_and_the_ratio_stays(timed: Timed) -> None:
    """Something else runs in four of the rounds and slows the method's kind of work more than the baseline's."""

    def slow(turn: int, arm: str) -> float:
        if 2 <= turn < 6:
            return cost(arm) * (3.0 if arm == "method" else 1.5)
        return cost(arm)

    block = timed(slow)
    assert block.facts["rounds_moved"] == 4 and block.facts["rounds_measured"] == 14
    assert block.facts["rounds_kept"] == 10 and block.flags == ()
    assert ratio(block) == pytest.approx(1.2, rel=0.005)
    assert block.arms["base"].seconds_per_step == pytest.approx(STEP, rel=0.01)


def test_an_arm_that_is_always_slower_is_that_arms_cost(timed: Timed) -> None:
    block = timed(lambda r, arm: 1.5 * cost(arm) if arm == "method" else 1.0)
    assert block.flags == () and block.facts["rounds_measured"] == 10
    low, high = block.arms["method"].interval()
    assert low < 1.8 < high and high / low < 1.02


def test_an_arm_that_is_slow_in_some_rounds_is_no_fault_of_the_machine(timed: Timed) -> None:
    block = timed(lambda r, arm: 2.0 if arm == "method" and r % 3 == 0 else 1.0)
    assert block.facts["rounds_moved"] == 0 and block.flags == ()
    # Trimmed means: slow in 4 of 10 rounds, the highest of which is cut off with the lowest.
    assert ratio(block) == pytest.approx(2 ** (3 / 8), rel=0.01)


def test_what_more_rounds_do_not_mend_is_flagged(timed: Timed) -> None:
    block = timed(lambda r, arm: cost(arm) * (1.6 if r % 2 else 1.0))
    assert block.facts["rounds_measured"] == 20 and block.facts["rounds_kept"] == 20
    assert [f.split(":")[0] for f in block.flags] == ["timing disturbed"]
    assert ratio(block) == pytest.approx(1.2, rel=0.005)  # even then inside each round


def test_a_machine_that_changes_for_good_is_flagged(timed: Timed) -> None:
    block = timed(lambda r, arm: 1.0 if r < 8 else 1.4)
    wanted = re.compile(r"the machine itself changed, its calibration took 4\d% more time after the block than before")
    assert any(wanted.search(f) for f in block.flags), block.flags
    # The rounds in the result are those of one state of the machine, the new one: 8 of the old one are left out.
    assert block.facts["rounds_moved"] == 8 and block.facts["rounds_kept"] == block.facts["rounds_measured"] - 8 >= 10
    assert block.arms["base"].seconds_per_step == pytest.approx(1.4 * STEP, rel=0.01)


def test_a_slow_drift_cancels_and_is_told(timed: Timed) -> None:
    block = timed(lambda r, arm: cost(arm) * math.exp(0.008 * r))
    assert block.facts["control_trend"] == pytest.approx(math.expm1(0.072), abs=0.01)
    assert ratio(block) == pytest.approx(1.2, rel=0.005) and block.flags == ()


def test_both_clocks_are_kept_for_all_arms(timed: Timed) -> None:
    block = timed(lambda r, arm: cost(arm), wall=2.5)
    assert block.clock == "cpu"
    for arm in (*block.arms.values(), block.again):
        assert arm is not None and arm.clocks["cpu"] == arm.seconds_per_step
        assert arm.clocks["wall"] == pytest.approx(2.5 * arm.clocks["cpu"], rel=0.01)


def test_the_baseline_takes_part_again_unless_asked_otherwise(timed: Timed) -> None:
    def quick(turn: int, arm: str) -> float:
        return 1.0

    named = {"base": BASE, "base again": BASE.with_(batch_size=32)}
    assert timed(quick, again=False).again is None
    block = timed(quick, arms=named)
    assert set(block.arms) == set(named) and block.again is not None


def test_a_busy_machine_is_said_beforehand(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = timed(lambda r, arm: 1.0)
    assert len(quiet.notes) == 1
    machine = Machine(lambda r, arm: 1.0)
    monkeypatch.setattr(timing, "_timed_step", machine.step)
    monkeypatch.setattr(calibration, "company", lambda: calibration.Company(1.5, 3.0, 0.5, 2))
    busy = timing_block(ARMS, "base")
    assert "the machine was not quiet" in busy.notes[1] and busy.flags == ()
    assert busy.facts["before"] == {"others": 1.5, "load": 3.0, "share": 0.5, "cores": 2}
