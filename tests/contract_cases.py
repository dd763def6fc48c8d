"""One entry a method: arguments that must be refused, and a hand-written loop that uses its plain functions."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from reinvest import functional as ops
from reinvest._testing.pair import run_pair
from reinvest.core.streams import example_integers, stream
from reinvest.methods._catalog import catalog
from reinvest.testing import HandLoop, MethodContract


class SmoothByHand(HandLoop):
    def targets(self, y, output):
        return ops.smooth_labels(y, output, 0.2)


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


class SelectByHand(HandLoop):
    def batch(self, ids, x, y):
        if not 0.2 <= self.progress < 0.9 or self.step % 3 == 2:
            return ids, x, y
        with ops.looking(self.model):
            losses = F.cross_entropy(self.model(ops.resize_images(x, (4, 4))), y, reduction="none")
        rows = ops.select_by_loss(losses, 0.5, stream(self.setup.seed, "SelectiveBackprop", self.epoch, self.step))
        return ids[rows], x[rows], y[rows]


class ClipByHand(HandLoop):
    def gradients(self, again):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)


class SamByHand(HandLoop):
    def gradients(self, again):
        if self.step % 2:
            return
        held = list(self.model.parameters())
        kept = [p.detach().clone() for p in held]
        assert ops.climb(held, [p.grad for p in held], 0.5)
        again()
        for p, value in zip(held, kept, strict=True):
            p.data.copy_(value)


class AverageByHand(HandLoop):
    def start(self):
        self.current = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self.current]

    def weights(self):
        ops.update_average(self.average, self.current, ops.decay_of(3))

    def finish(self):
        for current, average in zip(self.current, self.average, strict=True):
            current.copy_(average)


class BlurByHand(HandLoop):
    def start(self):
        assert ops.replace_strided(self.model) == 2


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    function_form: type[HandLoop]
    bad: tuple[dict[str, Any], ...]


CASES = {
    "LabelSmoothing": Case(SmoothByHand, ({"alpha": -0.1}, {"alpha": 1.5}, {"alpha": "a lot"}, {"alpha": math.nan})),
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
    "GradientClipping": Case(ClipByHand, ({"norm": 0}, {"norm": -1}, {"value": 0.0}, {"norm": 1.0, "value": 0.5})),
    "SAM": Case(SamByHand, ({"rho": -0.1}, {"rho": math.inf}, {"interval": 0}, {"interval": 1.5})),
    "EMA": Case(
        AverageByHand,
        (
            {"decay": 1.0},
            {"decay": -0.1},
            {"half_life": "0st"},
            {"half_life": "10min"},
            {"half_life": "5ep", "decay": 0.9},
            {"half_life": "12parsecs"},
        ),
    ),
    "BlurPool": Case(BlurByHand, ({"replace_convs": 1}, {"replace_maxpools": "yes"})),
}


@functools.lru_cache(maxsize=1)
def pair_of_all() -> dict[str, list[dict[str, Any]]]:
    """Every method's results on two processes; one pair of them runs all methods."""
    found = run_pair([(method, dict(method.example)) for method in catalog.values()], MethodContract.setup.plain())
    return dict(zip(catalog, found, strict=True))
