"""Layers point one way: the imports of every module, and the importlib strings in it, are read and checked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "reinvest"
MAY_IMPORT = {
    "core": set(),
    "methods": {"core"},
    "testbed": {"core"},
    "loop": {"core"},
    "store": {"core"},
    "dynamics": {"core", "store"},
    "reuse": {"core", "methods", "store", "dynamics"},
    "evaluation": {"core", "loop", "store"},
    "studies": {"core", "methods", "testbed", "loop", "store", "dynamics", "reuse", "evaluation"},
    "report": {"core", "evaluation", "studies"},
    "_testing": {"core", "methods", "testbed", "loop", "store"},
    "cli": {"core", "methods", "testbed", "loop", "store", "dynamics", "reuse", "evaluation", "studies", "report"},
}
LAYERS = set(MAY_IMPORT)


def module_parts(path: Path) -> list[str]:
    return ["reinvest", *path.relative_to(SOURCE).with_suffix("").parts]


def named(path: Path) -> set[str]:
    """Every module of this package that a file imports, relatively, absolutely, or by an importlib string."""
    here = module_parts(path)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{target}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("reinvest."):
            found.add(node.value.replace(":", "."))
    return {name for name in found if name.startswith("reinvest.")}


FILES = sorted(p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).parts[0] in LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_layer_names_only_layers_below_it(path: Path) -> None:
    layer = path.relative_to(SOURCE).parts[0]
    for name in named(path):
        target = name.split(".")[1]
        if target in LAYERS and target != layer:
            assert target in MAY_IMPORT[layer], f"{path.relative_to(SOURCE)} ({layer}) names {name}"


def test_the_order_of_layers_has_no_cycle() -> None:
    reached = {layer: set(below) for layer, below in MAY_IMPORT.items()}
    for _ in LAYERS:
        for below in reached.values():
            below.update(*(reached[b] for b in set(below)))
    assert all(layer not in below for layer, below in reached.items())


def test_the_check_sees_upward_imports_and_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "core"
    folder.mkdir()
    bad = folder / "bad.py"
    bad.write_text("from ..store import Store\nX = 'reinvest.loop.train:train'\nimport reinvest.methods\n")
    monkeypatch.setattr(f"{__name__}.SOURCE", tmp_path)
    assert {n.split(".")[1] for n in named(bad)} == {"store", "loop", "methods"}
