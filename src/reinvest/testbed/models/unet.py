"""A small U-Net for a label a pixel, after Ronneberger, Fischer and Brox 2015, arXiv 1505.04597.

Smaller than theirs: three halvings, strided convolutions instead of pooling, nearest-neighbour upsampling, and padded
convolutions, so that the output has the input's size, whatever that is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._checks import image_shape, positive
from .convnet import conv_bn_relu


class UNet(nn.Module):
    """Widths width, 2, 4 and 8 x width on the way down; on the way up each level sees its own level's features again."""

    def __init__(self, channels: int, classes: int, *, width: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.stem = nn.Sequential(conv_bn_relu(channels, width), conv_bn_relu(width, width))
        self.down = nn.ModuleList(
            nn.Sequential(conv_bn_relu(a, b, stride=2), conv_bn_relu(b, b)) for a, b in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.Sequential(conv_bn_relu(a + b, b), conv_bn_relu(b, b)) for a, b in itertools.pairwise(reversed(widths))
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes, H, W] of pictures [B, C, H, W] of any height and width."""
        levels = [self.stem(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            same = levels.pop()
            # A level of odd size was rounded up when it was halved: what is too much is cut off again.
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, : same.shape[2], : same.shape[3]]
            x = up(torch.cat([x, same], 1))
        logits: Tensor = self.head(x)
        return logits


def unet(*, input_shape: Sequence[int], classes: int, width: int = 16) -> UNet:
    """A small U-Net; `width` is the channels of its first level, doubled at each of the three below.

    Raises InvalidValue for inputs that are not pictures of at least 4 x 4, and for sizes below 1.
    """
    channels, _, _ = image_shape("unet", input_shape)
    return UNet(channels, positive("classes", classes), width=positive("width", width))
