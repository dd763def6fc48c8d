"""Decoupled weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict
from reinvest.methods.gradients.nm_sparsity import NMSparsity
from reinvest.methods.gradients.weight_decay import DecoupledWeightDecay, decay_weights
from reinvest.methods.weights.layer_freezing import LayerFreezing
from reinvest.testing import HandLoop, Setup


@dataclass(frozen=True)
class With(Setup):
    """The setup with another optimizer."""

    kind: Any = torch.optim.SGD
    settings: tuple[tuple[str, Any], ...] = (("lr", 0.1),)

    def optimizer(self, model):
        return self.kind(model.parameters(), **dict(self.settings))


@pytest.mark.parametrize("foreach", [False, True])
def test_adam_with_it_is_torchs_adamw_bit_for_bit(foreach):
    settings = (("lr", 0.02), ("foreach", foreach), ("weight_decay", 0))
    plain = With(kind=torch.optim.Adam, settings=settings)
    theirs = With(kind=torch.optim.AdamW, settings=(*settings, ("weight_decay", 0.3)))
    found = ChainLoop(plain, [DecoupledWeightDecay(0.3, matrices_only=False)]).run().result()["model"]
    assert differences(found, HandLoop(theirs).run().result()["model"]) == []


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_it_is_the_papers_sgdw(nesterov):
    """m <- beta m + g, w <- w - rate m - rate decay w: the decay is in no momentum."""

    class ByFormula(HandLoop):
        def run(self):
            self.setup.seed_dropout()
            momentum = {}
            for epoch in range(self.setup.epochs):
                for _, x, y in self.setup.loader(epoch):
                    torch.nn.functional.cross_entropy(self.model(x), y).backward()
                    for p in self.model.parameters():
                        momentum[p] = 0.9 * momentum[p] + p.grad if p in momentum else p.grad.clone()
                        move = p.grad + 0.9 * momentum[p] if nesterov else momentum[p]
                        p.data = p.data - 0.1 * move - 0.1 * 0.3 * p.data
                        p.grad = None
            return self

    setup = With(settings=(("lr", 0.1), ("momentum", 0.9), ("nesterov", nesterov)), dtype=torch.float64)
    found = ChainLoop(setup, [DecoupledWeightDecay(0.3, matrices_only=False)]).run().result()["model"]
    assert distance(found, ByFormula(setup).run().result()["model"]) < 1e-12
    coupled = With(settings=(*setup.settings, ("weight_decay", 0.3)), dtype=torch.float64)
    assert distance(found, HandLoop(coupled).run().result()["model"]) > 1e-3, "L2 in the gradient is another method"


def test_it_follows_the_rate_of_the_step_in_each_group():
    setup = With(settings=(("lr", 0.0),))
    loop = ChainLoop(setup, [DecoupledWeightDecay(0.5)])
    body, head = list(loop.model.body.parameters()), list(loop.model.head.parameters())
    loop.optimizer = torch.optim.SGD([{"params": body}, {"params": head}], lr=0.0)
    with loop.attached():
        for step, rates in enumerate(((0.1, 0.0), (0.0, 0.2))):
            for parameter in (*body, *head):
                parameter.grad = torch.zeros_like(parameter)
            for group, rate in zip(loop.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            before = [p.detach().clone() for p in (body[0], head[0])]
            loop.chain.step()
            for p, value, rate in zip((body[0], head[0]), before, rates, strict=True):
                assert torch.equal(p, value * (1 - rate * 0.5)), step
        with loop.chain.averaged():
            pass


def test_biases_and_gains_are_left_alone_unless_asked():
    for only, moved in ((True, {2, 4}), (False, {1, 2, 4})):
        loop = ChainLoop(Setup(), [DecoupledWeightDecay(0.5, matrices_only=only)])
        with loop.attached():
            before = [p.detach().clone() for p in loop.model.parameters()]
            for parameter in loop.model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            loop.chain.step()
        changed = {p.ndim for p, b in zip(loop.model.parameters(), before, strict=True) if not torch.equal(p, b)}
        assert changed == moved


def test_parameters_without_a_gradient_and_frozen_ones_are_left_alone():
    loop = ChainLoop(Setup(), [LayerFreezing(0.0, share=0.4, stages=1), DecoupledWeightDecay(0.5)])
    before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    loop.run()
    same = {n for n, p in loop.model.named_parameters() if torch.equal(p, before[n])}
    assert same == {"body.0.weight", "body.0.bias"}


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_that_decays_already_is_refused(kind):
    """AdamW decays by default."""
    settings = (("lr", 0.1),) if kind is torch.optim.AdamW else (("lr", 0.1), ("weight_decay", 1e-4))
    loop = ChainLoop(With(kind=kind, settings=settings), [DecoupledWeightDecay(0.1)])
    with pytest.raises(Conflict, match=rf"got {kind.__name__} with weight_decay=.*; give the optimizer weight_decay=0"):
        loop.run()
    assert not loop.optimizer._optimizer_step_pre_hooks
    ChainLoop(With(kind=kind, settings=settings), [DecoupledWeightDecay(0.0)]).run()
    with pytest.raises(Conflict, match="weight_decay there"):
        Methods(DecoupledWeightDecay(), NMSparsity())


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_scaler_skips_decays_nothing(fused):
    """A fused optimizer is called even for a step that it skips."""
    loop = ChainLoop(Setup(), [DecoupledWeightDecay(0.5)], scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
    loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.1, momentum=0.9, fused=fused)
    with loop.attached():
        loop.train(until=2)
        before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
        for x, y in loop.chain.batches(loop.setup.loader(1)):
            loop.scaler.scale(loop.chain.loss(loop.model(x) * math.inf, y)).backward()
            assert loop.chain.step() is False
            break
        assert differences(dict(loop.model.named_parameters()), before) == []
    plain = ChainLoop(Setup(), [DecoupledWeightDecay(0.5)]).run().result()["model"]
    scaled = ChainLoop(Setup(), [DecoupledWeightDecay(0.5)], scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
    scaled.optimizer = torch.optim.SGD(scaled.model.parameters(), lr=0.1, momentum=0.9, fused=fused)
    assert distance(scaled.run().result()["model"], plain) < 1e-6


def test_steps_outside_the_chain_are_not_its_business():
    loop = ChainLoop(Setup(), [DecoupledWeightDecay(0.5)])
    loop.chain.reports = False
    with loop.attached():
        before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
        for parameter in loop.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        loop.optimizer.step()
        assert differences(dict(loop.model.named_parameters()), before) == []


class Nested(torch.optim.SGD):
    """An optimizer whose step calls that of its base class: hooks run twice."""

    def step(self, closure=None):
        return super().step(closure)


def test_weights_decay_once_where_hooks_run_twice():
    plain = ChainLoop(With(settings=(("lr", 0.1),)), [DecoupledWeightDecay(0.5)]).run().result()["model"]
    nested = ChainLoop(With(kind=Nested, settings=(("lr", 0.1),)), [DecoupledWeightDecay(0.5)]).run().result()["model"]
    assert differences(nested, plain) == []


def test_the_function():
    values = [torch.tensor([2.0, -4.0]), torch.tensor([[1.0]])]
    decay_weights(values, 0.5, 0.5)
    decay_weights(values, 0.5, 0.0)
    decay_weights([], 0.5, 0.5)
    assert values[0].tolist() == [1.5, -3.0] and values[1].tolist() == [[0.75]]
