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
from .methods.losses.distillation import distillation_losses
from .methods.losses.weighting import weights_from
from .methods.select.curriculum import open_share, order_from
from .methods.select.selective_backprop import looking, select_by_loss
from .methods.select.subset import capped, choose_subset
from .methods.surgery.blurpool import blur, replace_strided
from .methods.surgery.warm_start import partial_state, shrink_perturb
from .methods.targets.label_smoothing import smooth_labels
from .methods.weights.ema import decay_of, update_average
from .methods.weights.lawa import mean_tensors

__all__ = [
    "blur",
    "capped",
    "choose_subset",
    "climb",
    "clip_gradients",
    "crop_images",
    "cut_out",
    "decay_of",
    "distillation_losses",
    "example_integers",
    "example_normal",
    "example_uniform",
    "image_sizes",
    "looking",
    "mean_tensors",
    "mix_examples",
    "mix_targets",
    "open_share",
    "order_from",
    "partial_state",
    "pixel_cost",
    "relative_size",
    "replace_strided",
    "resize_images",
    "select_by_loss",
    "shrink_perturb",
    "smooth_labels",
    "stream",
    "update_average",
    "weights_from",
]
