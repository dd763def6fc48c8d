"""A store in a temporary folder, and fixed facts, so that opening a run does not look at the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from reinvest.store import Run, RunWriter, Store

FACTS: dict[str, Any] = {"hardware": {"device": "none", "threads": 1}, "software": {"torch": "2.13.0"}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture
def record(store: Store) -> Callable[..., AbstractContextManager[RunWriter]]:
    def begin(name: str = "mine", **more: Any) -> AbstractContextManager[RunWriter]:
        return store.record(name, **({"task": "digits", "facts": FACTS} | more))

    return begin


@pytest.fixture
def finished(record: Callable[..., AbstractContextManager[RunWriter]]) -> Callable[..., Run]:
    def make(name: str = "mine", *, accuracy: float = 0.5, split: str = "validation", **more: Any) -> Run:
        with record(name, **more) as writer:
            writer.log(split=split, accuracy=accuracy)
        return writer.run

    return make


@pytest.fixture
def interrupted(record: Callable[..., AbstractContextManager[RunWriter]]) -> Callable[..., Run]:
    def make(name: str = "mine", **more: Any) -> Run:
        with pytest.raises(KeyboardInterrupt), record(name, **more) as writer:
            writer.log(split="train", loss=1.0)
            raise KeyboardInterrupt
        return writer.run

    return make
