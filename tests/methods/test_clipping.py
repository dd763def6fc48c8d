"""Gradient clipping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reinvest._testing.loops import ChainLoop
from reinvest.core.errors import InvalidValue
from reinvest.methods.gradients.clipping import GradientClipping, clip_gradients
from reinvest.testing import Setup


def gradients(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) * scale for shape in ((3, 4), (7,), (2, 2, 2))]


def parameters(values):
    found = [nn.Parameter(torch.zeros_like(v)) for v in values]
    for parameter, value in zip(found, values, strict=True):
        parameter.grad = value.clone()
    return found


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, math.inf, math.nan])
def test_norm_is_that_of_torch(scale):
    ours, theirs = gradients(scale), parameters(gradients(scale))
    clip_gradients(ours, norm=0.7)
    nn.utils.clip_grad_norm_(theirs, 0.7)
    for one, two in zip(ours, theirs, strict=True):
        assert torch.equal(torch.nan_to_num(one), torch.nan_to_num(two.grad))


def test_value_is_that_of_torch():
    ours, theirs = gradients(), parameters(gradients())
    clip_gradients(ours, value=0.3)
    nn.utils.clip_grad_value_(theirs, 0.3)
    assert all(torch.equal(one, two.grad) for one, two in zip(ours, theirs, strict=True))


def test_mixed_precisions_share_one_norm():
    ours = gradients()
    mixed = [g.double() if k == 1 else g for k, g in enumerate(gradients())]
    clip_gradients(ours, norm=0.1)
    clip_gradients(mixed, norm=0.1)
    assert all(torch.allclose(one, two.float(), atol=1e-7) for one, two in zip(ours, mixed, strict=True))


def test_infinite_bounds_touch_nothing():
    for bound in ({"norm": math.inf}, {"value": math.inf}):
        ours = gradients(math.nan)
        before = [g.data_ptr() for g in ours]
        clip_gradients(ours, **bound)
        assert [g.data_ptr() for g in ours] == before and all(bool(g.isnan().all()) for g in ours)
    clip_gradients([], norm=1.0)


def test_the_joint_norm_is_bounded_in_a_loop():
    seen = []

    class Watching(GradientClipping):
        """Clipping that is watched."""

        def gradients(self, context, again):
            """Clip and measure."""
            done = super().gradients(context, again)
            seen.append(float(torch.stack([p.grad.norm() for p in context.model.parameters()]).norm()))
            return done

    ChainLoop(Setup(), [Watching(norm=0.05)]).run()
    assert max(seen) <= 0.05 * (1 + 1e-5) and min(seen) > 0


def test_one_of_norm_and_value():
    assert (GradientClipping().norm, GradientClipping().value) == (1.0, None)
    assert (GradientClipping(value=0.5).norm, GradientClipping(value=0.5).value) == (None, 0.5)
    with pytest.raises(InvalidValue, match="one of the two"):
        clip_gradients(gradients())
    with pytest.raises(InvalidValue, match="one of the two"):
        clip_gradients(gradients(), norm=1.0, value=1.0)
