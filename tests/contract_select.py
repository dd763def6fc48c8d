"""The contract's rows of the methods in `select`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from contract_case import Case
from reinvest import functional as ops
from reinvest.core.streams import stream
from reinvest.testing import HandLoop


class SelectByHand(HandLoop):
    def batch(self, ids, x, y):
        if not 0.2 <= self.progress < 0.9 or self.step % 3 == 2:
            return ids, x, y
        with ops.looking(self.model):
            losses = F.cross_entropy(self.model(ops.resize_images(x, (4, 4))), y, reduction="none")
        rows = ops.select_by_loss(losses, 0.5, stream(self.setup.seed, "SelectiveBackprop", self.epoch, self.step))
        return ids[rows], x[rows], y[rows]


SCORES = torch.tensor([(29 * i) % 48 / 48 for i in range(48)])


class SubsetByHand(HandLoop):
    def batch(self, ids, x, y):
        if self.progress >= 0.8:
            return ids, x, y
        cap = ops.capped(SCORES, lowest=0.95)
        chosen = ops.choose_subset(SCORES, 0.5, cap=cap, seed=self.setup.seed, epoch=self.epoch)
        rows = torch.isin(ids, chosen)
        return ids[rows], x[rows], y[rows]


class CurriculumByHand(HandLoop):
    def batch(self, ids, x, y):
        order = ops.order_from(SCORES, "easy first", seed=self.setup.seed)
        rows = order[ids] < ops.open_share(self.progress, 0.4, 0.8)
        return ids[rows], x[rows], y[rows]


P_CLEAN = torch.tensor([(29 * i) % 48 / 48 for i in range(48)])
IRREDUCIBLE = 2.0 * P_CLEAN


class ScoreByHand(HandLoop):
    """Scores the whole batch at full size, and keeps what `rows` says."""

    def rows(self, ids, losses):
        raise NotImplementedError

    def batch(self, ids, x, y):
        if self.progress >= 0.8:
            return ids, x, y
        with ops.looking(self.model):
            losses = F.cross_entropy(self.model(x), y, reduction="none")
        rows = self.rows(ids, losses)
        return ids[rows], x[rows], y[rows]


class PrioritizeByHand(ScoreByHand):
    def rows(self, ids, losses):
        return ops.highest_rows(ops.priorities(P_CLEAN[ids], losses.neg().exp()), 0.5)


class ReduceByHand(ScoreByHand):
    def rows(self, ids, losses):
        return ops.select_reducible(losses, IRREDUCIBLE[ids], 0.5)


CASES = {
    "SelectiveBackprop": Case(
        SelectByHand,
        (
            {"keep": 0},
            {"keep": 1.1},
            {"scale": 2},
            {"scale": 0},
            {"start": 0.9, "end": 0.1},
            {"start": -1},
            {"period": 1},
            {"period": -2},
        ),
    ),
    "PrioritizedTraining": Case(
        PrioritizeByHand,
        (
            {"keep": 0},
            {"keep": 1.5},
            {"scale": 0},
            {"start": 0.9, "end": 0.1},
            {"period": 1},
            {"noise": -0.1},
            {"p_clean": []},
            {"run": 3},
            {"run": "0123456789abcdef", "p_clean": [1.0]},
            {"noise": 0.1, "p_clean": [1.0]},
        ),
    ),
    "ReducibleLossSelection": Case(
        ReduceByHand,
        (
            {"keep": 0},
            {"keep": 1.5},
            {"scale": 2},
            {"start": -1},
            {"period": -1},
            {"scores": None},
            {"scores": []},
            {"run": 3, "scores": None},
            {"run": "0123456789abcdef", "scores": [1.0]},
        ),
        needed={"scores": [1.0]},
    ),
    "Subset": Case(
        SubsetByHand,
        (
            {"share": 0.0},
            {"share": 1.5},
            {"share": True},
            {"replay": -0.1},
            {"replay": 1.1},
            {"cap": 0},
            {"cap": 2},
            {"until": 1.5},
            {"balance": 1},
            {"scores": None},
            {"run": "0123456789abcdef", "scores": [1.0]},
            {"run": 3, "scores": None},
            {"run": [], "scores": None},
            {"scores": []},
            {"balance": True},
        ),
        needed={"scores": [1.0]},
    ),
    "Curriculum": Case(
        CurriculumByHand,
        (
            {"start": 0.0},
            {"start": 1.5},
            {"until": -0.1},
            {"until": 2},
            {"balance": "yes"},
            {"run": True, "scores": None},
        ),
        needed={"scores": [1.0]},
    ),
}
