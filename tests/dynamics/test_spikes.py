"""Spikes: planted ones are found where they are, noise and steady descents have none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinvest.core.errors import InvalidValue
from reinvest.dynamics.spikes import find_spikes, group_steps, robust_z, spike_steps, spike_z


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


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(8, 40), st.integers(0, 60))
def test_z_is_that_of_its_definition_step_by_step(seed: int, window: int, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(length, generator=generator, dtype=torch.float64)
    values[torch.rand(length, generator=generator) < 0.2] = math.nan
    found = robust_z(values, window)
    for t in range(length):
        past = values[max(0, t - window) : t].numpy()
        past = past[np.isfinite(past)]
        if t < 8:
            assert math.isnan(found[t])
        elif not math.isfinite(values[t]):
            assert float(found[t]) == math.inf
        elif len(past) < 8:
            assert math.isnan(found[t])
        else:
            level = np.median(past)
            spread = max(1.4826 * np.median(np.abs(past - level)), 1e-3 * abs(level))
            assert float(found[t]) == pytest.approx((float(values[t]) - level) / spread, rel=1e-9)


def test_a_long_signal_is_worked_off_in_pieces() -> None:
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    whole = robust_z(values, 50)
    assert torch.equal(whole[15_050:], robust_z(values[15_000:], 50)[50:])
    assert torch.equal(whole[8180:8210], robust_z(values[8000:], 50)[180:210])


def test_steps_in_groups() -> None:
    assert group_steps([3, 4, 13, 24, 40], 10) == [[3, 4, 13], [24], [40]]
    assert group_steps([]) == []


def falling(seed: int = 0, steps: int = 400, length: float = 40.0) -> torch.Tensor:
    """Losses that fall to a third in each `length` steps, and vary by factors, as those of small batches do."""
    noise = torch.randn(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.exp(-torch.arange(steps) / length + 0.8 * noise)


def test_losses_that_vary_by_factors_have_no_spike() -> None:
    for length, alarms in ((40.0, 5), (400.0, 50)):
        series = [falling(seed, length=length) for seed in range(20)]
        assert sum(int((robust_z(values) > 6).sum()) for values in series) > alarms
        assert sum(int((spike_z(values) > 6).sum()) for values in series) == 0


def test_a_spike_in_a_steep_descent_is_found_at_its_step() -> None:
    for seed in range(20):
        values = falling(seed)
        values[250] = 5000 * values[240:250].median()
        assert (spike_z(values, 50) > 6).nonzero()[:, 0].tolist() == [250], seed


def test_signals_that_are_not_positive_count_as_they_are() -> None:
    values = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[200] = 40.0
    assert torch.equal(spike_z(values)[60:], robust_z(values)[60:])


def test_sudden_values_need_some_before_them() -> None:
    values = 1.0 + 0.1 * torch.rand(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert spike_z(values).isnan().tolist() == [t < 30 for t in range(60)]
    assert spike_z(values, 12).isnan().tolist() == [t < 12 for t in range(60)]
    assert spike_z(values, least=8).isnan().tolist() == [t < 8 for t in range(60)]
    assert spike_z(values[:0]).shape == (0,)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(30, 60), st.integers(70, 90))
def test_a_piece_of_a_signal_has_the_same_z(seed: int, window: int, start: int) -> None:
    values = falling(seed, 150)
    values[40] = math.nan
    begin = max(0, start - window - 10)
    whole, piece = spike_z(values, window)[start:], spike_z(values[begin:], window)[start - begin :]
    assert torch.equal(whole.nan_to_num(-99.0), piece.nan_to_num(-99.0))
    late = spike_z(values, window, start=start)
    assert torch.equal(late[start:].nan_to_num(-99.0), whole.nan_to_num(-99.0)) and bool(late[:start].isnan().all())


def test_a_spike_goes_on_while_steps_are_high() -> None:
    sudden, high = torch.zeros(80, dtype=torch.bool), torch.zeros(80, dtype=torch.bool)
    high[[3, 8, 10, 12, 21, 40, 60, 61]] = True
    sudden[[10, 60]] = True
    assert spike_steps(sudden, high) == [[10, 12, 21], [60, 61]]
    assert spike_steps(sudden, high, 5) == [[10, 12], [60, 61]]
    assert spike_steps(~sudden & False, high) == []
