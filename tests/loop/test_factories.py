"""A factory of one's own that fails is told in one sentence: what it was asked for, its own words, and where."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reinvest as ri
from reinvest.core.errors import InvalidValue
from reinvest.loop.session import build_model, build_task

SOURCE = """\
from torch import nn


def narrow(classes):
    return nn.Linear(2, classes)


def deep(input_shape, classes):
    return helper(input_shape)


def helper(shape):
    return nn.Linear(shape[7], 2)


def inside(input_shape, classes):
    return nn.Linear("a", classes)


def lost(path="nowhere"):
    raise FileNotFoundError(2, "No such file or directory", path)


def stopped(input_shape, classes):
    raise KeyboardInterrupt
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "failing_factories.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "failing_factories"
    sys.modules.pop("failing_factories", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("narrow", ("TypeError", "unexpected keyword argument 'input_shape'")),
        ("deep", ("IndexError", "line 13 of")),
        ("inside", ("line 17 of failing",)),
    ],
)
def test_a_model_factory_that_raises(module: str, name: str, words: tuple[str, ...]) -> None:
    recipe = ri.Recipe(task="digits", model=f"{module}:{name}")
    with pytest.raises(InvalidValue) as caught:
        build_model(recipe, build_task(recipe), 0)
    said = str(caught.value)
    assert said.startswith("a model factory takes input_shape and classes and returns a torch.nn.Module, got ")
    assert f"{module}:{name}" in said and "\n" not in said
    assert all(word in said for word in words)
    assert isinstance(caught.value.__cause__, Exception)


def test_a_task_factory_that_raises(module: str) -> None:
    with pytest.raises(
        InvalidValue, match=r"a task factory returns a Task, got FileNotFoundError at line 21 of .*nowhere.*; mend"
    ):
        build_task(ri.Recipe(task=f"{module}:lost", model="mlp"))


def test_ctrl_c_in_a_factory_is_no_error_of_the_factory(module: str) -> None:
    recipe = ri.Recipe(task="digits", model=f"{module}:stopped")
    with pytest.raises(KeyboardInterrupt):
        build_model(recipe, build_task(recipe), 0)
