"""The result of a search for spikes with every kind of finding, and names that are hostile."""

from __future__ import annotations

from typing import Any


def spike(start: int, cause: str, **more: Any) -> dict[str, Any]:
    steps = list(range(start - 3, start + 4))
    return {
        "start": start,
        "peak": start + 1,
        "end": start + 2,
        "length": 3,
        "epoch": start // 10,
        "signals": ["loss", "gradient norm"],
        "loss": 4.125,
        "usual": 1.25,
        "z": 11.5,
        "gradient_norm": 40.5,
        "gradient_peak": start,
        "usual_gradient_norm": 2.25,
        "cause": cause,
        "batch": 20,
        "needed": 1,
        "share": 0.61,
        "suspects": [7],
        "ids": list(range(20)),
        "examples": [
            {"id": 7, "loss": 30.5, "usual": 0.5, "rise": 30.0},
            {"id": 9, "loss": None, "usual": None, "rise": None},
        ],
        "layers": [
            {"name": "<b>stem", "first": start, "z": 80.25, "times": 30.5},
            {"name": "head", "first": start + 1, "z": None, "times": None},
        ],
        "update_times": 1.0,
        "update_z": 0.5,
        "heat": {
            "steps": steps,
            "layers": ["<b>stem", "head"],
            "z": [[0.0, 1.0, -2.0, 80.25, 20.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0, None, 1.0, 0.0]],
        },
        "text": f"At step {start} the loss rose in <b>stem.",
        "replay": None,
        "without": None,
        **more,
    }


def spikes() -> dict[str, Any]:
    """Three spikes: a few examples (replayed), an update, and one of which nothing was kept."""
    steps = list(range(100))
    loss: list[float | None] = [1.25 + 0.01 * (k % 3) for k in steps]
    loss[41], loss[90] = 4.125, None
    bare = {"examples": [], "layers": [], "heat": {"steps": [], "layers": [], "z": []}, "z": None, "loss": None}
    return {
        "schema": 1,
        "kind": "spikes",
        "title": "Loss spikes: 3 spikes in <i>mine, seed 0",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "run": "0123456789abcdef",
        "name": "<i>mine",
        "task": "digits",
        "seed": 0,
        "source": "steps",
        "threshold": 6.0,
        "window": 100,
        "steps": 100,
        "unjudged": 30,
        "hint": "windows were kept from robust z 8 on: lower spikes have none",
        "notes": ["the first <30> of 100 steps cannot be judged"],
        "series": {
            "loss": {"steps": steps, "values": loss},
            "gradient norm": {"steps": steps, "values": [0.0 if k == 3 else 2.25 for k in steps]},
        },
        "spikes": [
            spike(
                40,
                "examples",
                replay={"text": "Trained again, it came <again>.", "same_bits": True},
                without={"text": "Without <it>, the spike vanishes.", "verdict": "vanishes"},
            ),
            spike(60, "update", z=30.0),
            spike(89, "unknown", **bare),
        ],
    }


def quiet() -> dict[str, Any]:
    """An epoch-wise search that found nothing."""
    few = {"steps": [0, 1, 2], "values": [2.0, 1.5, 1.25]}
    none: dict[str, Any] = {"steps": [], "values": []}
    return {**spikes(), "source": "epochs", "steps": 3, "spikes": [], "series": {"loss": few, "gradient norm": none}}
