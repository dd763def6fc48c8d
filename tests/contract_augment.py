"""The contract's rows of the methods in `augment`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import functools
import math

import torch

from contract_case import Case
from contract_setups import PerExampleLoop
from reinvest import functional as ops
from reinvest.core.streams import example_integers, example_uniform, stream
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


class PasteByHand(HandLoop):
    def batch(self, ids, x, y):
        draws = stream(self.setup.seed, "CutMix", self.epoch, self.step)
        partners = draws.permutation(len(x))
        box = ops.draw_box((8, 8), 1.0, draws)
        self.partners = y[partners]
        self.coefficients = torch.full((len(y),), ops.own_share(box, (8, 8)), dtype=torch.float64)
        return ids, ops.paste_box(x, partners, box), y

    def targets(self, y, output):
        return ops.mix_targets(y, self.partners, self.coefficients, output)


class CutByHand(HandLoop):
    def batch(self, ids, x, y):
        draw = functools.partial(example_integers, self.setup.seed, epoch=self.epoch, ids=ids, high=8)
        return ids, ops.cut_out(x, 0.5, torch.cat([draw("Cutout.row"), draw("Cutout.column")], 1)), y


class StripByHand(HandLoop):
    def batch(self, ids, x, y):
        if 0.6 <= self.progress < 0.9:
            draw = functools.partial(example_integers, self.setup.seed, epoch=self.epoch, ids=ids, high=8)
            return ids, ops.cut_out(x, 0.5, torch.cat([draw("StripCut.row"), draw("StripCut.column")], 1)), y
        share = ops.strip_share(self.progress, 0.5, 0.6, 2)
        if share == 0.0:
            return ids, x, y
        draws = stream(self.setup.seed, "StripCut", 0, self.step)
        axis = "columns" if draws.number() < 0.5 else "rows"
        pixels = ops.strip_pixels(8, share, 2)
        return ids, ops.strip_cut(x, math.floor(draws.number() * (9 - pixels)), pixels, axis), y


class DropLinesByHand(HandLoop):
    def batch(self, ids, x, y):
        draws = stream(self.setup.seed, "ColOut", self.epoch, self.step)
        return ids, ops.keep_lines(x, ops.draw_lines(8, 0.25, draws), ops.draw_lines(8, 0.5, draws)), y


class RandAugmentByHand(HandLoop):
    def batch(self, ids, x, y):
        kinds = 2 * len(ops.operation_names())
        drawn = example_integers(self.setup.seed, "RandAugment", self.epoch, ids, kinds, 2)
        return ids, ops.rand_augment(x, drawn, 9.0, torch.tensor([-0.5]), torch.tensor([1.5])), y


class AugMixByHand(HandLoop):
    def batch(self, ids, x, y):
        drawn = example_uniform(self.setup.seed, "AugMix", self.epoch, ids, ops.draws_needed(2))
        return ids, ops.aug_mix(x, drawn, torch.tensor([-0.5]), torch.tensor([1.5]), severity=8.0), y


class TruncateByHand(HandLoop):
    def batch(self, ids, x, y):
        length = ops.tokens_kept(8, ops.length_share(self.progress, 0.25, 0.8), 2)
        return ids, ops.truncate(x, length, (len(x), 8)), y


class HideByHand(PerExampleLoop):
    def batch(self, ids, x, y):
        def draw(name, high):
            return example_integers(self.setup.seed, f"MaskingRate.{name}", self.epoch, ids, high, x.shape[1])

        rate = ops.masking_rate(self.progress, 0.6, 0.3)
        tokens = ops.original_tokens(x, y)
        x, y = ops.hide_tokens(tokens, rate, draw, vocabulary=12, mask=1, specials=(0, 1))
        return super().batch(ids, x, y)


class ResizeByHand(HandLoop):
    def batch(self, ids, x, y):
        sizes = ops.image_sizes((8, 8), 0.5, 2)
        aim = ops.relative_size(self.progress, 0.5, 0.3, 0.3)
        return ids, ops.resize_images(x, sizes[math.floor((aim - 0.5) / 0.5 * 5 + 0.5)]), y


CASES = {
    "Mixup": Case(MixByHand, ({"alpha": -1}, {"alpha": math.inf}, {"alpha": None}, {"alpha": True})),
    "CutMix": Case(PasteByHand, ({"alpha": -1}, {"alpha": math.inf}, {"alpha": None}, {"alpha": True})),
    "Cutout": Case(
        CutByHand, ({"length": -1}, {"length": 1.5}, {"length": True}, {"length": "8"}, {"value": math.inf})
    ),
    "ColOut": Case(DropLinesByHand, ({"rows": 1.0}, {"rows": -0.1}, {"columns": True}, {"columns": "0.1"})),
    "RandAugment": Case(
        RandAugmentByHand,
        (
            {"operations": -1},
            {"operations": 1.5},
            {"magnitude": 11},
            {"magnitude": -1},
            {"geometry": 1},
            {"value_range": [1.0, 0.0]},
            {"value_range": [0.0]},
            {"value_range": [[0.0, 0.0], [1.0, 1.0, 1.0]]},
            {"value_range": 1.0},
        ),
    ),
    "AugMix": Case(
        AugMixByHand,
        (
            {"width": -1},
            {"width": 1.5},
            {"severity": 0},
            {"severity": 11},
            {"depth": 4},
            {"depth": -1},
            {"geometry": "no"},
            {"value_range": [1.0, 1.0]},
        ),
    ),
    "SequenceLengthWarmup": Case(
        TruncateByHand,
        (
            {"start": 0.0},
            {"start": 1.5},
            {"until": 0.0},
            {"until": 1.1},
            {"multiple": 0},
            {"multiple": 2.5},
            {"one_label": 1},
        ),
    ),
    "MaskingRate": Case(
        HideByHand,
        (
            {"start": 1.0},
            {"start": -0.1},
            {"start": 0.0},
            {"end": 0.0},
            {"mask": -1},
            {"specials": 0},
            {"vocabulary": 1},
            {"vocabulary": 2.5},
        ),
    ),
    "StripCut": Case(
        StripByHand,
        (
            {"strip": 1.0},
            {"strip": -0.1},
            {"switch": 1.5},
            {"switch": 0.7, "finetune": 0.5},
            {"finetune": -0.1},
            {"hole": 1.1},
            {"axis": "diagonal"},
            {"multiple": 0},
        ),
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
