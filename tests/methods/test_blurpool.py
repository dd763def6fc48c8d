"""BlurPool."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.methods.surgery.blurpool import BlurConv2d, BlurMaxPool2d, BlurPool, blur, replace_strided
from reinvest.testing import Setup


def strided() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3),
        nn.MaxPool2d(3, stride=1),
    )


def test_blur_is_the_binomial_filter_with_a_repeated_border():
    x = torch.randn(2, 3, 6, 5)
    kernel = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    wanted = F.conv2d(padded.reshape(6, 1, 8, 7), kernel[None, None]).view(2, 3, 6, 5)
    assert torch.allclose(blur(x), wanted, atol=1e-6)
    assert torch.equal(blur(x, 2), blur(x)[..., ::2, ::2])
    assert torch.allclose(blur(x[0], (2, 1)), blur(x)[0][..., ::2, :], atol=1e-6)
    with pytest.raises(InvalidValue, match="pictures"):
        blur(torch.zeros(3, 4))


def test_a_constant_stays_constant_up_to_the_border():
    for size in ((1, 1), (1, 5), (7, 8)):
        assert torch.allclose(blur(torch.full((2, 3, *size), 0.7)), torch.tensor(0.7), atol=1e-6)


def test_the_finest_pattern_is_removed():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    assert float(blur(board[None, None])[..., 1:-1, 1:-1].abs().max()) == 0.0


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (7, 12)])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, 1, stride=2, bias=False),
        nn.Conv2d(4, 4, 5, stride=(2, 1), padding=2, groups=2, dilation=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, stride=3),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d((2, 3), stride=(2, 1)),
        nn.MaxPool2d(3, stride=2, dilation=2, padding=1),
    ],
)
def test_shapes_stay(layer, size):
    x = torch.randn(2, 4, *size)
    wanted = layer(x)
    replaced = copy.deepcopy(layer)
    assert replace_strided(replaced) == 1
    found = replaced(x)
    assert found.shape == wanted.shape and not torch.equal(found, wanted)
    if isinstance(layer, nn.Conv2d):
        assert torch.equal(found, layer(blur(x)))


def test_parameters_names_and_hooks_stay():
    model = strided()
    names, own = list(model.state_dict()), list(model.parameters())
    handle = model[0].register_forward_hook(lambda *_: None)
    assert replace_strided(model) == 2
    assert list(model.state_dict()) == names and all(a is b for a, b in zip(model.parameters(), own, strict=True))
    assert [type(m) for m in model] == [BlurConv2d, nn.ReLU, BlurMaxPool2d, nn.Conv2d, nn.MaxPool2d]
    assert len(model[0]._forward_hooks) == 1
    handle.remove()
    assert replace_strided(model) == 0, "once is enough"
    strided().load_state_dict(model.state_dict())


def test_the_switches_choose():
    for convs, maxpools, count in ((True, False, 1), (False, True, 1), (False, False, 0)):
        assert replace_strided(strided(), convs=convs, maxpools=maxpools) == count


def test_layers_with_a_forward_of_their_own_are_left_alone():
    class Own(nn.Conv2d):
        def forward(self, input):
            return super().forward(input) * 2

    model = nn.Sequential(
        Own(3, 4, 3, stride=2), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, return_indices=True), nn.AvgPool2d(2)
    )
    assert replace_strided(model) == 0


def test_the_filter_follows_the_model():
    model = strided().double()
    replace_strided(model)
    assert model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).dtype == torch.float64
    model.float()
    assert model[0].blur_filter.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert bool(torch.isfinite(model(torch.randn(1, 3, 32, 32))).all())


def test_less_of_a_shift_reaches_the_output():
    """What the paper is about: a picture shifted by one pixel gives nearly the same pooled features."""
    torch.manual_seed(0)
    x = torch.randn(64, 3, 17, 17)
    plain, blurred = strided()[:3], strided()[:3]
    replace_strided(blurred)
    moved = []
    for model in (plain, blurred):
        a, b = (model(x[..., k : k + 16, k : k + 16]).mean((2, 3)) for k in (0, 1))
        moved.append(((a - b).norm() / a.norm()).item())
    assert moved[1] < 0.7 * moved[0]


def test_it_is_kept_at_the_end_and_warns_where_it_does_nothing():
    loop = ChainLoop(Setup(), [BlurPool()]).run()
    assert sum(isinstance(m, (BlurConv2d, BlurMaxPool2d)) for m in loop.model.modules()) == 2
    loop.run()  # a second run of the same model has its layers already, and says nothing
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(NoEffectWarning, match="BlurPool had no effect"),
        Methods(BlurPool()).attach(model, optimizer, duration="1st", data=[0], seed=0),
    ):
        pass
    with Methods(BlurPool(False, False)).attach(model, optimizer, duration="1st", data=[0], seed=0):
        pass


def test_a_compiled_model_is_refused():
    model = strided()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, backend="eager")
    with (
        pytest.raises(Conflict, match="not compiled"),
        Methods(BlurPool()).attach(compiled, optimizer, duration="1st", data=[0], seed=0),
    ):
        pass
    assert type(model[0]) is nn.Conv2d
