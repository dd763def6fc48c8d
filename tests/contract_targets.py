"""The contract's rows of the methods in `targets`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

import torch

from contract_case import Case
from reinvest import functional as ops
from reinvest.testing import HandLoop


class SmoothByHand(HandLoop):
    def targets(self, y, output):
        return ops.smooth_labels(y, output, 0.2)


P_CLEAN = torch.tensor([(29 * i) % 48 / 48 for i in range(48)])


class CorrectByHand(HandLoop):
    """Averages the answers of earlier epochs by id."""

    def start(self):
        self.answers, self.met, self.now = torch.zeros(48, 4), torch.zeros(48, dtype=torch.bool), -1

    def batch(self, ids, x, y):
        if self.epoch != self.now:
            self.now, self.before = self.epoch, self.met.clone()
            self.said = self.answers.argmax(1).masked_fill(~self.met, -1)
        self.ids = ids
        return ids, x, y

    def targets(self, y, output):
        if self.progress < 0.3:
            return y
        return ops.correct_targets(y, output, y, self.said[self.ids], P_CLEAN[self.ids])

    def losses(self, losses, output, ids, x):
        said = output.detach().softmax(1)
        known = self.before[ids].unsqueeze(1)
        self.answers[ids] = torch.where(known, torch.lerp(said, self.answers[ids], 0.7), said)
        self.met[ids] = True
        return losses


CASES = {
    "LabelCorrection": Case(
        CorrectByHand,
        (
            {"start": -0.1},
            {"start": 1.5},
            {"decay": 1.0},
            {"decay": "slow"},
            {"noise": 1.0},
            {"noise": 0.2, "p_clean": [1.0]},
            {"p_clean": []},
            {"run": 3},
            {"run": []},
            {"run": "0123456789abcdef", "p_clean": [1.0]},
        ),
    ),
    "LabelSmoothing": Case(SmoothByHand, ({"alpha": -0.1}, {"alpha": 1.5}, {"alpha": "a lot"}, {"alpha": math.nan})),
}
