"""The result of a tuning with every kind of thing in it: a judged arm, a refused one, diverged trials, hostile names."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

from sample_results import HOSTILE, _runs

from reinvest.evaluation import verdict
from reinvest.evaluation.result import points_result
from reinvest.studies.tune_curves import expectation_curve

LOG = {"low": 0.05, "high": 1.0, "log": True}
ARMS = ("plain", HOSTILE, "dear")
SPACES = {
    "plain": {"optimizer.lr": LOG},
    HOSTILE: {"optimizer.lr": LOG, "methods.LabelSmoothing.alpha": [0.1, 0.2]},
    "dear": {"optimizer.lr": [0.1, 0.5], "batch_size": {"low": 16, "high": 64}},
}


def _values(arm: str, number: int) -> dict[str, Any]:
    rate = 0.06 * 1.6**number
    return {
        "plain": {"optimizer.lr": rate},
        HOSTILE: {"optimizer.lr": rate, "methods.LabelSmoothing.alpha": [0.1, 0.2][number % 2]},
        "dear": {"optimizer.lr": [0.1, 0.5][number % 2], "batch_size": 16 + 8 * number},
    }[arm]


def _trial(arm: str, study: int, number: int) -> dict[str, Any]:
    """The second trial of every study diverges, and all of the dear arm's."""
    lost = number == 2 or arm == "dear"
    return {
        "arm": arm,
        "study": study,
        "trial": number,
        "values": _values(arm, number),
        "seed": 2**31 + 100 * study + number,
        "run": f"{ARMS.index(arm)}{study}{number}",
        "status": "diverged" if lost else "finished",
        "quality": None if lost else 0.5 + 0.1 * number - 0.01 * study,
        "steps": 8,
        "own_clock": 1.75 * number,
        "seconds": 1.25 * number,
    }


def _arm(name: str, tried: list[dict[str, Any]], judged: Any) -> dict[str, Any]:
    own = [t for t in tried if t["arm"] == name]
    best = [
        max((t for t in own if t["study"] == s and t["quality"] is not None), key=lambda t: t["quality"], default=None)
        for s in (1, 2, 3)
    ]
    values = [[t["quality"] or 0.3 for t in own if t["study"] == s] for s in (1, 2, 3)]
    return {
        "about": "",
        "recipe": {"task": {"name": "digits"}},
        "space": SPACES[name],
        "duration": "8ep",
        "budget": {
            "trials": 12,
            "diverged": sum(t["quality"] is None for t in own),
            "seconds": 700.5,
            "spent": 650.25,
            "own_clock": 911.125,
        },
        "best_of": [{"k": k, "quality": q} for k, q in expectation_curve(values)],
        "winners": [
            {
                "study": t["study"],
                "trial": t["trial"],
                "run": t["run"],
                "quality": t["quality"],
                "values": t["values"],
                "edges": ["optimizer.lr"] if t["study"] == 2 else [],
            }
            for t in best
            if t is not None
        ],
        "verdict": None if judged is None else judged,
    }


@lru_cache(maxsize=1)
def _made() -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(3)
    points = [*_runs("plain", rng, n=3), *_runs(HOSTILE, rng, speedup=1.4, n=3)]
    points = [{**p, "study": str(k % 3)} for k, p in enumerate(points)]
    judged = verdict(points, "plain", tuning={"plain": 12, HOSTILE: 12})
    shown = {"metric": "accuracy", "higher_is_better": True, "test_examples": 1000}
    tried = [_trial(a, s, n) for a in ARMS for s in (1, 2, 3) for n in (1, 2, 3, 4)]
    refused = {
        **judged[HOSTILE].to_dict(),
        "verdict": "not comparable",
        "sentence": "Not comparable: all 4 trials of 'dear' in study 1 diverged.",
        "reasons": ["all 4 trials of 'dear' in study 1 diverged."],
        "flags": [],
    }
    verdicts = {"plain": None, HOSTILE: judged[HOSTILE].to_dict(), "dear": refused}
    timing = [
        {"arm": a, "study": s, "seconds_per_step": 0.002, "ratio": r, "ratio_low": low, "ratio_high": high}
        for a, s, r, low, high in (("plain", 1, 1.0, None, None), (HOSTILE, 1, 1.02, 1.01, 1.03))
    ]
    steps = [
        {"arm": a, "path": p, "value": v, "seconds_per_step": 0.003, "ratio": r, "ratio_low": low, "ratio_high": high}
        for a, p, v, r, low, high in (
            ("plain", None, None, 1.0, None, None),
            (HOSTILE, None, None, 1.02, 1.01, 1.03),
            (HOSTILE, "methods.LabelSmoothing.alpha", 0.2, 1.04, 1.03, 1.05),
            ("dear", None, None, 1.01, 1.0, 1.02),
        )
    ]
    prices = {"clock": "cpu", "rounds": 10, "notes": ["another <note>"], "flags": [], "measured": "", "once": {}}
    return {
        "schema": 1,
        "kind": "tuning",
        "title": "which <is> better",
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "task": {
            "name": "digits",
            "metric": "accuracy",
            "higher_is_better": True,
            "selected_on": "validation",
            "judged_on": "test",
            "test_examples": 1000,
        },
        "baseline": "plain",
        "claim": "method",
        "sampler": "qmc",
        "trials": 4,
        "studies": 3,
        "seeds": 1,
        "durations": ["3ep", "6ep", "12ep", "24ep", "48ep"],
        "arms": {name: _arm(name, tried, verdicts[name]) for name in ARMS},
        "tried": tried,
        "prices": {**prices, "steps": steps},
        "comparison": points_result(points, "plain", judged, shown=shown, title="t", reproduce=""),
        "timing": {"rounds": 10, "clock": "cpu", "seconds": 3.5, "notes": ["a <note>"], "winners": timing},
        "facts": {"hardware": {"cpu": "some"}, "software": {}},
        "flags": ["timing <disturbed>"],
        "cost": {"runs": 66, "found": 0, "seconds": 12.5, "trial_seconds": 1950.75},
        "reproduce": {"command": "reinvest tune x.yaml", "plan": "trials: 4\n"},
    }


def tuning() -> dict[str, Any]:
    """A fresh copy."""
    return copy.deepcopy(_made())
