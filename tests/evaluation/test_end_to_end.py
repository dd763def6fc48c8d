"""Planted truths on real training, small: the benchmark of the same name has more of them, and its figures are stored."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

import reinvest as ri
from reinvest.evaluation import timing, verdict

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def planted() -> Any:
    """The benchmark's module, found by its recipes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        import benchmarks.end_to_end

        patch.setattr(benchmarks.end_to_end, "STEPS", (5, 10, 20, 40))
        yield benchmarks.end_to_end


def test_one_recipe_under_two_names_is_seldom_called_better_or_worse(planted: Any, tmp_path: Path) -> None:
    """8 studies of fresh seeds, priced by steps: more than 5 % only as chance has it."""
    seeds, store = itertools.count(40_000), ri.Store(tmp_path)
    found = []
    for _ in range(8):
        points = [r for name in ("a", "b") for r in planted.rows(name, planted.BASE, seeds, 3, store)]
        priced = [{**p, "seconds": 0.001 * p["steps"]} for p in points]
        found.append(verdict(priced, "a", metric="loss")["b"].verdict)
    wrong = found.count("better") + found.count("worse")
    assert binomtest(wrong, 8, 0.05, alternative="greater").pvalue > 0.01, found
    assert set(found) <= {"better", "worse", "mixed", "equivalent", "inconclusive"}


def test_a_fifth_fewer_steps_are_found_as_steps(planted: Any, tmp_path: Path) -> None:
    """Exactly: as many steps act in the idle baseline's run as in a run of 80 % of them."""
    seeds, store = itertools.count(50_000), ri.Store(tmp_path)
    judged, block = planted.study((planted.IDLE, planted.BASE), seeds, 6, store)
    share = planted.truth("fewer steps", block)[1]
    assert judged.low <= 1.25 * share <= judged.high, judged
    assert judged.seconds_ratio == pytest.approx(share) and 1.0 < judged.steps_ratio < 1.6, judged


def test_idle_steps_leave_weights_and_momentum_alone(planted: Any, tmp_path: Path) -> None:
    from reinvest.loop.session import Session

    session = Session(planted.IDLE.with_(duration="10st"), 0)
    moved = []
    with session.attached() as methods:
        session.model.train()
        for batch in methods.batches(session.loader(0, 0)):
            before = [p.detach().clone() for p in session.model.parameters()]
            held = {p: dict(s) for p, s in session.optimizer.state.items()}
            session.step(batch)
            now = list(session.model.parameters())
            moved.append(any(not bool((a == b).all()) for a, b in zip(before, now, strict=True)))
            if not moved[-1]:
                assert {p: dict(s) for p, s in session.optimizer.state.items()}.keys() == held.keys()
    assert moved == [True, True, False, True, True] * 2


def test_ten_milliseconds_a_step_are_found_as_seconds(planted: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Real runs that sleep, and a clock on which a step computes for 10 ms: the sleep doubles it, and nothing else differs."""
    seeds, store = itertools.count(60_000), ri.Store(tmp_path)
    sleeper = planted.SLEEPER.with_(model=planted.BASE.model)

    def taken(runner: Any, stratum: Any, device: Any) -> dict[str, float]:
        return {"cpu": 0.010, "wall": 0.010 + (planted.SLEEP if runner.session.recipe.methods else 0.0)}

    monkeypatch.setattr(timing, "_timed_step", taken)
    judged, block = planted.study((planted.BASE, sleeper), seeds, 5, store)
    assert block.clock == "wall" and "waits or sleeps" in block.notes[0]
    assert judged.verdict == "worse" and judged.low <= 0.5 <= judged.high, judged
    assert judged.seconds_ratio == pytest.approx(0.5) == planted.truth("10 ms a step", block)[1]
    assert judged.steps_ratio == pytest.approx(2 * judged.speedup)


def test_the_stored_figures_are_those_of_the_plan(planted: Any) -> None:
    file = ROOT / "benchmarks" / "results" / "end_to_end.jsonl"
    _, *lines, more = [json.loads(line) for line in file.read_text(encoding="utf8").splitlines()]
    assert {line["part"]: (line["studies"], line["seeds"]) for line in lines} == {
        part: (studies, seeds) for part, (_, studies, seeds) in planted.PARTS.items()
    }
    assert (more["part"], more["studies"]) == ("fewer steps", 24) and more["outside_within_the_99_%_bound_of_5_%"]
    assert more["steps_ratio"] == pytest.approx(1.25, rel=0.05)
    by = {line["part"]: line for line in lines}
    assert by["A/A"]["false_within_the_99_%_bound_of_5_%"] and by["A/A"]["outside_within_the_99_%_bound_of_5_%"]
    steps, sleep = by["fewer steps"], by["10 ms a step"]
    assert "worse" not in steps and steps["outside_within_the_99_%_bound_of_5_%"]
    assert steps["steps_ratio_range"][0] < 1.25 < steps["steps_ratio_range"][1]
    assert sleep["worse"] == sleep["studies"] and sleep["outside_within_the_99_%_bound_of_5_%"]
    assert sleep["steps_ratio"] == pytest.approx(1.0, abs=0.05)
    assert sleep["seconds_ratio"] == pytest.approx(sleep["true_seconds_ratio"], rel=0.1)
