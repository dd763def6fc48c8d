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
    "BlurPool": (1, "7240027048ec53f9"),
    "Curriculum": (1, "debb0cc1bca62fde"),
    "Cutout": (1, "026c7e0acc7f7213"),
    "Distill": (1, "e52b1c76d7ab2ede"),
    "EMA": (1, "821269966089b641"),
    "GradientClipping": (1, "8027183143b8b37c"),
    "LAWA": (1, "25ea520ba7e8d751"),
    "LabelSmoothing": (1, "226fb3c0ac111a80"),
    "Mixup": (1, "a1a6a628b7f2413b"),
    "ProgressiveResizing": (1, "8d591e636129c4f7"),
    "SAM": (1, "e58efdd7c00b73a9"),
    "SelectiveBackprop": (1, "9a212d7effa268c8"),
    "Subset": (1, "cca98ea07740442a"),
    "WarmStart": (1, "bc43b3cee268a9ec"),
    "Weighting": (1, "d30ee51d0a25a800"),
}


SCORED = ("reinvest.methods._scores", "reinvest.reuse.selection")
ALSO: dict[str, tuple[str, ...]] = {
    "Distill": tuple(
        f"reinvest.{n}" for n in ("reuse.teachers", "reuse.clean", "reuse.models", "reuse.replay", "store.codec")
    ),
    "Curriculum": SCORED,
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
