"""One source of randomness at a time: which runs that needs, from what a recipe draws, and what is said of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.recipe import SOURCES, Recipe
from reinvest.evaluation.variance_ratio import runs_to_tell
from reinvest.loop.train import train
from reinvest.store import Store
from reinvest.studies.variance_sources import SourcesPlan, drawing, estimate_sources, read_plan, variance_sources


def dropping(*, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A model that draws from torch's own generator while it trains."""
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Dropout(0.5), nn.Linear(8, classes))


PLAIN = Recipe(
    task={"name": "digits", "train_examples": 200}, model={"name": "mlp", "hidden": [8]}, duration="2ep", batch_size=50
)


def test_it_is_found_from_what_a_recipe_draws() -> None:
    assert drawing(PLAIN) == ("init", "order")
    task = {**PLAIN.task, "augment": "crop-flip"}
    full = PLAIN.with_("Mixup", task=task, model="test_variance_sources:dropping")
    assert drawing(full) == SOURCES
    assert drawing(full.with_(methods=[])) == ("init", "order", "augment", "dropout")


def test_each_arm_leaves_one_source_free_and_runs_differ_in_name_alone() -> None:
    plan = SourcesPlan(PLAIN, runs=4, held=7)
    assert plan.arm("order").seeds == {name: 7 for name in SOURCES if name != "order"}
    assert plan.arm("none").seeds == dict.fromkeys(SOURCES, 7) and plan.arm("") is PLAIN
    jobs = plan.jobs()
    assert len(jobs) == 4 * 4 == len({job.identity for job in jobs})
    # Whatever the first replicate is cut to, every arm has had its turn.
    assert [job.arm for job in jobs[:4]] == ["", "none", "init", "order"]
    assert [job.seed for job in jobs if job.arm == ""] == [0, 1, 2, 3]
    assert [job.seed for job in SourcesPlan(PLAIN, runs=4, held=2).jobs() if job.arm == ""] == [0, 1, 3, 4]


def decided(plan: SourcesPlan) -> list[tuple[str, tuple[int, ...]]]:
    """Of every run its arm and the seeds of the sources that are looked at: two alike are one computation."""
    looked_at = plan.looked_at
    return [
        (job.arm, tuple(job.what.seed_of(name, job.seed) for name in looked_at))  # type: ignore[union-attr]
        for job in plan.jobs()
    ]


FAR = SourcesPlan(PLAIN, runs=3, sources=("init",)).seeds("init")


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 12), st.one_of(st.integers(-3, 14), st.sampled_from(FAR), st.integers(-(2**40), 2**40)))
def test_no_two_runs_are_one_computation_but_those_with_everything_held(runs: int, held: int) -> None:
    plan = SourcesPlan(PLAIN, runs=runs, sources=("init", "order", "dropout"), held=held)
    found = decided(plan)
    kept = [seeds for arm, seeds in found if arm == "none"]
    free = [seeds for arm, seeds in found if arm != "none"]
    assert kept == [(held,) * 3] * runs and (held,) * 3 not in free
    assert len(set(free)) == len(free) == runs * (1 + 3)
    # A part and the whole share no draw of a source either, so that their spreads are independent.
    whole_seeds = {seed for arm, seeds in found if arm == "" for seed in seeds}
    part_seeds = {seed for arm, seeds in found if arm not in ("", "none") for seed in seeds} - {held}
    assert not whole_seeds & part_seeds and held not in whole_seeds
    # More runs keep those that there were.
    assert decided(replace(plan, runs=runs + 1))[: len(found)] == found


def test_runs_with_everything_held_have_the_same_bits_and_all_others_their_own(tmp_path: Path) -> None:
    plan = SourcesPlan(PLAIN, runs=3)
    with Store(tmp_path) as store:
        found = variance_sources(plan, store, workers=1).result
        arms = {name: plan.arm(name) for name in ("", "none", "init", "order")}
        bits: dict[str, list[str]] = {name: [] for name in arms}
        for run in store.runs():
            (name,) = (name for name, arm in arms.items() if run.config.get("seeds", {}) == arm.seeds)
            bits[name].append(hashlib.sha256((run.path / "weights.safetensors").read_bytes()).hexdigest())
        # A source alone free, at the held seed, would be the computation with everything held once more.
        train(plan.arm("order"), plan.held, store, device="cpu", progress=False)
        again = next(
            run for run in store.runs() if run.seed == plan.held and run.config["seeds"] == arms["order"].seeds
        )
        again_bits = hashlib.sha256((again.path / "weights.safetensors").read_bytes()).hexdigest()
    assert {name: len(own) for name, own in bits.items()} == {"": 3, "none": 3, "init": 3, "order": 3}
    assert len(set(bits["none"])) == 1 and found["sources"]["same_bits"] and again_bits == bits["none"][0]
    assert len({one for own in bits.values() for one in own}) == 3 * 3 + 1


