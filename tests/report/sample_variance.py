"""A variance of simulated runs, with names that a page must not take for markup."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from reinvest.evaluation.variance import binomial_floor, by_source, predicted_sd, probability_better, summarise
from reinvest.studies.variance_against import summary_entry
from reinvest.studies.variance_sources import compared
from reinvest.studies.variance_text import statements


def variance_result(runs: int = 12, *, sources: bool = True, accuracy: bool = True, each: int = 6) -> dict[str, Any]:
    """As `reinvest variance` keeps it; accuracy: else a loss, without all that is about examples; each: runs a source."""
    draw = np.random.default_rng(3)
    values = (0.9 + 0.01 * draw.standard_normal(runs)).tolist()
    summary = summarise(values, diverged=1)
    other = (0.895 + 0.01 * draw.standard_normal(runs)).tolist()
    predicted = predicted_sd(1 - summary.mean, 400)
    result: dict[str, Any] = {
        "schema": 2,
        "kind": "variance",
        "title": f"Variance: {runs} runs of <b>pets net",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "task": {
            "name": "<b>pets",
            "metric": "accuracy" if accuracy else "loss",
            "higher_is_better": accuracy,
            "split": "test",
        },
        "model": "net",
        "recipe": {"task": {"name": "pets"}, "model": {"name": "net"}},
        "runs": [{"run": f"{k:x}" * 16, "seed": k, "value": v} for k, v in enumerate(values)],
        "diverged": [{"run": "beef", "seed": 99}],
        "summary": summary_entry(summary),
        "test": None,
        "agreement": None,
        "against": None,
        "sources": _sources(values, draw, each) if sources else None,
        "left_out": [{"run": "feed", "seed": 98, "why": "interrupted"}],
        "notes": ["too <few> runs"],
        "reproduce": {"command": "reinvest variance 1111"},
    }
    if accuracy:
        result["test"] = {
            "examples": 400,
            "floor": binomial_floor(summary.mean, 400),
            "predicted_sd": predicted,
            "observed_over_predicted": summary.sd / predicted,
        }
        result["agreement"] = {
            "accuracy": summary.mean,
            "majority": 0.93,
            "churn": 0.041,
            "arbitrary": 0.02,
            "unanimous": 0.88,
            "below": 0.6,
            "spread": {"sampling_sd": 0.009, "sd": 0.004, "low": 0.0, "high": 0.009},
            "curve": [[0.2, 0.01], [0.5, 0.04], [0.9, 0.12], [1.0, 1.0]],
        }
        result["against"] = {
            "names": ["<i>pets net (duration 4ep)", "<i>pets other (duration 2ep)"],
            "changed": [{"field": "<u>duration", "first": "4ep", "second": "2ep"}],
            "recipe": {},
            "values": other,
            "summary": summary_entry(summarise(other)),
            "better": asdict(probability_better(values, other)),
            "needed": 35,
            "difference": {"mean": 0.005, "low": -0.003, "high": 0.013},
        }
    return {**result, "statements": statements(result)}


def _sources(values: list[float], draw: np.random.Generator, runs: int) -> dict[str, Any]:
    spreads = (("init", 0.05), ("order", 0.004), ("augment", 0.003))
    arms = {name: (0.9 + sd * draw.standard_normal(runs)).tolist() for name, sd in spreads}
    table = by_source(arms, whole=values, none=[0.9] * runs)
    entry = lambda part: {**asdict(part), "sd": part.sd, "values": [], "diverged": 0}  # noqa: E731
    return {
        "runs": runs,
        "held": 0,
        "parts": [entry(part) for part in table.parts],
        "whole": entry(table.whole),
        "none": entry(table.none),
        "unexplained": {"share": table.unexplained, "low": table.unexplained_low, "high": table.unexplained_high},
        "absent": ["methods", "dropout"],
        "left": [],
        "same_bits": True,
        "compared": compared(arms, 0.0),
    }
