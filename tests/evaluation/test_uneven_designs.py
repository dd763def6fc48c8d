"""Designs that real logs have: seconds that scatter, seeds repeated over cells of unequal size, other tools' words."""

from __future__ import annotations

import numpy as np
import pytest
import simulated_points as sim
from test_operating_characteristics import assert_null, simulate

from reinvest.evaluation import verdict
from reinvest.evaluation.points import read_points


def single_cell_with_jitter(rng: np.random.Generator, jitter: float = 0.2, n: int = 10) -> list[dict]:
    """A null method with one duration; every run's quality is that of the time it really took."""
    rows = []
    for arm, times in (("a", sim.durations(5)), ("b", np.array([240.0]))):
        for k, nominal in enumerate(times):
            for i, t in enumerate(nominal * np.exp(jitter * rng.standard_normal(n))):
                quality = 1.0 - float(sim.standard(np.array([t]))[0]) + 0.004 * rng.standard_normal()
                rows.append({"arm": arm, "duration": f"{k}", "seed": f"{arm}{k}{i}", "seconds": t, "quality": quality})
    return rows


def test_a_single_cells_own_timing_noise_is_charged() -> None:
    # Without it: better .058, worse .066, coverage .876.
    assert_null(simulate(single_cell_with_jitter, reps=400, seed=20))


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_seeds_repeated_over_cells_of_unequal_size(rho: float) -> None:
    # With m / (m - 1) over all seeds for every cell: better .051, worse .059, coverage .89.
    sizes = [10, 10, 5, 3, 3]

    def draw(rng: np.random.Generator) -> list[dict]:
        rows = []
        for arm in "ab":
            shared = rng.standard_normal(10)
            for k, (t, n) in enumerate(zip(sim.durations(5), sizes, strict=True)):
                noise = np.sqrt(rho) * shared[:n] + np.sqrt(1 - rho) * rng.standard_normal(n)
                quality = 1.0 - sim.standard(np.array([t]))[0] + 0.004 * noise
                rows += [
                    {"arm": arm, "duration": str(k), "seed": i, "seconds": float(t), "quality": float(q)}
                    for i, q in enumerate(quality)
                ]
        return rows

    assert_null(simulate(draw, reps=300, seed=21))


def rows(durations: list[float], labels: list[str] | None = None, jitter: float = 0.0, **extra: str) -> list[dict]:
    rng = np.random.default_rng(5)
    out = []
    for arm in "ab":
        for k, t in enumerate(durations):
            for i in range(3):
                seconds = t * (1 + jitter * (1 if k % 2 else -1))
                quality = 1.0 - float(sim.standard(np.array([t]))[0]) + 0.004 * float(rng.standard_normal())
                label = labels[k] if labels else f"{t:g}"
                out.append(
                    {
                        "arm": arm,
                        "duration": label,
                        "seed": f"{arm}{k}{i}",
                        "seconds": seconds,
                        "quality": quality,
                        **extra,
                    }
                )
    return out


def test_durations_exactly_three_apart_survive_the_scatter_of_seconds() -> None:
    nominal = [60.0, 180.0, 540.0, 1620.0]
    assert verdict(rows(nominal, jitter=0.02), "a")["b"].verdict != "not comparable"
    refused = verdict(rows([60.0, 186.0, 540.0, 1620.0]), "a")["b"]
    assert refused.verdict == "not comparable" and "x3.1" in refused.reasons[0]
    # Labels that are numbers of another kind must not hide a step in the seconds.
    hidden = verdict(rows([60.0, 120.0, 480.0, 960.0], labels=["1", "2", "3", "4"]), "a")["b"]
    assert hidden.verdict == "not comparable" and "x4" in hidden.reasons[0]


@pytest.mark.parametrize("word", ["", "ok", "Completed", "done", "success", "finished"])
def test_other_tools_words_for_finished(word: str) -> None:
    assert verdict(rows([60.0, 120.0, 240.0, 480.0], status=word), "a")["b"].verdict != "not comparable"


def test_numbers_written_as_text_are_numbers() -> None:
    points = read_points(
        [
            {"arm": "1.0", "duration": d, "seed": s, "seconds": 1, "quality": 0.5}
            for d, s in (("60", "0"), ("60.0", "0.0"))
        ]
    )
    assert {p.duration for p in points} == {"60"} and {p.seed for p in points} == {"0"}
    assert {p.arm for p in points} == {"1.0"}


def test_a_column_that_must_agree_and_does_not_is_refused() -> None:
    points = rows([60.0, 120.0, 240.0, 480.0])
    for name in ("software", "threads", "precision", "hardware"):
        mixed = [{**p, name: "x" if p["arm"] == "a" else "y"} for p in points]
        assert verdict(mixed, "a")["b"].verdict == "not comparable"
