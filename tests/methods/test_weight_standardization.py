"""WeightStandardization: exact moments of every filter, its gradient, and a plain net at the end."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop, HandLoop, Setup
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.methods.surgery.weight_standardization import (
    WeightStandardization,
    fold_standardization,
    standardize_convolutions,
    standardize_filters,
)
from reinvest.testbed.models.resnet import resnet8

LAYERS = [
    (nn.Conv1d(4, 6, 3, stride=2), (9,)),
    (nn.Conv2d(4, 6, 3, padding=1, bias=False), (7, 8)),
    (nn.Conv2d(4, 8, 3, groups=2, padding=2, padding_mode="circular", dilation=2), (9, 9)),
    (nn.Conv2d(4, 4, 3, groups=4), (5, 5)),
    (nn.Conv2d(4, 6, 1), (3, 3)),
    (nn.Conv3d(4, 2, 2), (4, 5, 3)),
]


def by_definition(w, eps):
    rows = w.flatten(1)
    mean = rows.mean(1, keepdim=True)
    deviation = ((rows**2).mean(1, keepdim=True) - mean**2 + eps).sqrt()
    return ((rows - mean) / deviation).view_as(w)


def test_every_filter_has_mean_0_and_variance_v_over_v_plus_eps():
    torch.manual_seed(0)
    w = torch.randn(5, 3, 3, 3, dtype=torch.float64) * torch.tensor([1e-3, 0.1, 1, 10, 100]).view(5, 1, 1, 1) + 2
    for eps in (1e-5, 1e-2):
        found = standardize_filters(w, eps).flatten(1)
        v = w.flatten(1).var(1, correction=0)
        assert torch.allclose(found.mean(1), torch.zeros(5, dtype=torch.float64), atol=1e-12)
        assert torch.allclose(found.var(1, correction=0), v / (v + eps), atol=1e-12)
        assert torch.allclose(found, by_definition(w, eps).flatten(1), atol=1e-10)


def test_the_variance_is_the_biased_one():
    """Public code divides by the unbiased deviation plus eps, which for nine weights is 6 % larger."""
    torch.manual_seed(0)
    w = torch.randn(64, 1, 3, 3, dtype=torch.float64)
    rows = w.flatten(1)
    public = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-5)
    ratio = standardize_filters(w, 1e-12).flatten(1) / public
    assert torch.allclose(ratio, torch.full_like(ratio, (9 / 8) ** 0.5), atol=1e-4)


def test_twice_is_once():
    w = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    once = standardize_filters(w, 1e-14)
    assert torch.allclose(standardize_filters(once, 1e-14), once, atol=1e-12)
    scaled = standardize_filters(3 * w - 1, 1e-14)
    assert torch.allclose(scaled, once, atol=1e-12), "scale and shift of a filter do not matter"
    model = nn.Sequential(copy.deepcopy(LAYERS[1][0]))
    assert len(standardize_convolutions(model)) == 1 and standardize_convolutions(model) == {}


@pytest.mark.parametrize("layer, size", LAYERS)
def test_a_layer_is_the_plain_one_with_standardized_filters(layer, size):
    model, plain = nn.Sequential(copy.deepcopy(layer)).double(), copy.deepcopy(layer).double()
    standardize_convolutions(model, 1e-3)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(by_definition(plain.weight, 1e-3))
    assert torch.allclose(model(x), plain(x), atol=1e-12)
    assert type(model[0]).__name__ == f"Standardized{type(layer).__name__}"


def test_the_gradient_goes_through_the_standardization():
    """Formula of the paper's backward pass: orthogonal to constants and, but for eps, to the filter itself."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).double()
    standardize_convolutions(model, 1e-14)
    model(torch.randn(2, 3, 6, 6, dtype=torch.float64)).pow(2).sum().backward()
    g, w = model[0].weight.grad.flatten(1), model[0].weight.detach().flatten(1)
    assert float(g.norm()) > 1e-3
    assert float(g.sum(1).abs().max()) < 1e-9 * float(g.norm())
    assert float((g * w).sum(1).abs().max()) < 1e-9 * float(g.norm())
    weight = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: standardize_filters(t, 1e-3), (weight,))


