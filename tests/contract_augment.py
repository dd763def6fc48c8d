"""The contract's rows of the methods in `augment`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import functools
import math

import torch

from contract_case import Case
from reinvest import functional as ops
from reinvest.core.streams import example_integers, stream
from reinvest.testing import HandLoop


class MixByHand(HandLoop):
    def batch(self, ids, x, y):
        draws = stream(self.setup.seed, "Mixup", self.epoch, self.step)
        x, partners, c = ops.mix_examples(x, 1.0, draws)
        self.partners = y[partners]
        self.coefficients = torch.full((len(y),), c, dtype=torch.float64)
        return ids, x, y

    def targets(self, y, output):
        return ops.mix_targets(y, self.partners, self.coefficients, output)


class CutByHand(HandLoop):
    def batch(self, ids, x, y):
        draw = functools.partial(example_integers, self.setup.seed, epoch=self.epoch, ids=ids, high=8)
        return ids, ops.cut_out(x, 0.5, torch.cat([draw("Cutout.row"), draw("Cutout.column")], 1)), y


class ResizeByHand(HandLoop):
    def batch(self, ids, x, y):
        sizes = ops.image_sizes((8, 8), 0.5, 2)
        aim = ops.relative_size(self.progress, 0.5, 0.3, 0.3)
        return ids, ops.resize_images(x, sizes[math.floor((aim - 0.5) / 0.5 * 5 + 0.5)]), y


CASES = {
    "Mixup": Case(MixByHand, ({"alpha": -1}, {"alpha": math.inf}, {"alpha": None}, {"alpha": True})),
    "Cutout": Case(
        CutByHand, ({"length": -1}, {"length": 1.5}, {"length": True}, {"length": "8"}, {"value": math.inf})
    ),
    "ProgressiveResizing": Case(
        ResizeByHand,
        (
            {"start": 0},
            {"start": 1.2},
            {"delay": 0.7, "finetune": 0.5},
            {"finetune": -0.1},
            {"multiple": 0},
            {"multiple": 2.5},
            {"mode": "nearest"},
        ),
    ),
}
