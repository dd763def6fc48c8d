"""Norms in low precision: dtypes under autocast, bits outside it, parameters that stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.names import resolve
from reinvest.methods.surgery.low_precision_norm import (
    LowPrecisionGroupNorm,
    LowPrecisionLayerNorm,
    LowPrecisionNorm,
    autocast_dtype,
    lower_norms,
)


def norms(**options):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.LayerNorm(8, **options), "group": nn.GroupNorm(2, 8)})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(8))
    return model


def inputs(kind):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)) * 3 + 1
    return x if kind == "layer" else x[..., None, None].expand(4, 8, 3, 3) + torch.linspace(0, 1, 9).view(3, 3)


def attach(method, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if list(model.parameters()) else None
    return Methods(method).attach(model, optimizer, duration="1st", data=[0], seed=0)


@pytest.mark.parametrize("kind", ["layer", "group"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtypes_under_autocast(kind, dtype):
    plain, low = norms(), norms()
    lower_norms(low)
    x = inputs(kind)
    with torch.autocast("cpu", dtype):
        # What torch itself does on a CPU: the dtype that arrives.
        assert plain[kind](x).dtype == torch.float32 and plain[kind](x.to(dtype)).dtype == dtype
        found = low[kind](x)
        assert found.dtype == low[kind](x.to(dtype)).dtype == dtype
        assert torch.is_autocast_enabled("cpu"), "autocast is on again"
        assert torch.equal(found, low[kind](x.to(dtype)))
    assert torch.equal(found, copy.deepcopy(plain).to(dtype)[kind](x.to(dtype))), "the norm in that dtype throughout"
    scale = float(plain[kind](x).detach().abs().max())
    assert float((found.float() - plain[kind](x)).detach().abs().max()) < 3 * torch.finfo(dtype).eps * scale


@pytest.mark.parametrize("kind", ["layer", "group"])
def test_gradients_are_those_of_float32_but_for_rounding(kind):
    plain, low = norms(), norms()
    lower_norms(low)
    grads = []
    for model in (plain, low):
        x = inputs(kind).clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = model[kind](x)
        (y.float() * inputs(kind).sin()).sum().backward()
        grads.append([x.grad, model[kind].weight.grad, model[kind].bias.grad])
    for one, two in zip(*grads, strict=True):
        assert two.dtype == torch.float32 and float((one - two).abs().max() / one.abs().max()) < 0.03
        assert not torch.equal(one, two)


@pytest.mark.parametrize("kind", ["layer", "group"])
def test_nothing_changes_outside_autocast(kind):
    plain, low = norms(), norms()
    lower_norms(low)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = inputs(kind).to(dtype)
        assert torch.equal(low.to(dtype)[kind](x), plain.to(dtype)[kind](x))
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        assert torch.equal(low.float()[kind](inputs(kind)), plain.float()[kind](inputs(kind)))


def test_autocast_of_another_device_and_float64_do_not_count():
    x = torch.randn(3)
    assert autocast_dtype(x) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_dtype(x) is torch.bfloat16
        assert autocast_dtype(x.double()) is None
        assert autocast_dtype(torch.empty(3, device="meta")) is None
        low = norms().double()
        lower_norms(low)
        assert low["layer"](torch.randn(2, 8).double()).dtype == torch.float64


def test_parameters_names_and_hooks_stay():
    model = norms()
    model["layer"].register_forward_hook(lambda *_: None)
    own, state = list(model.parameters()), {n: t.clone() for n, t in model.state_dict().items()}
    assert lower_norms(model) == {
        "layer": "LayerNorm -> LowPrecisionLayerNorm",
        "group": "GroupNorm -> LowPrecisionGroupNorm",
    }
    assert all(a is b for a, b in zip(own, model.parameters(), strict=True))
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in state.items()), "trained values are kept"
    assert len(model["layer"]._forward_hooks) == 1
    assert lower_norms(model) == {}


@pytest.mark.parametrize("options", [{"bias": False}, {"elementwise_affine": False}])
def test_norms_without_bias_or_weights(options):
    model = nn.Sequential(nn.LayerNorm(8, eps=1e-2, **options))
    wanted = model(inputs("layer"))
    lower_norms(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(inputs("layer"))
    assert found.dtype == torch.bfloat16 and torch.allclose(found.float(), wanted, atol=0.02)
    assert model[0].eps == 1e-2


def test_the_switches_choose():
    for layer, group, names in ((True, False, {"layer"}), (False, True, {"group"}), (False, False, set())):
        assert set(lower_norms(norms(), layer=layer, group=group)) == names


def test_other_norms_are_left_alone():
    class Own(nn.LayerNorm):
        pass

    model = nn.ModuleList([Own(8), nn.RMSNorm(8), nn.BatchNorm1d(8), nn.InstanceNorm1d(8)])
    assert lower_norms(model) == {}


def test_a_language_model_keeps_float32_where_its_residual_stream_has_it():
    torch.manual_seed(0)
    model = resolve("model", "gpt")(input_shape=(12,), classes=40, width=16, layers=2, heads=2)
    x = torch.randint(2, 40, (2, 12))
    seen = []
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda m, i, o: seen.append((i[0].dtype, o.dtype)))
    for low in (False, True):
        seen.clear()
        if low:
            assert len(lower_norms(model)) == 5
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x)
        assert output.dtype == torch.bfloat16 and bool(output.isfinite().all())
        assert {i for i, _ in seen} == {torch.float32}, "embeddings and sums are float32"
        assert {o for _, o in seen} == {torch.bfloat16 if low else torch.float32}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_compiled_it_is_the_same():
    torch._dynamo.reset()
    model = norms()
    lower_norms(model)
    compiled = torch.compile(model["layer"], backend="aot_eager", fullgraph=True)
    for on in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            found, wanted = compiled(inputs("layer")), model["layer"](inputs("layer"))
        assert found.dtype == wanted.dtype and torch.equal(found, wanted)
    torch._dynamo.reset()


def test_report_and_warnings():
    method, model = LowPrecisionNorm(group=False), norms()
    with attach(method, model):
        assert method.report() == {"replaced": {"layer": "LayerNorm -> LowPrecisionLayerNorm"}}
    assert method.report() == {} and isinstance(model["layer"], LowPrecisionLayerNorm)
    assert type(model["group"]) is nn.GroupNorm
    with attach(method, model):
        pass  # it has them already, and says nothing
    for method, other, missing in (
        (LowPrecisionNorm(), nn.Linear(2, 2), "LayerNorm or GroupNorm"),
        (LowPrecisionNorm(layer=False), nn.LayerNorm(2), "GroupNorm"),
    ):
        with (
            pytest.warns(NoEffectWarning, match=f"no {missing}, so LowPrecisionNorm had no effect"),
            attach(method, nn.Sequential(other)),
        ):
            pass
    with attach(LowPrecisionNorm(layer=False, group=False), nn.Sequential(nn.Linear(2, 2))):
        pass
    assert issubclass(LowPrecisionGroupNorm, nn.GroupNorm)
