"""Averages of models whose buffers hold infinities, and times that are shares of a run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import reinvest as ri
from reinvest.methods.weights.lawa import LAWA


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)
        self.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))
        self.register_buffer("level", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.level += 1.0
        return self.fc(self.mask.softmax(1).mean() * x)


@pytest.mark.parametrize("method", [ri.EMA("2st"), ri.LAWA(3, "1st"), ri.SWA(0.2, every="1st")], ids=lambda m: m.name)
def test_a_mask_of_infinities_stays_and_other_buffers_are_averaged(method):
    torch.manual_seed(0)
    model = Masked()
    mask = model.mask.clone()
    data = [(torch.randn(4, 8), torch.randint(3, (4,))) for _ in range(8)]
    chain = ri.Methods(method)
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            chain.step()
        with chain.averaged():
            assert torch.equal(model.mask, mask) and 0 < float(model.level) < 8
    assert torch.equal(model.mask, mask)
    assert bool(model(torch.randn(2, 8)).isfinite().all())


@pytest.mark.parametrize(("share", "first"), [(0.55, 55), (0.07, 7), (0.29, 29), (0.0, 0), (1.0, 100)])
def test_a_share_of_the_run_is_the_step_that_it_says(share, first):
    method, data = LAWA(1, "1st", start=share), [(torch.randn(4, 8), torch.randint(3, (4,)))] * 100
    model = Masked()
    chain = ri.Methods(method)
    chain.reports = False  # nothing is trained here
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=data, seed=0):
        times = [step for step in range(101) if method.due(step, 100)]
    assert times[0] == first
