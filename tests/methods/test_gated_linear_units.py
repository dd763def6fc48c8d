"""Gated linear units: the paper's formula, the same number of weights, drawn as the old ones were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.core.names import resolve
from reinvest.methods.surgery.gated_linear_units import (
    GATES,
    Gate,
    GatedLinearUnits,
    gate_perceptrons,
    gated_width,
)

SMALL = {"width": 32, "layers": 2, "heads": 2}


def build(name="gpt", **options):
    torch.manual_seed(0)
    return resolve("model", name)(input_shape=(12,), classes=40, **{**SMALL, **options}).eval()


def tokens():
    return torch.randint(2, 40, (3, 12), generator=torch.Generator().manual_seed(1))


def attach(method, model, optimizer=None, seed=0):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    return Methods(method).attach(model, optimizer, duration="1st", data=[0], seed=seed)


def weights(module):
    return sum(p.numel() for p in module.parameters())


class Mlp(nn.Module):
    """As timm has it."""

    def __init__(self, norm=None):
        super().__init__()
        self.fc1, self.act, self.drop1 = nn.Linear(6, 24), nn.GELU(), nn.Dropout(0.0)
        self.norm, self.fc2 = norm or nn.Identity(), nn.Linear(24, 6)

    def forward(self, x):
        return self.fc2(self.norm(self.drop1(self.act(self.fc1(x)))))


def test_widths_are_the_nearest_multiples_of_two_thirds():
    assert [gated_width(h) for h in (3072, 512, 64, 12, 1)] == [2048, 344, 40, 8, 8]
    assert [gated_width(h, 1) for h in (3072, 512, 64, 12, 2, 1)] == [2048, 341, 43, 8, 1, 1]
    assert gated_width(1280, 64) == 832 and gated_width(96, 128) == 128
    assert gated_width(6, 8) == 8 and gated_width(18, 8) == 16, "12 lies in the middle"
    for width in range(1, 300):
        for multiple in (1, 2, 8, 64):
            found = gated_width(width, multiple)
            assert found % multiple == 0
            assert found == multiple or abs(3 * found - 2 * width) * 2 <= 3 * multiple


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("width", [32, 96])
def test_the_number_of_weights_stays_but_for_rounding(width, multiple):
    plain, model = build(width=width), build(width=width)
    gate_perceptrons(model, 0, multiple=multiple)
    units = gated_width(4 * width, multiple)
    for old, new in zip(plain.trunk.layers, model.trunk.layers, strict=True):
        assert weights(old.expand) + weights(old.shrink) == 8 * width**2 + 5 * width
        assert weights(new.expand) + weights(new.shrink) == 3 * width * units + 2 * units + width
    # Two biases a unit in place of one, and rounding by half a multiple.
    assert abs(weights(model) - weights(plain)) <= 2 * (4 * width / 3 + (3 * width + 2) * multiple / 2)


@pytest.mark.parametrize(
    "gate, function",
    [
        ("gelu", lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
        ("silu", lambda x: x / (1 + torch.exp(-x))),
        ("relu", lambda x: x.clamp(min=0)),
        ("sigmoid", lambda x: 1 / (1 + torch.exp(-x))),
        ("identity", lambda x: x),
    ],
)
def test_the_perceptron_is_the_papers(gate, function):
    model = build()
    gate_perceptrons(model, 0, gate=gate, multiple=1)
    layer, x = model.trunk.layers[0], torch.randn(3, 12, 32)
    (a, b), (c, d) = layer.expand.weight.chunk(2), layer.expand.bias.chunk(2)
    assert a.shape == (85, 32)
    wanted = (function(x @ a.T + c) * (x @ b.T + d)) @ layer.shrink.weight.T + layer.shrink.bias
    assert torch.allclose(layer.shrink(layer.activation(layer.expand(x))), wanted, atol=1e-6)
    rest = x + layer.attention(layer.norm1(x), None)
    n = layer.norm2(rest)
    inner = (function(n @ a.T + c) * (n @ b.T + d)) @ layer.shrink.weight.T + layer.shrink.bias
    assert torch.allclose(layer(x, None), rest + inner, atol=1e-6)
    assert set(GATES) == {"gelu", "silu", "relu", "sigmoid", "identity"}


def test_new_weights_scatter_as_the_old_ones_did():
    plain, model = build(width=128), build(width=128)
    gate_perceptrons(model, 0)
    for old, new in zip(plain.trunk.layers, model.trunk.layers, strict=True):
        for part in ("expand", "shrink"):
            one, two = getattr(old, part), getattr(new, part)
            deviation = float(one.weight.detach().std())
            assert float(two.weight.detach().std()) == pytest.approx(deviation, rel=0.01)
            assert abs(float(two.weight.detach().mean())) < 3 * deviation / one.weight.numel() ** 0.5
            assert not two.bias.any(), "zeros stay zeros"
    first, second = (layer.expand.weight.detach() for layer in model.trunk.layers)
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.03


def test_draws_belong_to_the_seed_and_the_name():
    models = [build() for _ in range(3)]
    state = torch.get_rng_state()
    for seed, model in zip((0, 0, 1), models, strict=True):
        gate_perceptrons(model, seed)
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (m.trunk.layers[0].expand.weight for m in models)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_new_weights_take_the_old_ones_place_in_the_optimizer():
    model = build()
    decayed = [p for n, p in model.named_parameters() if n.endswith("weight")]
    others = [p for n, p in model.named_parameters() if not n.endswith("weight")]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}])
    method = GatedLinearUnits()
    with attach(method, model, optimizer):
        assert method.report() == {
            "replaced": {
                "trunk.layers.0": "128 hidden units -> 88 gated (gelu)",
                "trunk.layers.1": "128 hidden units -> 88 gated (gelu)",
            }
        }
    assert method.report() == {}
    held = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    for k, end in enumerate((True, False)):
        assert held[k] == {id(p) for n, p in model.named_parameters() if n.endswith("weight") is end}


@pytest.mark.parametrize("activation", ["relu", "gelu", F.silu])
@pytest.mark.parametrize("kind", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
def test_torchs_own_layers(kind, activation):
    torch.manual_seed(0)
    model = nn.Sequential(kind(16, 2, 48, dropout=0.0, activation=activation, batch_first=True))
    assert gate_perceptrons(model, 0, gate="silu") == {"0": "48 hidden units -> 32 gated (silu)"}
    layer, x = model[0], torch.randn(2, 5, 16)
    arguments = (x,) if kind is nn.TransformerEncoderLayer else (x, x)
    trained = layer(*arguments)
    with torch.no_grad():
        # The short cut for inference must not compute the old function.
        assert torch.allclose(layer.eval()(*arguments), trained, atol=1e-6)


def test_torchs_encoder_with_a_mask_of_padding():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 48, dropout=0.0, batch_first=True), 2)
    )
    assert len(gate_perceptrons(model, 0)) == 2
    x, hidden = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    trained = model[0](x, src_key_padding_mask=hidden)
    with torch.no_grad():
        found = model.eval()[0](x, src_key_padding_mask=hidden)
    assert torch.allclose(found[~hidden], trained[~hidden], atol=1e-6)


def test_perceptrons_of_other_libraries_and_what_is_none():
    model = nn.ModuleList([Mlp(), Mlp(nn.LayerNorm(24)), nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 6))])
    assert gate_perceptrons(model, 0, multiple=1) == {"0": "24 hidden units -> 16 gated (gelu)"}
    assert model[0](torch.randn(2, 6)).shape == (2, 6)
    assert model[1].fc1.out_features == 24, "a norm between the layers knows their width"


def test_a_function_shared_with_other_places_stays_there():
    model = nn.ModuleDict({"mlp": Mlp(), "head": nn.Identity()})
    model["head"] = model["mlp"].act
    gate_perceptrons(model, 0)
    assert isinstance(model["mlp"].act, Gate) and type(model["head"]) is nn.GELU


def test_a_shared_perceptron_is_changed_once():
    shared = Mlp()
    model = nn.Sequential(shared, shared)
    assert len(gate_perceptrons(model, 0)) == 1 and model[0] is model[1]
    assert model(torch.randn(2, 6)).shape == (2, 6)


def test_frozen_layers_stay_frozen_and_layers_without_bias_stay_without():
    model = nn.Sequential(Mlp())
    model[0].fc1 = nn.Linear(6, 24, bias=False).requires_grad_(False)
    gate_perceptrons(model, 0)
    assert model[0].fc1.bias is None and not model[0].fc1.weight.requires_grad
    assert model[0].fc2.bias is not None and model[0].fc2.weight.requires_grad


def test_dtype_follows_the_model():
    model = build().double()
    gate_perceptrons(model, 0)
    assert model(tokens()).dtype == torch.float64
    model = build()
    gate_perceptrons(model, 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.trunk.layers[0].expand(torch.randn(2, 32)).dtype == torch.bfloat16
        assert bool(model(tokens()).isfinite().all())


def test_hooks_are_not_lost_silently():
    model = build()
    model.trunk.layers[0].expand.register_forward_hook(lambda *_: None)
    with pytest.raises(InvalidValue, match="hooks"):
        gate_perceptrons(model, 0)


def test_once_is_enough_and_it_warns_where_there_is_nothing():
    model = build()
    gate_perceptrons(model, 0)
    before = copy.deepcopy(model.state_dict())
    with attach(GatedLinearUnits("silu"), model):
        pass
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    with (
        pytest.warns(NoEffectWarning, match="GatedLinearUnits had no effect"),
        attach(GatedLinearUnits(), nn.Sequential(nn.Linear(2, 2))),
    ):
        pass
    with attach(GatedLinearUnits(None), nn.Sequential(nn.Linear(2, 2))):
        pass
