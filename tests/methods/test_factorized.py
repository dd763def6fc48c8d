"""Factorized layers: full rank is the layer, lower rank its best approximation, counts are exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.core.names import resolve
from reinvest.methods.surgery.factorized import (
    Factorized,
    FactorizedLayers,
    factor_rank,
    factorize,
    factorize_layers,
    matrix_shape,
)

LAYERS = {
    "linear": (lambda: nn.Linear(20, 12), (4, 20)),
    "linear without bias, one more dimension": (lambda: nn.Linear(12, 20, bias=False), (4, 3, 12)),
    "convolution": (lambda: nn.Conv2d(5, 12, 3, stride=2, padding=1), (2, 5, 9, 9)),
    "pointwise": (lambda: nn.Conv2d(16, 12, 1, bias=False), (2, 16, 4, 4)),
    "uneven": (
        lambda: nn.Conv2d(4, 12, (3, 1), stride=(1, 2), padding=(2, 0), dilation=(2, 1), padding_mode="reflect"),
        (2, 4, 8, 8),
    ),
    "one dimension": (lambda: nn.Conv1d(6, 12, 3, padding="same"), (2, 6, 9)),
    "three dimensions": (lambda: nn.Conv3d(3, 12, 2), (2, 3, 4, 4, 4)),
}


def attach(method, model, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    return Methods(method).attach(model, optimizer, duration="1st", data=[0], seed=0)


def weights(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kind", LAYERS)
def test_full_rank_is_the_layer(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, x = make(), torch.randn(shape)
    rows, columns = matrix_shape(layer)
    made = factorize(layer, min(rows, columns))
    assert made(x).shape == layer(x).shape
    assert float((made(x) - layer(x)).detach().abs().max()) < 1e-5
    assert torch.allclose(made.weight, layer.weight, atol=1e-6) and made.weight.shape == layer.weight.shape
    assert (made.bias is None) == (layer.bias is None)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rank", [1, 3])
def test_lower_rank_is_the_best_approximation_and_its_count_is_exact(kind, rank):
    torch.manual_seed(0)
    layer = LAYERS[kind][0]()
    rows, columns = matrix_shape(layer)
    made = factorize(layer, rank)
    matrix = layer.weight.detach().flatten(1)
    values = torch.linalg.svdvals(matrix)
    off = torch.linalg.matrix_norm(made.weight.detach().flatten(1) - matrix)
    # No matrix of this rank is nearer (Eckart and Young): what is missing are the smaller singular values.
    assert torch.allclose(off, values[rank:].square().sum().sqrt(), atol=1e-5)
    assert torch.linalg.matrix_rank(made.weight.detach().flatten(1), rtol=1e-4) == rank
    assert weights(made) == rank * (rows + columns) + (0 if layer.bias is None else rows)
    up, down = (torch.linalg.svdvals(f.weight.detach().flatten(1)) for f in (made.up, made.down))
    assert torch.allclose(up, down, atol=1e-5) and torch.allclose(up.square(), values[:rank], atol=1e-5)


def test_ranks_are_shares_of_the_break_even():
    assert factor_rank((512, 512), 0.5) == 128 and factor_rank((512, 512), 0.25) == 64
    assert factor_rank((64, 576), 1.0) == 57, "57.6 rounded down"
    assert factor_rank((512, 512), 1.0) == 0, "256 saves nothing"
    assert factor_rank((4, 8), 0.01) == 1 and factor_rank((1, 100), 0.5) == 0 and factor_rank((2, 2), 0.5) == 0
    for rows in range(1, 40):
        for columns in range(1, 40):
            for share in (0.1, 0.5, 1.0):
                rank = factor_rank((rows, columns), share)
                assert 0 <= rank <= min(rows, columns)
                assert rank * (rows + columns) < rows * columns or rank == 0
                assert rank * (rows + columns) <= share * rows * columns + 1e-9 or rank == 1


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 4, 3, groups=2), nn.ConvTranspose2d(4, 4, 3), nn.Embedding(4, 4), nn.Bilinear(2, 2, 2)]
)
def test_other_layers_are_refused_and_left_whole(layer):
    with pytest.raises(InvalidValue, match="two factors"):
        factorize(layer, 1)
    assert factorize_layers(nn.Sequential(layer), share=0.5, smallest=1) == {}


@pytest.mark.parametrize("rank", [0, 13])
def test_ranks_beyond_the_matrix_are_refused(rank):
    with pytest.raises(InvalidValue, match="from 1 to 12"):
        factorize(nn.Linear(20, 12), rank)


def test_the_layer_itself_stays():
    layer = nn.Linear(20, 12)
    before = layer.weight.detach().clone()
    factorize(layer, 2)
    assert torch.equal(layer.weight, before) and layer.weight.requires_grad


def test_a_models_count_and_report():
    torch.manual_seed(0)
    model = resolve("model", "gpt")(input_shape=(12,), classes=258, width=64, layers=1, heads=2)
    count = weights(model)
    # [192, 64], [64, 64], [256, 64] and [64, 256]: half of 48, 32, 51.2 and 51.2.
    assert factorize_layers(model) == {
        "trunk.layers.0.attention.qkv": "Linear -> Factorized (rank 24)",
        "trunk.layers.0.attention.out": "Linear -> Factorized (rank 16)",
        "trunk.layers.0.expand": "Linear -> Factorized (rank 25)",
        "trunk.layers.0.shrink": "Linear -> Factorized (rank 25)",
    }
    saved = 192 * 64 - 24 * 256 + 64 * 64 - 16 * 128 + 2 * (256 * 64 - 25 * 320)
    assert weights(model) == count - saved
    assert factorize_layers(model, smallest=1) == {}, "factors are not cut again"
    model(torch.randint(2, 258, (2, 12))).logsumexp(1).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_small_layers_stay_whole():
    model = nn.Sequential(nn.Linear(64, 63), nn.Linear(63, 64), nn.Conv2d(7, 64, 3), nn.Conv2d(8, 64, 3))
    assert set(factorize_layers(model)) == {"3"}, "7 * 9 is less than 64, 8 * 9 is not"
    model = nn.Sequential(nn.Linear(64, 64))
    assert set(factorize_layers(model, smallest=65)) == set()


def test_shared_weights_stay_shared():
    model = nn.ModuleDict({"embed": nn.Embedding(80, 70), "head": nn.Linear(70, 80), "own": nn.Linear(70, 80)})
    model["head"].weight = model["embed"].weight
    assert set(factorize_layers(model)) == {"own"}
    layer = nn.Linear(70, 70)
    twice = nn.Sequential(layer, nn.ReLU(), layer)
    assert factorize_layers(twice) == dict.fromkeys(("0", "2"), "Linear -> Factorized (rank 17)")
    assert twice[0] is twice[2]


def test_torchs_transformer_layers_in_both_modes():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(64, 2, 128, dropout=0.0, batch_first=True)
    model, x = nn.Sequential(layer), torch.randn(2, 5, 64)
    assert set(factorize_layers(model)) == {"0.linear1", "0.linear2"}, "attention reads its weights itself"
    trained = layer(x)
    with torch.no_grad():
        # The short cut for inference reads weight and bias of both layers.
        assert torch.allclose(layer.eval()(x), trained, atol=1e-5)


def test_factors_take_the_layers_place_in_the_optimizer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 4))
    groups = [
        {"params": model[0].parameters(), "lr": 0.5},
        {"params": [*model[2].parameters(), *model[3].parameters()]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    model(torch.randn(3, 64)).sum().backward()
    optimizer.step()
    method = FactorizedLayers(0.25)
    with attach(method, model, optimizer):
        assert method.report() == {"replaced": dict.fromkeys(("0", "2"), "Linear -> Factorized (rank 8)")}
    assert method.report() == {}
    held = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    assert held[0] == {id(p) for p in model[0].parameters()}
    assert held[1] == {id(p) for k in (2, 3) for p in model[k].parameters()}
    assert set(map(id, optimizer.state)) == {id(p) for p in model[3].parameters()}, "no state of what is gone"


def test_dtype_mode_and_frozen_weights_are_kept():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64, dtype=torch.bfloat16)).eval()
    model[0].double().weight.requires_grad_(False)
    factorize_layers(model)
    assert {p.dtype for p in model[0].parameters()} == {torch.float64} and not model[0].training
    assert {p.dtype for p in model[1].parameters()} == {torch.bfloat16}
    assert [p.requires_grad for p in model[0].parameters()] == [False, False, True]


def test_nothing_is_drawn():
    layer, convolution = nn.Linear(20, 12), nn.Conv2d(3, 12, 3)
    state = torch.get_rng_state()
    factorize(layer, 3), factorize(convolution, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_warns_where_nothing_is_saved():
    for method, model in (
        (FactorizedLayers(), nn.Sequential(nn.Linear(8, 8))),
        (FactorizedLayers(smallest=1), nn.Sequential(nn.Linear(2, 2), nn.Linear(1, 50))),
    ):
        with pytest.warns(NoEffectWarning, match="FactorizedLayers had no effect"), attach(method, model):
            pass
        assert not any(isinstance(m, Factorized) for m in model.modules())
    with attach(FactorizedLayers(1.0), nn.Sequential(nn.Linear(8, 8))):
        pass
    model = nn.Sequential(nn.Linear(64, 64))
    for _ in range(2):
        with attach(FactorizedLayers(), model):
            pass  # the second time it has its factors, and says nothing
