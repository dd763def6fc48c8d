"""Results to draw: simulated points judged by the real statistics, with every kind of outcome in one comparison."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import numpy as np

from reinvest.evaluation import verdict
from reinvest.evaluation.equivalence import SystemsVerdict
from reinvest.evaluation.result import points_result
from reinvest.evaluation.same_maths import Maths

DURATIONS = ("3ep", "6ep", "12ep", "24ep", "48ep")
SECONDS = np.array([2.4, 4.8, 9.6, 19.2, 38.4])
HOSTILE = '<script>alert("1")</script> & <b>größer</b> ✨'
CLOSING = "</script><img src=x onerror=alert(1)>"


def _error(seconds: np.ndarray) -> np.ndarray:
    return 0.03 + 0.20 * (seconds / 2.4) ** -0.6


def _runs(
    arm: str,
    rng: np.random.Generator,
    *,
    speedup: float = 1.0,
    lift: float = 1.0,
    cost: float = 1.0,
    n: int = 5,
    sd: float = 0.003,
) -> list[dict[str, Any]]:
    """speedup: in steps to equal quality; cost: of a step, relative to the baseline; lift: factor on the error."""
    rows = []
    for k, (duration, seconds) in enumerate(zip(DURATIONS, SECONDS, strict=True)):
        error = lift * _error(np.array([seconds * speedup]))[0]
        for i in range(n):
            seed = 1000 * (sum(map(ord, arm)) % 97) + 10 * k + i
            rows.append(
                {
                    "arm": arm,
                    "duration": duration,
                    "seed": seed,
                    "steps": 60 * 2**k,
                    "seconds": float(seconds * cost),
                    "quality": float(1 - error + sd * rng.standard_normal()),
                    "status": "finished",
                    "run": f"{arm[:3].lower()}-{seed:06d}-7f3a9c",
                }
            )
    return rows


@lru_cache(maxsize=2)
def _every_kind(timed: bool) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    points = [
        *_runs("baseline", rng),
        *_runs("EMA", rng, speedup=1.28, cost=1.03),
        *_runs("SAM every step", rng, speedup=1.04, cost=2.02),
        *_runs(HOSTILE, rng, speedup=1.0),
        *_runs("teacher", rng, lift=0.3),
        *_runs("blur & clip", rng, speedup=1.12),
        *_runs("two seeds only", rng, n=2),
    ]
    lost = [p for p in points if p["arm"] == "blur & clip" and p["duration"] in ("3ep", "24ep")]
    for point in lost[:2] + lost[-1:]:
        point.update(status="diverged", quality=None, seconds=point["seconds"] * 0.7)
    judged = [{**p, "quality": float("nan") if p["quality"] is None else p["quality"]} for p in points]
    verdicts = verdict(judged, "baseline", test_examples=10_000)
    shown = {"metric": "accuracy", "higher_is_better": True, "test_examples": 10_000}
    result = points_result(
        points,
        "baseline",
        verdicts,
        shown=shown,
        title=f"Six arms on simulated points {CLOSING}",
        reproduce="reinvest verdict points.csv --baseline baseline",
    )
    return _dressed(result) if timed else result


def _dressed(result: dict[str, Any]) -> dict[str, Any]:
    """With what a study of recipes has and a file of points has not: timing block, recipes, facts."""
    ratios = {"baseline": 1.0, "EMA": 1.03, "SAM every step": 2.02}
    result["timing"] = {
        "rounds": 10,
        "clock": "cpu",
        "seconds": 21.73,
        "notes": ["the process's own CPU time, blind to what other programs take"],
        "again": {
            "seconds_per_step": 0.0104 * 1.004,
            "cpu_seconds_per_step": 0.0104 * 1.004,
            "wall_seconds_per_step": 0.0104 * 1.31,
            "ratio": 1.004,
            "ratio_low": 0.991,
            "ratio_high": 1.017,
        },
        "flags": [],
        "facts": {
            "calibration_before": 0.00043,
            "calibration_after": 0.00044,
            "calibration_drift": 0.023,
            "calibration_spread": 0.031,
            "control_trend": -0.012,
            "limit": 0.1,
            "rounds_measured": 12,
            "rounds_moved": 2,
            "rounds_kept": 10,
            "before": {"others": 0.1, "load": 0.2, "share": 0.99, "cores": 2},
            "others_during": 0.24,
        },
        "arms": {
            n: {
                "seconds_per_step": 0.0104 * r,
                "cpu_seconds_per_step": 0.0104 * r,
                "wall_seconds_per_step": 0.0104 * r * 1.3,
                "ratio": r,
                "ratio_low": r * 0.985 if r > 1 else 1.0,
                "ratio_high": r * 1.014 if r > 1 else 1.0,
            }
            for n, r in ratios.items()
        },
    }
    result["systems"] = {
        "EMA": {
            **SystemsVerdict(
                "EMA",
                "baseline",
                "quality differs",
                steps=1.28,
                steps_low=1.17,
                steps_high=1.39,
                speed=0.971,
                speed_low=0.957,
                speed_high=0.985,
                reason="worth 1.28 times the steps, 95 % interval 1.19 to 1.37",
            ).to_dict(),
            "maths": Maths("bit-identical", 0.0, 3.5e-4, 4).to_dict(),
        }
    }
    result["facts"] = {
        "hardware": {
            "device": "Example CPU @ 2.00GHz",
            "devices": 1,
            "kind": "cpu",
            "threads": 1,
            "precision": "fp32",
            "cores": 2,
            "memory_gb": 7.8,
        },
        "software": {
            "reinvest": "0.1.0",
            "torch": "2.13.0+cpu",
            "numpy": "2.3.1",
            "python": "3.11.2",
            "system": "Linux x86_64",
        },
    }
    result["arms"]["EMA"]["about"] = "an average of the weights, kept beside the model and used at the end"
    result["arms"]["SAM every step"]["about"] = "two gradients a step, so a large loss of time is expected"
    for name, arm in result["arms"].items():
        if name in ratios:
            arm["recipe"] = {
                "task": {"name": "digits"},
                "model": {"name": "convnet"},
                "methods": [] if name == "baseline" else [{"name": name.split()[0]}],
            }
    result["arms"]["teacher"]["command"] = "python mine.py --duration {duration} --seed {seed}"
    result["reproduce"]["study"] = (
        "title: Six arms\nbaseline:\n  task: digits\n  model: convnet\narms:\n  EMA:\n    methods: [ema]\n"
        "durations: [3ep, 6ep, 12ep, 24ep, 48ep]\nseeds: 5\n"
    )
    result["cost"] = {"runs": 170, "found": 34, "seconds": 148.2}
    return result


def every_kind(*, timed: bool = True) -> dict[str, Any]:
    """Better, worse, inconclusive with a hostile name, "at least" and no estimate, diverged runs, not comparable."""
    return copy.deepcopy(_every_kind(timed))
