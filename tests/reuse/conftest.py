"""A shelf of finished runs on the packaged digits, and a user's module: a model that counts its calls, a method that halts."""

from __future__ import annotations

import shutil
import sys

import pytest

from reinvest.loop.train import train
from reinvest.store import Store
from teaching import QUIET, small

USERS = '''
"""A model that counts its calls, and a method that interrupts training."""

import math
import os
import signal

import torch
from torch import nn

from reinvest import Card, Method

calls = []


class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, classes)
        )

    def forward(self, x):
        calls.append((len(x), self.training, torch.is_grad_enabled()))
        return self.layers(x.flatten(1))


def build(*, input_shape, classes):
    return Net(math.prod(input_shape), classes)


class Halt(Method):
    card = Card("halt", "none: a test", 2020, "none", "weights", "nothing", "nothing", ("any",))

    def weights(self, context):
        if os.environ.get("HALT") == str(context.step):
            os.kill(os.getpid(), signal.SIGINT)
'''


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A store with two finished runs that nobody changes, and the runs."""
    with Store(tmp_path_factory.mktemp("shelf") / "runs") as store:
        yield store, train(small(), 0, store, **QUIET), train(small(), 1, store, **QUIET)


@pytest.fixture
def store(shelf, tmp_path):
    """A store of its own that holds the two runs."""
    shutil.copytree(shelf[0].path / "runs", tmp_path / "runs" / "runs")
    with Store(tmp_path / "runs") as opened:
        opened.rebuild()
        yield opened


@pytest.fixture
def users(tmp_path, monkeypatch):
    """The user's module."""
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "halting.py").write_text(USERS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "halting", raising=False)
    import halting

    return halting
