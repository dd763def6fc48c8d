"""Prices: which runs share one, and that each distinct recipe is timed once beside scratch."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_runs import FakeRun, FakeStore, Trainer, name_of, plan_of, planted, priced

from reinvest.core.recipe import Recipe
from reinvest.evaluation import blocks
from reinvest.evaluation.timing import ArmTiming, Block
from reinvest.report.sequence import render_sequence
from reinvest.studies.policies import apply
from reinvest.studies.sequence import run_sequence
from reinvest.studies.sequence_cost import PLAIN, Prices, price_name, shape_of
from reinvest.studies.sequence_plan import seed_of

BASE = Recipe(task="digits", model={"name": "mlp", "hidden": [8]}, optimizer={"name": "sgd", "lr": 0.1})
PAST = [SimpleNamespace(id=letter * 16, config={"model": {"name": f"model {letter}"}}) for letter in "abc"]
CONFIG = {p.id: p for p in PAST}


def name(policy: Any, past: Any = PAST) -> str:
    return price_name(apply(policy, BASE, past), BASE, CONFIG.__getitem__)


def test_length_rate_schedule_and_amount_of_data_do_not_change_a_steps_price() -> None:
    for change in (
        {"duration": "3st"},
        {"optimizer": {"name": "sgd", "lr": 0.9}},
        {"schedule": {"name": "linear"}},
        {"task": {"name": "digits", "train_examples": 100, "train_start": 10}},
    ):
        assert shape_of(BASE.with_(**change)) == shape_of(BASE)
        assert price_name(BASE.with_(**change), BASE, CONFIG.__getitem__) == PLAIN
    for change in (
        {"batch_size": 32},
        {"precision": "bf16"},
        {"model": {"name": "mlp", "hidden": [16]}},
        {"task": {"name": "digits", "first_classes": 5}},
        {"optimizer": {"name": "adam", "lr": 0.1}},
        {"methods": [{"LabelSmoothing": {"alpha": 0.1}}]},
    ):
        assert shape_of(BASE.with_(**change)) != shape_of(BASE)


def test_a_price_does_not_depend_on_which_run_is_used_but_on_how() -> None:
    assert name("records") == name("records", PAST[:1])
    assert name("records all") == name("records all", PAST[:2])
    assert name("records average") != name("records average", PAST[:2])
    assert name("warm start") == name("warm start", PAST[:1]) == name({"reuse": "warm start", "rate": 0.5})
    names = {
        name(p)
        for p in ("scratch", "records", "records average", "forward", "forward every", "warm start", "high-loss")
    }
    assert len(names) == 7
    # A forward pass costs what the teacher's model costs; a look-up does not.
    assert name("forward") != name("forward", PAST[:1])
    assert "model c" in name("forward")
    assert "model" not in name("records").replace('"name"', "")
    assert all(p.id not in n for n in names for p in PAST)


def test_each_distinct_recipe_is_timed_once_per_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Recipe]] = []
    turns: list[tuple[int, int]] = []

    def block(recipes: dict[str, Recipe], baseline: str, *, rounds: int, on_round: Any, **_: Any) -> Block:
        assert baseline == PLAIN
        asked.append(recipes)
        for turn in range(rounds + 1):
            on_round(turn)
        return Block(rounds, "cpu", 0.0, {n: ArmTiming({}, 0.001, 0.0, 0.0, 5.0) for n in recipes}, [])

    monkeypatch.setattr(blocks, "timing_block", block)
    plan = plan_of(
        positions=[{}, {}, {"model": {"hidden": [16]}}, {"model": {"hidden": [16]}}],
        arms={
            "scratch": "scratch",
            "records": {"reuse": "records", "length": 0.5},
            "all": "records all",
            "warm": {"reuse": "warm start", "fallback": "records"},
        },
        sequences=3,
    )
    store = FakeStore(tmp_path)
    train = Trainer(planted(2.0), noise=0.003)
    from reinvest.evaluation.compare import Listener

    result = run_sequence(
        plan, store, workers=1, threads=1, train=train, listener=Listener(timing=lambda t, n: turns.append((t, n)))
    ).result
    assert [len(recipes) for recipes in asked] == [3, 4]
    assert turns == [*((t, 20) for t in range(11)), *((10 + t, 20) for t in range(11))]
    narrow, wide = asked
    assert {r.model["hidden"][0] for r in narrow.values()} == {8}
    assert {r.model["hidden"][0] for r in wide.values()} == {16}
    # Timed at the middle duration; a follower of half length at half of it.
    assert {r.duration for n, r in narrow.items() if "Distill" in n} <= {"80st", "160st"}
    assert narrow[PLAIN].duration == "160st"
    assert [b["shape"] for b in result["timing"]] == ["mlp", "hidden [16]"]
    for recipes, again in itertools.product(asked, asked):
        assert recipes is again or not {shape_of(r) for r in recipes.values()} & {shape_of(r) for r in again.values()}


def test_where_the_kept_share_depends_on_the_data_each_position_has_its_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Recipe]] = []

    def block(recipes: dict[str, Recipe], baseline: str, **_: Any) -> Block:
        """A price by the number of examples, so that a run charged at another position's is found out."""
        asked.append(recipes)
        each = {n: 0.001 if n == PLAIN else 1e-5 * r.task["train_examples"] for n, r in recipes.items()}
        return Block(10, "cpu", 0.0, {n: ArmTiming({}, v, 0.0, 0.0, 5.0) for n, v in each.items()}, [])

    monkeypatch.setattr(blocks, "timing_block", block)
    plan = plan_of(
        positions=3,
        grow={"train_examples": [128, 192, 256]},
        arms={"scratch": "scratch", "records": "records", "hard": "high-loss"},
        durations=["1ep", "2ep", "4ep"],
        sequences=3,
    )
    result = run_sequence(
        plan, FakeStore(tmp_path), workers=1, threads=1, train=Trainer(planted(2.0), noise=0.003)
    ).result
    (recipes,) = asked
    hard = {n: r for n, r in recipes.items() if "Subset" in n}
    assert len([n for n in recipes if "Distill" in n]) == 1
    # The second run's scores are those of a whole run; the third's of a subset, which leaves out more of a short one.
    assert sorted(r.task["train_examples"] for r in hard.values()) == [192, 256, 256, 256]
    assert {r.duration for r in hard.values()} == {"2ep"}
    for row in result["runs"]:
        if row["arm"] == "hard" and row["position"] > 1:
            amount = (128, 192, 256)[row["position"] - 1]
            assert row["seconds_per_step"] == pytest.approx(1e-5 * amount)
        elif row["arm"] == "scratch" or row["position"] == 1:
            assert row["seconds_per_step"] == pytest.approx(0.001)


