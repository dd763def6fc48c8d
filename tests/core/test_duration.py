"""Durations: epochs, steps, shares and minutes, and what is refused because it could mean two things."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinvest.core.duration import Duration
from reinvest.core.errors import InvalidValue

COUNTS = st.integers(1, 10**6)


@given(COUNTS, COUNTS)
def test_epochs(epochs: int, steps_per_epoch: int) -> None:
    assert Duration.parse(f"{epochs}ep").steps(steps_per_epoch) == epochs * steps_per_epoch


@given(COUNTS, st.one_of(st.none(), COUNTS))
def test_steps_need_nothing_else(steps: int, steps_per_epoch: int | None) -> None:
    assert Duration.parse(f"{steps}st").steps(steps_per_epoch) == steps


@given(st.floats(0.001, 1000, allow_nan=False), st.integers(1, 10_000))
def test_fractions_of_an_epoch_round_and_never_vanish(epochs: float, steps_per_epoch: int) -> None:
    steps = Duration.parse(f"{epochs:.4f}ep").steps(steps_per_epoch)
    assert steps >= 1 and abs(steps - float(f"{epochs:.4f}") * steps_per_epoch) <= 1


@given(st.floats(1e-9, 1.0), st.integers(1, 10**6))
def test_shares_are_of_the_whole_run(share: float, total: int) -> None:
    steps = Duration.parse(share).steps(None, total)
    assert 1 <= steps <= total and abs(steps - share * total) <= 1
    assert Duration.parse(str(Duration.parse(share))) == Duration.parse(share)


@given(st.integers(1, 10**12), st.integers(1, 999), st.sampled_from(["ep", "st", "min"]))
def test_reading_what_was_written(whole: int, part: int, unit: str) -> None:
    amount = f"{whole}.{part}" if unit != "st" else str(whole)
    one = Duration.parse(f"{amount}{unit}")
    assert Duration.parse(str(one)) == one and Duration.parse(one) == one
    assert one.unit == unit and math.isclose(one.amount, float(amount))


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("10ep", 10, "ep"),
        (" 3900st ", 3900, "st"),
        ("30min", 30, "min"),
        ("0.5", 0.5, ""),
        ("1.0", 1, ""),
        (".25", 0.25, ""),
        (0.5, 0.5, ""),
    ],
)
def test_the_forms(text: Any, amount: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(amount, unit)


@pytest.mark.parametrize("text", ["10", "1", 10, 1, "0"])
def test_whole_numbers_without_a_unit_could_mean_two_things(text: Any) -> None:
    with pytest.raises(InvalidValue, match=r"ep.*st|st.*ep"):
        Duration.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "-1ep",
        "ten",
        "",
        "5 epochs",
        "3h",
        "1.5",
        "nan",
        "inf",
        "infep",
        "1e3st",
        "ep",
        None,
        [],
        True,
        float("nan"),
        -0.5,
        2.5,
    ],
)
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        Duration.parse(text)
    assert str(text) in str(refused.value) or repr(text) in str(refused.value)


def test_an_unknown_unit_lists_the_known_ones() -> None:
    with pytest.raises(InvalidValue, match=r"ep.*st.*min"):
        Duration.parse("10epochs")


def test_minutes_become_steps_only_by_a_calibration() -> None:
    with pytest.raises(InvalidValue, match="calibrat"):
        Duration.parse("30min").steps(100, 1000)


def test_epochs_need_a_length_and_shares_a_whole() -> None:
    with pytest.raises(InvalidValue, match="epoch"):
        Duration.parse("3ep").steps(None)
    with pytest.raises(InvalidValue):
        Duration.parse("0.5").steps(100)


@pytest.mark.parametrize("text", ["1.5st", "0.3st"])
def test_half_a_step_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="whole"):
        Duration.parse(text)


def test_durations_are_values() -> None:
    assert len({Duration.parse("5ep"), Duration.parse("5ep"), Duration.parse("5st")}) == 2
