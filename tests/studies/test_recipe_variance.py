"""Runs of one recipe are found, checked and summarised; what cannot stand in one spread is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import betaincinv, ndtri

from reinvest.core.errors import CorruptFile, DataError, InvalidValue, UnknownName
from reinvest.core.recipe import Recipe
from reinvest.evaluation.variance import probability_better
from reinvest.loop.train import train
from reinvest.store import Store
from reinvest.studies.variance import Variance, read_variance, variance
from reinvest.studies.variance_against import changed_fields
from reinvest.studies.variance_runs import choose

RECIPE = Recipe(
    task={"name": "digits", "train_examples": 200}, model={"name": "mlp", "hidden": [8]}, duration="2ep", batch_size=50
)
LONG = RECIPE.with_(duration="4ep")
OTHER_DATA = RECIPE.with_(task={"name": "digits", "train_examples": 200, "first_classes": 5})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three runs of RECIPE, one of them diverged besides, three of LONG, one on other data; not to be changed."""
    made = Store(tmp_path_factory.mktemp("variance"))
    for recipe, seeds in ((RECIPE, 3), (LONG, 3), (OTHER_DATA, 2)):
        for seed in range(seeds):
            train(recipe, seed, made, device="cpu", progress=False, evaluations=1)
    # A run of RECIPE that lost its way, as training would have kept it.
    with made.record("digits mlp", task="digits", config=RECIPE.to_dict(), seed=9) as run:
        run.finish("diverged")
    return made


def ids(store: Store, recipe: Recipe, status: str = "finished") -> list[str]:
    return [r.id for r in store.runs() if r.status == status and Recipe.from_dict(r.config) == recipe]


def test_the_runs_of_a_recipe_are_found_and_the_diverged_counted(store: Store) -> None:
    found = variance(store, recipe=RECIPE, device="cpu").result
    logged = [run.quality("accuracy") for run in store.runs() if run.id in ids(store, RECIPE)]
    assert sorted(run["value"] for run in found["runs"]) == sorted(logged)
    summary = found["summary"]
    assert (summary["n"], summary["diverged"]) == (3, 1) and found["diverged"][0]["seed"] == 9
    assert summary["mean"] == pytest.approx(sum(logged) / 3)
    assert found["test"]["examples"] == 359
    assert found["test"]["floor"] == pytest.approx(math.sqrt(summary["mean"] * (1 - summary["mean"]) / 359))
    # The votes are those of the same runs on the same examples: their mean accuracy is the one that was logged.
    assert found["agreement"]["accuracy"] == pytest.approx(summary["mean"])
    assert found["agreement"]["spread"]["observed_sd"] == pytest.approx(summary["sd"])
    assert found["agreement"]["curve"][-1][1] == 1.0
    assert any("3 runs: 5 or more are advised" in note for note in found["notes"])
    assert any("1 of 4 runs diverged" in line for line in found["statements"])


def test_named_and_filtered_runs_give_the_same(store: Store) -> None:
    by_recipe = variance(store, recipe=LONG, device="cpu", predict=False).result
    names = [name[:12] for name in ids(store, LONG)]
    steps = store.get(names[0]).steps
    for asked in ({"runs": names}, {"where": f"steps={steps} and status=finished"}):
        found = variance(store, predict=False, **asked).result  # type: ignore[arg-type]
        assert found["summary"] == by_recipe["summary"] and found["agreement"] is None
    by_loss = variance(store, recipe=LONG, metric="loss", predict=False).result
    assert by_loss["test"] is None and not by_loss["task"]["higher_is_better"]
    assert by_loss["summary"]["mean"] != by_recipe["summary"]["mean"]


def test_luck_with_the_examples_is_that_of_accuracies_alone(store: Store) -> None:
    found = variance(store, recipe=RECIPE, metric="loss", device="cpu").result
    assert found["agreement"]["spread"] is None and 0 <= found["agreement"]["churn"] <= 1
    assert not any("luck" in line for line in found["statements"])


