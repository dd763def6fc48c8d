"""What a study would cost is told from a few trial steps, which lie all over the run."""

from __future__ import annotations

from typing import Any

import pytest

import reinvest as ri
from reinvest.evaluation.estimate import probe
from reinvest.evaluation.execute import Machine

RECIPE = ri.Recipe(task="digits", model={"name": "mlp", "hidden": [8]}, batch_size=256, duration="40st")


def seconds(monkeypatch: pytest.MonkeyPatch, step: Any) -> float:
    """The price of a step where the k-th of the trial steps takes step(share of the run)."""
    monkeypatch.setattr(
        "reinvest.loop.trial.trial_seconds", lambda session, count, warmup=0: [step(k / count) for k in range(count)]
    )
    return probe(RECIPE, Machine(1, 1, "cpu"))[0]


def test_a_run_whose_steps_grow_dearer_costs_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds(monkeypatch, lambda share: 1.0) == 1.0
    # Half of the steps at a quarter: 0.625 in truth, where their median is a quarter or the whole.
    assert seconds(monkeypatch, lambda share: 0.25 if share < 0.5 else 1.0) == pytest.approx(0.625)


def test_one_disturbed_step_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds(monkeypatch, lambda share: 100.0 if share == 0.25 else 1.0) == 1.0
