"""The result of an ablation with every kind of effect."""

from __future__ import annotations

from typing import Any


def effect(
    question: str,
    methods: list[str],
    time: float | None,
    low: float | None,
    high: float | None,
    shown: bool,
    **more: Any,
) -> dict[str, Any]:
    base = {
        "arm": "all",
        "against": "plain",
        "p": 0.01,
        "p_holm": 0.02,
        "verdict": "better",
        "reason": "",
        "sentence": "",
    }
    return {
        "question": question,
        "methods": methods,
        "time": time,
        "low": low,
        "high": high,
        "shown": shown,
        **base,
        **more,
    }


def ablation() -> dict[str, Any]:
    """An ablation of two methods with every kind of effect, and names that are hostile."""
    point = {"duration": "1ep", "seed": 1, "steps": 4, "seconds": 2.0, "quality": 0.5, "status": "finished", "run": "x"}
    cell = {
        "duration": "1ep",
        "n": 3,
        "seconds": 2.0,
        "quality": 0.5,
        "sd": 0.1,
        "sd_time": 0.1,
        "binomial_floor": 0.01,
    }
    arm = {"methods": ["<b>A"], "points": [point], "cells": [cell], "seconds_per_step": 0.01, "ratio": 1.1}
    return {
        "schema": 1,
        "kind": "ablation",
        "title": "which <help>",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "task": {"name": "digits", "metric": "accuracy", "higher_is_better": True, "test_examples": 100},
        "recipe": {"task": {"name": "digits"}},
        "methods": [{"name": "<b>A", "arguments": {}}, {"name": "B", "arguments": {}}],
        "durations": ["1ep"],
        "seeds": 3,
        "arms": {"plain": arm | {"methods": []}, "all": arm, "B": arm},
        "effects": [
            effect("on top", ["<b>A"], 0.8, 0.7, 0.9, True),
            effect("on top", ["B"], 1.2, 1.1, None, True, verdict="worse"),
            effect("alone", ["<b>A"], 0.9, 0.8, 1.1, False, verdict="inconclusive"),
            effect("alone", ["B"], None, None, None, False, reason="too <few> seeds", verdict="not comparable"),
            effect("together", ["<b>A", "B"], 1.3, 1.2, 1.4, True, verdict=""),
        ],
        "adverse": [["<b>A", "B"]],
        "flags": ["left out: the pairs"],
        "timing": None,
        "facts": {"hardware": {"cpu": "some"}, "software": {}},
        "cost": {"runs": 9, "found": 0, "seconds": 1.0},
        "reproduce": {"command": "reinvest ablate x.yaml", "study": ""},
    }
