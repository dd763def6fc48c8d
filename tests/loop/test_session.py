"""A recipe made concrete: the same model for a seed, rates by the schedule, and a state that continues exactly."""

from __future__ import annotations

import io
from itertools import islice
from typing import Any

import pytest
import torch

import reinvest as ri
from reinvest.core.recipe import Recipe
from reinvest.loop.session import Schedule, Session, build_model, build_task, run_identity
from toy_loops import plain_loop, same_bits

CONV = Recipe(task="digits", model={"name": "convnet", "width": 4}, duration="2ep", batch_size=256)


def run(session: Session, steps: int) -> list[float]:
    """Train so many steps from where the session stands; returns the losses."""
    losses: list[float] = []
    while len(losses) < steps:
        epoch, start = session.methods.next_batch
        for batch in islice(session.methods.batches(session.loader(epoch, start)), steps - len(losses)):
            losses.append(float(session.step(batch)))
    return losses


def test_models_depend_on_the_seed_and_nothing_else() -> None:
    task = build_task(CONV)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build_model(CONV, task, 0)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same_bits(one.state_dict(), build_model(CONV, task, 0).state_dict())
    assert not same_bits(one.state_dict(), build_model(CONV, task, 1).state_dict())


def test_tasks_are_loaded_once_a_process() -> None:
    assert build_task(CONV) is build_task(CONV.with_(batch_size=3))


def test_identity_is_that_of_recipe_and_seed() -> None:
    assert run_identity(CONV, 0) == run_identity(Recipe.from_dict(CONV.to_dict()), 0) != run_identity(CONV, 1)
    assert run_identity(CONV, 0) != run_identity(CONV, 0, ("parent",)) and len(run_identity(CONV, 0)) == 32


def test_a_session_is_the_loop_one_would_write() -> None:
    recipe = CONV.with_(schedule="constant", optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9})
    session = Session(recipe, 0)
    task = build_task(recipe)
    model = build_model(recipe, task, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with session.attached():
        run(session, 8)
        assert session.methods.context.total_steps == 8
    for epoch in range(2):
        rows = [(x, y) for _, x, y in task.loader("train", 256, seed=0, epoch=epoch)]
        plain_loop(model, rows, epochs=1, optimizer=optimizer)
    assert same_bits(session.model.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": {"name": "adamw", "lr": 0.01}, "precision": "bf16", "schedule": "one_cycle"},
        {"precision": "fp16", "methods": ["EMA", "Mixup"]},
        {"methods": ["SAM", "LabelSmoothing", {"name": "SelectiveBackprop"}]},
    ],
)
def test_a_state_continues_exactly(change: dict[str, Any]) -> None:
    recipe = CONV.with_(**change)
    whole = Session(recipe, 3)
    with whole.attached():
        expected = run(whole, 8)
    first = Session(recipe, 3)
    with first.attached():
        begun = run(first, 3)
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1234)
    second = Session(recipe, 3)
    with second.attached():
        second.load_state_dict(torch.load(file, weights_only=True))
        assert begun + run(second, 5) == expected
    assert same_bits(whole.model.state_dict(), second.model.state_dict())
    assert same_bits(whole.optimizer.state_dict(), second.optimizer.state_dict())


def test_schedules_set_each_groups_rate_at_the_middle_of_the_step() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.4}])
    schedule = Schedule(optimizer, lambda progress: 1 - progress, 4)
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        schedule.step()
    assert rates == [pytest.approx([0.1 * f, 0.4 * f]) for f in (0.875, 0.625, 0.375, 0.125)]
    other = Schedule(optimizer, lambda progress: 1 - progress, 4)
    state = schedule.state_dict()
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_any_optimizer_by_name() -> None:
    for name in ("adam", "RMSprop", "nadam"):
        session = Session(CONV.with_(optimizer={"name": name, "lr": 0.001}), 0)
        assert type(session.optimizer).__name__.lower() == name.lower()
        with session.attached():
            assert run(session, 1)[0] > 0


def test_sessions_do_not_disturb_each_other() -> None:
    """As in a timing block: steps of several sessions in turn."""
    alone = Session(CONV, 0)
    with alone.attached():
        expected = run(alone, 4)
    one, two = Session(CONV, 0), Session(CONV.with_(ri.Mixup(), ri.EMA()), 1)
    with one.attached(), two.attached():
        epochs = [s.methods.batches(s.loader(0, 0)) for s in (one, two)]
        got = []
        for a, b in zip(*epochs, strict=True):
            got.append(float(one.step(a)))
            two.step(b)
    assert got == expected
    assert same_bits(alone.model.state_dict(), one.model.state_dict())
