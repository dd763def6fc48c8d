"""The CIFAR family of residual nets: He, Zhang, Ren and Sun 2015, arXiv 1512.03385, section 4.2.

Depth 6n + 2: one 3x3 convolution, three stages of n blocks with 16, 32 and 64 channels, global average, linear layer.
Shortcuts have no parameters (option A of the paper): between stages every second pixel is taken and the new channels
are zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ._checks import image_shape, positive


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: [B, inputs, H, W] -> [B, outputs, ceil(H/stride), ceil(W/stride)]."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.extra = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def shortcut(self, x: Tensor) -> Tensor:
        """The input itself, thinned and filled up with zero channels where the block changes the shape."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.extra:
            x = F.pad(x, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Residual net of depth 6 x blocks + 2 for small pictures of any height and width."""

    def __init__(self, channels: int, classes: int, *, blocks: int, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        layers: list[nn.Module] = []
        inputs = width
        for stage in range(3):
            outputs = width * 2**stage
            for index in range(blocks):
                layers.append(Block(inputs, outputs, stride=2 if stage and index == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, C, H, W]."""
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def _build(name: str, blocks: int, input_shape: Sequence[int], classes: int, width: int) -> CifarResNet:
    channels, _, _ = image_shape(name, input_shape)
    return CifarResNet(channels, positive("classes", classes), blocks=blocks, width=positive("width", width))


def resnet8(*, input_shape: Sequence[int], classes: int, width: int = 16) -> CifarResNet:
    """ResNet-8 (n = 1); `width` is the channels of the first stage, doubled at each later one."""
    return _build("resnet8", 1, input_shape, classes, width)


def resnet20(*, input_shape: Sequence[int], classes: int, width: int = 16) -> CifarResNet:
    """ResNet-20 (n = 3); `width` is the channels of the first stage, doubled at each later one."""
    return _build("resnet20", 3, input_shape, classes, width)


def resnet56(*, input_shape: Sequence[int], classes: int, width: int = 16) -> CifarResNet:
    """ResNet-56 (n = 9); `width` is the channels of the first stage, doubled at each later one."""
    return _build("resnet56", 9, input_shape, classes, width)
