"""Smallest effect and seeds needed."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm, t

from reinvest.evaluation.power import seeds_needed, smallest_effect


def test_smallest_effect_is_the_normal_approximation() -> None:
    want = math.exp((t.ppf(0.975, 12) + norm.ppf(0.8)) * 0.02 / 0.5)
    assert smallest_effect(0.02, 12.0, -0.5, alpha=0.05) == pytest.approx(want)
    assert math.isnan(smallest_effect(0.02, 12.0, 0.0, alpha=0.05))


def test_seeds_needed_is_the_smallest_that_suffices() -> None:
    n = seeds_needed(0.02, 0.02, 12.0, 3, alpha=0.05)
    assert n is not None

    def power_reached(seeds: int) -> bool:
        return (t.ppf(0.975, 12.0 * (seeds - 1) / 2) + norm.ppf(0.8)) * 0.02 * math.sqrt(3 / seeds) <= 0.02

    assert power_reached(n) and not power_reached(n - 1)
    assert seeds_needed(1.0, 0.02, 12.0, 5, alpha=0.05) == 3


def test_some_effects_need_more_seeds_than_there_are() -> None:
    assert seeds_needed(0.0, 0.02, 12.0, 3, alpha=0.05) is None
    assert seeds_needed(1e-5, 0.02, 12.0, 3, alpha=0.05) is None
    # More seeds do not reduce the error of the clock.
    assert seeds_needed(0.02, 0.02, 12.0, 3, alpha=0.05, fixed_variance=0.019**2) is None
