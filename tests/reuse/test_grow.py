"""Net2Net: larger nets that begin by computing the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.reuse.grow import Group, Growth, deepen, grow, widen
from reinvest.testbed.models.convnet import convnet
from reinvest.testbed.models.mlp import mlp
from reinvest.testbed.models.resnet import resnet8, resnet20
from reinvest.testbed.models.resnet9 import resnet9

SHAPE = (3, 8, 8)


def used(model, seed=0):
    """The model with batch norms that have seen data and weights away from their start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def gap(one, two, x):
    with torch.no_grad():
        return float((one(x) - two(x)).abs().max())


@pytest.mark.parametrize("shares", ["even", "random"])
@pytest.mark.parametrize(
    ("factory", "small", "large"),
    [
        (mlp, {"hidden": [12]}, {"hidden": [31]}),
        (mlp, {"hidden": [12, 7]}, {"hidden": [12, 20]}),
        (mlp, {"hidden": [12, 7]}, {"hidden": [20, 9, 9, 9]}),
        (convnet, {"width": 4}, {"width": 7}),
        (resnet8, {"width": 4}, {"width": 8}),
        (resnet8, {"width": 3}, {"width": 5}),
        (resnet9, {"width": 2}, {"width": 5}),
    ],
)
def test_built_in_models_keep_their_outputs(factory, small, large, shares):
    torch.manual_seed(1)
    old = used(factory(input_shape=SHAPE, classes=5, **small))
    new = factory(input_shape=SHAPE, classes=5, **large).eval()
    x = torch.randn(16, *SHAPE)
    assert gap(old, new, x) > 1e-2, "a fresh net is another function"
    assert grow(old.state_dict(), new, shares=shares, seed=3) is new
    assert gap(old, new, x) < 1e-5
    assert sum(p.numel() for p in new.parameters()) > sum(p.numel() for p in old.parameters())


def test_a_residual_net_grows_deeper_and_wider_also_while_it_trains():
    torch.manual_seed(1)
    old = used(resnet8(input_shape=SHAPE, classes=5, width=4))
    new = grow(old.state_dict(), resnet20(input_shape=SHAPE, classes=5, width=6).eval())
    x = torch.randn(16, *SHAPE)
    assert gap(old, new, x) < 1e-5
    assert gap(old.train(), new.train(), x) < 1e-4, "copies have the same statistics, new blocks are silent"
    new(x).sum().backward()
    silent = new.blocks[1].bn2.weight
    assert bool((silent == 0).all()) and float(silent.grad.abs().max()) > 0, "a silent block can wake"


def test_wide_copies_part_in_training_only_with_uneven_shares_or_noise():
    torch.manual_seed(1)
    old = used(mlp(input_shape=(6,), classes=3, hidden=[5]))
    x, y = torch.randn(30, 6), torch.randint(0, 3, (30,))
    apart = {}
    for shares, noise in (("even", 0.0), ("random", 0.0), ("even", 0.1)):
        new = grow(old.state_dict(), mlp(input_shape=(6,), classes=3, hidden=[10]), shares=shares, noise=noise)
        if noise:
            assert 1e-4 < gap(old, new, x) < 1.0, "noise changes outputs"
        optimizer = torch.optim.SGD(new.parameters(), lr=0.5)
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(new(x), y).backward()
            optimizer.step()
        weight = new.layers[0].weight.detach()
        distances = torch.cdist(weight[5:].double(), weight[:5].double()).min(1).values
        apart[shares, noise] = float(distances.max())
    assert apart["even", 0.0] < 1e-6
    assert apart["random", 0.0] > 1e-4 and apart["even", 0.1] > 1e-4


class Own(nn.Module):
    """Conv, batch norm, pooling, flatten, linear: a model of one's own."""

    def __init__(self, width=4, hidden=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.hidden = nn.Linear(width * 16, hidden)
        self.head = nn.Linear(hidden, 5, bias=False)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 2)
        return self.head(self.hidden(x.flatten(1)).relu())


GROUPS = [Group(["conv1"], ["hidden"], ["bn1"]), Group(["hidden"], ["head"])]


def test_own_models_grow_by_groups_also_behind_a_flattened_picture():
    torch.manual_seed(1)
    old, x = used(Own()), torch.randn(16, *SHAPE)
    new = grow(old.state_dict(), Own(9, 11).eval(), GROUPS)
    assert gap(old, new, x) < 1e-5
    only = grow(old.state_dict(), Own(9, 6).eval(), GROUPS[:1])
    assert gap(old, only, x) < 1e-5


def test_widen_works_in_place_and_the_layers_know_their_sizes():
    torch.manual_seed(1)
    old, model, x = used(Own()), used(Own()), torch.randn(16, *SHAPE)
    model.load_state_dict(old.state_dict())
    widen(model, GROUPS[0], 10)
    widen(model, GROUPS[1], 6)
    widen(model, GROUPS[1], 13)
    assert gap(old, model, x) < 1e-5
    assert str(model) == str(Own(10, 13)) and model.bn1.num_features == 10
    model.train()(x).sum().backward()
    assert model.conv1.weight.grad.shape == (10, 3, 3, 3)


