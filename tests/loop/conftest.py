"""A store and small recipes on the packaged digits; a user's module whose method stops training at a chosen step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reinvest.core.recipe import Recipe
from reinvest.store import Store

STOPPER = '''
"""Methods and models of a user, for runs that are stopped on the way."""

import os
import signal

from torch import nn

from reinvest import Card, Method


class Stopper(Method):
    """Does what the environment says at the step it says: "kill 12", "interrupt 12" or nothing."""

    card = Card("stopper", "none: a test", 2020, "none", "weights", "nothing", "nothing", ("any",))

    def weights(self, context):
        what, _, step = os.environ.get("STOPPER", "").partition(" ")
        if step and context.step == int(step):
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}[what])


def dropout_net(*, input_shape, classes):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(8 * input_shape[1] * input_shape[2], classes),
    )
'''


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(task="digits", model={"name": "mlp", "hidden": [16]}, duration="3ep", batch_size=128)


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's module `stopper`, importable here."""
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "stopper", raising=False)
    return folder
