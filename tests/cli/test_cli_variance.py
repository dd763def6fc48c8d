"""`reinvest variance`, and `reinvest report` of its result, as a user types them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml
from calling import Call

from reinvest.core.recipe import Recipe
from reinvest.evaluation.variance_ratio import runs_to_tell
from reinvest.loop.train import train
from reinvest.store import Store

VALUES = {
    "task": {"name": "digits", "train_examples": 200},
    "model": {"name": "mlp", "hidden": [8]},
    "duration": "2ep",
    "batch_size": 50,
}
RECIPE = Recipe(**VALUES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three runs of a recipe and one of another, and the recipe's file."""
    made = tmp_path_factory.mktemp("variance")
    with Store(made / "runs") as store:
        for seed in range(3):
            train(RECIPE, seed, store, device="cpu", progress=False, evaluations=1)
        train(RECIPE.with_(duration="1ep"), 0, store, device="cpu", progress=False, evaluations=1)
    (made / "recipe.yaml").write_text(yaml.safe_dump(VALUES))
    return made


@pytest.fixture
def here(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_the_runs_of_a_recipe_make_a_page(here: Path, call: Call) -> None:
    said = call("variance", "--recipe", "recipe.yaml", "--out", "v.html")
    assert said.code == 0, said.err
    for part in (
        "Variance: 3 runs of digits mlp",
        "binomial",
        "two runs give different answers on",
        "Page: v.html",
        "v.json",
    ):
        assert part in said.out, part
    kept = json.loads(Path("v.json").read_text())
    assert kept["summary"]["n"] == 3 and Path("v.html").stat().st_size > 10**6
    again = call(*shlex.split(kept["reproduce"]["command"])[1:], "--json").data
    assert [again[name] for name in ("runs", "summary", "agreement")] == [
        kept[name] for name in ("runs", "summary", "agreement")
    ]
    drawn = call("report", "v.json", "--out", "w.html")
    assert drawn.code == 0 and "Page: w.html" in drawn.out and "binomial" in drawn.out
    assert call("report", "v.json", "--json").data["kind"] == "variance"


def test_one_source_at_a_time_is_trained_and_told(here: Path, call: Call) -> None:
    dry = call("variance", "recipe.yaml", "--sources", "--runs-each", "3", "--dry-run", "--workers", "1")
    assert dry.code == 0 and "12 runs: 2 in the store, 10 to train" in dry.out, dry.err
    assert "free one at a time: init, order" in dry.out and "is not said of so few runs each; 24 runs each" in dry.out
    more = call("variance", "recipe.yaml", "--sources", "--runs-each", "24", "--dry-run", "--workers", "1")
    assert "tells a source that makes runs vary 2.0 times as much as another (in 4 of 5 studies); 24 runs" in more.out
    said = call("variance", "recipe.yaml", "--sources", "--runs-each", "3", "--workers", "1", "--json")
    # Seed 0 is the held one, and no free run has it.
    assert said.data["sources"]["same_bits"] and said.data["cost"]["found"] == 2
    assert [part["source"] for part in said.data["sources"]["parts"]] == ["init", "order"]
    again = call(*shlex.split(said.data["reproduce"]["command"])[1:], "--workers", "1")
    assert "One source free at a time, 3 runs each" in again.out and "initial weights" in again.out


def test_against_another_recipe(here: Path, call: Call) -> None:
    Path("other.yaml").write_text(yaml.safe_dump({**VALUES, "duration": "1ep"}))
    said = call("variance", "--recipe", "recipe.yaml", "--against", "other.yaml", "--logged")
    assert said.code == 2 and "2 finished runs or more (5 are advised), got 1" in said.sentence
    with Store("runs") as store:
        train(RECIPE.with_(duration="1ep"), 1, store, device="cpu", progress=False, evaluations=1)
    found = call("variance", "--recipe", "recipe.yaml", "--against", "other.yaml", "--logged", "--json").data
    assert 0 <= found["against"]["better"]["probability"] <= 1 and found["agreement"] is None
    assert found["against"]["names"] == ["recipe.yaml (duration 2ep)", "other.yaml (duration 1ep)"]
    with Store("runs") as store:
        one = next(run.id for run in store.runs() if run.config["duration"] == "1ep")
        mine = [run.id for run in store.runs() if run.config["duration"] == "2ep" and not run.config.get("seeds")]
    text = " ".join(call("variance", *mine, "--against", one, "--logged").out.split())
    assert f"the one of these runs (duration 2ep) is better than the one of run {one}'s recipe (duration 1ep)" in text
    said = call("variance", "--recipe", "recipe.yaml", "--against", "recipe.yaml", "--logged")
    assert said.code == 2 and "two different recipes are set against each other" in said.sentence


def test_help_says_how_many_runs_tell_a_source_that_is_twice_another(call: Call) -> None:
    assert f"({runs_to_tell(2.0)} each\nfor a standard deviation twice another's)" in call("variance", "--help").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give one of the three"),
        (("--recipe", "none.yaml"), "which does not exist"),
        (("recipe.yaml", "--runs-each", "5"), "--runs-each is about runs that --sources trains"),
        (("recipe.yaml", "--dry-run"), "--dry-run is about runs that --sources trains"),
        (("--sources",), "--sources takes one PLAN.yaml and looks at the test split, got nothing"),
        (("recipe.yaml", "--sources", "--where", "seed=1"), "got recipe.yaml, --where"),
        (("recipe.yaml", "--sources", "--runs-each", "2"), "each source has 3 runs or more, got 2"),
        (("--recipe", "recipe.yaml", "--split", "train"), "unknown split 'train'"),
        (("--recipe", "recipe.yaml", "--out", "v.txt"), "a report is an HTML file"),
        (("--where", "task=nothing"), "2 finished runs or more (5 are advised), got 0"),
    ],
)
def test_refusals_are_one_sentence(here: Path, call: Call, words: tuple[str, ...], message: str) -> None:
    said = call("variance", *words)
    assert said.code == 2 and message in said.sentence
