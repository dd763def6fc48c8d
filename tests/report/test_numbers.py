"""Figures as text: significant digits, never an exponent where a person reads."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinvest.report.numbers import quality_units, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.7e-05, "0.0000170"), (0.0123, "0.0123"), (9.996, "10.0"), (99.96, "100"), (1234.4, "1,234")],
)
def test_three_digits(value: float, text: str) -> None:
    assert significant(value) == text and significant(-value) in (f"-{text}", "0")


@given(st.floats(1e-11, 1e11), st.integers(2, 4))
def test_a_figure_is_its_value_to_within_its_last_digit(value: float, digits: int) -> None:
    text = significant(value, digits)
    assert re.fullmatch(r"[0-9,]+(\.[0-9]+)?", text)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        *(
            (name, "points")
            for name in ("accuracy", "test_accuracy", "val/acc", "eval.Acc1", "accuracy_top5", "valAcc")
        ),
        *((name, "") for name in ("loss", "mean_iou", "f1", "occupancy", "accept_rate", "perplexity")),
    ],
)
def test_differences_of_an_accuracy_are_points_by_whatever_name(metric: str, unit: str) -> None:
    quality, difference, spread = quality_units(metric)
    assert (quality.suffix, difference.suffix, spread.suffix) == ("%" if unit else "", unit, unit)
