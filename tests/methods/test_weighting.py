"""Weights by an earlier run's losses."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nan, nn
from torch.nn import functional as F

from reinvest.core.batch import Batch, Mix
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.core.view import TaskView
from reinvest.methods.losses.weighting import Weighting, weights_from


def context_of(step, total=10):
    return types.SimpleNamespace(
        progress=step / total, device=torch.device("cpu"), seed=0, epoch=0, task=TaskView(examples=4)
    )


def test_weights_are_the_closed_form():
    scores = torch.tensor([30.0, 10.0, 40.0, 20.0])
    assert weights_from(scores, 1.0).tolist() == [1.25, 0.25, 1.75, 0.75]
    assert weights_from(scores, -1.0).tolist() == [0.75, 1.75, 0.25, 1.25]
    assert weights_from(scores, 0.5).tolist() == [1.125, 0.625, 1.375, 0.875]
    assert weights_from(scores, 0.0).tolist() == [1.0] * 4
    assert weights_from(scores.exp(), 0.5).tolist() == weights_from(scores, 0.5).tolist(), "ranks, not values"


@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 1000, 50_000])
def test_the_mean_weight_is_1(strength, count):
    scores = torch.randn(count, generator=torch.Generator().manual_seed(count)).round(decimals=2)
    weights = weights_from(scores, strength)
    assert weights.dtype == torch.float32
    assert float(weights.double().mean()) == pytest.approx(1.0, abs=1e-7)
    assert float(weights.min()) >= 1 - abs(strength) and float(weights.max()) <= 1 + abs(strength)
    for value in scores[:3]:
        assert len(weights[scores == value].unique()) == 1, "equal scores, equal weights"


def test_what_was_never_seen_weighs_1_and_changes_nobody():
    scores = torch.tensor([30.0, nan, 10.0, 40.0, nan, 20.0])
    weights = weights_from(scores, 1.0)
    assert weights.tolist() == [1.25, 1.0, 0.25, 1.75, 1.0, 0.75]
    part = weights_from(scores, 1.0, among=torch.tensor([0, 1, 2]))
    assert part.tolist() == [1.5, 1.0, 0.5, 1.0, 1.0, 1.0]


def test_renumbering_the_examples_renumbers_the_weights():
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))
    turn = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(weights_from(scores[turn]), weights_from(scores)[turn])


def test_what_gives_no_weights_is_refused():
    for bad in (
        {"scores": torch.zeros(2), "strength": 1.5},
        {"scores": torch.full((2,), nan)},
        {"scores": torch.zeros(2, 2)},
        {"scores": torch.zeros(2), "among": torch.tensor([2])},
    ):
        with pytest.raises(InvalidValue):
            weights_from(**bad)


def test_the_loss_is_the_weighted_mean():
    scores = [30.0, 10.0, None, 40.0, 20.0]
    ids = torch.tensor([4, 0, 2, 7, 1])
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 0, 1])

    class Loader(list):
        indexed, examples = True, 8

    loader, model = Loader([(ids, x, y)] * 4), nn.Linear(3, 3)
    chain, found = Methods(Weighting(scores=scores, strength=1.0, until=0.5)), []
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), duration="1ep", data=loader, seed=0):
        for inputs, targets in chain.batches(loader):
            loss = chain.loss(model(inputs), targets)
            found.append(loss.item())
            loss.backward()
            chain.step()
    losses = F.cross_entropy(model(x), y, reduction="none").detach()
    tilt = torch.tensor([-0.25, 0.25, 0.0, 0.0, -0.75])  # of ids 4, 0, 2 (never seen), 7 (grown), 1
    wanted = [float((losses * (1 + s * tilt)).mean()) for s in (1.0, 0.5, 0.0, 0.0)]
    assert found == pytest.approx(wanted, rel=1e-6)
    assert found[2] == float(losses.mean()), "the plain loss, bit for bit"


def test_annealing():
    line = Weighting(scores=[1.0], strength=-0.8, until=0.5)
    assert [line.strength_now(context_of(s)) for s in range(0, 11, 1)] == pytest.approx(
        [-0.8, -0.64, -0.48, -0.32, -0.16, 0, 0, 0, 0, 0, 0]
    )
    flat = Weighting(scores=[1.0], strength=0.8, until=0.5, anneal=False)
    assert [flat.strength_now(context_of(s)) for s in (0, 4, 5, 10)] == [0.8, 0.8, 0.0, 0.0]
    assert Weighting(scores=[1.0], until=0.0).strength_now(context_of(0)) == 0.0


def test_weights_of_blended_examples_are_blended():
    method = Weighting(scores=[30.0, 10.0, 40.0, 20.0], strength=1.0, anneal=False)
    context = context_of(0)
    method.start(context)
    x, ids = torch.zeros(2, 1), torch.tensor([0, 2])
    losses = torch.tensor([2.0, 4.0])
    mix = Mix(torch.zeros(2), torch.tensor([0.75, 0.75], dtype=torch.float64), torch.tensor([1, 3]))
    blended = method.losses(losses, x, Batch(x, None, ids, (x,), mix), context)
    assert blended.tolist() == [2 * (0.75 * 1.25 + 0.25 * 0.25), 4 * (0.75 * 1.75 + 0.25 * 0.75)]
    nameless = Mix(mix.partners, mix.coefficients)
    own = method.losses(losses, x, Batch(x, None, ids, (x,), nameless), context)
    assert own.tolist() == [2.5, 7.0], "partners without ids: the weight of the example itself"
    assert method.losses(losses.double(), x, Batch(x, None, ids, (x,)), context).dtype == torch.float64
    method.finish(context)


def test_strength_0_reads_nothing():
    method, losses = Weighting("0123456789abcdef", 0.0), torch.ones(2)
    method.start(context_of(0))
    x = torch.zeros(2, 1)
    assert method.losses(losses, x, Batch(x, None, torch.arange(2), (x,)), context_of(0)) is losses
    assert method.reuses() == [("0123456789abcdef", "data")]
