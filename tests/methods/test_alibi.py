"""ALiBi: slopes and biases of the paper, positions gone from model and optimizer, longer inputs than in training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.names import resolve
from reinvest.methods.surgery.alibi import ALiBi, LinearBias, alibi_slopes, linear_bias, replace_positions
from reinvest.methods.weights.ema import EMA

SMALL = {"width": 16, "layers": 2, "heads": 4}


def build(name="gpt", *, length=12, classes=40, **options):
    torch.manual_seed(0)
    vocabulary = {"vocabulary": "bytes"} if name == "bert_classifier" else {}
    return resolve("model", name)(input_shape=(length,), classes=classes, **SMALL, **vocabulary, **options).eval()


def tokens(rows=3, length=12):
    return torch.randint(2, 40, (rows, length), generator=torch.Generator().manual_seed(1))


def attach(method, model, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    return Methods(method).attach(model, optimizer, duration="1st", data=[0], seed=0)


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16, 64])
def test_slopes_of_a_power_of_two_are_a_geometric_series(heads):
    wanted = [2.0 ** (-8 / heads * i) for i in range(1, heads + 1)]
    assert torch.equal(alibi_slopes(heads), torch.tensor(wanted))
    assert alibi_slopes(heads)[-1] == 2**-8


def test_slopes_of_eight_heads_are_those_of_the_paper():
    assert alibi_slopes(8).tolist() == [1 / 2**i for i in range(1, 9)]


@pytest.mark.parametrize("heads, power", [(3, 2), (6, 4), (12, 8), (25, 16)])
def test_other_counts_take_every_second_slope_of_twice_the_power(heads, power):
    slopes = alibi_slopes(heads)
    assert len(slopes) == heads == len(set(slopes.tolist())), "no slope comes twice"
    assert torch.equal(slopes[:power], alibi_slopes(power))
    assert torch.equal(slopes[power:], alibi_slopes(2 * power)[::2][: heads - power])


@pytest.mark.parametrize("heads", [0, -1, 2.0, True])
def test_heads_are_whole_numbers_from_one(heads):
    with pytest.raises(InvalidValue, match="heads are"):
        alibi_slopes(heads)


@pytest.mark.parametrize("causal", [True, False])
def test_the_bias_is_the_formula(causal):
    slopes = alibi_slopes(3)
    bias = linear_bias(slopes, 5, causal=causal)
    for head, slope in enumerate(slopes.tolist()):
        for query in range(5):
            for key in range(5):
                hidden = causal and key > query
                assert bias[head, query, key] == (-math.inf if hidden else -slope * abs(query - key))
    if not causal:
        assert torch.equal(bias, bias.mT)


def test_a_longer_bias_holds_the_shorter_one():
    made = LinearBias(alibi_slopes(4), 8, causal=True)
    assert torch.equal(made(20), linear_bias(alibi_slopes(4), 20, causal=True))
    assert torch.equal(made(20)[:, :8, :8], made(8)) and torch.equal(made(8)[:, :5, :5], made(5))


@pytest.mark.parametrize("name", ["gpt", "bert", "bert_classifier"])
def test_attention_is_the_softmax_of_scores_and_bias(name):
    model = build(name)
    replace_positions(model)
    attention = model.trunk.layers[0].attention
    x = torch.randn(3, 12, 16)
    seen = torch.ones(3, 1, 1, 12, dtype=torch.bool)
    seen[1, ..., 9:] = False
    for mask in (None, seen) if name == "bert_classifier" else (None,):
        query, key, value = attention.qkv(x).view(3, 12, 3, 4, 4).permute(2, 0, 3, 1, 4)
        scores = query @ key.mT / 2 + linear_bias(alibi_slopes(4), 12, causal=name == "gpt")
        scores = scores if mask is None else scores.masked_fill(~mask, -math.inf)
        wanted = attention.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(3, 12, 16))
        assert torch.allclose(attention(x, mask), wanted, atol=1e-6)


def test_without_slopes_and_positions_the_causal_model_is_the_plain_one_with_zero_positions():
    model, bare = build(), build()
    assert set(replace_positions(model, strength=0.0)) == {"trunk.positions"}
    nn.init.zeros_(bare.trunk.positions)
    assert torch.equal(model(tokens()), bare(tokens()))


def test_no_logit_of_gpt_depends_on_a_later_token():
    model, x = build(), tokens()
    replace_positions(model)
    with torch.no_grad():
        before = model(x)
        for place in range(12):
            other = x.clone()
            other[:, place] = 2 + (x[:, place] - 1) % 38
            after = model(other)
            assert torch.equal(after[:, :, :place], before[:, :, :place])
            assert bool((after[:, :, place:] != before[:, :, place:]).any(1).all())


@pytest.mark.parametrize("name", ["gpt", "bert"])
def test_inputs_may_be_longer_than_in_training(name):
    model, plain = build(name), build(name)
    with pytest.raises(InvalidValue, match="T up to 12"):
        plain(tokens(length=13))
    replace_positions(model)
    longer = model(tokens(length=50))
    assert longer.shape == (3, 40, 50) and bool(longer.isfinite().all())
    if name == "gpt":
        assert torch.allclose(longer[:, :, :12], model(tokens(length=50)[:, :12]), atol=1e-5)
    with pytest.raises(InvalidValue, match=r"of shape \[B, T\], got"):
        model(tokens()[0])


@pytest.mark.parametrize("causal", [True, False])
def test_only_distance_counts(causal):
    bias = linear_bias(alibi_slopes(6), 9, causal=causal)
    assert torch.equal(bias[:, 1:, 1:], bias[:, :-1, :-1])


def test_positions_leave_model_and_optimizer():
    model = build()
    table = model.trunk.positions
    optimizer = torch.optim.AdamW(
        [
            {"params": [table], "weight_decay": 0.0},
            {"params": [p for n, p in model.named_parameters() if n != "trunk.positions"], "weight_decay": 0.1},
        ]
    )
    count = sum(p.numel() for p in model.parameters())
    method = ALiBi()
    with attach(method, model, optimizer):
        assert method.report() == {
            "replaced": {
                "trunk.layers.0.attention": "no bias -> 4 slopes, causal",
                "trunk.layers.1.attention": "no bias -> 4 slopes, causal",
                "trunk.positions": "12 learned positions -> none",
            }
        }
        model(tokens()).logsumexp(1).sum().backward()
        optimizer.step()
    assert method.report() == {}
    assert sum(p.numel() for p in model.parameters()) == count - 12 * 16
    assert "trunk.positions" not in model.state_dict() and not any("score_bias" in n for n in model.state_dict())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()} and id(table) not in held


def test_kept_positions_stay():
    model = build()
    table = model.trunk.positions
    assert "trunk.positions" not in replace_positions(model, keep_positions=True)
    assert model.trunk.positions is table
    with pytest.raises(InvalidValue, match="T up to 12"):
        model(tokens(length=13))


def test_all_layers_share_one_table():
    model = build()
    replace_positions(model)
    first, second = (layer.attention.score_bias for layer in model.trunk.layers)
    assert first is second and first.table.shape == (4, 12, 12)


def test_strength_multiplies_the_slopes():
    model = build()
    replace_positions(model, strength=0.5)
    assert torch.equal(model.trunk.layers[0].attention.score_bias.slopes, alibi_slopes(4) / 2)


def test_once_is_enough_and_a_bias_of_another_kind_stays():
    model = build()
    replace_positions(model)
    before = model.trunk.layers[0].attention.score_bias
    assert replace_positions(model, strength=2.0) == {} and model.trunk.layers[0].attention.score_bias is before
    with attach(ALiBi(), model):
        pass  # and says nothing
    own = build()
    own.trunk.layers[0].attention.score_bias = nn.Identity()
    assert set(replace_positions(own)) == {"trunk.layers.1.attention", "trunk.positions"}


def test_positions_of_modules_without_attention_stay():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions = nn.Parameter(torch.zeros(3, 2))

    model = nn.ModuleList([Other(), build()])
    assert {n for n in replace_positions(model) if n.endswith("positions")} == {"1.trunk.positions"}
    assert model[0].positions is not None


def test_bfloat16_float64_and_autocast():
    for dtype in (torch.float64, torch.bfloat16):
        model = build().to(dtype)
        replace_positions(model)
        assert model(tokens()).dtype == dtype
    model = build()
    replace_positions(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(tokens())
    assert torch.allclose(found.float(), model(tokens()), atol=0.05)


def test_averages_of_weights_and_buffers_stay_finite():
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = [(tokens(), tokens().roll(-1, 1))] * 3
    chain = Methods(ALiBi(), EMA(half_life="1st"))
    with chain.attach(model, optimizer, duration="3st", data=data, seed=0):
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            chain.step()
        assert all(bool(b.isfinite().all()) for b in model.buffers())
        with chain.averaged():
            assert bool(model(tokens()).isfinite().all())
            assert torch.equal(model.trunk.layers[0].attention.score_bias.slopes, alibi_slopes(4))


def test_the_table_follows_the_model_to_another_device():
    made = LinearBias(alibi_slopes(4), 8, causal=False).to("meta")
    assert made(5).device.type == made(9).device.type == "meta"


def test_weights_fit_a_model_that_was_changed_alike():
    one, two = build(), build()
    replace_positions(one)
    with pytest.raises(RuntimeError, match=r"trunk\.positions"):
        two.load_state_dict(one.state_dict())
    replace_positions(two)
    two.load_state_dict(one.state_dict())


def test_it_warns_where_there_is_no_place_and_refuses_a_compiled_model():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    with pytest.warns(NoEffectWarning, match="ALiBi had no effect"), attach(ALiBi(), model):
        pass
    with attach(ALiBi(0.0, keep_positions=True), model):
        pass
    with (
        pytest.raises(Conflict, match="not compiled"),
        attach(ALiBi(), torch.compile(build(), backend="eager")),
    ):
        pass


def test_places_far_apart_are_told_from_near_ones_after_training():
    """What it is for: trained on 16 tokens, the loss on 64 is no worse; learned positions cannot even be asked."""
    torch.manual_seed(0)
    model = resolve("model", "gpt")(input_shape=(16,), classes=12, width=32, layers=2, heads=4)
    replace_positions(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draws = torch.Generator().manual_seed(0)

    def loss(length):
        # Each token is the one two places before, plus one: to be found by distance alone.
        start = torch.randint(2, 12, (64, 2), generator=draws)
        x = torch.stack([2 + (start[:, k % 2] - 2 + k // 2) % 10 for k in range(length + 1)], 1)
        return F.cross_entropy(model(x[:, :-1])[:, :, 2:], x[:, 3:])

    for _ in range(150):
        optimizer.zero_grad()
        loss(16).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        short, long = float(loss(16)), float(loss(64))
    assert short < 0.3 and long < short + 0.1
