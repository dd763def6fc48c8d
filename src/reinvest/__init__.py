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
    report="reinvest.report.html:catalog",
    teacher="reinvest.reuse.teachers:catalog",
    fit="reinvest.reuse.fit:catalog",
    scores="reinvest.reuse.selection:catalog",
)

_METHODS = {
    "BlurPool": "methods.surgery.blurpool",
    "Curriculum": "methods.select.curriculum",
    "Cutout": "methods.augment.cutout",
    "Distill": "methods.losses.distillation",
    "EMA": "methods.weights.ema",
    "GradientClipping": "methods.gradients.clipping",
    "LAWA": "methods.weights.lawa",
    "LabelSmoothing": "methods.targets.label_smoothing",
    "Mixup": "methods.augment.mixup",
    "ProgressiveResizing": "methods.augment.progressive_resizing",
    "SAM": "methods.gradients.sam",
    "SelectiveBackprop": "methods.select.selective_backprop",
    "Subset": "methods.select.subset",
    "WarmStart": "methods.surgery.warm_start",
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
    "advise": "studies.advise",
    "clean_pass": "reuse.clean",
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
    "advise",
    "clean_pass",
    "comparable",
    "compare",
    "cross_entropy",
    "evaluate",
    "example_integers",
    "example_uniform",
    "facts",
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
    from .evaluation.compare import compare
    from .evaluation.judge import verdict
    from .evaluation.outcome import Verdict
    from .evaluation.study import Study
    from .loop.evaluate import evaluate
    from .loop.train import train
    from .methods.augment.cutout import Cutout as Cutout
    from .methods.augment.mixup import Mixup as Mixup
    from .methods.augment.progressive_resizing import ProgressiveResizing as ProgressiveResizing
    from .methods.gradients.clipping import GradientClipping as GradientClipping
    from .methods.gradients.sam import SAM as SAM
    from .methods.losses.distillation import Distill as Distill
    from .methods.losses.weighting import Weighting as Weighting
    from .methods.select.curriculum import Curriculum as Curriculum
    from .methods.select.selective_backprop import SelectiveBackprop as SelectiveBackprop
    from .methods.select.subset import Subset as Subset
    from .methods.surgery.blurpool import BlurPool as BlurPool
    from .methods.surgery.warm_start import WarmStart as WarmStart
    from .methods.targets.label_smoothing import LabelSmoothing as LabelSmoothing
    from .methods.weights.ema import EMA as EMA
    from .methods.weights.lawa import LAWA as LAWA
    from .reuse.clean import clean_pass
    from .store import Run, Store
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
