"""A small convolutional net: cheap on 8x8 digits, usable up to 32x32 pictures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ._checks import image_shape, positive


def conv_bn_relu(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """3x3 convolution without bias, batch norm, ReLU; height and width are divided by `stride`, rounded up."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class ConvNet(nn.Module):
    """Three convolutions of width, 2 x width and 2 x width (the second strided), global average, linear layer."""

    def __init__(self, channels: int, classes: int, *, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn_relu(channels, width),
            conv_bn_relu(width, 2 * width, stride=2),
            conv_bn_relu(2 * width, 2 * width),
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, C, H, W] of any height and width."""
        # A mean, not adaptive pooling: its backward pass is deterministic on every device.
        logits: Tensor = self.head(self.features(x).mean((2, 3)))
        return logits


def convnet(*, input_shape: Sequence[int], classes: int, width: int = 16) -> ConvNet:
    """A small conv net, 14,458 parameters for digits at width 16; `width` is the channels of its first layer.

    Raises InvalidValue for inputs that are not pictures of at least 4 x 4, and for sizes below 1.
    """
    channels, _, _ = image_shape("convnet", input_shape)
    return ConvNet(channels, positive("classes", classes), width=positive("width", width))
