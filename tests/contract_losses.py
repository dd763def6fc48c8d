"""The contract's rows of the methods in `losses`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

import torch

from contract_case import Case
from contract_select import SCORES
from reinvest import functional as ops
from reinvest.testing import HandLoop, Setup


def wise_model() -> torch.nn.Module:
    """A teacher that needs no training: it reads the class out of the pictures' first channel."""

    class Wise(torch.nn.Module):
        def forward(self, pixel_values):
            level = pixel_values[:, 0].mean((1, 2)).unsqueeze(1) * 4
            return -2.0 * (level - torch.arange(4.0, device=level.device)).square()

    return Wise()


class Clean:
    """The setup's examples in their order, with ids."""

    indexed = True

    def __iter__(self):
        x, y = Setup().data()
        for ids in torch.arange(len(y)).split(20):
            yield ids, x[ids], y[ids]

    def __len__(self):
        return 3

    examples = Setup().examples


class DistillByHand(HandLoop):
    def losses(self, losses, output, ids, x):
        share = 0.9 * (1 - self.step / self.setup.total_steps)
        with torch.no_grad():
            teacher = wise_model()(x)
        return torch.lerp(losses, ops.distillation_losses(output, teacher, temperature=2.0), share)


class WeighByHand(HandLoop):
    def losses(self, losses, output, ids, x):
        if self.progress >= 0.8:
            return losses
        return losses * ops.weights_from(SCORES, 0.8 * (1.0 - self.progress / 0.8))[ids]


class WatchByHand(HandLoop):
    """A loop that measures what the watch measures."""

    def start(self):
        self.signals = []

    def losses(self, losses, output, ids, x):
        self.loss = losses.detach().mean()
        return losses

    def gradients(self, again):
        norms = ops.measure_norms([p.grad for p in self.model.parameters()])
        self.signals.append(torch.stack([self.loss, norms.norm()]))

    def finish(self):
        self.z = torch.stack([ops.robust_z(signal, 8) for signal in torch.stack(self.signals, 1)])


CASES = {
    "CleanLosses": Case(
        HandLoop,  # it changes nothing
        ({"every": 0}, {"every": 1.5}, {"batch": 0}, {"batch": True}),
        {"loader": "contract_losses:Clean", "every": 2},
        {"loader": "contract_losses:Clean"},
    ),
    "Distill": Case(
        DistillByHand,
        (
            {"teacher": []},
            {"teacher": 3},
            {"weight": -0.1},
            {"weight": [0.5, 1.5]},
            {"weight": [0.1, 0.2, 0.3]},
            {"until": 0.0},
            {"until": 1.5},
            {"every": 0},
            {"every": 2.5},
            {"probability": 0.0},
            {"probability": 2},
            {"temperature": 0.0},
            {"temperature": -1},
            {"reweigh": 1},
        ),
        {"teacher": "contract_losses:wise_model", "source": "forward", "temperature": 2.0},
        {"teacher": "contract_losses:wise_model"},
    ),
    "SpikeWatch": Case(
        WatchByHand,
        (
            {"threshold": 0},
            {"threshold": math.nan},
            {"window": 7},
            {"window": 8.0},
            {"around": 11},
            {"check": 0},
            {"most": True},
        ),
    ),
    "Weighting": Case(
        WeighByHand,
        ({"strength": 1.5}, {"strength": -2}, {"strength": math.nan}, {"until": 1.1}, {"anneal": 1}, {"scores": None}),
        needed={"scores": [1.0]},
    ),
}
