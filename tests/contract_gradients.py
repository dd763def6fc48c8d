"""The contract's rows of the methods in `gradients`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

import torch

from contract_case import Case
from reinvest import functional as ops
from reinvest.testing import HandLoop


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


CASES = {
    "GradientClipping": Case(ClipByHand, ({"norm": 0}, {"norm": -1}, {"value": 0.0}, {"norm": 1.0, "value": 0.5})),
    "SAM": Case(SamByHand, ({"rho": -0.1}, {"rho": math.inf}, {"interval": 0}, {"interval": 1.5})),
}
