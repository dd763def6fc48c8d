"""BlurPool: a small low-pass filter before every stride, so that what is left out cannot alias."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import switch
from ._replace import warn_of_changed, warn_of_nothing


def binomial_filter() -> Tensor:
    """The filter [1, 2, 1] x [1, 2, 1] / 16: float32 [1, 1, 3, 3]; it sums to one."""
    line = torch.tensor([0.25, 0.5, 0.25])
    return torch.outer(line, line)[None, None]


def blur(x: Tensor, stride: int | tuple[int, int] = 1, kernel: Tensor | None = None) -> Tensor:
    """Low-pass every channel with the binomial 3x3 filter, the border repeated, and keep every stride-th pixel.

    x: [B, C, H, W] or [C, H, W], H and W at least 1. Returns [..., ceil(H / stride), ceil(W / stride)]; a constant
    stays constant, up to the border. kernel: `binomial_filter()` if the caller keeps one on the device.
    Raises InvalidValue for other shapes.
    """
    if x.ndim not in (3, 4):
        raise InvalidValue(f"blur takes pictures [B, C, H, W] or [C, H, W], got {list(x.shape)}; reshape them")
    kernel = (binomial_filter() if kernel is None else kernel).to(x)
    channels = x.shape[-3]
    # Not F.pad(mode="replicate"): its backward pass is not deterministic on a GPU, and inductor (torch 2.13) gets the
    # layout of its result wrong.
    x = torch.cat([x[..., :1, :], x, x[..., -1:, :]], dim=-2)
    x = torch.cat([x[..., :1], x, x[..., -1:]], dim=-1)
    return F.conv2d(x, kernel.expand(channels, 1, 3, 3), stride=stride, groups=channels)


class BlurConv2d(nn.Conv2d):
    """A strided convolution that reads a blurred input; same parameters, same shapes."""

    changed_by = "BlurPool"
    blur_filter: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> what the plain layer gives for a blurred input."""
        return super().forward(blur(input, kernel=self.blur_filter))


class BlurMaxPool2d(nn.MaxPool2d):
    """Max pooling at every pixel, then a strided blur; same shapes as the strided max pooling."""

    blur_filter: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H', W'] of the plain layer."""
        dense = F.max_pool2d(input, self.kernel_size, 1, self.padding, self.dilation)
        return blur(dense, _pair(self.stride), self.blur_filter)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _replacement(module: nn.Module, convs: bool, maxpools: bool) -> type[nn.Module] | None:
    # Subclasses have a forward of their own and are left alone.
    if convs and type(module) is nn.Conv2d and max(module.stride) > 1:
        return BlurConv2d
    if maxpools and type(module) is nn.MaxPool2d and max(_pair(module.stride)) > 1:
        return None if module.ceil_mode or module.return_indices else BlurMaxPool2d
    return None


def replace_strided(model: nn.Module, *, convs: bool = True, maxpools: bool = True) -> int:
    """Give every strided Conv2d and MaxPool2d of the model, in place, its anti-aliased form; returns how many.

    The module objects stay, and with them parameters, hooks, names and state_dict keys: only their class changes (and
    the filter is added as a buffer that is not saved). Subclasses, and poolings with ceil_mode or return_indices, are
    left as they are, and so are layers that are anti-aliased already.
    """
    count = 0
    for module in model.modules():
        new = _replacement(module, convs, maxpools)
        if new is not None:
            weight = next(module.parameters(), next(model.parameters(), None))
            kernel = binomial_filter() if weight is None else binomial_filter().to(weight.device, weight.dtype)
            module.register_buffer("blur_filter", kernel, persistent=False)
            module.__class__ = new
            count += 1
    return count


class BlurPool(Method):
    """Replaces strided convolutions (blur, then convolve) and max poolings (pool densely, then blur and stride).

    replace_convs, replace_maxpools: which of the two; False for both changes nothing. Parameters, shapes of all
    outputs and state_dict keys stay as they were. The model keeps the layers at the end, because its weights are
    trained for them: call `replace_strided(model)` before loading the weights elsewhere. Warns if the model has
    nothing to replace. Raises InvalidValue for anything but True and False, Conflict on a compiled model.
    """

    card = Card(
        title="BlurPool (anti-aliased strides)",
        paper="Zhang: Making Convolutional Networks Shift-Invariant Again",
        year=2019,
        arxiv="1904.11486",
        phase="start",
        cost="a depthwise 3x3 filter per strided layer, and max pooling at every pixel: a few per cent of a ResNet-50",
        breaks="tiny pictures lose detail that the task may need; gains are small in short runs",
        domains=("vision",),
        found="worse, 0.869 times as fast to equal quality (0.817 to 0.923): CIFAR-10 at 16x16 pixels, ResNet-8, "
        "3 to 24 epochs (claims/blurpool.json); the paper gains accuracy on ImageNet at equal epochs",
    )
    neutral: ClassVar = {"replace_convs": False, "replace_maxpools": False}
    example: ClassVar = {"replace_convs": True}
    changes_model = True
    surgery_order = 1

    def __init__(self, replace_convs: bool = True, replace_maxpools: bool = True) -> None:
        self.replace_convs = switch(replace_convs, "replace_convs")
        self.replace_maxpools = switch(replace_maxpools, "replace_maxpools")

    def start(self, context: Context) -> None:
        """Replace the layers of the model."""
        if not (self.replace_convs or self.replace_maxpools):
            return
        done = replace_strided(context.model, convs=self.replace_convs, maxpools=self.replace_maxpools)
        if self.replace_convs:
            strided = (m for m in context.model.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1)
            warn_of_changed(self.name, strided)
        if not done and not any(isinstance(m, (BlurConv2d, BlurMaxPool2d)) for m in context.model.modules()):
            warn_of_nothing(self.name, "strided Conv2d or MaxPool2d to replace")
