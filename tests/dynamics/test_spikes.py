"""Spikes: planted ones are found where they are, noise and steady descents have none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinvest.core.errors import InvalidValue
from reinvest.dynamics.spikes import find_spikes, robust_z


def descent(steps: int = 600, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(steps, generator=torch.Generator().manual_seed(seed))
    return 2.0 * torch.exp(-torch.arange(steps) / 300.0) + 0.05 * noise


def test_a_planted_spike_is_found_with_its_ends_and_peak() -> None:
    values = descent()
    values[300:305] += torch.tensor([1.5, 3.0, 2.5, 2.0, 1.5])
    (found,) = find_spikes(values)
    assert (found.start, found.peak, found.end) == (300, 301, 304)
    assert found.value == pytest.approx(float(values[301])) and found.z > 20


def test_two_rises_join_only_when_close() -> None:
    values = descent()
    values[200] += 3.0
    values[206] += 3.0
    values[400] += 3.0
    assert [(s.start, s.end) for s in find_spikes(values)] == [(200, 206), (400, 400)]
    assert len(find_spikes(values, apart=3)) == 3


def test_descents_and_noise_have_none() -> None:
    assert sum(len(find_spikes(descent(seed=seed))) for seed in range(40)) == 0


def test_falls_are_no_spikes() -> None:
    values = descent()
    values[300] -= 3.0
    assert find_spikes(values) == []


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_values_that_are_not_finite_are_spikes_without_end(broken: float) -> None:
    values = descent()
    values[250] = broken
    (found,) = find_spikes(values)
    assert found.peak == 250 and found.z == math.inf


def test_a_signal_that_stands_still_has_no_spike_of_a_thousandth() -> None:
    values = torch.ones(50)
    values[30] += 1e-3
    assert find_spikes(values) == []
    values[30] += 1.0
    assert len(find_spikes(values)) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 100.0), st.floats(-5.0, 5.0))
def test_z_does_not_depend_on_the_unit(seed: int, scale: float, level: float) -> None:
    noise = torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plain = robust_z(noise, 20)
    torch.testing.assert_close(robust_z(scale * (noise + 1e-9), 20), plain, equal_nan=True, rtol=1e-4, atol=1e-4)
    past = noise[5:25].numpy()
    mad = 1.4826 * np.median(np.abs(past - np.median(past)))
    assert float(plain[25]) == pytest.approx((float(noise[25]) - np.median(past)) / mad, rel=1e-6)


def test_the_first_steps_have_no_z() -> None:
    z = robust_z(torch.randn(12, generator=torch.Generator().manual_seed(0)))
    assert bool(z[:8].isnan().all()) and bool(z[8:].isfinite().all())


def test_bad_values_are_refused() -> None:
    with pytest.raises(InvalidValue, match="one number a step"):
        find_spikes(torch.zeros(3, 3))
    with pytest.raises(InvalidValue, match="from 8 up, got 3"):
        robust_z(torch.zeros(9), 3)
    with pytest.raises(InvalidValue, match="above 0, got -1"):
        find_spikes(torch.zeros(9), -1)
    with pytest.raises(InvalidValue, match="apart is a whole number"):
        find_spikes(torch.zeros(9), apart=0)
