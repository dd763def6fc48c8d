"""The public surface is one explicit list; everything in it loads, and importing the package loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import reinvest as ri
from reinvest.core.names import catalogue

PUBLIC = [
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


def test_the_public_list_is_pinned() -> None:
    assert sorted(ri.__all__) == sorted(PUBLIC)
    assert len(PUBLIC) <= 40


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_loads_and_is_documented(name: str) -> None:
    value = getattr(ri, name)
    if name != "__version__":
        assert value.__doc__, f"{name} has no docstring"


def test_every_method_is_a_public_name_too() -> None:
    assert {name: getattr(ri, name) for name in ri._METHODS} == catalogue("method")


def test_dir_shows_the_public_list_and_the_methods() -> None:
    assert dir(ri) == sorted([*ri.__all__, *ri._METHODS])


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="LabelSmoothing"):
        ri.LabelSmoothin  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import reinvest, sys; print([m for m in ('torch','numpy','scipy','sqlalchemy','plotly','rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
