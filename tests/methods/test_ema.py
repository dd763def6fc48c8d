"""Exponential moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop
from reinvest.core.errors import InvalidValue
from reinvest.methods.weights.ema import EMA, decay_of, update_average
from reinvest.testing import Setup


def test_the_average_is_the_closed_form():
    """After n steps: decay^n x start + (1 - decay) x sum of decay^(n-k) x weights_k."""
    history = []

    class Watching(EMA):
        """Average that is watched."""

        def weights(self, context):
            """Update and note."""
            history.append([p.detach().double().clone() for p in context.model.parameters()])
            super().weights(context)

    loop = ChainLoop(Setup(), [Watching(decay=0.8)])
    start = [p.detach().double().clone() for p in loop.model.parameters()]
    loop.run()
    count = len(history)
    for k, parameter in enumerate(loop.model.parameters()):
        wanted = 0.8**count * start[k] + 0.2 * sum(0.8 ** (count - 1 - n) * h[k] for n, h in enumerate(history))
        assert torch.allclose(parameter.double(), wanted, atol=1e-6)


def test_half_lives_are_durations():
    loop = ChainLoop(Setup(), [])
    with loop.attached():
        for half_life, steps in (("4st", 4), ("2ep", 6), ("0.5", 4), (0.5, 4), ("0.01", 1)):
            assert EMA(half_life).decay_per_step(loop.chain.context) == pytest.approx(0.5 ** (1 / steps))
        loop.train()
    assert decay_of(1) == 0.5 and decay_of(10) ** 10 == pytest.approx(0.5)


def test_a_half_life_halves_the_distance():
    average = [torch.zeros(3)]
    for _ in range(7):
        update_average(average, [torch.ones(3)], decay_of(7))
    assert torch.allclose(average[0], torch.tensor(0.5))


def test_decay_zero_is_the_current_weights_bit_for_bit():
    current = [torch.tensor([1e-30, -0.0, 3.1415927, 1e30])]
    average = [torch.full((4,), 1e30)]
    update_average(average, current, 0.0)
    assert torch.equal(average[0].view(torch.int32), current[0].view(torch.int32))


def test_evaluation_sees_the_average_and_training_does_not():
    loop = ChainLoop(Setup(), [EMA(decay=0.9)])
    with loop.attached():
        loop.train(until=4)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
        with loop.chain.averaged():
            inside = {n: t.clone() for n, t in loop.model.state_dict().items()}
        assert differences(dict(loop.model.state_dict()), own) == []
        changed = set(differences(inside, own))
        assert changed == {f"/{n}" for n in own if "num_batches" not in n}, (
            "floating buffers are averaged, counts are not"
        )
        loop.train()
        with loop.chain.averaged():
            evaluated = {n: t.clone() for n, t in loop.model.state_dict().items()}
    assert differences(dict(loop.model.state_dict()), evaluated) == [], "what is kept is what was evaluated"


def test_the_average_of_16_bit_weights_is_kept_in_32():
    model = nn.Linear(2, 2).bfloat16()
    method = EMA(decay=0.999)

    class Context:
        """Only what EMA reads."""

    context = Context()
    context.model, context.steps_per_epoch, context.total_steps = model, 1, 1
    method.start(context)
    with torch.no_grad():
        model.weight.fill_(1.0)
    before = method.averages()[0][1].clone()
    method.weights(context)
    average = method.averages()[0][1]
    assert average.dtype == torch.float32 and not torch.equal(average, before)
    assert torch.allclose(average, before + 0.001 * (1 - before), atol=1e-6)
    method.finish(context)
    assert model.weight.dtype == torch.bfloat16 and method.averages() == []


def test_averages_of_another_model_are_refused():
    first, second = ChainLoop(Setup(), [EMA(decay=0.5)]), ChainLoop(Setup(batch_norm=False), [EMA(decay=0.5)])
    with first.attached():
        first.train(until=1)
        state = first.chain.members[0].state_dict()
    with second.attached():
        with pytest.raises(InvalidValue, match="same model"):
            second.chain.members[0].load_state_dict(state)
        second.train()


def test_one_of_half_life_and_decay():
    with pytest.raises(InvalidValue, match="one of the two"):
        EMA("5ep", decay=0.9)
    assert EMA(decay=0.9).decay == 0.9 and EMA().decay is None