def test_the_table_is_that_of_the_runs(tmp_path: Path) -> None:
    plan = SourcesPlan(PLAIN, runs=3)
    with Store(tmp_path) as store:
        cost = estimate_sources(plan, store, workers=1)
        assert (cost["runs"], cost["found"], cost["sources"]) == (12, 0, ["init", "order"]) and cost["hours"] > 0
        assert (cost["tells"], cost["twice"]) == (None, runs_to_tell(2.0))
        found = variance_sources(plan, store, workers=1).result
        sources = found["sources"]
        by_arm = {
            source: [
                run.quality("accuracy") for run in store.runs() if run.config.get("seeds", {}) == plan.arm(source).seeds
            ]
            for source in ("", "none", "init", "order")
        }
        for part in (*sources["parts"], sources["whole"], sources["none"]):
            assert sorted(part["values"]) == sorted(by_arm[part["source"]])
        # With every seed held the runs are one computation: no spread, the same bits.
        assert sources["same_bits"] and sources["none"]["variance"] == 0.0
        assert sources["absent"] == ["augment", "methods", "dropout"]
        parts = sum(part["variance"] for part in sources["parts"])
        assert sources["unexplained"]["share"] == pytest.approx(1 - parts / sources["whole"]["variance"])
        assert len(found["runs"]) == 3 and found["summary"]["sd"] == pytest.approx(sources["whole"]["sd"])
        again = variance_sources(plan, store, workers=1).result
    assert again["cost"]["found"] == 12 and again["sources"] == sources
    assert any("equal bit for bit" in line for line in found["statements"])
    assert any("draws nothing from: random views" in line for line in found["statements"])


def test_a_plan_is_a_file_with_a_recipe_or_a_recipe_file() -> None:
    values: dict[str, Any] = {"task": "digits", "model": "mlp"}
    assert read_plan(values) == SourcesPlan(Recipe(**values))
    plan = read_plan({"recipe": values, "runs": 5, "sources": ["order", "init"], "held": 3})
    assert (plan.runs, plan.sources, plan.held) == (5, ("init", "order"), 3) and plan.looked_at == ("init", "order")
    with pytest.raises(UnknownName, match=r"field of a plan 'seeds'.*held, recipe, runs, sources"):
        read_plan({"recipe": values, "seeds": 5})
    with pytest.raises(InvalidValue, match="plan's recipe is a mapping"):
        read_plan({"recipe": "digits"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": 2}, r"each source has 3 runs or more, got 2; write runs: 10"),
        ({"runs": True}, r"3 runs or more, got True"),
        ({"held": 0.5}, r"held is a seed, a whole number, got 0.5; "),
        ({"sources": "init"}, r"sources are a list of names, got 'init'; "),
    ],
)
def test_plans_that_could_say_nothing_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        SourcesPlan(**{"recipe": PLAIN, **change})


def test_unknown_sources_and_recipes_that_hold_their_own_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"source of randomness 'split'.*augment, dropout, init"):
        SourcesPlan(PLAIN, sources=("split",))
    with pytest.raises(
        InvalidValue, match=r"the plan holds the sources itself, got a recipe with seeds \{'init': 1\}; "
    ):
        SourcesPlan(PLAIN.with_(seeds={"init": 1}))


def test_a_plan_may_name_the_runs_it_builds_on_by_their_first_digits(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        earlier = train(PLAIN, 0, store, device="cpu", progress=False)
        recipe = PLAIN.with_({"name": "WarmStart", "run": earlier.id[:8]})
        plan = SourcesPlan(recipe, runs=3, sources=("order",))
        found = variance_sources(plan, store, workers=1).result
        assert (found["cost"]["runs"], found["cost"]["found"], found["summary"]["n"]) == (9, 0, 3)
        assert found["recipe"]["methods"][0]["run"] == earlier.id
        cost = estimate_sources(plan, store, workers=1)
        assert (cost["runs"], cost["found"]) == (9, 9)


def test_methods_that_draw_nothing_are_no_source_to_be_told_from_others(tmp_path: Path) -> None:
    plan = SourcesPlan(PLAIN.with_("LabelSmoothing"), runs=5)
    with Store(tmp_path) as store:
        sources = variance_sources(plan, store, workers=1).result["sources"]
    assert [part["source"] for part in sources["parts"]] == ["init", "order", "methods"]
    assert sources["parts"][2]["variance"] == 0.0
    assert [{pair["first"], pair["second"]} for pair in sources["compared"]["pairs"]] == [{"init", "order"}]
    assert sources["compared"]["twice"] == runs_to_tell(2.0)
    assert sources["absent"] == ["augment", "methods", "dropout"]
