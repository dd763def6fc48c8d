"""The plain-function form of every method, for loops that want one technique without the chain.

Functions that draw take a `Stream` (see `stream`), so that they leave torch's generator alone.
"""

from __future__ import annotations

from .core.labels import clean_mixture, soften_labels
from .core.spikes import find_spikes, robust_z
from .core.streams import example_integers, example_normal, example_uniform, stream
from .methods.augment.augmix import aug_mix, draws_needed, mixed_names
from .methods.augment.colout import draw_lines, keep_lines, lines_kept
from .methods.augment.cutmix import box_around, draw_box, own_share, paste_box
from .methods.augment.cutout import cut_out
from .methods.augment.masking_rate import hide_tokens, masking_rate, original_tokens
from .methods.augment.mixup import mix_examples, mix_targets
from .methods.augment.progressive_resizing import crop_images, image_sizes, pixel_cost, relative_size, resize_images
from .methods.augment.randaugment import operation_names, rand_augment
from .methods.augment.sequence_length import length_share, tokens_kept, truncate
from .methods.augment.strip_cut import strip_cut, strip_pixels, strip_share
from .methods.gradients.clipping import clip_gradients, clip_to_weights, unit_norms
from .methods.gradients.magnitude_pruning import cubic_sparsity, prune_smallest
from .methods.gradients.nm_sparsity import nm_counts, nm_mask, nm_stage, nm_stages
from .methods.gradients.sam import climb
from .methods.gradients.weight_decay import decay_weights
from .methods.losses.distillation import distillation_losses
from .methods.losses.spike_watch import measure_norms
from .methods.losses.weighting import weights_from
from .methods.select.curriculum import open_share, order_from
from .methods.select.prioritized_training import highest_rows, priorities
from .methods.select.reducible_loss import select_reducible
from .methods.select.selective_backprop import looking, select_by_loss
from .methods.select.subset import capped, choose_subset
from .methods.surgery.alibi import alibi_slopes, linear_bias, replace_positions
from .methods.surgery.blurpool import blur, replace_strided
from .methods.surgery.channels_last import lay_out_pictures, lay_out_weights, restore_layout
from .methods.surgery.factorized import factor_rank, factorize, factorize_layers
from .methods.surgery.gated_linear_units import gate_perceptrons, gated_width
from .methods.surgery.ghost_batch_norm import ghost_normalize, join_batch_norms, split_batch_norms
from .methods.surgery.gyro_dropout import Subnetworks, round_of, subnetwork_masks
from .methods.surgery.layerwise_rates import depths, layer_factors, split_groups
from .methods.surgery.low_precision_norm import lower_norms
from .methods.surgery.memory_saving import pack_bits, save_as_before, save_less, saved_bytes, unpack_bits
from .methods.surgery.squeeze_excite import add_excitations, excite
from .methods.surgery.stochastic_depth import BranchDrops, linear_survival
from .methods.surgery.warm_start import partial_state, shrink_perturb
from .methods.surgery.weight_standardization import (
    fold_standardization,
    standardize_convolutions,
    standardize_filters,
)
from .methods.targets.label_correction import correct_targets
from .methods.targets.label_smoothing import smooth_labels
from .methods.weights.ema import decay_of, update_average
from .methods.weights.lawa import mean_tensors
from .methods.weights.layer_freezing import frozen_layers, layers_in_order
from .methods.weights.swa import add_to_mean

__all__ = [
    "BranchDrops",
    "Subnetworks",
    "add_excitations",
    "add_to_mean",
    "alibi_slopes",
    "aug_mix",
    "blur",
    "box_around",
    "capped",
    "choose_subset",
    "clean_mixture",
    "climb",
    "clip_gradients",
    "clip_to_weights",
    "correct_targets",
    "crop_images",
    "cubic_sparsity",
    "cut_out",
    "decay_of",
    "decay_weights",
    "depths",
    "distillation_losses",
    "draw_box",
    "draw_lines",
    "draws_needed",
    "example_integers",
    "example_normal",
    "example_uniform",
    "excite",
    "factor_rank",
    "factorize",
    "factorize_layers",
    "find_spikes",
    "fold_standardization",
    "frozen_layers",
    "gate_perceptrons",
    "gated_width",
    "ghost_normalize",
    "hide_tokens",
    "highest_rows",
    "image_sizes",
    "join_batch_norms",
    "keep_lines",
    "lay_out_pictures",
    "lay_out_weights",
    "layer_factors",
    "layers_in_order",
    "length_share",
    "linear_bias",
    "linear_survival",
    "lines_kept",
    "looking",
    "lower_norms",
    "masking_rate",
    "mean_tensors",
    "measure_norms",
    "mix_examples",
    "mix_targets",
    "mixed_names",
    "nm_counts",
    "nm_mask",
    "nm_stage",
    "nm_stages",
    "open_share",
    "operation_names",
    "order_from",
    "original_tokens",
    "own_share",
    "pack_bits",
    "partial_state",
    "paste_box",
    "pixel_cost",
    "priorities",
    "prune_smallest",
    "rand_augment",
    "relative_size",
    "replace_positions",
    "replace_strided",
    "resize_images",
    "restore_layout",
    "robust_z",
    "round_of",
    "save_as_before",
    "save_less",
    "saved_bytes",
    "select_by_loss",
    "select_reducible",
    "shrink_perturb",
    "smooth_labels",
    "soften_labels",
    "split_batch_norms",
    "split_groups",
    "standardize_convolutions",
    "standardize_filters",
    "stream",
    "strip_cut",
    "strip_pixels",
    "strip_share",
    "subnetwork_masks",
    "tokens_kept",
    "truncate",
    "unit_norms",
    "unpack_bits",
    "update_average",
    "weights_from",
]
