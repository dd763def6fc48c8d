"""Learning-rate schedules."""

from __future__ import annotations

import inspect
import math

import pytest

from reinvest.core import names
from reinvest.core.errors import InvalidValue
from reinvest.methods.schedules import catalog, constant, cosine, linear, one_cycle

PLACES = [k / 1000 for k in range(1001)]


def test_closed_forms():
    assert [cosine(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert cosine(0.25) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert cosine(0.55, warmup=0.1, final=0.2) == pytest.approx(0.6)
    assert [linear(p, warmup=0.2, final=0.1) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx(
        [0, 0.5, 1, 0.55, 0.1]
    )
    assert [constant(p, warmup=0.1) for p in (0.0, 0.05, 0.1, 1.0)] == pytest.approx([0, 0.5, 1, 1])
    assert constant(0.0) == linear(0.0) == 1.0
    assert [one_cycle(p) for p in (0.0, 0.15, 0.3, 0.65, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [one_cycle(p, warmup=0.5, final=0.2) for p in (0, 0.5, 1)] == pytest.approx([0.2, 1, 0.2])


@pytest.mark.parametrize("schedule", catalog.values(), ids=catalog)
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 0.9])
def test_continuous_between_zero_and_one_with_one_peak(schedule, warmup):
    values = [schedule(p, warmup=warmup) for p in PLACES]
    assert all(0.0 <= v <= 1.0 for v in values)
    steepest = math.pi / 2 / min(warmup or 1.0, 1.0 - warmup) / 1000
    assert max(abs(a - b) for a, b in zip(values[1:], values[:-1], strict=True)) <= steepest * 1.01
    assert schedule(warmup, warmup=warmup) == pytest.approx(1.0)
    before = [v for v, p in zip(values, PLACES, strict=True) if p <= warmup]
    after = [v for v, p in zip(values, PLACES, strict=True) if p > warmup]
    assert before == sorted(before) and after == sorted(after, reverse=True)


@pytest.mark.parametrize("schedule", catalog.values(), ids=catalog)
def test_values_out_of_range_are_refused(schedule):
    bad = [((-0.1,), {}), ((1.1,), {}), ((math.nan,), {}), ((0.5,), {"warmup": 1.0}), ((0.5,), {"warmup": -0.1})]
    if "final" in inspect.signature(schedule).parameters:
        bad += [((0.5,), {"final": -0.1}), ((0.5,), {"final": 1.5})]
    for args, kwargs in bad:
        with pytest.raises(InvalidValue, match="got"):
            schedule(*args, **kwargs)


def test_they_are_found_by_name():
    assert set(catalog) == {"constant", "cosine", "linear", "one_cycle"}
    assert names.resolve("schedule", "Cosine") is cosine
