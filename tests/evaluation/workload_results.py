"""Results of comparisons with given speed-ups, as `compare` writes them, cut to what workloads read."""

from __future__ import annotations

from typing import Any


def result_of(
    task: str, speedups: dict[str, float | None], *, model: str = "net", baseline: str = "plain"
) -> dict[str, Any]:
    """One comparison; a speed-up of None is a curve that never gets there."""
    recipe = {"task": {"name": task}, "model": {"name": model}, "methods": []}
    arms: dict[str, Any] = {baseline: {"recipe": recipe, "verdict": None}}
    for arm, speedup in speedups.items():
        known = speedup is not None
        word = "inconclusive" if not known else "better" if speedup > 1 else "worse"
        arms[arm] = {
            "recipe": {**recipe, "methods": [{"name": "LabelSmoothing"}]},
            "verdict": {
                "verdict": word,
                "sentence": f"{arm} on {task}",
                "speedup": speedup,
                "low": speedup * 0.9 if known else None,
                "high": speedup * 1.1 if known else None,
                "reasons": [] if known else ["no quality in common"],
            },
        }
    return {
        "schema": 1,
        "kind": "comparison",
        "title": f"{task} study",
        "baseline": baseline,
        "task": {"name": task, "metric": "accuracy", "fingerprint": task},
        "arms": arms,
    }
