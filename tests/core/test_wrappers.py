"""Surgery inside a DistributedDataParallel that already wraps the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict
from reinvest.core.method import Context, Method
from reinvest.core.wrappers import averaged_parameters
from toy_loops import batches, net, sgd
from toys import card


class Append(Method):
    """Adds a layer, with new weights or without."""

    card = card("start")
    changes_model = True
    neutral: ClassVar = {}

    def __init__(self, weights: bool = True) -> None:
        self.weights = weights

    def start(self, context: Context) -> None:
        inner = context.model
        layer = nn.Linear(4, 4) if self.weights else nn.ReLU()
        inner.add_module("appended", layer)
        if self.weights:
            context.optimizer.add_param_group({"params": list(layer.parameters())})


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_new_parameters_inside_a_wrapper_are_refused(alone: None) -> None:
    model = DistributedDataParallel(net())
    data = batches()
    attach = Methods(Append()).attach(model, sgd(model), duration="1ep", data=data, seed=0)
    with (
        pytest.raises(Conflict, match=r"^Append puts new parameters into the model, got one that .* then wrap it$"),
        attach,
    ):
        raise AssertionError("the chain must not start")


def test_surgery_that_keeps_the_parameters_works_inside_a_wrapper(alone: None) -> None:
    model = DistributedDataParallel(net())
    methods, data = Methods(Append(weights=False)), batches()
    with methods.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for x, y in methods.batches(data):
            methods.loss(model(x), y).backward()
            methods.step()
    assert model.module.appended is not None


def test_attaching_first_and_wrapping_then_averages_the_new_parameters(alone: None) -> None:
    inner, data = net(), batches()
    methods = Methods(Append())
    with methods.attach(inner, sgd(inner), duration="1ep", data=data, seed=0):
        wrapped = DistributedDataParallel(inner, find_unused_parameters=True)
        known = {id(p) for p in averaged_parameters(wrapped) or ()}
        assert known == {id(p) for p in inner.parameters()} and "appended.weight" in dict(inner.named_parameters())
        for x, y in methods.batches(data):
            methods.loss(wrapped(x), y).backward()
            methods.step()


def test_without_a_wrapper_nothing_is_looked_at() -> None:
    assert averaged_parameters(net()) is None