def test_positions_share_a_price_where_the_kept_share_is_the_same() -> None:
    def priced_at(policy: str, position: int, **task: Any) -> str:
        plain = BASE.with_(task={"name": "digits", **task})
        return price_name(apply(policy, plain, PAST), plain, CONFIG.__getitem__, position)

    assert priced_at("records", 1, train_examples=64) == priced_at("records", 2, train_examples=96)
    assert priced_at("high-loss", 1, train_examples=64) == priced_at("high-loss", 1, train_examples=64)
    assert priced_at("high-loss", 1, train_examples=64) != priced_at("high-loss", 1, train_examples=96)
    assert priced_at("high-loss", 1) != priced_at("high-loss", 2)
    # A plain recipe that drops examples by itself has another block for each amount of data.
    dropping = BASE.with_({"Subset": {"scores": [0.1] * 99, "share": 0.5}})
    more = dropping.with_(task={"name": "digits", "train_examples": 90})
    assert shape_of(dropping) != shape_of(more)
    assert price_name(more, more, CONFIG.__getitem__, 1) == PLAIN


def test_runs_are_priced_by_the_kinds_of_steps_that_their_clocks_counted() -> None:
    timing = ArmTiming({("('teacher',)", 0): 0.5, ("('plain',)", 0): 0.25}, 0.3, 0.0, 0.0, 5.0)
    prices = Prices({shape_of(BASE): Block(10, "cpu", 0.0, {PLAIN: timing}, [])})
    rows = [
        {"kind": "('teacher',)", "tenth": 0, "steps": 3},
        {"kind": "('plain',)", "tenth": 5, "steps": 7},
    ]
    run = SimpleNamespace(steps=10, seconds=99.0, cost={"strata": rows, "one_off_seconds": 1.0})
    charge = prices.charge(run, BASE, BASE)
    assert charge.seconds == pytest.approx(3 * 0.5 + 7 * 0.25 + 1.0)
    assert (charge.steps, charge.one_off) == (10, 1.0)
    assert charge.seconds_per_step == pytest.approx(0.325)
    # A clock that did not count every step (a resumed run of an older version) is not believed.
    run.cost["strata"] = rows[:1]
    assert prices.charge(run, BASE, BASE).seconds == pytest.approx(10 * 0.3 + 1.0)
    own = Prices().charge(run, BASE, BASE)
    assert (own.seconds, own.ratio) == (99.0, None)
    assert own.seconds_per_step == pytest.approx(9.8)


def test_a_run_that_diverged_before_its_first_update_has_no_price_of_a_step() -> None:
    timing = ArmTiming({("", 0): 0.5}, 0.5, 0.0, 0.0, 5.0)
    prices = Prices({shape_of(BASE): Block(10, "cpu", 0.0, {PLAIN: timing}, [])})
    for clock in (prices, Prices()):
        charge = clock.charge(SimpleNamespace(steps=0, seconds=1.0, cost={"one_off_seconds": 1.0}), BASE, BASE)
        assert (charge.steps, charge.seconds) == (0, 1.0) and math.isnan(charge.seconds_per_step)


def test_a_study_with_such_a_run_is_judged(tmp_path: Path) -> None:
    class Failing(Trainer):
        def __call__(self, recipe: Recipe, seed: int, store: FakeStore) -> FakeRun:
            run = super().__call__(recipe, seed, store)
            if run.status == "diverged":
                run.steps = 0
            return run

    plan = plan_of()
    lost = seed_of(0, 1, "80st")
    train = Failing(planted(2.0), noise=0.003, diverges=lambda recipe, seed: bool(recipe.methods) and seed == lost)
    prices = priced(plan, {name_of(plan, "records"): 1.0})
    done = run_sequence(plan, FakeStore(tmp_path), train=train, prices=prices, workers=1, threads=1)
    (row,) = (r for r in done.result["runs"] if r["status"] == "diverged")
    assert row["steps"] == 0 and row["seconds_per_step"] is None
    assert done.result["arms"]["records"]["verdict"] == "better"
    assert "<html" in render_sequence(done.result)


def test_names_of_recipes_are_plain_json() -> None:
    assert json.loads(name("records average"))[0]["teacher"] == [3]
