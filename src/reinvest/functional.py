"""The plain-function form of every method, for loops that want one technique without the chain.

Functions that draw take a `Stream` (see `stream`), so that they leave torch's generator alone.
"""

from __future__ import annotations

from .core.streams import example_integers, example_normal, example_uniform, stream
from .methods.augment.cutout import cut_out
from .methods.augment.mixup import mix_examples, mix_targets
from .methods.augment.progressive_resizing import crop_images, image_sizes, pixel_cost, relative_size, resize_images
from .methods.gradients.clipping import clip_gradients
from .methods.gradients.sam import climb
from .methods.select.selective_backprop import looking, select_by_loss
from .methods.surgery.blurpool import blur, replace_strided
from .methods.targets.label_smoothing import smooth_labels
from .methods.weights.ema import decay_of, update_average

__all__ = [
    "blur",
    "climb",
    "clip_gradients",
    "crop_images",
    "cut_out",
    "decay_of",
    "example_integers",
    "example_normal",
    "example_uniform",
    "image_sizes",
    "looking",
    "mix_examples",
    "mix_targets",
    "pixel_cost",
    "relative_size",
    "replace_strided",
    "resize_images",
    "select_by_loss",
    "smooth_labels",
    "stream",
    "update_average",
]
