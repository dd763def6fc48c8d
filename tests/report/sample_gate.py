"""The result of a gate with both parts, names that are hostile, and open ends."""

from __future__ import annotations

from typing import Any


def gate() -> dict[str, Any]:
    """A recipe that needs more steps, and of whose time nothing is known above a bound."""
    point = {"duration": "8st", "seed": 1, "steps": 8, "seconds": 2.0, "quality": 0.5, "status": "finished", "run": "x"}
    cell = {
        "duration": "8st",
        "n": 3,
        "seconds": 2.0,
        "quality": 0.5,
        "sd": 0.1,
        "sd_time": 0.1,
        "binomial_floor": 0.01,
    }
    curve = {"seconds": [2.0, 4.0], "quality": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7]}
    arm = {"points": [point], "cells": [cell], "curve": curve, "predicted": None, "verdict": None}
    hardware = {"device": "a <b>chip</b>", "threads": 1}
    part = {"name": "steps", "verdict": "regressed", "ratio": 1.5, "low": 1.2, "high": 1.9, "seeds_needed": None}
    return {
        "schema": 1,
        "kind": "gate",
        "title": "birds <now> against then",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "verdict": "regressed",
        "sentence": "regressed: steps",
        "parts": [
            {**part, "reason": "a loss is <shown>", "sentence": "steps: 1.5 times"},
            {**part, "name": "time", "verdict": "undecided", "ratio": None, "low": None, "high": 2.0,
             "seeds_needed": 12, "reason": "too few", "sentence": "time: at most 2"},
        ],
        "margin": 0.05,
        "level": 0.95,
        "task": {"name": "birds", "metric": "accuracy", "higher_is_better": True, "split": "test", "test_examples": 100,
                 "fingerprint": "0"},
        "durations": ["8st"],
        "seeds": 3,
        "recipe": {"task": {"name": "birds"}},
        "changed": {"batch_size": [64, 32]},
        "recorded": {"created": "2026", "version": "0", "facts": {"hardware": hardware, "software": {}},
                     "seconds_per_step": 0.01},
        "baseline": "baseline",
        "arms": {"baseline": arm, "present": arm},
        "timing": {"rounds": 20, "clock": "cpu", "baseline": 0.001, "present": 0.002, "ratio": 2.0, "low": 1.9, "high": 2.1},
        "facts": {"hardware": hardware, "software": {"torch": "2.13.0"}},
        "notes": ["a <i>note</i>"],
        "cost": {"runs": 12, "found": 0, "seconds": 3.0},
        "reproduce": {"command": "reinvest gate", "study": ""},
        "refusals": [],
    }  # fmt: skip
