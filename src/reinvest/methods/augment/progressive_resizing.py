"""Progressive resizing: small pictures first, full size for the last part of the run."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.batch import Batch
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import stream
from .._check import number, whole

STAGES = 6  # every size costs a compilation and a choice of kernels
MODES = ("resize", "crop")


def resize_images(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures [B, C, H, W] made smaller to [B, C, *size], low-passed first (bilinear with antialiasing).

    Fine patterns turn grey instead of into coarse ones that were never there. Raises InvalidValue for other shapes.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise InvalidValue(
            f"resize_images takes floating pictures [B, C, H, W], got {x.dtype} {list(x.shape)}; convert them"
        )
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    # On a CPU the antialiased kernel takes no half precision.
    wide = x.float() if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16) else x
    return F.interpolate(wide, size=size, mode="bilinear", align_corners=False, antialias=True).to(x.dtype)


def crop_images(x: Tensor, size: tuple[int, int], origin: tuple[int, int]) -> Tensor:
    """The window [B, C, *size] of pictures [B, C, H, W] whose top left pixel is `origin`.

    Raises InvalidValue for a window that does not lie inside the pictures.
    """
    (height, width), (top, left) = size, origin
    if not (0 <= top <= x.shape[-2] - height and 0 <= left <= x.shape[-1] - width):
        raise InvalidValue(
            f"a window lies inside the picture, got size {size} at {origin} of {list(x.shape[-2:])}; choose a smaller "
            "one"
        )
    return x[..., top : top + height, left : left + width]


def relative_size(progress: float, start: float = 0.5, delay: float = 0.5, finetune: float = 0.2) -> float:
    """The side to aim at, relative to the full one: `start` up to `delay`, then linear to 1 at 1 - finetune.

    progress in [0, 1]. The mean of its square is `pixel_cost`.
    """
    if progress >= 1.0 - finetune:
        return 1.0
    if progress < delay:
        return start
    return start + (1.0 - start) * (progress - delay) / (1.0 - finetune - delay)


def pixel_cost(start: float = 0.5, delay: float = 0.5, finetune: float = 0.2) -> float:
    """Pixels of the whole run relative to full size throughout: the cost of convolutions (0.5 with the defaults)."""
    return delay * start**2 + (1.0 - delay - finetune) * (1.0 + start + start**2) / 3.0 + finetune


def image_sizes(full: tuple[int, int], start: float, multiple: int) -> list[tuple[int, int]]:
    """The size of each of the six stages, from `start` x full to full.

    Each side is a multiple of `multiple`, the last one exact. Neighbouring stages may round
    to the same size, so there are six different sizes or fewer.
    """

    def side(length: int, scale: float) -> int:
        return min(length, max(1, math.floor(length * scale / multiple + 0.5)) * multiple)

    scales = [start + (1.0 - start) * k / (STAGES - 1) for k in range(STAGES - 1)]
    return [(side(full[0], s), side(full[1], s)) for s in scales] + [full]


class ProgressiveResizing(Method):
    """Trains on small pictures first: `start` x the side until `delay`, then growing, full size at last.

    start: relative side in (0, 1]; 1 is full size throughout. delay, finetune: shares of the run in [0, 1], together at
    most 1. multiple: sides are rounded to multiples of it (1 rounds to pixels). mode: "resize" (antialiased) or "crop"
    (one random window per step, the same for the whole batch). At most six sizes are used. The model must take any
    size (global pooling). Raises InvalidValue for values outside these ranges, for targets as large as the picture, and
    where even the first pictures would keep their size.
    """

    card = Card(
        title="Progressive resizing",
        paper="practice of fast.ai's DAWNBench entries (Howard and others, 2018); studied as FixRes and progressive "
        "learning: "
        "Tan, Le: EfficientNetV2: Smaller Models and Faster Training",
        year=2021,
        arxiv="2104.00298",
        phase="augment",
        cost="pixels fall to delay * start^2 + ... (half with the defaults), steps of convolutional nets with them",
        breaks="models with a fixed input size (flattened heads, position tables); no gain where loading is the "
        "bottleneck; "
        "batch norm statistics lag where the size changes",
        domains=("vision",),
        references=("1906.06423",),
        found="worse, 0.920 times as fast to equal quality (0.847 to 0.996): CIFAR-10 at 16x16 pixels, ResNet-8, "
        "3 to 24 epochs (claims/progressive_resizing.json); at 32x32 pixels 1.66 (1.48 to 1.85; "
        "benchmarks/results/cifar10_small.json): small pictures have nothing to spare",
    )
    horizon = True
    neutral: ClassVar = {"start": 1.0}
    example: ClassVar = {"start": 0.5, "delay": 0.3, "finetune": 0.3, "multiple": 2}

    def __init__(
        self, start: float = 0.5, delay: float = 0.5, *, finetune: float = 0.2, multiple: int = 4, mode: str = "resize"
    ) -> None:
        self.start_scale = number(
            start, "start is a relative side above 0, up to 1 (full size throughout)", "0.5 is usual", 0, 1, above=True
        )
        self.delay = number(delay, "delay is a share of the run from 0 to 1", "0.5 is usual", 0, 1)
        self.finetune = number(finetune, "finetune is a share of the run from 0 to 1", "0.2 is usual", 0, 1)
        if self.delay + self.finetune > 1.0:
            raise InvalidValue(
                f"delay and finetune are shares of one run and sum to at most 1, got {delay!r} and {finetune!r}; "
                "shorten one of them"
            )
        self.multiple = whole(multiple, "multiple is a whole number of pixels from 1 up", "4 or 32 are usual", 1)
        if mode not in MODES:
            raise InvalidValue(f"mode is 'resize' or 'crop', got {mode!r}; choose one of the two")
        self.mode = mode
        self._full: tuple[int, int] | None = None

    def size(self, progress: float, full: tuple[int, int]) -> tuple[int, int]:
        """Height and width at a progress in [0, 1] for pictures of size `full`."""
        if self.start_scale == 1.0:
            return full
        aim = relative_size(progress, self.start_scale, self.delay, self.finetune)
        stage = math.floor((aim - self.start_scale) / (1.0 - self.start_scale) * (STAGES - 1) + 0.5)
        return image_sizes(full, self.start_scale, self.multiple)[stage]

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The same pictures at the size of this step."""
        if self.start_scale == 1.0:
            return batch
        x = batch.images("ProgressiveResizing")
        first, full = self._full is None, (int(x.shape[-2]), int(x.shape[-1]))
        self._full = full
        if isinstance(batch.targets, Tensor) and batch.targets.ndim > 2 and tuple(batch.targets.shape[-2:]) == full:
            raise InvalidValue(
                "ProgressiveResizing changes pictures and leaves targets alone, got targets "
                f"{list(batch.targets.shape)} "
                "as large as the pictures; leave it out for dense targets"
            )
        if first and image_sizes(full, self.start_scale, self.multiple)[0] == full:
            raise InvalidValue(
                f"the first pictures are smaller than the full ones, got {list(full)} for {self.start_scale:g} of "
                f"{list(full)} rounded to a multiple of {self.multiple}; take a smaller multiple or start"
            )
        size = self.size(context.progress, full)
        if size == full:
            return batch
        if self.mode == "resize":
            return batch.with_inputs(resize_images(x, size))
        # One window for all virtual nodes, so that an example's view does not depend on how the batch is shared out.
        draws = stream(context.seed, "ProgressiveResizing", context.epoch, context.step)
        top, left = (int(draws.integers(f - s + 1, 1)) for f, s in zip(full, size, strict=True))
        return batch.with_inputs(crop_images(x, size, (top, left)))

    def kind(self, context: Context) -> Hashable:
        """Height and width of the step's pictures; None before the first batch and at full size throughout."""
        return None if self._full is None else self.size(context.progress, self._full)

    def finish(self, context: Context) -> None:
        """Forget the pictures' size."""
        self._full = None