def test_the_runs_that_are_said_to_show_it_show_it_by_the_interval_that_decides(store: Store) -> None:
    runs = variance(store, recipe=LONG, against=RECIPE, predict=False).result["against"]["needed"]
    draw, ahead = np.random.default_rng(5), math.sqrt(2) * float(ndtri(0.75))
    studies = 3_000
    shown = sum(
        probability_better(draw.normal(ahead, size=runs).tolist(), draw.normal(size=runs).tolist()).low > 0.5
        for _ in range(studies)
    )
    # One-sided, exact: the largest rate that 1 % of studies would give so few findings under.
    assert betaincinv(shown + 1, studies - shown, 0.99) >= 0.95


def test_two_recipes_are_set_against_each_other(store: Store) -> None:
    found = variance(store, recipe=LONG, against=RECIPE, predict=False).result
    mine = [run["value"] for run in found["runs"]]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in mine for b in found["against"]["values"]]
    assert found["against"]["better"]["probability"] == pytest.approx(sum(wins) / 9)
    assert found["against"]["needed"] == 35
    difference = found["against"]["difference"]
    assert difference["low"] <= difference["mean"] <= difference["high"]
    # Runs that lost their way take no part, on either side, and are told of on both.
    assert found["against"]["summary"]["diverged"] == 1
    assert any("1 more of that diverged and takes no part" in line for line in found["statements"])
    # The two go by what differs between them, and by the names that they were given.
    assert found["against"]["changed"] == [{"field": "duration", "first": "4ep", "second": "2ep"}]
    assert found["against"]["names"] == ["these runs (duration 4ep)", "the other recipe (duration 2ep)"]
    named = variance(store, recipe=LONG, against=RECIPE, predict=False, names=("long.yaml", "short.yaml")).result
    assert (
        "the one of long.yaml (duration 4ep) is better than the one of short.yaml (duration 2ep)"
        in named["statements"][0]
    )
    assert any("few runs of short.yaml: 3, of which little can be said" in note for note in named["notes"])
    # A smaller loss is the better one.
    by_loss = variance(store, recipe=LONG, against=ids(store, RECIPE)[0], metric="loss", predict=False).result
    assert by_loss["against"]["difference"]["mean"] < 0 and by_loss["against"]["better"]["probability"] > 0.5
    with pytest.raises(DataError, match="compared on one test set, got run"):
        variance(store, recipe=RECIPE, against=OTHER_DATA, predict=False)
    with pytest.raises(
        InvalidValue, match=r"two different recipes are set against each other, got .* twice; name another"
    ):
        variance(store, recipe=RECIPE, against=ids(store, RECIPE)[0], predict=False)


def test_what_cannot_stand_in_one_spread_is_refused(store: Store, tmp_path: Path) -> None:
    one, other, data = ids(store, RECIPE), ids(store, LONG), ids(store, OTHER_DATA)
    with pytest.raises(InvalidValue, match=r"2 finished runs or more .*, got 1; train"):
        choose(store, runs=one[:1])
    with pytest.raises(InvalidValue, match=r"one recipe.*another duration .*--recipe"):
        choose(store, runs=[*one, other[0]])
    with pytest.raises(InvalidValue, match=r"one recipe.*another task"):
        choose(store, runs=[one[0], data[0]])
    with pytest.raises(InvalidValue, match=r"give one of the three"):
        choose(store)
    with pytest.raises(InvalidValue, match=r"give one of the three"):
        choose(store, runs=one, recipe=RECIPE)
    with pytest.raises(UnknownName, match=r"metric .*'f1'.*accuracy, loss"):
        variance(store, recipe=RECIPE, metric="f1", predict=False)
    with pytest.raises(UnknownName, match=r"split 'train'.*test, validation"):
        variance(store, recipe=RECIPE, split="train")
    with pytest.raises(InvalidValue, match=r"2 finished runs or more .*, got 0"):
        choose(store, recipe=RECIPE.with_(batch_size=25))
    assert choose(store, runs=[one[0], one[0], one[1]]).finished[0].seed == 0


def record(store: Store, seed: int, config: dict[str, Any], value: float) -> str:
    with store.record("mine", task="own", config=config, seed=seed) as run:
        run.log(split="test", score=value)
    return str(run.run.id)


