"""What the tests of advice share: small runs on digits, run descriptions changed on purpose, studies with planted figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.store import Run, Store

QUIET: dict[str, Any] = {"device": "cpu", "progress": False, "evaluations": 1}


def recipe(duration: str = "2ep", hidden: Sequence[int] = (16,), lr: float = 0.1, **task: Any) -> Recipe:
    """A small recipe on digits."""
    return Recipe(
        task={"name": "digits", **task},
        model={"name": "mlp", "hidden": list(hidden)},
        duration=duration,
        batch_size=64,
        optimizer={"name": "sgd", "lr": lr},
    )


def trained(store: Store, what: Recipe, seed: int = 0, **more: Any) -> Run:
    """A run of it."""
    run: Run = train(what, seed, store, **{**QUIET, **more})
    return run


def copied(store: Store, folder: Path) -> Store:
    """A copy that a test may change."""
    shutil.copytree(store.path, folder)
    return Store(folder)


def changed(store: Store, run: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a run's description, and the index after it."""
    path = store.path / "runs" / run / "run.json"
    values = json.loads(path.read_text(encoding="utf8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf8")
    store.rebuild()


def scored(validation: float, test: float) -> Callable[[dict[str, Any]], object]:
    """A change of a run's last qualities."""
    return lambda values: values.update(last={"validation": {"accuracy": validation}, "test": {"accuracy": test}})


def arm(
    policy: str,
    speedup: float | None = None,
    low: float | None = None,
    high: float | None = None,
    verdict: str | None = "better",
    **more: Any,
) -> dict[str, Any]:
    """An arm of a planted study."""
    options = more.pop("options", {})
    return {
        "policy": policy,
        "options": options,
        "about": policy,
        "policies": more.pop("policies", ["scratch", policy, policy]),
        "verdict": verdict,
        "speedup": speedup,
        "interval": [low, high],
        "relative_time": None if speedup is None else 1 / speedup,
        "relative_time_interval": [None if not high else 1 / high, None if not low else 1 / low],
        **more,
    }


def study(arms: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A planted result of a sequence study."""
    return {
        "schema": 1,
        "kind": "sequence",
        "title": "planted",
        "created": "2026-01-01T00:00:00+00:00",
        "version": "0.0",
        "setting": "no new data",
        "task": "digits",
        "model": "mlp",
        "same_model": True,
        "metric": {"name": "accuracy", "higher_is_better": True},
        "baseline": "scratch",
        "length": 3,
        "sequences": 5,
        "durations": ["1ep", "2ep", "4ep", "8ep"],
        "plan": {"positions": [{}, {"optimizer": {"lr": 0.2}}, {}]},
        "arms": {"scratch": arm("scratch", verdict=None), **arms},
        "flags": [],
        "something a later version knows": {"deep": [1, 2]},
        **more,
    }


def kept(folder: Path, name: str, result: Mapping[str, Any] | str) -> Path:
    """A file in a folder of studies."""
    folder.mkdir(parents=True, exist_ok=True)
    text = result if isinstance(result, str) else json.dumps(result)
    (folder / name).write_text(text, encoding="utf8")
    return folder / name
