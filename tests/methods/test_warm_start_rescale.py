"""DASH and FIRE: what a warm start may do to old weights besides shrinking them."""

from __future__ import annotations

import pytest
import torch
from warm_nets import Loader, data, mlp, started, state_of

from reinvest._testing.compare import differences
from reinvest._testing.loops import Setup
from reinvest.core.batch import unpack
from reinvest.core.criterion import cross_entropy
from reinvest.core.errors import InvalidValue
from reinvest.methods.surgery._rescale import dash_scales, descent_directions, fire_weight, nearest_isometry
from reinvest.methods.surgery.warm_start import WarmStart


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3), (6,)])
def test_dash_scales_lie_between_keep_and_one_and_keep_directions(shape):
    torch.manual_seed(1)
    weight, direction = torch.randn(shape), torch.randn(shape)
    scales = dash_scales(weight, direction, 0.3)
    assert float(scales.min()) >= 0.3 - 1e-7 and float(scales.max()) <= 1.0
    flat = (lambda t: t.flatten(2)) if len(shape) > 2 else (lambda t: t)
    cosine = torch.cosine_similarity(flat(weight * scales), flat(weight), dim=-1)
    assert torch.allclose(cosine, torch.ones_like(cosine))
    wanted = torch.cosine_similarity(flat(weight), flat(direction), dim=-1).clamp(0.3, 1.0)
    assert torch.allclose(flat(scales.expand(shape))[..., 0], wanted, atol=1e-6)


def test_dash_leaves_a_row_parallel_to_the_descent_direction():
    torch.manual_seed(1)
    weight = torch.randn(3, 40)
    direction = torch.stack([0.37 * weight[0], -weight[1], torch.zeros(40)])
    assert torch.equal(dash_scales(weight, direction, 0.3), torch.tensor([[1.0], [0.3], [0.3]]))
    assert torch.equal(dash_scales(weight, torch.randn(3, 40), 1.0), torch.ones(3, 1))


def test_descent_directions_are_a_running_average_of_negative_mean_gradients():
    model, (x, y) = mlp(norm=True), data(30)
    before = state_of(model)
    batches = [unpack((part, x[part], y[part]), True) for part in torch.arange(30).split(10)]
    found = descent_directions(model, batches, cross_entropy, ["0.weight", "5.bias"], chunk=20, smoothing=0.3)
    model.eval()
    chunks = []
    for rows in (slice(0, 20), slice(20, 30)):
        loss = cross_entropy(model(x[rows]), y[rows]).mean()
        chunks.append(torch.autograd.grad(loss, [model[0].weight, model[5].bias]))
    for k, name in enumerate(("0.weight", "5.bias")):
        wanted = 0.7 * 0.3 * -chunks[0][k] + 0.3 * -chunks[1][k]
        assert torch.allclose(found[name], wanted, atol=1e-6)
    assert differences(state_of(model), before) == []
    assert all(p.grad is None for p in model.parameters())


def test_dash_shrinks_a_run_and_leaves_modes_generators_and_norms():
    setup = Setup()
    model = setup.model()
    old = state_of(model)
    loader = Loader(*setup.data())
    generator = torch.get_rng_state()
    found, report = started(model, WarmStart(old, keep=0.3, method="dash"), loader)
    assert torch.equal(torch.get_rng_state(), generator) and model.training
    for name in ("body.0.weight", "head.weight"):
        ratio = found[name] / old[name]
        assert bool(((ratio >= 0.3 - 1e-5) & (ratio <= 1 + 1e-5)).all()) and float(ratio.min()) < 0.99
    assert torch.equal(found["body.1.weight"], old["body.1.weight"])
    assert report["function"] > 0
    with pytest.raises(InvalidValue, match=r"gradients of the training data"):
        started(setup.model(), WarmStart(old, keep=0.3, method="dash"), Loader(*setup.data(), clean=False))


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_the_nearest_isometry_is_the_polar_factor(shape):
    torch.manual_seed(2)
    matrix = torch.randn(shape).double()
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(nearest_isometry(matrix), u @ v, atol=1e-5)
    assert torch.equal(nearest_isometry(torch.zeros(shape)), torch.zeros(shape))


def test_fire_makes_isometries_of_the_scale_of_a_layer():
    torch.manual_seed(3)
    conv = torch.randn(8, 4, 3, 3)
    found = fire_weight(conv)
    for k in range(9):
        one = found.flatten(2)[..., k]
        assert torch.allclose(one.T @ one, torch.eye(4) * (8 / 4 / 81), atol=1e-5)
    model = mlp()
    old = state_of(model)
    whole, _ = started(model, WarmStart(old, keep=0.0, method="fire"))
    half, _ = started(mlp(9), WarmStart(old, keep=0.5, method="fire"))
    assert torch.allclose(whole["2.weight"].T @ whole["2.weight"], torch.eye(8), atol=1e-4)
    assert torch.allclose(half["2.weight"], (whole["2.weight"] + old["2.weight"]) / 2, atol=1e-6)
    assert torch.equal(whole["2.bias"], old["2.bias"])
