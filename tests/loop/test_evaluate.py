"""Evaluation: whole splits, plain means or the task's own measure, and a model that is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reinvest.core.errors import InvalidValue, ReinvestError
from reinvest.loop.evaluate import evaluate
from reinvest.testbed.tasks.task import Task


@pytest.fixture(scope="module")
def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 5, generator=generator), torch.randint(3, (100,), generator=generator)
    return Task.from_tensors("toy-evaluate", x, y)


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def rows(task: Task, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(task.loader(split, 7))
    return torch.cat([x for _, x, _ in batches]), torch.cat([y for _, _, y in batches])


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_means_over_all_examples(task: Task, model: nn.Module, split: str, batch_size: int) -> None:
    x, y = rows(task, split)
    model.eval()
    with torch.no_grad():
        output = model(x)
    told = evaluate(model, task, split, batch_size=batch_size)
    assert set(told) == {"accuracy", "loss"}
    assert told["accuracy"] == pytest.approx((output.argmax(1) == y).float().mean().item(), abs=1e-6)
    assert told["loss"] == pytest.approx(F.cross_entropy(output, y).item(), abs=1e-5)
    assert all(isinstance(v, float) for v in told.values())


def test_the_train_split_is_evaluated_too(task: Task, model: nn.Module) -> None:
    assert 0 <= evaluate(model, task, "train", batch_size=10)["accuracy"] <= 1


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(task: Task, model: nn.Module, training: bool) -> None:
    model.train(training)
    model[1].eval()  # a frozen norm inside a model in training
    before = {k: v.clone() for k, v in model.state_dict().items()}
    generator = torch.get_rng_state()
    evaluate(model, task)
    assert [m.training for m in model.modules()] == [training, training, False, training, training]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())


def test_the_mode_comes_back_after_an_exception(task: Task) -> None:
    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            raise ZeroDivisionError

    model = Broken()
    with pytest.raises(ZeroDivisionError):
        evaluate(model, task)
    assert model.training


def test_another_split_is_refused(task: Task, model: nn.Module) -> None:
    with pytest.raises(ReinvestError, match=r"train.*validation.*test|test.*train.*validation"):
        evaluate(model, task, "holdout")
    with pytest.raises(InvalidValue):
        evaluate(model, task, batch_size=0)


def test_a_metric_that_is_not_finite_is_told(task: Task, model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    assert evaluate(model, task)["loss"] != evaluate(model, task)["loss"]


class Spread:
    """A measure that is no mean: the number of different predictions, and of batches."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.batches = 0

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        self.seen |= set(output.argmax(1).tolist())
        self.batches += 1

    def compute(self) -> dict[str, float]:
        return {"spread": float(len(self.seen)), "batches": float(self.batches)}


class MeasuredTask(Task):
    evaluation_batch = 4

    def measure(self) -> Spread:
        return Spread()


def measured(metric: str) -> Task:
    x = torch.arange(50.0)[:, None] * torch.ones(5)
    return MeasuredTask.from_tensors("toy-measured", x, torch.arange(50) % 3, metric=metric)


def test_a_task_may_bring_a_measure_of_the_whole_split(model: nn.Module) -> None:
    task = measured("spread")
    told = evaluate(model, task)
    x, y = rows(task, "test")
    model.eval()
    with torch.no_grad():
        output = model(x)
    assert told == {
        "spread": len(set(output.argmax(1).tolist())),
        "batches": 3.0,  # 10 examples, 4 at once as the task says
        "loss": pytest.approx(F.cross_entropy(output, y).item(), abs=1e-5),
    }
    assert evaluate(model, task, batch_size=10)["batches"] == 1.0


def test_a_measure_that_leaves_the_metric_out_is_refused(model: nn.Module) -> None:
    with pytest.raises(InvalidValue, match=r"computes its metric \('miou'\).* got spread, batches from 'toy-measured'"):
        evaluate(model, measured("miou"))
