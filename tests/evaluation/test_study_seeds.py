"""Studies whose recipes hold sources of randomness at seeds of their own come back from their plain values."""

from __future__ import annotations

from typing import Any

import pytest

import reinvest as ri
from reinvest.evaluation.study import Study

BASE = ri.Recipe(task="digits", model="mlp", duration="1ep")
HELD = {"init": 3, "order": 7}


@pytest.mark.parametrize(
    ("baseline", "arm"),
    [
        (BASE, BASE.with_(ri.EMA(), seeds=HELD)),
        (BASE.with_(seeds=HELD), BASE.with_(ri.EMA())),
        (BASE.with_(seeds=HELD), BASE.with_(ri.EMA(), seeds={"init": 4})),
        (BASE.with_(ri.EMA(), seeds=HELD), BASE.with_(ri.SWA())),
        (BASE.with_(ri.EMA()), BASE.with_(ri.SWA(), seeds=HELD)),
    ],
)
def test_seeds_of_sources_come_back(baseline: ri.Recipe, arm: ri.Recipe) -> None:
    study = Study(baseline=baseline, arms={"arm": arm}, durations=["1ep", "2ep", "4ep", "8ep"], seeds=3)
    values: dict[str, Any] = study.to_dict()
    again = Study.from_dict(values)
    assert again.arms["arm"] == arm and again.baseline.seeds == baseline.seeds  # type: ignore[union-attr]
    if not baseline.seeds and not arm.seeds:
        assert "seeds" not in values["baseline"] and "seeds" not in values["arms"]["arm"]
