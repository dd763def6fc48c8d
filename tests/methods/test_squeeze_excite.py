"""SqueezeExcite: the paper's formula, where blocks go, how they start, and that the optimizer trains them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences, generators
from reinvest._testing.loops import ChainLoop, Setup
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.core.streams import stream
from reinvest.methods.surgery.squeeze_excite import (
    Excitation,
    SqueezeExcite,
    SqueezeExciteConv2d,
    add_excitations,
    excite,
)
from reinvest.testbed.models.resnet import resnet8


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, bias=False),
        nn.Conv2d(16, 4, 1),
    )


def draws(seed=0):
    return stream(seed, "SqueezeExcite", 0)


def test_the_formula_of_the_paper_with_modules_of_torch():
    x = torch.randn(3, 8, 5, 6, dtype=torch.float64)
    w1, w2 = torch.randn(2, 8, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    squeezed = F.adaptive_avg_pool2d(x, 1).flatten(1)
    for b in range(3):
        s = torch.sigmoid(w2 @ torch.clamp(w1 @ squeezed[b], min=0))
        for c in range(8):
            assert torch.allclose(excite(x, w1, w2)[b, c], x[b, c] * s[c], atol=1e-14)


def test_widths_decide_which_layers_get_one():
    for least, wanted in ((1, ["0", "3", "4"]), (8, ["0", "3"]), (16, ["3"]), (17, [])):
        model = net()
        done = add_excitations(model, draws(), min_channels=least)
        assert done == dict.fromkeys(wanted, "Conv2d -> SqueezeExciteConv2d")
    assert add_excitations(model, draws(), min_channels=17) == {}


@pytest.mark.parametrize("reduction, hidden", [(1, 16), (4, 4), (5, 3), (16, 1), (100, 1)])
def test_shapes_and_number_of_new_weights(reduction, hidden):
    model = net()
    before = sum(p.numel() for p in model.parameters())
    add_excitations(model, draws(), min_channels=16, reduction=reduction)
    added = model[3].excitation
    assert added.reduce.shape == (hidden, 16) and added.expand.shape == (16, hidden)
    assert sum(p.numel() for p in model.parameters()) - before == 2 * 16 * hidden
    assert model(torch.randn(2, 3, 8, 8)).shape == net()(torch.randn(2, 3, 8, 8)).shape


def test_the_layer_is_the_convolution_times_its_gates():
    model, plain = net(), net()
    add_excitations(model, draws(), min_channels=16, reduction=4)
    x = torch.randn(2, 8, 6, 6)
    y = plain[3](x)
    assert torch.equal(model[3](x), excite(y, model[3].excitation.reduce, model[3].excitation.expand))
    with torch.no_grad():
        model[3].excitation.expand.zero_()
    assert torch.equal(model[3](x), y * 0.5), "without a signal every gate is a half"


def test_gates_start_near_a_half():
    """How far from the identity: the output is about halved; a batch norm behind takes that back."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 128, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    y = conv(torch.randn(32, 16, 16, 16)).detach()
    added = Excitation(128, 16, draws())
    with torch.no_grad():
        gates = (added(y) / y).nanmean((2, 3))
        normed, plain = (F.batch_norm(t, None, None, training=True) for t in (added(y), y))
    assert 0.47 < float(gates.mean()) < 0.53 and float(gates.std()) < 0.1
    assert float((normed - plain).norm() / plain.norm()) < 0.1


def test_weights_are_he_normal_from_the_runs_own_stream():
    before = generators()
    first, again, other = (Excitation(256, 4, draws(s)) for s in (0, 0, 1))
    assert differences(generators(), before) == []
    assert torch.equal(first.reduce, again.reduce) and torch.equal(first.expand, again.expand)
    assert not torch.equal(first.reduce, other.reduce)
    assert float(first.reduce.detach().std()) == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert float(first.expand.detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    model = net()
    add_excitations(model, draws(), min_channels=1, reduction=1)
    assert not torch.equal(model[0].excitation.reduce, model[0].excitation.expand), "every weight has its own draws"


def test_names_hooks_and_own_weights_stay():
    model = net()
    own, names = list(model.parameters()), list(model.state_dict())
    model[0].register_forward_hook(lambda *_: None)
    add_excitations(model, draws(), min_channels=8)
    found = list(model.state_dict())
    assert [n for n in found if "excitation" not in n] == names
    assert [n for n in found if "excitation" in n] == [
        f"{k}.excitation.{w}" for k in "03" for w in ("reduce", "expand")
    ]
    assert all(any(p is q for q in model.parameters()) for p in own) and len(model[0]._forward_hooks) == 1
    loaded = net()
    add_excitations(loaded, draws(9), min_channels=8)
    loaded.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded.eval()(x), model.eval()(x))


def test_layers_with_a_forward_of_their_own_are_left_alone():
    class Own(nn.Conv2d):
        pass

    assert add_excitations(nn.Sequential(Own(3, 8, 3), nn.Conv1d(3, 8, 3)), draws(), min_channels=1) == {}


def test_the_new_weights_train_in_the_group_of_their_layer():
    model = net()
    groups = [
        {"params": model[0].parameters(), "lr": 0.3},
        {"params": [*model[3].parameters(), *model[4].parameters()]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    chain = Methods(SqueezeExcite(8, reduction=2))
    loader = [(torch.randn(4, 3, 6, 6), torch.randint(0, 4, (4, 4, 4)))] * 2
    with chain.attach(model, optimizer, duration="1ep", data=loader, seed=0):
        added = model[0].excitation, model[3].excitation
        for excitation, group in zip(added, optimizer.param_groups, strict=True):
            assert all(any(p is q for q in group["params"]) for p in excitation.parameters())
        start = [copy.deepcopy(e.state_dict()) for e in added]
        for x, y in chain.batches(loader):
            chain.loss(model(x), y).backward()
            chain.step()
        for before, excitation in zip(start, added, strict=True):
            assert sorted(differences(before, excitation.state_dict())) == ["/expand", "/reduce"]
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == 1 + 1 + 4 + 1 + 2


def test_it_is_kept_at_the_end_and_reported_until_then():
    method = SqueezeExcite(8, reduction=2)
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        assert method.report() == {"replaced": {"body.4": "Conv2d -> SqueezeExciteConv2d"}}
        loop.train()
    assert method.report() == {"replaced": {}}
    assert isinstance(loop.model.body[4], SqueezeExciteConv2d)
    loop.run()  # a second run of the same model has its blocks already, and says nothing


def test_the_dtype_follows_the_layer_and_half_precision_works():
    model = net().double().eval()
    add_excitations(model, draws(), min_channels=8)
    assert model[0].excitation.reduce.dtype == torch.float64 and not model[0].excitation.training
    assert model(torch.randn(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert model[0](torch.randn(1, 3, 8, 8)).dtype == torch.bfloat16


def test_a_net_that_is_too_narrow_is_named():
    model = resnet8(input_shape=(3, 8, 8), classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(NoEffectWarning, match="no convolution with 128 channels or more, so SqueezeExcite had no effect"),
        Methods(SqueezeExcite()).attach(model, optimizer, duration="1st", data=[0], seed=0),
    ):
        pass
    with pytest.raises(InvalidValue, match="reduction is a whole number from 1 up, got 0; 16 is usual"):
        SqueezeExcite(reduction=0)
