"""Gradient clipping."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from torch import nn

from reinvest._testing.loops import ChainLoop
from reinvest.core.errors import InvalidValue
from reinvest.core.method import Context
from reinvest.methods.gradients.clipping import GradientClipping, clip_gradients, clip_to_weights, unit_norms
from reinvest.testing import HandLoop, MethodContract, Setup


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


# ---- adaptive ------------------------------------------------------------------------------------------------------

SHAPES = ((5, 3), (4, 3, 2), (6, 2, 3, 3), (7,), ())


def weights_and_gradients(scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(s, generator=generator) * k for s in SHAPES] for k in (0.1, scale)]


def by_the_formula(weight, gradient, factor, eps):
    """G_i -> factor * max(|W_i|, eps) / |G_i| * G_i where |G_i| / max(|W_i|, eps) > factor, unit by unit in a loop."""
    out = gradient.clone()
    units = range(len(weight)) if weight.ndim > 1 else [...]
    for i in units:
        bound = max(float(weight[i].square().sum().sqrt()), eps)
        size = float(gradient[i].square().sum().sqrt())
        if size / bound > factor:
            out[i] = factor * bound / size * gradient[i]
    return out


@pytest.mark.parametrize("factor", [1e-3, 0.01, 0.2, 3.0])
@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_adaptive_is_the_formula(factor, eps, scale):
    weights, found = weights_and_gradients(scale)
    wanted = [by_the_formula(w, g, factor, eps) for w, g in zip(weights, found, strict=True)]
    kept = [w.clone() for w in weights]
    clip_to_weights(found, weights, factor, eps=eps)
    assert all(torch.allclose(one, two, rtol=1e-5, atol=0) for one, two in zip(found, wanted, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(weights, kept, strict=True))


def test_units_are_rows_filters_and_whole_vectors():
    """Not columns: the norm is over all that one output reads."""
    assert [list(unit_norms(torch.ones(s)).shape) for s in SHAPES] == [[5, 1], [4, 1, 1], [6, 1, 1, 1], [], []]
    assert unit_norms(torch.ones(6, 2, 3, 3)).flatten().tolist() == pytest.approx([18**0.5] * 6)
    assert unit_norms(torch.ones(7)).item() == pytest.approx(7**0.5)
    weight, gradient = torch.ones(2, 3), torch.tensor([[1.0, 1.0, 1.0], [100.0, 0.0, 0.0]])
    clip_to_weights([gradient], [weight], 1.0)
    assert torch.allclose(gradient, torch.tensor([[1.0, 1.0, 1.0], [3**0.5, 0.0, 0.0]]))


def test_adaptive_leaves_small_gradients_bit_for_bit_and_bounds_large_ones():
    """The condition the right way round: what is below the bound stays, what is above comes down to it."""
    weight = torch.full((3, 4), 0.5)
    gradient = torch.tensor([[1e-3], [0.0], [10.0]]) * torch.tensor([0.3, 0.1, 0.7, 0.9])
    before = gradient.clone()
    clip_to_weights([gradient], [weight], 0.01)
    assert torch.equal(gradient[:2], before[:2])
    assert float(gradient[2].norm()) == pytest.approx(0.01)


def test_weights_that_begin_at_zero_can_move():
    moved, stuck = torch.ones(2, 4), torch.ones(2, 4)
    clip_to_weights([moved], [torch.zeros(2, 4)], 0.01)
    clip_to_weights([stuck], [torch.zeros(2, 4)], 0.01, eps=0.0)
    assert moved.norm(dim=1).tolist() == pytest.approx([1e-5] * 2) and not stuck.any()


def test_gradients_of_zero_stay_and_non_finite_ones_are_not_hidden():
    weights = [torch.ones(2, 2)]
    zero, bad = torch.zeros(2, 2), torch.tensor([[math.nan, 1.0], [1.0, 1.0]])
    clip_to_weights([zero], weights, 0.01)
    clip_to_weights([bad], weights, 0.01)
    assert not zero.any() and bool(bad[0].isnan().all()) and bool(bad[1].isfinite().all())
    clip_to_weights([], [], 0.01)


def clipped(model, **arguments):
    """Gradients of ones after one call."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    method = GradientClipping(**arguments)
    context = Context(model, optimizer, None, 0, 10, 5, 0, 0, (0, 1))
    method.start(context)
    assert method.gradients(context, None) is True
    method.finish(context)
    return {name: p.grad for name, p in model.named_parameters()}


def test_the_output_layer_is_left_alone_unless_asked():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.Softmax(1))
    left = clipped(model, adaptive=1e-3)
    assert {n for n, g in left.items() if bool((g == 1).all())} == {"3.weight", "3.bias"}
    assert not any(bool((g == 1).all()) for g in clipped(model, adaptive=1e-3, head=True).values())
    tied = nn.ModuleList([nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)])
    tied[2].weight = tied[0].weight
    assert {n for n, g in clipped(tied, adaptive=1e-3).items() if bool((g == 1).all())} == {"0.weight"}


@pytest.mark.parametrize("groups", [1, 2])
def test_filters_of_transposed_convolutions_belong_to_outputs(groups):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups, bias=False)
    found = clipped(nn.Sequential(layer), adaptive=0.01, head=True)["0.weight"]
    for output in range(6):
        group, own = divmod(output, 6 // groups)
        inputs = slice(group * 4 // groups, (group + 1) * 4 // groups)
        size = float(layer.weight[inputs, own].detach().norm())
        assert float(found[inputs, own].norm()) == pytest.approx(0.01 * size, rel=1e-5)


def test_bounds_of_adaptive():
    assert (GradientClipping(adaptive=0.02).adaptive, GradientClipping(adaptive=0.02).norm) == (0.02, None)
    for arguments in ({"adaptive": 0.0}, {"adaptive": -1}, {"adaptive": math.nan}, {"eps": 0.1}, {"head": True}):
        with pytest.raises(InvalidValue, match=r", got .*;"):
            GradientClipping(**arguments)
    for arguments in ({"eps": -1e-3}, {"eps": math.inf}, {"head": 1}, {"norm": 1.0}, {"value": 1.0}):
        with pytest.raises(InvalidValue, match=r", got .*;"):
            GradientClipping(adaptive=0.01, **arguments)


class ClipToWeightsByHand(HandLoop):
    def gradients(self, again):
        held = [p for name, p in self.model.named_parameters() if not name.startswith("head")]
        clip_to_weights([p.grad for p in held], [p.detach() for p in held], 0.02)


class Adaptive(MethodContract):
    """The contract in this mode."""

    method = GradientClipping
    neutral: ClassVar = {"adaptive": math.inf}
    example: ClassVar = {"adaptive": 0.02}
    function_form = ClipToWeightsByHand


@pytest.mark.parametrize(
    "clause",
    [
        "test_01_neutral_setting_is_the_plain_loop",
        "test_01_the_example_acts",
        "test_03_function_form_is_class_form",
        "test_05_parts_are_the_whole_batch",
        "test_10_finish_leaves_nothing_behind",
        "test_a_scaler_changes_nothing",
        "test_a_specification_builds_the_same_method",
    ],
)
def test_adaptive_keeps_the_contract(clause):
    getattr(Adaptive(), clause)()
