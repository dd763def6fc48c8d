"""Surgery beside other surgery, beside methods that go by its result, and inside an optimizer with groups of its own."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch import nn

import reinvest as ri
from reinvest.core.chain import NoEffectWarning
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.names import resolve
from reinvest.methods.surgery.factorized import Factorized, factorize_layers
from reinvest.methods.surgery.gated_linear_units import gate_perceptrons
from reinvest.methods.surgery.weight_standardization import fold_standardization, standardize_convolutions


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))


def rows(features=8, classes=3, count=16):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, features, generator=generator)
    return [(x[i : i + 4], torch.randint(classes, (4,), generator=generator)) for i in range(0, count, 4)]


def train(model, optimizer, *methods, data=None, look=lambda: None):
    """One epoch; returns what `look` saw before each step."""
    data = rows() if data is None else data
    chain = ri.Methods(*methods)
    seen = []
    with chain.attach(model, optimizer, duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            seen.append(look())
            chain.step()
    return seen


def held(model, optimizer):
    names = {id(p): n for n, p in model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]


# ---- the optimizer -------------------------------------------------------------------------------------------------


def test_layers_that_were_not_to_learn_do_not_learn_as_factors():
    model = mlp()
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)
    train(model, optimizer, ri.FactorizedLayers(0.5, smallest=32))
    assert isinstance(model[2], Factorized)
    assert held(model, optimizer) == [["4.weight", "4.bias"]]


def test_factors_join_the_groups_of_their_weight_and_bias():
    model = mlp()
    matrices, biases = (
        [p for p in model.parameters() if p.ndim == 2],
        [p for p in model.parameters() if p.ndim == 1],
    )
    optimizer = torch.optim.SGD([{"params": matrices, "weight_decay": 0.1}, {"params": biases}], lr=0.1)
    factorize_layers(model, optimizer, share=0.5, smallest=32)
    with_decay, without = held(model, optimizer)
    assert sorted(with_decay) == ["0.weight", "2.down.weight", "2.up.weight", "4.weight"]
    assert sorted(without) == ["0.bias", "2.up.bias", "4.bias"]


def test_a_bias_that_did_not_learn_does_not_learn_beside_its_weight():
    model = mlp()
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if n != "2.bias"], lr=0.1)
    factorize_layers(model, optimizer, share=0.5, smallest=32)
    assert "2.up.bias" not in held(model, optimizer)[0] and "2.up.weight" in held(model, optimizer)[0]


def test_names_in_the_groups_follow():
    model = mlp()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    factorize_layers(model, optimizer, share=0.5, smallest=32)
    assert optimizer.param_groups[0]["param_names"] == held(model, optimizer)[0]


def test_a_refused_surgery_leaves_the_model_whole_and_can_be_tried_again():
    model = mlp()
    hook = model[4].register_forward_hook(lambda *_: None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = list(model)
    with pytest.raises(InvalidValue, match="hooks on '4'"):
        train(model, optimizer, ri.FactorizedLayers(0.5, smallest=1))
    assert all(a is b for a, b in zip(before, model, strict=True))
    hook.remove()
    train(model, optimizer, ri.FactorizedLayers(0.5, smallest=1))
    assert sorted(held(model, optimizer)[0]) == sorted(n for n, _ in model.named_parameters())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_are_computed_stay_whole():
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 64)), nn.Linear(64, 64))
    assert list(factorize_layers(model, share=0.5, smallest=8)) == ["1"]


# ---- one after the other -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_rates_by_layer_are_those_of_the_model_after_surgery(first):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    rates = ri.LayerwiseRates(0.5)
    pair = [rates, ri.FactorizedLayers(0.5, smallest=32)]
    found = train(model, optimizer, *(pair if first else pair[::-1]), look=lambda: rates.report()["rates"])[0]
    assert found["2.down.weight"] == found["2.up.weight"] == found["2.up.bias"] == 0.5
    assert found["0.weight"] == 0.25 and found["4.weight"] == 1.0


class Residual(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.fc, self.act = nn.Linear(8, 8), act

    def forward(self, x):
        return x + self.act(self.fc(x))


@pytest.mark.parametrize("act", [nn.GELU(), nn.SiLU(), nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2)])
@pytest.mark.parametrize("order", [1, -1])
def test_an_activation_that_saves_memory_stays_itself_as_a_branch_that_drops(act, order):
    torch.manual_seed(0)
    model = nn.Sequential(Residual(act), nn.Linear(8, 3))
    x = torch.randn(5, 8)
    expected = model(x).detach()
    drops = ri.StochasticDepth(1 - 1e-7, mode="sample", blocks={f"{__name__}:Residual": "act"})
    methods = [ri.MemorySavingActivations(), drops][::order]

    chain = ri.Methods(*methods)
    data = rows()
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), duration="1ep", data=data, seed=0):
        for a, b in chain.batches(data):
            chain.loss(model(a), b).backward()
            torch.testing.assert_close(model(x).detach(), expected)
            chain.step()
    torch.testing.assert_close(model(x).detach(), expected)
    assert type(model[0].act) is type(act)


@pytest.mark.parametrize(
    ("method", "kind", "count"),
    [
        (lambda: ri.GatedLinearUnits(), "gpt", 2),
        (lambda: ri.FactorizedLayers(0.5, smallest=8), "gpt", 8),
        (lambda: ri.GhostBatchNorm(4), "resnet8", 7),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_stochastic_depth_hides_nothing_from_other_surgery(method, kind, count, order):
    torch.manual_seed(0)
    build = resolve("model", kind)
    if kind == "gpt":
        model = build(input_shape=(16,), classes=20, width=16, layers=2, heads=2)
        data = [(torch.randint(2, 20, (4, 16)), torch.randint(2, 20, (4, 16))) for _ in range(2)]
    else:
        model = build(input_shape=(3, 8, 8), classes=3, width=8)
        data = [(torch.randn(8, 3, 8, 8), torch.randint(3, (8,))) for _ in range(2)]
    surgery = method()
    found = {}
    chain = ri.Methods(*[ri.StochasticDepth(0.5), surgery][::order])
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            found = surgery.report()["replaced"] if hasattr(surgery, "report") else {}
            chain.loss(model(x), y).backward()
            chain.step()
    assert len(found) == count


def strided():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 3 * 3, 3))


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (
            lambda: [ri.BlurPool(), ri.WeightStandardization()],
            "WeightStandardization leaves 1 layer alone that BlurPool",
        ),
        (
            lambda: [ri.WeightStandardization(), ri.BlurPool()],
            "BlurPool leaves 1 layer alone that WeightStandardization",
        ),
        (lambda: [ri.BlurPool(), ri.SqueezeExcite(8)], "BlurPool leaves 1 layer alone that SqueezeExcite"),
        (lambda: [ri.SqueezeExcite(8), ri.WeightStandardization()], "WeightStandardization leaves 1 layer alone"),
    ],
)
def test_a_layer_that_another_method_has_changed_is_named(methods, said):
    model = strided()
    data = [(torch.randn(4, 3, 8, 8), torch.randint(3, (4,)))]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), *methods(), data=data)
    assert any(said in str(w.message) for w in caught if w.category is NoEffectWarning)


def test_what_fills_zeros_does_not_go_with_what_makes_them():
    for method in (ri.MagnitudePruning(0.5), ri.NMSparsity(2, 4)):
        with pytest.raises(Conflict, match="WeightStandardization"):
            ri.Methods(ri.WeightStandardization(), method)


def test_two_kinds_of_stochastic_depth_are_refused_together():
    with pytest.raises(Conflict, match="StochasticDepth"):
        ri.Methods(ri.StochasticDepth(0.5), ri.StochasticDepth(0.8))


def test_a_branch_of_two_blocks_is_refused():
    shared = nn.ReLU()
    model = nn.Sequential(Residual(shared), Residual(shared), nn.Linear(8, 3))
    drops = ri.StochasticDepth(0.5, mode="sample", blocks={f"{__name__}:Residual": "act"})
    with pytest.raises(InvalidValue, match=r"belongs to one block, got 'act' of '1'"):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), drops)
    assert type(shared) is nn.ReLU


# ---- weights with two owners ---------------------------------------------------------------------------------------


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)


def test_perceptrons_that_share_weights_stay_as_they_are():
    one, other, third = Perceptron(), Perceptron(), Perceptron()
    other.fc1.weight, other.fc2.weight = one.fc1.weight, one.fc2.weight
    model = nn.ModuleList([one, other, third])
    assert list(gate_perceptrons(model, 0, multiple=1)) == ["2"]
    assert one.fc1.weight is other.fc1.weight
    twice = nn.ModuleList([third_copy := Perceptron(), third_copy])
    assert list(gate_perceptrons(twice, 0, multiple=1)) == ["0"]


def test_a_weight_of_two_convolutions_is_standardized_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1))
    model[1].weight = model[0].weight
    standardize_convolutions(model, eps=0.1)
    x = torch.randn(2, 4, 6)
    expected = model(x)
    assert fold_standardization(model) == 2
    torch.testing.assert_close(model(x), expected)
    assert model[0].weight is model[1].weight


def test_pairs_of_surgery_that_take_nothing_from_each_other_say_nothing():
    names = ["ChannelsLast", "GhostBatchNorm", "MemorySavingActivations", "SqueezeExcite"]
    made = {"GhostBatchNorm": lambda: ri.GhostBatchNorm(2), "SqueezeExcite": lambda: ri.SqueezeExcite(8)}
    data = [(torch.randn(4, 3, 8, 8), torch.randint(3, (4,)))]
    for a, b in itertools.permutations(names, 2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
        pair = [made.get(n, getattr(ri, n))() for n in (a, b)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), *pair, data=data)
