"""The contract's rows of the methods in `surgery`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

from contract_case import Case
from reinvest import functional as ops
from reinvest.testing import HandLoop


class BlurByHand(HandLoop):
    def start(self):
        assert ops.replace_strided(self.model) == 2


class WarmByHand(HandLoop):
    def start(self):
        own = self.model.state_dict()
        self.model.load_state_dict(ops.shrink_perturb(own, own, keep=0.5, noise=0.2))


CASES = {
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
}