def test_equal_widths_are_the_same_net_bit_for_bit():
    torch.manual_seed(1)
    old = used(convnet(input_shape=SHAPE, classes=5, width=4))
    new = grow(old.state_dict(), convnet(input_shape=SHAPE, classes=5, width=4))
    assert all(torch.equal(t, new.state_dict()[n]) for n, t in old.state_dict().items())


@pytest.mark.parametrize("norm", [False, True])
def test_deepen_inserts_an_identity_behind_a_relu(norm):
    torch.manual_seed(1)
    for model, x in (
        (nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)), torch.randn(10, 6)),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1)),
            torch.randn(10, *SHAPE),
        ),
    ):
        used(model)
        with torch.no_grad():
            before = model(x)
        place = next(k for k, m in enumerate(model) if isinstance(m, nn.ReLU))
        length = len(model)
        deepen(model, place, norm=norm)
        assert len(model) == length + 2 + norm and type(model[place + 1]) is type(model[0])
        with torch.no_grad():
            assert float((model(x) - before).abs().max()) < 1e-5
        with pytest.raises(InvalidValue, match="behind a ReLU"):
            deepen(model, 0)
        with pytest.raises(InvalidValue, match="behind a ReLU"):
            deepen(model, 99)
    with pytest.raises(InvalidValue, match="like the one before"):
        deepen(nn.Sequential(nn.ReLU()), 0)


def test_an_identity_layer_of_a_larger_model_is_named():
    torch.manual_seed(1)
    old = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    new = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 2, 3))
    x = torch.randn(4, *SHAPE)
    grow(old.state_dict(), new, Growth([], {"4": "2"}, ["2"]))
    assert gap(old, new, x) == 0.0
    with pytest.raises(InvalidValue, match=r"no old weights for 2\.weight"):
        grow(old.state_dict(), new, Growth([], {"4": "2"}))
    odd = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Conv2d(4, 2, 3))
    with pytest.raises(InvalidValue, match="begins as the identity"):
        grow(old.state_dict(), odd, Growth([], {"4": "2"}, ["2"]))


def test_what_cannot_grow_is_refused():
    old = used(Own())
    state = old.state_dict()
    with pytest.raises(InvalidValue, match="a net grows, got 2 channels for 4"):
        grow(state, Own(2), GROUPS)
    with pytest.raises(InvalidValue, match="got 3 channels for 4"):
        widen(old, GROUPS[0], 3)
    with pytest.raises(UnknownName, match="conv2"):
        grow(state, Own(9), [Group(["conv2"], ["hidden"])])
    with pytest.raises(InvalidValue, match=r"belongs to a group, got other shapes for bn1.weight \[4\] for \[9\]"):
        grow(state, Own(9), [Group(["conv1"], ["hidden"])])
    with pytest.raises(InvalidValue, match="batch norms"):
        grow(state, Own(9), [Group(["conv1"], ["hidden"], ["head"])])
    with pytest.raises(InvalidValue, match="producers and consumers"):
        grow(state, Own(9), [Group(["conv1"], [])])
    with pytest.raises(InvalidValue, match="lists names"):
        grow(state, Own(9), [Group("conv1", ["hidden"])])
    with pytest.raises(InvalidValue, match="same channels"):
        grow(state, Own(9), [Group(["conv1", "hidden"], ["head"])])
    with pytest.raises(InvalidValue, match="grow by themselves are MLP"):
        grow(state, Own(9))
    with pytest.raises(InvalidValue, match="of its own kind"):
        grow(state, resnet8(input_shape=SHAPE, classes=5))
    with pytest.raises(InvalidValue, match="of its own kind"):
        grow(state, mlp(input_shape=(6,), classes=5))
    with pytest.raises(InvalidValue, match=r"no place for conv1\.weight"):
        grow(state, convnet(input_shape=SHAPE, classes=5))
    with pytest.raises(InvalidValue, match="layers for 3"):
        grow(mlp(input_shape=(6,), classes=3, hidden=[4, 4]).state_dict(), mlp(input_shape=(6,), classes=3, hidden=[4]))
    with pytest.raises(InvalidValue, match="shares"):
        grow(state, Own(9), GROUPS, shares="odd")
    with pytest.raises(InvalidValue, match="noise"):
        grow(state, Own(9), GROUPS, noise=-1)
    with pytest.raises(InvalidValue, match="every old channel"):
        grow(state, Own(5), [Group(["conv1"], ["hidden"], ["bn1"], torch.tensor([0, 1, 2, 2, 2]))])
    grouped = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 2, 3))
    with pytest.raises(InvalidValue, match="one group"):
        widen(grouped, Group(["0"], ["1"]), 12)
