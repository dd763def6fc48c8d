"""The built-in models: sizes as published, any picture from 4x4 up, bad values refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.names import resolve
from reinvest.testbed.models.resnet import Block

PICTURE_MODELS = ["convnet", "resnet20", "resnet56", "resnet8", "resnet9"]
CLASSIFIERS = ["mlp", *PICTURE_MODELS]
PARAMETERS = {
    "mlp": 394_634,
    "convnet": 14_746,
    "resnet8": 75_290,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet9": 6_573_120,
    "unet": 488_154,
}


def build(name, **options):
    torch.manual_seed(0)
    return resolve("model", name)(**{"input_shape": (3, 32, 32), "classes": 10, **options})


def test_catalogues_load_without_torch():
    code = (
        "import sys, reinvest.testbed.tasks, reinvest.testbed.models; "
        "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_model_suggests_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'resnet20'"):
        resolve("model", "resnet-20")


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameter_count(name):
    assert sum(p.numel() for p in build(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_parameter_gets_a_gradient(name):
    small = {} if name == "mlp" else {"width": 4}
    model = build(name, input_shape=(1, 8, 8), classes=7, **small)
    output = model(torch.randn(4, 1, 8, 8))
    assert output.shape == (4, 7)
    output.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_one_model_takes_pictures_of_any_size(name):
    model = build(name, input_shape=(1, 8, 8), width=4).eval()
    with torch.no_grad():
        for size in ((4, 4), (5, 7), (8, 8), (28, 28), (32, 32)):
            assert model(torch.randn(2, 1, *size)).shape == (2, 10)


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_width_changes_the_channels(name):
    narrow, wide = (sum(p.numel() for p in build(name, width=w).parameters()) for w in (4, 8))
    assert narrow < wide


def test_a_residual_block_that_changes_shape_passes_every_second_pixel_and_zero_channels():
    block = Block(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 2, 5, 6)
    y = block(x)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert y[:, [0, 3]].abs().sum() == 0


def test_unet_gives_a_label_a_pixel_at_any_size():
    model = build("unet", width=4, classes=11)
    for size in ((4, 4), (5, 7), (60, 80), (33, 9)):
        output = model(torch.randn(2, 3, *size))
        assert output.shape == (2, 11, *size)
    output.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_each_level_of_unet_sees_its_own_features_again():
    model = build("unet", width=2, classes=2).eval()
    x = torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        for level in model.up:  # what comes from below is blocked out; the skips alone carry the pixel
            conv = level[0][0]
            conv.weight[:, : conv.in_channels - conv.out_channels] = 0
        base = model(x)
        x[0, :, 8, 8] = 50
        changed = (model(x) != base).any(1)[0].nonzero()
    assert len(changed) and changed.min() >= 4 and changed.max() <= 12  # two 3 x 3 convolutions before, two after


def test_mlp_says_so_when_the_input_changes_size():
    model = build("mlp", input_shape=(1, 8, 8))
    with pytest.raises(InvalidValue, match=r"built for 64 values an example, got 16 .*global pooling"):
        model(torch.zeros(2, 1, 4, 4))


def test_mlp_layers_follow_hidden():
    widths = [
        m.out_features for m in build("mlp", input_shape=(64,), hidden=[32, 16]).layers if hasattr(m, "out_features")
    ]
    assert widths == [32, 16, 10]
    assert len(build("mlp", input_shape=(64,), hidden=[]).layers) == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *(
            (name, {"input_shape": (64,)}, r"\(channels, height, width\), got \(64,\)")
            for name in [*PICTURE_MODELS, "unet"]
        ),
        *((name, {"input_shape": (1, 3, 8)}, "at least 4, got 3 x 8") for name in [*PICTURE_MODELS, "unet"]),
        *((name, {"width": 0}, "at least 1, got 0") for name in [*PICTURE_MODELS, "unet"]),
        *((name, {"classes": 2.5}, "at least 1, got 2.5") for name in sorted(PARAMETERS)),
        ("mlp", {"hidden": 128}, "list of layer widths, got 128"),
        ("mlp", {"hidden": [0]}, "at least 1, got 0"),
        ("resnet9", {"scale": 0}, "above 0, got 0"),
    ],
)
def test_bad_values_are_refused(name, options, message):
    with pytest.raises(InvalidValue, match=message):
        build(name, **options)
