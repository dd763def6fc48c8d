"""ResNet-9 in the style of the CIFAR-10 speed runs: few wide layers, max pooling, scaled logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from ...core.errors import InvalidValue
from ._checks import image_shape, positive
from .convnet import conv_bn_relu


class Residual(nn.Module):
    """x + two 3x3 convolutions with batch norm and ReLU; the shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv_bn_relu(channels, channels), conv_bn_relu(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, of the input's shape."""
        y: Tensor = self.layers(x)
        return x + y


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    # Rounding up lets pictures under 8x8 through: a single pixel stays a single pixel.
    return nn.Sequential(conv_bn_relu(inputs, outputs), nn.MaxPool2d(2, ceil_mode=True))


class ResNet9(nn.Module):
    """Eight 3x3 convolutions (width, 2, 4 and 8 x width, pairs of them residual), global maximum, linear layer."""

    def __init__(self, channels: int, classes: int, *, width: int = 64, scale: float = 0.125) -> None:
        super().__init__()
        self.scale = scale
        self.features = nn.Sequential(
            conv_bn_relu(channels, width),
            _halve(width, 2 * width),
            Residual(2 * width),
            _halve(2 * width, 4 * width),
            _halve(4 * width, 8 * width),
            Residual(8 * width),
        )
        self.head = nn.Linear(8 * width, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, C, H, W]."""
        logits: Tensor = self.head(self.features(x).amax((2, 3))) * self.scale
        return logits


def resnet9(*, input_shape: Sequence[int], classes: int, width: int = 64, scale: float = 0.125) -> ResNet9:
    """ResNet-9, 6.57 million parameters for CIFAR-10 at width 64; `scale` (above 0) multiplies the logits."""
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 < scale < math.inf:
        raise InvalidValue(f"resnet9's scale is a number above 0, got {scale!r}; pass a positive float such as 0.125")
    channels, _, _ = image_shape("resnet9", input_shape)
    return ResNet9(channels, positive("classes", classes), width=positive("width", width), scale=scale)
