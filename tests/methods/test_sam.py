"""Sharpness-aware minimisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods
from reinvest.core.errors import LoopError
from reinvest.methods.gradients.sam import SAM, climb
from reinvest.testing import Setup


def test_the_climb_has_length_rho_along_the_gradient():
    weights, gradients = [torch.zeros(3), torch.zeros(2, 2)], [torch.randn(3), torch.randn(2, 2)]
    for scale in (1.0, 2.0**16, 2.0**-16):
        moved = [w.clone() for w in weights]
        assert climb(moved, [g * scale for g in gradients], 0.3)
        assert math.hypot(*(float(m.norm()) for m in moved)) == pytest.approx(0.3, rel=1e-5)
        assert torch.allclose(moved[0] / moved[0].norm(), gradients[0] / gradients[0].norm(), atol=1e-6)


def test_the_gradient_is_that_of_the_climbed_point():
    """On a quadratic loss 0.5 a w^2 the gradient at w + rho sign(w) is a (w + rho sign(w))."""
    w = nn.Parameter(torch.tensor([[2.0]]))
    model = nn.Module()
    model.w = w
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    chain = Methods(SAM(0.5))
    loader = [(torch.ones(4, 1), torch.zeros(4))]
    with chain.attach(
        model, optimizer, duration="1ep", data=loader, seed=0, criterion=lambda o, t: 0.5 * 3 * (o[:, 0] - t) ** 2
    ):
        for x, y in chain.batches(loader):
            chain.step(lambda x=x, y=y: chain.loss(x @ w, y).backward())
    assert w.item() == pytest.approx(2.0 - 0.1 * 3 * 2.5)


def test_weights_are_put_back_exactly_before_the_step():
    setup = Setup()
    before = {}

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            before["at_step"] = [p.detach().clone() for group in self.param_groups for p in group["params"]]
            return super().step(closure)

    loop = ChainLoop(setup, [SAM(0.5)])
    loop.optimizer = Spy(loop.model.parameters(), lr=0.0)
    initial = [p.detach().clone() for p in loop.model.parameters()]
    loop.run()
    assert differences(before["at_step"], initial) == []


def test_the_second_pass_leaves_buffers_and_generator_as_after_the_first():
    """Batch norm's statistics move once per step, and dropout draws the same masks twice, once from the stream."""
    setup = Setup(epochs=1, examples=16)
    plain, sharp = ChainLoop(setup, []), ChainLoop(setup, [SAM(0.5)])
    after = []
    for loop in (plain, sharp):
        loop.run()
        after.append((dict(loop.model.named_buffers()), torch.get_rng_state()))
    assert differences(after[0], after[1]) == []
    assert int(sharp.model.body[1].num_batches_tracked) == 1


def test_both_passes_see_the_same_dropout_masks():
    setup = Setup(epochs=1, batch_norm=False, dropout=0.5)
    loop = ChainLoop(setup, [SAM(0.1)])
    masks = []
    loop.model.dropout.register_forward_hook(lambda m, i, o: masks.append((o != 0) | (i[0] == 0)))
    loop.run()
    assert len(masks) == 6
    # Where an activation is zero in either pass its mask cannot be told; elsewhere the masks agree.
    for one, two in zip(masks[::2], masks[1::2], strict=True):
        assert float((one == two).float().mean()) > 0.95
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_not_finite_skip_both_halves(bad):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    calls = []
    loader = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))] * 2
    chain = Methods(SAM(0.1))
    with chain.attach(model, optimizer, duration="1ep", data=loader, seed=0, scaler=scaler):
        before = [p.detach().clone() for p in model.parameters()]
        for k, (x, y) in enumerate(chain.batches(loader)):

            def closure(x=x, y=y, k=k):
                calls.append(k)
                loss = chain.loss(model(x), y) * (bad if k == 0 else 1.0)
                scaler.scale(loss).backward()

            done = chain.step(closure)
            if k == 0:
                assert not done and calls == [0] and chain.context.step == 0
                assert differences([p.detach() for p in model.parameters()], before) == []
                assert scaler.get_scale() == 2.0
        assert done and calls == [0, 1, 1]


def test_zero_gradients_are_a_plain_step():
    model = nn.Linear(2, 2)
    loader = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))]
    chain = Methods(SAM(0.1))
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=loader, seed=0):
        for x, y in chain.batches(loader):
            assert chain.step(lambda x=x, y=y: (chain.loss(model(x), y) * 0).backward())
    assert not climb([torch.zeros(2)], [torch.zeros(2)], 0.1) and not climb([], [], 0.1)


def test_interval_alternates_one_and_two_passes():
    loop = ChainLoop(Setup(), [SAM(0.1, interval=3)])
    count = []
    loop.model.register_forward_hook(lambda *_: count.append(loop.chain.context.step))
    loop.run()
    assert [count.count(step) for step in range(9)] == [2, 1, 1] * 3
    context = type("C", (), {"step": 3})()
    assert SAM(0.1, interval=3).kind(context) == "two passes" and SAM(0.1, interval=2).kind(context) == "one pass"


def test_no_closure_is_refused_with_the_lines_to_write():
    model = nn.Linear(2, 2)
    loader = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))]
    chain = Methods(SAM(0.1))
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=loader, seed=0):
        for x, y in chain.batches(loader):
            chain.loss(model(x), y).backward()
            with pytest.raises(LoopError, match="def closure"):
                chain.step()
