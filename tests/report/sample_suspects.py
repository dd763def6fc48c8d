"""Plain values as `suspects_text.plain` gives them, made up for pages: S suspects of E epochs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

HOSTILE = '<b>cat</b> & "dog" </script>'
KINDS = ("label error", "never learned", "duplicate")


def suspects(count: int = 300, epochs: int = 30, classes: int = 4, answers: bool = True) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    kind = np.sort(rng.choice(len(KINDS), count, p=[0.6, 0.3, 0.1]))
    label = rng.integers(0, classes, count)
    return {
        "kind": "suspects",
        "title": "Suspects in <pets>",
        "known": 50_000,
        "listed": count,
        "epochs": epochs,
        "source": "training pass",
        "class_names": [HOSTILE, *(f"class {k}" for k in range(1, classes))],
        "kinds": {
            name: {
                "found": int((kind == k).sum()) + 3,
                "listed": int((kind == k).sum()),
                "about": f"<i>what</i> {name} means",
            }
            for k, name in enumerate(KINDS)
        },
        "statements": ["how much of it is wrong is <not> known", "equal inputs are not looked for"],
        "precision": None,
        "agreement": None,
        "points": epochs,
        "bottom": 0.0,
        "top": 2.0,
        "labelled": True,
        "bands": [
            {"name": name, "low": [10] * epochs, "middle": [40] * (epochs - 1) + [None], "high": [120] * epochs}
            for name in ("ordinary examples", "probes: random label")
        ],
        "suspects": {
            "id": [int(i) for i in rng.permutation(50_000)[:count]],
            "kind": kind.tolist(),
            "score": [round(1 - k / 50_000, 5) for k in range(count)],
            "label": label.tolist(),
            "suggested": [int((v + 1) % classes) if k % 5 else -1 for k, v in enumerate(label)],
            "share": [round(float(v), 3) for v in rng.random(count)],
            "learned": [None if k % 2 else k % epochs + 1 for k in range(count)],
            "forgotten": [None if k % 2 else k % 3 for k in range(count)],
            "mean_loss": [round(float(v), 3) for v in 3 * rng.random(count)],
            "percentile": [round(float(v), 4) for v in rng.random(count)],
            "probability": [None if k % 3 else 0.25 for k in range(count)],
            "twins": [[1, 2] if k % 7 == 0 else [] for k in range(count)],
        },
        "losses": base64.b64encode(rng.integers(0, 256, count * epochs, dtype=np.uint8).tobytes()).decode("ascii"),
        "answers": ["".join(rng.choice(list("gso-"), epochs)) for _ in range(count)] if answers else None,
        "runs": [{"id": "3f2a91c04b5d6e7f", "name": "first", "seed": 0}],
        "pictures_note": None,
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0.1.0",
        "reproduce": {"command": "reinvest suspects 3f2a --store 'my runs'"},
    }


def pictures(count: int = 300, side: int = 16, colours: int = 3) -> Any:
    rng = np.random.default_rng(1)
    shape = (count, side, side) if colours == 1 else (count, side, side, colours)
    return rng.integers(0, 256, shape, dtype=np.uint8)
