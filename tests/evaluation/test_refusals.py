"""Every refusal is a verdict with a reason: rule, value received, what to do. Nothing raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simulated_points as sim
from scipy.stats import binomtest

from reinvest.evaluation import verdict
from reinvest.evaluation.refusals import divergence_interval

Rows = list[dict[str, Any]]


def rows_of(n: int = 4) -> Rows:
    return sim.two_arms(sim.standard, sim.faster(sim.standard, 1.2), np.random.default_rng(7), n=n, sd=0.002)


def change(rows: Rows, which: Callable[[dict[str, Any]], bool], **values: Any) -> Rows:
    return [{**row, **values} if which(row) else row for row in rows]


def of(arm: str, duration: str | None = None, first: int | None = None) -> Callable[[dict[str, Any]], bool]:
    """Rows of an arm (and duration); with `first`, only that many of them."""
    left = [10**9 if first is None else first]

    def which(row: dict[str, Any]) -> bool:
        hit = row["arm"] == arm and (duration is None or row["duration"] == duration) and left[0] > 0
        left[0] -= hit
        return hit

    return which


def drop(rows: Rows, which: Callable[[dict[str, Any]], bool]) -> Rows:
    return [row for row in rows if not which(row)]


CASES: dict[str, tuple[Callable[[], Rows], dict[str, Any], str]] = {
    "two seeds": (lambda: rows_of(2), {}, "at least 3 independent finished seeds"),
    "two seeds in one cell": (lambda: drop(rows_of(3), of("b", "2", 1)), {}, "at duration 2 has 2"),
    "three durations": (lambda: [r for r in rows_of() if r["duration"] in "012"], {}, "at least 4 durations"),
    "a wide step": (
        lambda: [{**r, "seconds": 10.0 * 4.0 ** int(r["duration"])} for r in rows_of()],
        {},
        "x3 apart",
    ),
    "nan quality": (lambda: change(rows_of(), of("b", "1", 1), quality=float("nan")), {}, "finite number"),
    "infinite quality": (
        lambda: change(rows_of(), of("a", "1", 1), quality=float("inf")),
        {},
        "finite number",
    ),
    "huge quality": (lambda: change(rows_of(), of("a", "1", 1), quality=-1e300), {}, "finite number"),
    "text quality": (lambda: change(rows_of(), of("b", "1", 1), quality="n/a"), {}, "finite number"),
    "negative seconds": (lambda: change(rows_of(), of("b", "1", 1), seconds=-3.0), {}, "positive"),
    "zero seconds": (lambda: change(rows_of(), of("b", "1", 1), seconds=0), {}, "positive"),
    "infinite seconds": (lambda: change(rows_of(), of("b", "1", 1), seconds=float("inf")), {}, "positive"),
    "duplicate": (lambda: rows_of() + rows_of()[-1:], {}, "occurs 2 times"),
    "finished again after diverging": (
        lambda: [*rows_of(), {**rows_of()[-1], "status": "diverged", "quality": None}],
        {},
        "occurs 2 times",
    ),
    "no variance": (
        lambda: [{**r, "quality": 0.5 + 0.05 * int(r["duration"])} if r["arm"] == "b" else r for r in rows_of()],
        {},
        "must vary over seeds",
    ),
    "never finished": (
        lambda: change(rows_of(), of("b"), status="interrupted"),
        {},
        "has none \\(20 interrupted\\)",
    ),
    "diverged": (lambda: change(rows_of(10), of("b", None, 11), status="diverged"), {}, "11 of 50"),
    "mixed metrics": (
        lambda: change([{**r, "metric": "accuracy"} for r in rows_of()], of("b"), metric="f1"),
        {},
        "one metric",
    ),
    "undeclared metric": (lambda: [{**r, "metric": "f1"} for r in rows_of()], {}, "metric='f1'"),
    "unlike devices": (
        lambda: change([{**r, "device": "cpu"} for r in rows_of()], of("b"), device="H200"),
        {},
        "'cpu' in a; 'H200' in b",
    ),
    "unlike hardware": (
        lambda: change([{**r, "hardware": "x"} for r in rows_of()], of("b", "1"), hardware="y"),
        {},
        "hardware",
    ),
    "mixed kinds": (
        lambda: change([{**r, "kind": "separate"} for r in rows_of()], of("b"), kind="cyclic"),
        {},
        "kinds",
    ),
    "little overlap": (
        lambda: [{**r, "seconds": r["seconds"] * (8 if r["arm"] == "b" else 1)} for r in rows_of()],
        {},
        "overlap in at least half",
    ),
    "unequal tuning": (rows_of, {"tuning": {"a": 10, "b": 12}}, "at most 10 %"),
    "unequal tuning seconds": (
        rows_of,
        {"tuning": {"a": {"trials": 5, "seconds": 100}, "b": {"trials": 5, "seconds": 200}}},
        "200",
    ),
    "per cent": (
        lambda: [{**r, "quality": 100 * r["quality"]} for r in rows_of()],
        {},
        "divide percentages by 100",
    ),
    "negative accuracy": (lambda: change(rows_of(), of("b", "0", 1), quality=-0.1), {}, "below 0"),
    "negative loss": (
        lambda: [{**r, "quality": -1.0} for r in rows_of()],
        {"metric": "loss", "higher_is_better": False},
        "must be positive",
    ),
    "no seed": (lambda: change(rows_of(), of("b", "1", 1), seed=""), {}, "needs a duration and a seed"),
    "equal times": (lambda: change(rows_of(), of("b", "1"), seconds=60.0), {}, "must differ in time"),
    "one trunk": (lambda: [{**r, "trunk": f"t{r['arm']}"} for r in rows_of()], {}, "has 1 in 4 runs"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_reason(name: str) -> None:
    make, options, says = CASES[name]
    v = verdict(make(), "a", **options)["b"]
    assert v.verdict == "not comparable"
    assert np.isnan(v.speedup) and v.low == 0.0 and v.high == np.inf and v.windows == ()
    import re

    assert any(re.search(says, reason) for reason in v.reasons), v.reasons
    assert v.sentence == f"Not comparable: {v.reasons[0]}"
    for reason in v.reasons:
        assert reason.endswith(".") and ": " in reason and "\n" not in reason


def test_the_unchanged_rows_are_comparable() -> None:
    assert verdict(rows_of(), "a")["b"].verdict == "better"


def test_a_faulty_arm_leaves_the_others_alone() -> None:
    rows = rows_of()
    rows += [{**r, "arm": "c", "seconds": -1} for r in rows if r["arm"] == "b"]
    out = verdict(rows, "a")
    assert out["b"].verdict == "better" and out["c"].verdict == "not comparable"


def test_diverged_runs_are_counted_reported_and_not_averaged() -> None:
    rows = change(rows_of(10), of("b", "1", 1), status="diverged", quality=float("nan"), seconds=None)
    v = verdict(rows, "a")["b"]
    without = verdict(drop(rows, lambda r: r.get("status") == "diverged"), "a")["b"]
    assert (v.speedup, v.low, v.high) == (without.speedup, without.low, without.high)
    assert "b: 1 diverged of 50 runs, counted and not averaged" in v.flags


def test_exactly_one_in_five_is_still_compared() -> None:
    rows = rows_of(5)
    for duration in "01234":
        rows = change(rows, of("b", duration, 1), status="diverged", quality=None)
    assert verdict(rows, "a")["b"].verdict == "better"


def test_an_interrupted_run_that_finished_later_is_one_run() -> None:
    rows = rows_of()
    v = verdict([*rows, {**rows[-1], "status": "interrupted", "quality": None}], "a")["b"]
    assert v.verdict == "better"


def test_undeclared_tuning_is_a_claim_about_recipes() -> None:
    v = verdict(rows_of(), "a")["b"]
    assert v.claim == "recipe" and any("tuning not declared" in flag for flag in v.flags)
    declared = verdict(rows_of(), "a", tuning={"a": 10, "b": 11})["b"]
    assert declared.verdict == "better" and not any("tuning" in flag for flag in declared.flags)


def test_studies_with_declared_tuning_make_a_claim_about_methods() -> None:
    rows = [{**r, "study": f"{r['arm']}{r['seed'] % 4}"} for r in rows_of()]
    v = verdict(rows, "a", tuning={"a": 10, "b": 10})["b"]
    assert v.claim == "method" and v.pairing.startswith("one block per arm")
    assert verdict(rows, "a")["b"].claim == "recipe"


@pytest.mark.parametrize(("bad", "total"), [(0, 10), (3, 10), (10, 10), (1, 4)])
def test_divergence_interval_is_clopper_pearson(bad: int, total: int) -> None:
    exact = binomtest(bad, total).proportion_ci(0.95, method="exact")
    assert divergence_interval(bad, total) == pytest.approx((exact.low, exact.high), abs=1e-9)