def test_runs_of_an_own_loop_have_a_spread_too(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        names = [record(store, seed, {"lr": 0.1}, 1.0 + seed) for seed in range(3)]
        found = variance(store, runs=names).result
        assert found["summary"]["mean"] == 2.0 and found["summary"]["sd"] == 1.0 and found["recipe"] == {}
        assert found["task"]["metric"] == "score" and found["test"] is None
        assert "2 on average" in found["statements"][0]
        other = record(store, 3, {"lr": 0.2}, 1.0)
        with pytest.raises(InvalidValue, match="one loop with one set of settings"):
            choose(store, runs=[*names, other])
        lost = record(store, 4, {"lr": 0.1}, math.nan)
        found = variance(store, runs=[*names, lost]).result
        assert found["summary"]["diverged"] == 1 and found["diverged"][0]["run"] == lost
        with pytest.raises(InvalidValue, match=r"2 finished runs or more .*, got 1"):
            variance(store, runs=[names[0], lost])
        second = record(store, 5, {"lr": 0.1}, 2.0)
        own = [record(store, seed, {"lr": 0.4, "seed": seed}, 2.0 + seed) for seed in range(2)]
        assert variance(store, runs=own).result["summary"]["mean"] == 2.5, (
            "a loop that keeps its seed among its settings"
        )
        with store.record("mine", task="own", config={"lr": 0.3}, seed=0) as run:
            run.log(split="test", score=1.0, other=2.0)
        with store.record("mine", task="own", config={"lr": 0.3}, seed=1) as more:
            more.log(split="test", score=1.0, other=2.0)
        with pytest.raises(
            InvalidValue, match=r"compared by one metric, got score, other on test; name it with --metric"
        ):
            variance(store, runs=[run.run.id, more.run.id])
        assert variance(store, runs=[names[0], second], metric="score").result["summary"]["n"] == 2


def test_different_test_sets_under_one_recipe_are_refused(store: Store) -> None:
    from types import SimpleNamespace

    from reinvest.studies.variance_runs import _one_test_set

    runs: list[Any] = [
        SimpleNamespace(id=name, training={"data": {"fingerprint": print_}})
        for name, print_ in (("a", "1"), ("b", "2"))
    ]
    with pytest.raises(DataError, match=r"one test set, got run 'b' on other data"):
        _one_test_set(runs)


def test_a_result_is_kept_and_read_again(store: Store, tmp_path: Path) -> None:
    found = variance(store, recipe=RECIPE, predict=False)
    found.report(tmp_path / "v.html", reproduce={"command": "again"})
    kept = read_variance(tmp_path / "v.json")
    assert Variance(kept).statements == found.statements and kept["reproduce"] == {"command": "again"}
    assert str(found) == "\n".join(found.statements)
    (tmp_path / "early.json").write_text(json.dumps({**kept, "schema": 1}))
    with pytest.raises(InvalidValue, match=r"from schema 2 on, got 1 in early.json; run reinvest variance again"):
        read_variance(tmp_path / "early.json")
    (tmp_path / "w.json").write_text('{"kind": "other"}')
    with pytest.raises(CorruptFile):
        read_variance(tmp_path / "w.json")


def test_agreement_is_left_out_with_the_reason_where_weights_are_gone(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path) as copy:
        for seed in range(2):
            run = train(RECIPE, seed, copy, device="cpu", progress=False, evaluations=1)
            torch.manual_seed(0)
        (run.path / "weights.safetensors").unlink()
        found = variance(copy, recipe=RECIPE).result
    assert found["agreement"] is None and "1 of 2 runs kept no weights" in " ".join(found["notes"])


def test_what_differs_is_told_and_not_which_defaults_were_written_out() -> None:
    every = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005}
    default = Recipe(task="digits", model="mlp")
    assert default.optimizer == every
    half = default.with_(optimizer={**every, "lr": 0.05})
    assert changed_fields(half, default) == [{"field": "optimizer.lr", "first": "0.05", "second": "0.1"}]
    assert changed_fields(default, default.with_("EMA")) == [{"field": "methods", "first": "none", "second": "EMA"}]
    assert changed_fields(default, Recipe(task="digits", model="mlp", optimizer=every)) == []
