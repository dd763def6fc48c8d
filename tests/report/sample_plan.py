"""The result of a plan with looks, a price, a flat duration, an effect out of reach, and names that are hostile."""

from __future__ import annotations

from typing import Any


def _cost(seeds: int | None) -> dict[str, Any]:
    if seeds is None:
        return {"runs": None, "hours": None, "money": None}
    runs = 8 * seeds - 12
    return {"runs": runs, "hours": 0.25 * runs, "money": 0.625 * runs}


def _cell(duration: str, quality: float, sd: float, sd_time: float | None) -> dict[str, Any]:
    return {
        "duration": duration,
        "n": 3,
        "seconds": 60.0,
        "quality": quality,
        "sd": sd,
        "sd_time": sd_time,
        "binomial_floor": 0.003,
        "sd_low": 0.52 * sd,
        "sd_high": 6.3 * sd,
        "sd_time_low": None if sd_time is None else 0.52 * sd_time,
        "sd_time_high": None if sd_time is None else 6.3 * sd_time,
    }


def plan_result() -> dict[str, Any]:
    """A plan of 8 seeds, judged at 3, 5 and 8."""
    rows = [
        {
            "seeds": n,
            "smallest_effect": 1 + 0.6 / n,
            "low": 1 + 0.4 / n,
            "high": None if n == 3 else 1 + 1.5 / n,
            "df": 3.0 * n,
        }
        for n in range(3, 17)
    ]
    effects: list[dict[str, Any]] = [
        {"effect": 1.0001, "seeds": None, "seeds_low": None, "seeds_high": None},
        {"effect": 1.05, "seeds": 55, "seeds_low": 28, "seeds_high": None},
        {"effect": 1.1, "seeds": 6, "seeds_low": 4, "seeds_high": 31},
    ]
    return {
        "schema": 1,
        "kind": "plan",
        "title": "Plan: <i>mine",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "baseline": "base<b>line",
        "arms": ["<b>one"],
        "durations": ["5ep", "10ep", "20ep", "40ep"],
        "metric": "accuracy",
        "reproduce": {"command": "reinvest plan '<study>.yaml'", "study": "title: <i>mine\n"},
        "alpha": 0.05,
        "price": 2.5,
        "currency": "USD",
        "noise": {
            "arm": "base<b>line",
            "runs": 3,
            "cells": [
                _cell("5ep", 0.71, 0.0125, 0.041),
                _cell("10ep", 0.81, 0.0075, 0.052),
                _cell("20ep", 0.86, 0.006, 0.31),
                _cell("40ep", 0.86, 0.005, None),
            ],
        },
        "reason": "",
        "planned": {"seeds": 8, "smallest_effect": 1.08, "low": 1.05, "high": 1.21, "df": 24.0, **_cost(8)},
        "by_seeds": [{**row, **_cost(row["seeds"])} for row in rows],
        "effects": [{**row, **_cost(row["seeds"])} for row in effects],
        "looks": {
            "spending": "pocock",
            "taken": [
                {"seeds": n, "alpha": level, "smallest_effect": 1 + 0.7 / n, **_cost(n)}
                for n, level in ((3, 0.02487), (5, 0.01924), (8, 0.02265))
            ],
            "effects": [{"effect": 1.1, "found": 0.823, "mean_seeds": 5.75}],
        },
        "cost": {
            "runs": 64,
            "found": 12,
            "hours": 13.0,
            "money": 32.5,
            "hours_by_arm": {"base<b>line": 5.0, "<b>one": 8.0},
            "workers": 2,
            "threads": 1,
        },
        "notes": ["no run of '<b>one' says what one takes"],
        "statements": ["with 8 seeds the study finds <a lot>", "a speed-up of 1.1 needs 6 seeds (4 to 31)"],
    }


def unknown_noise() -> dict[str, Any]:
    """The same before any run."""
    nothing = {"smallest_effect": None, "low": None, "high": None, "df": None}
    result = plan_result()
    effects = [
        {**row, "seeds": None, "seeds_low": None, "seeds_high": None, **_cost(None)} for row in result["effects"]
    ]
    return {
        **result,
        "noise": None,
        "price": None,
        "currency": None,
        "reason": "the noise is not known; add --pilot 3",
        "statements": ["the noise is not known; add --pilot 3", "with 8 seeds 64 runs are lacking"],
        "planned": {**result["planned"], **nothing, "hours": None, "money": None},
        "by_seeds": [],
        "effects": effects,
        "looks": None,
    }
