"""A method's `revision` is pinned against its code: changed code with an old revision would return stale runs.

The fingerprint is that of the parsed code without docstrings and cards, so comments and layout may change freely. When this
test fails: if the code now computes something else, raise `revision` in the class; then put the printed line below.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
from typing import Any

import pytest

from reinvest.core.names import catalogue, resolve

PINNED: dict[str, tuple[int, str]] = {
    "ALiBi": (1, "ff18ab25a1eb0f65"),
    "AugMix": (2, "becc054b7ae6de2c"),
    "BlurPool": (1, "508866fa858290bd"),
    "ChannelsLast": (1, "ca36a1a3f29f2d75"),
    "CleanLosses": (1, "22d2780c1e04d870"),
    "ColOut": (1, "27621ea4226cce4c"),
    "Curriculum": (1, "81fd971728908f03"),
    "CutMix": (1, "dffaca410069c87c"),
    "Cutout": (1, "b4680461e0ae1d87"),
    "DecoupledWeightDecay": (1, "5d0779153ff1f740"),
    "Distill": (2, "ec0f7fa5b8bf3a77"),
    "EMA": (2, "76ba6a2e57a2360f"),
    "FactorizedLayers": (2, "f8df9649702797be"),
    "GatedLinearUnits": (2, "758289390b54bb18"),
    "GhostBatchNorm": (1, "7ac8e41bcc35fff5"),
    "GradientClipping": (1, "d0230f08514c80e6"),
    "GyroDropout": (1, "c74b23dd554d4bf9"),
    "LAWA": (2, "cd3c7d891ed1f154"),
    "LabelCorrection": (2, "d2d0c91086532647"),
    "LabelSmoothing": (2, "cb6fd4f5eed93f83"),
    "LayerFreezing": (1, "e57ecc226675cb5a"),
    "LayerwiseRates": (1, "96c1b6a02a0fb843"),
    "LowPrecisionNorm": (1, "9fd3ad52083ecc9c"),
    "MagnitudePruning": (2, "2e0380fbacbd065d"),
    "MaskingRate": (1, "b0bf7c4cc7bb287b"),
    "MemorySavingActivations": (2, "4acbf09839c05094"),
    "Mixup": (2, "f0db09210c6e11a9"),
    "NMSparsity": (1, "7545b39c10fb144d"),
    "PrioritizedTraining": (2, "5861dca7468a606a"),
    "ProgressiveResizing": (1, "f467ce3f72ba97c8"),
    "RandAugment": (2, "355dc4b5c823c2c7"),
    "ReducibleLossSelection": (1, "b2dad9f43d5ce0cf"),
    "SAM": (1, "e58efdd7c00b73a9"),
    "SWA": (2, "fb4ee64cde99a7dc"),
    "SelectiveBackprop": (2, "1e43d27eb8b4c567"),
    "SequenceLengthWarmup": (1, "da4b62b248bad1ec"),
    "SpikeWatch": (1, "ed141db4690505c6"),
    "SqueezeExcite": (2, "4ab271251964a65e"),
    "StochasticDepth": (1, "8e0277703df3c88a"),
    "StripCut": (2, "4763dd47f11d6624"),
    "Subset": (1, "79bfa7fec059ac64"),
    "WarmStart": (1, "f46e3506bb861058"),
    "WeightStandardization": (2, "1d7f4fb48e7ba68c"),
    "Weighting": (1, "8d401cb0ec205573"),
}


SCORED = ("reinvest.methods._scores", "reinvest.reuse.selection")
SCORING = "reinvest.methods.select.selective_backprop"
REDUCIBLE = ("reinvest.methods.select.prioritized_training", "reinvest.reuse.holdout", "reinvest.reuse.models")
CLEANED = (
    "reinvest.core.labels",
    "reinvest.methods._clean",
    "reinvest.reuse.labels",
    "reinvest.dynamics.clean",
    "reinvest.dynamics._evidence",
    "reinvest.dynamics._histories",
)
ALSO: dict[str, tuple[str, ...]] = {
    "Distill": tuple(
        f"reinvest.{n}" for n in ("reuse.teachers", "reuse.clean", "reuse.models", "reuse.replay", "store.codec")
    ),
    "Curriculum": SCORED,
    "CutMix": ("reinvest.methods.augment.mixup",),
    "SelectiveBackprop": ("reinvest.methods.augment.progressive_resizing",),
    "LabelCorrection": CLEANED,
    "PrioritizedTraining": (*CLEANED, SCORING),
    "ReducibleLossSelection": (*SCORED, SCORING, *REDUCIBLE),
    "StripCut": ("reinvest.methods.augment.cutout",),
    "SWA": ("reinvest.methods.weights.lawa",),
    "Subset": SCORED,
    "Weighting": SCORED,
}
"""Modules elsewhere that decide what a method computes; it finds them by name."""


def _tree(module: Any) -> ast.Module:
    """The module's code without docstrings and card."""
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                part
                for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
                and not (isinstance(part, ast.Assign) and getattr(part.targets[0], "id", "") == "card")
            ]
    return tree


def code_of(made: Any) -> str:
    """16 hex digits over the code of the method's module, of the private modules beside it that it uses, and of `ALSO`."""
    module = sys.modules[made.__module__]
    tree = _tree(module)
    beside = sorted(
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and (node.module or "").startswith("_")
    )
    package = made.__module__.rpartition(".")[0]
    names = [*(f"{package}.{name}" for name in beside), *ALSO.get(made.__name__, ())]
    trees = [tree, *(_tree(importlib.import_module(name)) for name in names)]
    return hashlib.sha256("\n".join(map(ast.unparse, trees)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", sorted(catalogue("method")))
def test_the_revision_belongs_to_the_code(name: str) -> None:
    made = resolve("method", name)
    found = (made.revision, code_of(made))
    assert PINNED.get(name) == found, f'"{name}": {found},'


def test_nothing_is_pinned_that_is_not_there() -> None:
    assert set(PINNED) == set(catalogue("method"))
