"""Arms that train nothing and leave runs with a known truth: a power law of the duration, and noise by the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reinvest as ri

DURATIONS = ["60st", "120st", "240st", "480st"]
FACTS = {"hardware": {"device": "test"}, "software": {}}


def leave(name: str, duration: str, seed: int, store: Any, *, speedup: float = 1.0, sd: float = 0.002) -> Any:
    """A run of `duration` steps of a second each whose method is `speedup` times as fast."""
    steps = int(duration[:-2])
    noise = sd * np.random.default_rng(seed).standard_normal()
    with store.record(name, task="curves", seed=seed, config={"duration": duration}, facts=FACTS) as run:
        run.log(split="test", step=steps, accuracy=1.0 - 0.03 - 0.2 * (steps * speedup / 60.0) ** -0.6 + noise)
        run.charge(seconds=float(steps))
    return run.run


def plain(duration: str, seed: int, store: Any) -> Any:
    return leave("plain", duration, seed, store)


def same(duration: str, seed: int, store: Any) -> Any:
    return leave("same", duration, seed, store)


def fast(duration: str, seed: int, store: Any) -> Any:
    return leave("fast", duration, seed, store, speedup=2.0)


def slow(duration: str, seed: int, store: Any) -> Any:
    return leave("slow", duration, seed, store, speedup=0.5)


def curves(*names: str, seeds: int = 5, **more: Any) -> ri.Study:
    """A study of these arms against `plain`."""
    arms = {"same": same, "fast": fast, "slow": slow}
    return ri.Study(baseline=plain, arms={name: arms[name] for name in names}, durations=DURATIONS, seeds=seeds, **more)


def fixed_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds that do not follow the sources of this file: an A/A comparison is "better" now and then."""

    def seed_of(study: Any, name: str, duration: str, replicate: int) -> int:
        return 10_000 * ("baseline", "fast", "same", "slow").index(name) + 100 * replicate + DURATIONS.index(duration)

    monkeypatch.setattr("reinvest.evaluation.plan.seed_of", seed_of)
