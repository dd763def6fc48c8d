"""The contract's rows of the methods in `weights`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

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
}