def test_names_stay_and_hold_the_raw_weights():
    model = resnet8(input_shape=(3, 8, 8), classes=4)
    names, values, own = list(model.state_dict()), copy.deepcopy(model.state_dict()), list(model.parameters())
    done = standardize_convolutions(model)
    assert len(done) == 7 and done["blocks.0.conv1"] == "Conv2d -> StandardizedConv2d"
    assert list(model.state_dict()) == names and differences(model.state_dict(), values) == []
    assert all(a is b for a, b in zip(model.parameters(), own, strict=True))
    assert isinstance(copy.deepcopy(model).conv, nn.Conv2d)


def test_what_has_a_forward_of_its_own_or_too_few_weights_is_left_alone():
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(Own(3, 3, 3), nn.Conv2d(3, 3, 1, groups=3), nn.ConvTranspose2d(3, 3, 3), nn.Linear(3, 3))
    assert standardize_convolutions(model) == {}
    assert list(standardize_convolutions(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3)), min_weights=18)) == [
        "1"
    ]


def test_folded_it_is_a_plain_net_with_the_same_outputs():
    torch.manual_seed(0)
    model = resnet8(input_shape=(3, 8, 8), classes=4)
    standardize_convolutions(model)
    x = torch.randn(2, 3, 8, 8)
    wanted = model.eval()(x)
    parameter = model.conv.weight
    v = parameter.detach().flatten(1).var(1, correction=0)
    assert fold_standardization(model) == 7
    assert type(model.conv) is nn.Conv2d and model.conv.weight is parameter and "filter_eps" not in vars(model.conv)
    assert torch.equal(model(x), wanted)
    rows = model.conv.weight.detach().flatten(1)
    assert float(rows.mean(1).abs().max()) < 1e-6 and torch.allclose(rows.var(1, correction=0), v / (v + 1e-5))
    assert fold_standardization(model) == 0
    fresh = resnet8(input_shape=(3, 8, 8), classes=4)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.eval()(x), wanted)


def test_a_run_trains_raw_weights_and_leaves_the_folded_ones():
    method = WeightStandardization()
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        assert method.report() == {"replaced": dict.fromkeys(["body.0", "body.4"], "Conv2d -> StandardizedConv2d")}
        loop.train(until=4)
        raw = loop.model.body[0].weight.detach().clone()
        assert abs(float(raw.flatten(1).var(1, correction=0).mean()) - 1) > 0.1
        x = torch.randn(2, 3, 8, 8)
        wanted = loop.model.eval()(x)
    assert torch.equal(loop.model(x), wanted) and method.report() == {"replaced": {}}
    assert torch.equal(loop.model.body[0].weight, standardize_filters(raw))


def test_a_standardized_net_with_norms_does_not_feel_the_scale_of_its_weights():
    results = []
    for scale in (1.0, 8.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)).double()
        with torch.no_grad():
            model[0].weight.mul_(scale)
        standardize_convolutions(model, 1e-14)
        results.append({"y": model(torch.ones(2, 3, 5, 5, dtype=torch.float64).cumsum(3)).detach()})
    assert distance(*results) < 1e-9


def test_half_precision_standardizes_in_single_precision():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    standardize_convolutions(model)
    x = torch.randn(2, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
        wanted = F.conv2d(x, by_definition(model[0].weight.float(), 1e-5), model[0].bias)
    assert found.dtype == torch.bfloat16 and torch.allclose(found, wanted, atol=0.1, rtol=0.02)


def test_the_loop_differs_from_the_plain_one_and_nothing_found_is_said():
    loop, plain = ChainLoop(Setup(), [WeightStandardization()]).run(), HandLoop(Setup()).run()
    assert distance(loop.result()["model"], plain.result()["model"]) > 0.1
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(NoEffectWarning, match="no convolution with filters of 2 weights or more"),
        Methods(WeightStandardization()).attach(model, optimizer, duration="1st", data=[0], seed=0),
    ):
        pass
    with pytest.raises(InvalidValue, match=r"eps is a small number above 0, got 0\.0; 1e-5 is usual"):
        WeightStandardization(0.0)
