"""The result of several workloads with every kind of entry, and names that are hostile."""

from __future__ import annotations

from typing import Any


def entry(verdict: str, speedup: float | None, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    ratio = 1 / speedup if speedup else 1 / low if low else None
    bound = speedup is None and low is not None
    return {"verdict": verdict, "speedup": speedup, "low": low, "high": high, "ratio": ratio, "bound": bound,
            "reason": "", **more}  # fmt: skip


def sample() -> dict[str, Any]:
    """Two arms on three workloads, one of them with a mean."""
    none = {"speedup": None, "low": None, "high": None, "workloads": 3, "reason": "no claim: <few>"}
    return {
        "schema": 1,
        "kind": "workloads",
        "title": "a <b>title</b>",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "baseline": "plain",
        "level": 0.95,
        "workloads": [
            {"name": "birds <1>", "title": "t", "metric": "accuracy",
             "arms": {"a": entry("better", 1.25, 1.1, 1.4), "<i>b": entry("worse", 0.5, 0.4, 0.6)}},
            {"name": "fish", "title": "t", "metric": "loss",
             "arms": {"a": entry("better", None, 4.0, None, reason="beyond"), "<i>b": entry("inconclusive", 1.0, 0.9, 1.2)}},
            {"name": "cars", "title": "t", "metric": "loss",
             "arms": {"a": entry("inconclusive", 1.0, 0.8, 1.3),
                      "<i>b": entry("not comparable", None, None, None, reason="<too few>")}},
        ],
        "profiles": {"a": [[0.25, 1 / 3], [0.8, 2 / 3], [1.0, 1.0]], "<i>b": [[1.0, 1 / 3], [2.0, 2 / 3]]},
        "means": {"a": {"speedup": 1.2, "low": 1.1, "high": 1.3, "workloads": 3, "reason": ""}, "<i>b": none},
        "counts": {"a": {"better": 2, "inconclusive": 1}, "<i>b": {"worse": 1, "inconclusive": 1, "not comparable": 1}},
    }  # fmt: skip
