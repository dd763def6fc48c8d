"""Which methods look ahead to the end of the run, by their arguments; that others do not is clause 13 of the contract."""

from __future__ import annotations

from typing import Any

import pytest

from reinvest.core.names import catalogue


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("EMA", {}, True),
        ("EMA", {"half_life": "20st"}, False),
        ("EMA", {"decay": 0.9}, False),
        ("Subset", {"scores": [0.1]}, False),
        ("Subset", {"scores": [0.1], "until": 0.5}, True),
        ("SelectiveBackprop", {}, True),
        ("SelectiveBackprop", {"start": 0.0, "end": 1.0}, False),
        ("Weighting", {"scores": [0.1]}, True),
        ("Weighting", {"scores": [0.1], "anneal": False}, False),
        ("Distill", {"teacher": "a" * 16}, True),
        ("Distill", {"teacher": "a" * 16, "weight": [0.5, 0.5]}, False),
        ("Distill", {"teacher": "a" * 16, "weight": [0.5, 0.5], "until": "0.5"}, True),
        ("Distill", {"teacher": "a" * 16, "weight": [0.5, 0.5], "until": "2ep"}, False),
        ("ProgressiveResizing", {}, True),
        ("LabelSmoothing", {}, False),
    ],
)
def test_whether_a_method_looks_ahead_hangs_on_its_arguments(
    name: str, arguments: dict[str, Any], expected: bool
) -> None:
    assert catalogue("method")[name](**arguments).horizon is expected
