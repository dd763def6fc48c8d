"""Looks at a study before its end: the levels that alpha spending leaves each, against published tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import simulated_points as sim
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, multivariate_normal, norm

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.evaluation import verdict
from reinvest.evaluation.looks import SPENDING, crossing, levels

EQUAL = (1, 2, 3, 4, 5)


def boundaries(looks: tuple[int, ...], spending: str, alpha: float = 0.05) -> list[float]:
    return [float(norm.isf(level / 2)) for level in levels(looks, alpha, spending)]


@pytest.mark.parametrize(
    ("spending", "table"),
    [
        ("obrien-fleming", [4.877, 3.357, 2.680, 2.290, 2.031]),
        ("pocock", [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
)
def test_five_equal_looks_have_the_published_boundaries(spending: str, table: list[float]) -> None:
    """Lan and DeMets' spending at a two-sided 5 %, as printed with their programs (Reboussin et al. 2000)."""
    assert boundaries(EQUAL, spending) == pytest.approx(table, abs=6e-4)


@pytest.mark.parametrize(("looks", "overall"), [(1, 0.05), (2, 0.083), (3, 0.107), (4, 0.126), (5, 0.142), (10, 0.193)])
def test_peeking_without_spending_has_the_published_error(looks: int, overall: float) -> None:
    """Repeated tests at 5 % each: Armitage, McPherson and Rowe 1969, table 2."""
    found = sum(crossing(range(1, looks + 1), [0.05] * looks))
    assert found == pytest.approx(overall, abs=6e-4)


@pytest.mark.parametrize("spending", SPENDING)
def test_two_looks_agree_with_the_bivariate_normal(spending: str) -> None:
    looks = (3, 8)
    first, second = levels(looks, 0.05, spending)
    a, b = norm.isf(first / 2), norm.isf(second / 2)
    rho = math.sqrt(3 / 8)
    both = multivariate_normal([0, 0], [[1, rho], [rho, 1]])
    inside = sum(sign * both.cdf(corner) for corner, sign in (((a, b), 1), ((-a, b), -1), ((a, -b), -1), ((-a, -b), 1)))
    assert 1.0 - inside == pytest.approx(0.05, abs=2e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=6, unique=True).map(sorted),
    st.sampled_from([0.01, 0.05, 0.1]),
    st.sampled_from(sorted(SPENDING)),
)
def test_all_of_alpha_is_spent_and_no_more(looks: list[int], alpha: float, spending: str) -> None:
    found = levels(looks, alpha, spending)
    assert all(0.0 < level <= alpha * (1 + 1e-9) for level in found)
    assert sum(crossing(looks, found)) == pytest.approx(alpha, abs=1e-7)
    if len(looks) == 1:
        assert found[0] == pytest.approx(alpha, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(3, 40), min_size=2, max_size=5, unique=True).map(sorted), st.integers(2, 5))
def test_only_the_fractions_of_the_looks_matter(looks: list[int], times: int) -> None:
    for spending in SPENDING:
        assert levels([times * n for n in looks], 0.05, spending) == pytest.approx(levels(looks, 0.05, spending))


def test_early_looks_are_stricter_under_obrien_fleming_and_alike_under_pocock() -> None:
    strict, even = (levels((3, 5, 8), 0.05, name) for name in ("obrien-fleming", "pocock"))
    assert all(a < b for a, b in itertools.pairwise(strict))
    assert strict[0] < 0.01 and strict[-1] > 0.04
    assert max(even) < 1.5 * min(even)


def test_crossing_under_a_drift_is_the_power() -> None:
    z = norm.isf(0.025)
    assert crossing([4], [0.05], drift=2.8) == pytest.approx([norm.sf(z - 2.8) + norm.cdf(-z - 2.8)])
    path = crossing((3, 5, 8), levels((3, 5, 8), 0.05, "pocock"), drift=2.8)
    rng = np.random.default_rng(5)
    steps = rng.normal(2.8 * np.diff([0, 3, 5, 8]) / 8, np.sqrt(np.diff([0, 3, 5, 8]) / 8), (200_000, 3)).cumsum(1)
    z_values = np.abs(steps / np.sqrt(np.array([3, 5, 8]) / 8))
    out = z_values >= np.array(boundaries((3, 5, 8), "pocock"))
    first = np.where(out.any(1), out.argmax(1), 3)
    assert path == pytest.approx([np.mean(first == k) for k in range(3)], abs=5 * 0.5 / math.sqrt(200_000))


@pytest.mark.parametrize("looks", [[], [5, 3], [3, 3], [0, 5], [3, 5.5], [True, 5], "35", None])
def test_looks_that_are_no_looks_are_refused(looks: object) -> None:
    with pytest.raises(InvalidValue, match="whole numbers"):
        levels(looks, 0.05, "pocock")  # type: ignore[arg-type]


def test_other_wrong_values_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'pocock'"):
        levels((3, 5), 0.05, "pocok")
    with pytest.raises(InvalidValue, match=r"alpha lies between 0 and 1, got 1\.5"):
        levels((3, 5), 1.5, "pocock")
    with pytest.raises(InvalidValue, match="one level for each look, got 1 levels and 2 looks"):
        crossing((3, 5), [0.05])


def calls(looks: tuple[int, ...], alphas: tuple[float, ...], reps: int, seed: int) -> int:
    """Studies in which the real verdict says better or worse at any of the looks, where there is no difference."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(reps):
        points = sim.two_arms(sim.standard, sim.standard, rng, n=looks[-1], k=4)
        place: dict[tuple[str, str], int] = {}
        for point in points:
            key = point["arm"], point["duration"]
            point["replicate"] = place[key] = place.get(key, -1) + 1
        for n, alpha in zip(looks, alphas, strict=True):
            seen = [p for p in points if p["replicate"] < n]
            if verdict(seen, "a", alpha=alpha)["b"].verdict in ("better", "worse"):
                found += 1
                break
    return found


def test_the_verdict_at_declared_looks_errs_no_more_often_than_once() -> None:
    """Naive peeking at the same looks does (benchmarks/looks.py has the long run)."""
    looks, reps = (3, 5, 8), 250
    spent = calls(looks, levels(looks, 0.05, "pocock"), reps, seed=31)
    assert beta.ppf(0.01, spent, reps - spent + 1) <= 0.05 if spent else True
    naive = calls(looks, (0.05,) * 3, reps, seed=31)
    assert naive > spent
