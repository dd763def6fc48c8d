"""The vectorised interpolant against scipy's, and its gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from reinvest.evaluation.curves import arm_curves, pchip_coefficients, pchip_slopes


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_equal_to_scipy(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(20):
        x = np.cumsum(0.1 + rng.random(k))
        stack = rng.standard_normal((6, k)).round(1)  # rounding makes ties, where the slope is zero
        stack[0] = np.sort(stack[0])
        stack[1] = np.maximum.accumulate(stack[1])
        at = np.linspace(x[0], x[-1], 101)
        which = np.clip(np.searchsorted(x, at, side="right") - 1, 0, k - 2)
        c = pchip_coefficients(x, stack)[:, which]
        u = at - x[which]
        ours = c[..., 0] + u * (c[..., 1] + u * (c[..., 2] + u * c[..., 3]))
        theirs = PchipInterpolator(x, stack, axis=1)
        np.testing.assert_allclose(ours, theirs(at), rtol=0, atol=1e-12)
        np.testing.assert_allclose(pchip_slopes(x, stack), theirs.derivative()(x), rtol=0, atol=1e-11)


def test_gradient_is_the_central_difference_with_the_running_max_redone() -> None:
    x = np.log([60.0, 120.0, 240.0, 480.0, 960.0])
    y = np.array([1.4, 1.8, 2.2, 2.15, 2.6])
    step = np.array([0.02, 0.01, 0.03, 0.08, 0.05])
    curves = arm_curves(x, y, step)
    at = np.linspace(x[0], x[-1], 33)
    for kind, change in (("raw", lambda v: v), ("envelope", np.maximum.accumulate)):
        np.testing.assert_allclose(curves.value(at, kind), PchipInterpolator(x, change(y))(at), atol=1e-12)
        np.testing.assert_allclose(curves.slope(at, kind), PchipInterpolator(x, change(y)).derivative()(at), atol=1e-11)
        got = curves.gradient(at, kind)
        for k in range(5):
            up, down = y.copy(), y.copy()
            up[k] += step[k]
            down[k] -= step[k]
            want = (PchipInterpolator(x, change(up))(at) - PchipInterpolator(x, change(down))(at)) / (2 * step[k])
            np.testing.assert_allclose(got[:, k], want, atol=1e-12)


def test_positions_outside_are_clipped_never_extrapolated() -> None:
    curves = arm_curves(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.5]), np.full(3, 0.1))
    assert curves.value(np.array([-5.0, 9.0])).tolist() == [0.0, 1.5]
