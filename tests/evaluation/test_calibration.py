"""What is said of the machine beside a timing block: other programs, rounds that moved, and trends."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reinvest.evaluation import calibration
from reinvest.evaluation.calibration import (
    MOVED,
    Calibration,
    Company,
    busy_seconds,
    disturbances,
    moves,
    steady,
    trend,
)
from reinvest.evaluation.timing import trimmed_mean

seconds = st.lists(st.floats(0.5, 2.0), min_size=4, max_size=12)


@given(seconds, st.floats(1e-6, 1e6))
def test_moves_do_not_depend_on_units_and_have_a_middle(series: list[float], unit: float) -> None:
    found = moves([series])
    assert found == pytest.approx(moves([[unit * v for v in series]]), abs=1e-9)
    assert float(np.median(found)) == pytest.approx(0.0, abs=1e-9)


def test_a_round_moves_where_most_controls_do() -> None:
    one, all_of_them = [1.0, 1.0, 1.5, 1.0, 1.0], [1.0, 1.0, 1.0, 1.5, 1.0]
    found = moves([[a * b for a, b in zip(one, all_of_them, strict=True)], all_of_them, all_of_them])
    assert found == pytest.approx([0, 0, 0, math.log(1.5), 0])


@given(st.floats(-0.1, 0.1), st.integers(2, 20))
def test_a_straight_trend_is_its_rise(slope: float, n: int) -> None:
    assert trend([slope * r for r in range(n)]) == pytest.approx(slope * (n - 1), abs=1e-12)


def test_a_trend_is_theils_and_one_wild_round_leaves_it() -> None:
    values = [0.02 * r for r in range(11)]
    assert trend([*values[:5], 9.0, *values[6:]]) == pytest.approx(0.2)
    ragged = list(np.random.default_rng(0).normal(size=9))
    assert trend(ragged) == pytest.approx(8 * stats.theilslopes(ragged).slope)


def test_steady_rounds_are_kept_and_all_of_them_where_too_few_are() -> None:
    far = 2 * MOVED
    assert steady([0.0, far, 0.0, -far, 0.0, 0.0], 6) == [0, 2, 4, 5]
    assert steady([0.0, MOVED, -MOVED, 0.0], 4) == [0, 1, 2, 3]
    assert steady([0.0, far, -far, far, 0.0, 0.0, 0.0], 10) == list(range(7))
    assert steady([0.0, 0.0, 0.0, far], 4) == [0, 1, 2, 3]


def test_disturbances_are_what_more_rounds_could_not_mend() -> None:
    far = 2 * MOVED
    assert disturbances([0.0] * 10 + [far], 10, 0.0) == []
    assert disturbances([0.0] * 8 + [far] * 12, 10, MOVED) == [
        "timing disturbed: in 12 of 20 rounds the baseline and the calibration moved by more than 10%, and the ratio is "
        "that of the other 8"
    ]
    assert disturbances([far] * 12 + [0.0] * 4, 10, 0.0)[0].endswith("that of all 16")
    assert disturbances([0.0] * 10, 10, math.log(1.3)) == [
        "timing disturbed: the machine itself changed, its calibration took 30% more time after the block than before"
    ]


def test_measuring_moved_rounds_again_raises_no_false_alarms() -> None:
    """Two equal arms on a machine with shared and with single disturbances: 1 lies outside of 5 % of the intervals at most."""
    rng = np.random.default_rng(20261121)
    blocks, outside = 1500, 0

    def rounds(count: int) -> np.ndarray:
        shared = np.where(rng.random(count) < 0.15, rng.uniform(0.0, 0.5, count), 0.0)
        single = np.where(rng.random((3, count)) < 0.05, rng.uniform(0.0, 0.5, (3, count)), 0.0)
        return np.exp(shared + single + 0.02 * rng.standard_normal((3, count)))

    for _ in range(blocks):
        taken = rounds(10)
        while taken.shape[1] < 20:
            missing = 10 - sum(abs(v) <= MOVED for v in moves(taken.tolist()))
            if missing <= 0:
                break
            taken = np.concatenate([taken, rounds(min(missing, 20 - taken.shape[1]))], axis=1)
        kept = steady(moves(taken.tolist()), 10)
        mean, variance, df = trimmed_mean([math.log(taken[1, r] / taken[0, r]) for r in kept])
        outside += abs(mean) > stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert stats.binomtest(outside, blocks, 0.05, alternative="greater").pvalue > 0.01, outside


def test_busy_seconds_are_read_from_proc(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    # user nice system idle waiting irq softirq steal guest guest_nice; idle and waiting are not busy, guests are in user.
    file.write_text("cpu  100 20 30 9000 500 4 5 6 70 8\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    assert busy_seconds(str(file)) == pytest.approx(165 / os.sysconf("SC_CLK_TCK"))
    assert busy_seconds(str(tmp_path / "absent")) is None
    file.write_text("nothing of the kind\n")
    assert busy_seconds(str(file)) is None


def test_only_a_machine_with_company_is_called_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Company(0.1, 0.5, 0.99, 4).sentence == ""
    assert Company(None, None, 1.0, 4).sentence == ""
    busy = Company(1.24, 2.0, 0.6, 2).sentence
    assert "other programs take 1.2 of 2 cores and a busy loop gets 60% of a core; end them" in busy
    monkeypatch.setattr(calibration, "busy_seconds", lambda: None)
    looked = calibration.company(0.01)
    assert looked.others is None and 0.0 < looked.share <= 1.0


def test_the_watch_leaves_this_program_out(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, own, wall = iter([100.0, 112.0]), iter([7.0, 9.0]), iter([50.0, 54.0])
    monkeypatch.setattr(calibration, "busy_seconds", lambda: next(busy))
    monkeypatch.setattr(calibration.time, "process_time", lambda: next(own))
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(wall))
    assert calibration.Watch().others() == (12.0 - 2.0) / 4.0


def test_the_calibration_takes_time_by_both_clocks() -> None:
    found = Calibration().seconds()
    assert set(found) == {"cpu", "wall"} and min(found.values()) > 0.0
