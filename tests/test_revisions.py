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
    "ALiBi": (1, "9ce44a67ff5cb78f"),
    "AugMix": (1, "18b5965dcb572743"),
    "BlurPool": (1, "7240027048ec53f9"),
    "ChannelsLast": (1, "962f0d52f4d101f0"),
    "ColOut": (1, "2457d7ac5f752852"),
    "Curriculum": (1, "debb0cc1bca62fde"),
    "CutMix": (1, "23bea21573f242db"),
    "Cutout": (1, "876ff98b7b3f2c62"),
    "DecoupledWeightDecay": (1, "5d0779153ff1f740"),
    "Distill": (1, "aa0a11b227da3f8f"),
    "EMA": (1, "821269966089b641"),
    "FactorizedLayers": (1, "794bef0bbf3ecf6a"),
    "GatedLinearUnits": (1, "325169c97ed524fa"),
    "GhostBatchNorm": (1, "61c7ab4f0be4dacd"),
    "GradientClipping": (1, "d0230f08514c80e6"),
    "GyroDropout": (1, "13b05a36139c1de9"),
    "LAWA": (1, "25ea520ba7e8d751"),
    "LabelSmoothing": (1, "226fb3c0ac111a80"),
    "LayerFreezing": (1, "7ba1c2ba3548a581"),
    "LayerwiseRates": (1, "dbbae9bcf102835b"),
    "LowPrecisionNorm": (1, "8c81a7011cc21d91"),
    "MagnitudePruning": (1, "7249ab387ca29b2d"),
    "MaskingRate": (1, "233ca1e112659d79"),
    "MemorySavingActivations": (1, "c48c80cc25442c39"),
    "Mixup": (1, "0d492cbbc2419d3f"),
    "NMSparsity": (1, "c818c379b4938d58"),
    "ProgressiveResizing": (1, "8d591e636129c4f7"),
    "RandAugment": (1, "c87877668d1f1a19"),
    "SAM": (1, "e58efdd7c00b73a9"),
    "SWA": (1, "d36974fbc441fd0a"),
    "SelectiveBackprop": (1, "9a212d7effa268c8"),
    "SequenceLengthWarmup": (1, "5fd7e7e0370d9fcd"),
    "SqueezeExcite": (1, "00840bec1c15778e"),
    "StochasticDepth": (1, "d328e3fe5b1add6f"),
    "StripCut": (1, "f969d747cf14ca9e"),
    "Subset": (1, "cca98ea07740442a"),
    "WarmStart": (1, "f46e3506bb861058"),
    "WeightStandardization": (1, "d21b457a016e47fa"),
    "Weighting": (1, "d30ee51d0a25a800"),
}


SCORED = ("reinvest.methods._scores", "reinvest.reuse.selection")
ALSO: dict[str, tuple[str, ...]] = {
    "Distill": tuple(
        f"reinvest.{n}" for n in ("reuse.teachers", "reuse.clean", "reuse.models", "reuse.replay", "store.codec")
    ),
    "Curriculum": SCORED,
    "CutMix": ("reinvest.methods.augment.mixup",),
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
