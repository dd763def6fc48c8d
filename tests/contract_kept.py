"""The contract for methods that keep the results as they are, and for those that find nothing in a model without norms."""

from __future__ import annotations

from typing import ClassVar

import pytest

from reinvest._testing.compare import distance
from reinvest._testing.loops import ChainLoop, HandLoop
from reinvest.testing import MethodContract


class KeptResultsContract(MethodContract):
    """For methods that save time or memory only; that they act is shown by their own tests."""

    def test_01_the_example_acts(self) -> None:
        """What it does is not to be seen in the weights."""
        method = self.make()
        loop = ChainLoop(self.setup, [method])
        with loop.attached():
            assert method.report()["replaced"]  # type: ignore[attr-defined]
            loop.train()
        assert distance(loop.result(), HandLoop(self.setup).run().result()) <= 1e-4


class NormOnlyContract(MethodContract):
    """For methods on batch norm: the clauses about splits of a batch use a model without, of which it is warned."""

    pytestmark: ClassVar = [pytest.mark.filterwarnings("ignore:the model has no batch norm")]
