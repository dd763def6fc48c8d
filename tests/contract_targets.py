"""The contract's rows of the methods in `targets`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

from contract_case import Case
from reinvest import functional as ops
from reinvest.testing import HandLoop


class SmoothByHand(HandLoop):
    def targets(self, y, output):
        return ops.smooth_labels(y, output, 0.2)


CASES = {
    "LabelSmoothing": Case(SmoothByHand, ({"alpha": -0.1}, {"alpha": 1.5}, {"alpha": "a lot"}, {"alpha": math.nan})),
}
