"""The contract's rows of the methods in `weights`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import torch

from contract_case import Case
from reinvest import functional as ops
from reinvest.testing import HandLoop


class AverageByHand(HandLoop):
    def start(self):
        self.current = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self.current]

    def weights(self):
        ops.update_average(self.average, self.current, ops.decay_of(3))

    def finish(self):
        for current, average in zip(self.current, self.average, strict=True):
            current.copy_(average)


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


class StochasticByHand(HandLoop):
    def start(self):
        self.current = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        self.mean, self.count = [torch.empty_like(t) for t in self.current], 0

    def weights(self):
        if self.progress >= 0.3 and (self.setup.total_steps - self.step) % 2 == 0:
            self.count += 1
            ops.add_to_mean(self.mean, self.current, self.count)

    def finish(self):
        for current, mean in zip(self.current, self.mean, strict=True):
            current.copy_(mean)


class FreezeByHand(HandLoop):
    def weights(self):
        layers = ops.layers_in_order(self.model)
        count = ops.frozen_layers(self.progress, len(layers), start=0.3, share=0.8, stages=3)
        for parameter in (p for layer in layers[:count] for p in layer):
            parameter.requires_grad_(False).grad = None

    def finish(self):
        self.model.requires_grad_(True)


CASES = {
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
    "SWA": Case(
        StochasticByHand,
        (
            {"start": -0.1},
            {"start": 1.5},
            {"every": "0st"},
            {"every": "10min"},
            {"every": "12parsecs"},
        ),
    ),
    "LayerFreezing": Case(
        FreezeByHand,
        (
            {"start": -0.1},
            {"start": 1.5},
            {"share": -1},
            {"share": 2},
            {"stages": 0},
            {"stages": 7},
            {"stages": 2.5},
        ),
    ),
}
