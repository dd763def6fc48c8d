"""The contract's rows of the methods in `losses`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

import torch

from contract_case import Case
from contract_select import SCORES
from reinvest import functional as ops
from reinvest.testing import HandLoop


def wise_model() -> torch.nn.Module:
    """A teacher that needs no training: it reads the class out of the pictures' first channel."""

    class Wise(torch.nn.Module):
        def forward(self, pixel_values):
            level = pixel_values[:, 0].mean((1, 2)).unsqueeze(1) * 4
            return -2.0 * (level - torch.arange(4.0, device=level.device)).square()

    return Wise()


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


CASES = {
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
    "Weighting": Case(
        WeighByHand,
        ({"strength": 1.5}, {"strength": -2}, {"strength": math.nan}, {"until": 1.1}, {"anneal": 1}, {"scores": None}),
        needed={"scores": [1.0]},
    ),
}
