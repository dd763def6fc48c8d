"""reinvest: each training run makes the next one cheaper, and every claim is measured.

Names load on first use (PEP 562), so `import reinvest` costs next to nothing; the public list is `__all__`, and every method
of the catalogue is here by its own name too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .core.names import catalogues as _catalogues

_catalogues.update(
    method="reinvest.methods._catalog:catalog",
    schedule="reinvest.methods.schedules:catalog",
    task="reinvest.testbed.tasks:catalog",
    model="reinvest.testbed.models:catalog",
    report="reinvest.report.pages:catalog",
    teacher="reinvest.reuse.teachers:catalog",
    fit="reinvest.reuse.fit:catalog",
    scores="reinvest.reuse.selection:catalog",
    clean="reinvest.reuse.labels:catalog",
)

_METHODS = {
    "ALiBi": "methods.surgery.alibi",
    "AugMix": "methods.augment.augmix",
    "BlurPool": "methods.surgery.blurpool",
    "ChannelsLast": "methods.surgery.channels_last",
    "CleanLosses": "methods.losses.clean_losses",
    "ColOut": "methods.augment.colout",
    "Curriculum": "methods.select.curriculum",
    "CutMix": "methods.augment.cutmix",
    "Cutout": "methods.augment.cutout",
    "DecoupledWeightDecay": "methods.gradients.weight_decay",
    "Distill": "methods.losses.distillation",
    "EMA": "methods.weights.ema",
    "FactorizedLayers": "methods.surgery.factorized",
    "GatedLinearUnits": "methods.surgery.gated_linear_units",
    "GhostBatchNorm": "methods.surgery.ghost_batch_norm",
    "GradientClipping": "methods.gradients.clipping",
    "GyroDropout": "methods.surgery.gyro_dropout",
    "LAWA": "methods.weights.lawa",
    "LabelCorrection": "methods.targets.label_correction",
    "LabelSmoothing": "methods.targets.label_smoothing",
    "LayerFreezing": "methods.weights.layer_freezing",
    "LayerwiseRates": "methods.surgery.layerwise_rates",
    "LowPrecisionNorm": "methods.surgery.low_precision_norm",
    "MagnitudePruning": "methods.gradients.magnitude_pruning",
    "MemorySavingActivations": "methods.surgery.memory_saving",
    "MaskingRate": "methods.augment.masking_rate",
    "Mixup": "methods.augment.mixup",
    "NMSparsity": "methods.gradients.nm_sparsity",
    "PrioritizedTraining": "methods.select.prioritized_training",
    "ProgressiveResizing": "methods.augment.progressive_resizing",
    "RandAugment": "methods.augment.randaugment",
    "ReducibleLossSelection": "methods.select.reducible_loss",
    "SAM": "methods.gradients.sam",
    "SWA": "methods.weights.swa",
    "SelectiveBackprop": "methods.select.selective_backprop",
    "SequenceLengthWarmup": "methods.augment.sequence_length",
    "SpikeWatch": "methods.losses.spike_watch",
    "SqueezeExcite": "methods.surgery.squeeze_excite",
    "StochasticDepth": "methods.surgery.stochastic_depth",
    "StripCut": "methods.augment.strip_cut",
    "Subset": "methods.select.subset",
    "WarmStart": "methods.surgery.warm_start",
    "WeightStandardization": "methods.surgery.weight_standardization",
    "Weighting": "methods.losses.weighting",
}
"""Where each method of the catalogue lives, so that `ri.Mixup` needs no walk through all of them."""

_HOMES = {
    "Methods": "core.chain",
    "Method": "core.method",
    "Card": "core.method",
    "Context": "core.method",
    "Batch": "core.batch",
    "Mix": "core.batch",
    "Indexed": "core.batch",
    "Duration": "core.duration",
    "Recipe": "core.recipe",
    "NoEffectWarning": "core.chain",
    "ReinvestError": "core.errors",
    "cross_entropy": "core.criterion",
    "stream": "core.streams",
    "example_uniform": "core.streams",
    "example_integers": "core.streams",
    "facts": "core.hardware",
    "comparable": "core.hardware",
    "train": "loop.train",
    "evaluate": "loop.evaluate",
    "Store": "store",
    "Run": "store",
    "Task": "testbed.tasks.task",
    "Study": "evaluation.study",
    "compare": "evaluation.compare",
    "verdict": "evaluation.judge",
    "ablate": "studies.ablation",
    "advise": "studies.advise",
    "clean_pass": "reuse.clean",
    "find_suspects": "dynamics.suspects",
    "Verdict": "evaluation.outcome",
}

__all__ = [
    "Batch",
    "Card",
    "Context",
    "Duration",
    "Indexed",
    "Method",
    "Methods",
    "Mix",
    "NoEffectWarning",
    "Recipe",
    "ReinvestError",
    "Run",
    "Store",
    "Study",
    "Task",
    "Verdict",
    "__version__",
    "ablate",
    "advise",
    "clean_pass",
    "comparable",
    "compare",
    "cross_entropy",
    "evaluate",
    "example_integers",
    "example_uniform",
    "facts",
    "find_suspects",
    "stream",
    "train",
    "verdict",
]

if TYPE_CHECKING:
    from .core.batch import Batch, Indexed, Mix
    from .core.chain import Methods, NoEffectWarning
    from .core.criterion import cross_entropy
    from .core.duration import Duration
    from .core.errors import ReinvestError
    from .core.hardware import comparable, facts
    from .core.method import Card, Context, Method
    from .core.recipe import Recipe
    from .core.streams import example_integers, example_uniform, stream
    from .dynamics.suspects import find_suspects
    from .evaluation.compare import compare
    from .evaluation.judge import verdict
    from .evaluation.outcome import Verdict
    from .evaluation.study import Study
    from .loop.evaluate import evaluate
    from .loop.train import train
    from .methods.augment.augmix import AugMix as AugMix
    from .methods.augment.colout import ColOut as ColOut
    from .methods.augment.cutmix import CutMix as CutMix
    from .methods.augment.cutout import Cutout as Cutout
    from .methods.augment.masking_rate import MaskingRate as MaskingRate
    from .methods.augment.mixup import Mixup as Mixup
    from .methods.augment.progressive_resizing import ProgressiveResizing as ProgressiveResizing
    from .methods.augment.randaugment import RandAugment as RandAugment
    from .methods.augment.sequence_length import SequenceLengthWarmup as SequenceLengthWarmup
    from .methods.augment.strip_cut import StripCut as StripCut
    from .methods.gradients.clipping import GradientClipping as GradientClipping
    from .methods.gradients.magnitude_pruning import MagnitudePruning as MagnitudePruning
    from .methods.gradients.nm_sparsity import NMSparsity as NMSparsity
    from .methods.gradients.sam import SAM as SAM
    from .methods.gradients.weight_decay import DecoupledWeightDecay as DecoupledWeightDecay
    from .methods.losses.clean_losses import CleanLosses as CleanLosses
    from .methods.losses.distillation import Distill as Distill
    from .methods.losses.spike_watch import SpikeWatch as SpikeWatch
    from .methods.losses.weighting import Weighting as Weighting
    from .methods.select.curriculum import Curriculum as Curriculum
    from .methods.select.prioritized_training import PrioritizedTraining as PrioritizedTraining
    from .methods.select.reducible_loss import ReducibleLossSelection as ReducibleLossSelection
    from .methods.select.selective_backprop import SelectiveBackprop as SelectiveBackprop
    from .methods.select.subset import Subset as Subset
    from .methods.surgery.alibi import ALiBi as ALiBi
    from .methods.surgery.blurpool import BlurPool as BlurPool
    from .methods.surgery.channels_last import ChannelsLast as ChannelsLast
    from .methods.surgery.factorized import FactorizedLayers as FactorizedLayers
    from .methods.surgery.gated_linear_units import GatedLinearUnits as GatedLinearUnits
    from .methods.surgery.ghost_batch_norm import GhostBatchNorm as GhostBatchNorm
    from .methods.surgery.gyro_dropout import GyroDropout as GyroDropout
    from .methods.surgery.layerwise_rates import LayerwiseRates as LayerwiseRates
    from .methods.surgery.low_precision_norm import LowPrecisionNorm as LowPrecisionNorm
    from .methods.surgery.memory_saving import MemorySavingActivations as MemorySavingActivations
    from .methods.surgery.squeeze_excite import SqueezeExcite as SqueezeExcite
    from .methods.surgery.stochastic_depth import StochasticDepth as StochasticDepth
    from .methods.surgery.warm_start import WarmStart as WarmStart
    from .methods.surgery.weight_standardization import WeightStandardization as WeightStandardization
    from .methods.targets.label_correction import LabelCorrection as LabelCorrection
    from .methods.targets.label_smoothing import LabelSmoothing as LabelSmoothing
    from .methods.weights.ema import EMA as EMA
    from .methods.weights.lawa import LAWA as LAWA
    from .methods.weights.layer_freezing import LayerFreezing as LayerFreezing
    from .methods.weights.swa import SWA as SWA
    from .reuse.clean import clean_pass
    from .store import Run, Store
    from .studies.ablation import ablate
    from .studies.advise import advise
    from .testbed.tasks.task import Task


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _METHODS.get(name)
    if home is None:
        known = ", ".join(__dir__())
        raise AttributeError(f"module 'reinvest' has no attribute {name!r}; its public names are: {known}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_METHODS])
