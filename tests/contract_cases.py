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


class WarmByHand(HandLoop):
    def start(self):
        own = self.model.state_dict()
        self.model.load_state_dict(ops.shrink_perturb(own, own, keep=0.5, noise=0.2))


class LatestByHand(HandLoop):
    def start(self):
        self.current = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        self.snapshots = []

    def weights(self):
        if (self.setup.total_steps - self.step) % 2 == 0:
            self.snapshots.append([t.clone() for t in self.current])

    def finish(self):
        for current, mean in zip(self.current, ops.mean_tensors(self.snapshots[-3:]), strict=True):
            current.copy_(mean)


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


class WeighByHand(HandLoop):
    def losses(self, losses, output, ids, x):
        if self.progress >= 0.8:
            return losses
        return losses * ops.weights_from(SCORES, 0.8 * (1.0 - self.progress / 0.8))[ids]


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    function_form: type[HandLoop]
    bad: tuple[dict[str, Any], ...]
    example: dict[str, Any] | None = None
    """Arguments that act, where the class has none that work everywhere."""
    needed: dict[str, Any] | None = None
    """Arguments that must be there, whatever else is given."""

    def acting(self, method: type[Any]) -> dict[str, Any]:
        """Arguments with which the method acts."""
        return dict(method.example if self.example is None else self.example)


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
        {"teacher": "contract_cases:wise_model", "source": "forward", "temperature": 2.0},
        {"teacher": "contract_cases:wise_model"},
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
    "Weighting": Case(
        WeighByHand,
        ({"strength": 1.5}, {"strength": -2}, {"strength": math.nan}, {"until": 1.1}, {"anneal": 1}, {"scores": None}),
        needed={"scores": [1.0]},
    ),
    "BlurPool": Case(BlurByHand, ({"replace_convs": 1}, {"replace_maxpools": "yes"})),
    "WarmStart": Case(
        WarmByHand,
        (
            {"run": 3},
            {"run": {"weight": "<Tensor>"}},
            {"run": None, "keep": -0.1},
            {"run": None, "keep": 1.1},
            {"run": None, "noise": -1},
            {"run": None, "noise": math.nan},
            {"run": None, "heads": "old"},
            {"run": None, "method": "ice", "keep": 0.3},
            {"run": None, "method": "dash", "keep": 1},
            {"run": None, "norms": "yes"},
        ),
    ),
    "LAWA": Case(
        LatestByHand,
        (
            {"last": 0},
            {"last": 2.5},
            {"every": "0st"},
            {"every": "10min"},
            {"every": "12parsecs"},
            {"start": -0.1},
            {"start": 1.5},
        ),
    ),
}


@functools.lru_cache(maxsize=1)
def pair_of_all() -> dict[str, list[dict[str, Any]]]:
    """Every method's results on two processes; one pair of them runs all methods."""
    found = run_pair([(m, CASES[n].acting(m)) for n, m in catalog.items()], MethodContract.setup.plain())
    return dict(zip(catalog, found, strict=True))
