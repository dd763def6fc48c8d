"""reinvest: each training run makes the next one cheaper, and every claim is measured.

Names load on first use (PEP 562), so `import reinvest` costs next to nothing; the public list is `__all__`.
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
)

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
    "LabelSmoothing": "methods.targets.label_smoothing",
    "Mixup": "methods.augment.mixup",
    "Cutout": "methods.augment.cutout",
    "ProgressiveResizing": "methods.augment.progressive_resizing",
    "SelectiveBackprop": "methods.select.selective_backprop",
    "GradientClipping": "methods.gradients.clipping",
    "SAM": "methods.gradients.sam",
    "EMA": "methods.weights.ema",
    "BlurPool": "methods.surgery.blurpool",
    "train": "loop.train",
    "evaluate": "loop.evaluate",
    "Store": "store",
    "Run": "store",
    "Task": "testbed.tasks.task",
    "Study": "evaluation.study",
    "compare": "evaluation.compare",
    "verdict": "evaluation.judge",
    "Verdict": "evaluation.outcome",
}

__all__ = [
    "EMA",
    "SAM",
    "Batch",
    "BlurPool",
    "Card",
    "Context",
    "Cutout",
    "Duration",
    "GradientClipping",
    "Indexed",
    "LabelSmoothing",
    "Method",
    "Methods",
    "Mix",
    "Mixup",
    "NoEffectWarning",
    "ProgressiveResizing",
    "Recipe",
    "ReinvestError",
    "Run",
    "SelectiveBackprop",
    "Store",
    "Study",
    "Task",
    "Verdict",
    "__version__",
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
    from .methods.augment.cutout import Cutout
    from .methods.augment.mixup import Mixup
    from .methods.augment.progressive_resizing import ProgressiveResizing
    from .methods.gradients.clipping import GradientClipping
    from .methods.gradients.sam import SAM
    from .methods.select.selective_backprop import SelectiveBackprop
    from .methods.surgery.blurpool import BlurPool
    from .methods.targets.label_smoothing import LabelSmoothing
    from .methods.weights.ema import EMA
    from .store import Run, Store
    from .testbed.tasks.task import Task


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reinvest' has no attribute {name!r}; its public names are: {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
