"""`reinvest ablate`, and `reinvest report` of its result, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import Call

from reinvest.cli.ablate import default_page
from reinvest.cli.main import main

RECIPE = """
task: {name: digits, train_examples: 200}
model: {name: mlp, hidden: [8]}
batch_size: 50
duration: 8ep
methods:
  - LabelSmoothing: {}
  - EMA: {half_life: 4st}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the ablation has been run."""
    folder = tmp_path_factory.mktemp("ablated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("recipe.yaml").write_text(RECIPE)
        assert main(["ablate", "recipe.yaml", "--seeds", "3", "--workers", "1"]) == 0
    return folder


def test_a_dry_run_names_combinations_runs_and_hours_and_trains_nothing(call: Call) -> None:
    Path("recipe.yaml").write_text(RECIPE)
    said = call("ablate", "recipe.yaml", "--seeds", "3", "--workers", "1", "--dry-run")
    assert said.code == 0
    assert "4 combinations: plain, all, EMA, LabelSmoothing" in said.out
    assert "48 runs: 0 in the store, 48 to train" in said.out
    assert not Path("runs/runs").exists()


def test_the_page_the_figures_and_the_tables(trained: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    assert Path("recipe_ablation.html").stat().st_size > 10**6
    said = call("ablate", "recipe.yaml", "--seeds", "3", "--workers", "1", "--json")
    assert said.code == 0
    assert said.data["cost"]["found"] == 48
    kept = json.loads(Path(said.data["result"]).read_text())
    assert kept["effects"] == said.data["effects"]
    assert kept["reproduce"]["command"] == "reinvest ablate recipe.yaml --store runs --seeds 3"
    options = ("--seeds", "3", "--workers", "1", "--out", "o.html", "--batch-size", "50", "--json")
    changed = call("ablate", "recipe.yaml", *options).data["result"]
    assert "ablate RECIPE.yaml" in json.loads(Path(changed).read_text())["reproduce"]["command"]
    again = call("report", "recipe_ablation.json", "--out", "again.html")
    assert again.code == 0
    assert "On top of all the others" in again.out
    assert Path("again.html").exists()


@pytest.mark.parametrize(
    ("recipe", "page"),
    [(None, "ablation.html"), ("examples/ablation.yaml", "ablation.html"), ("recipe.yaml", "recipe_ablation.html")],
)
def test_the_page_is_named_as_the_help_says(recipe: str | None, page: str, call: Call) -> None:
    assert default_page(recipe) == page
    said = " ".join(call("ablate", "--help").out.split())
    assert "(default: ablation.html, for a file RECIPE.yaml RECIPE_ablation.html)" in said


def test_without_pairs_none_is_asked(trained: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    said = call("ablate", "recipe.yaml", "--seeds", "3", "--workers", "1", "--no-pairs", "--out", "p.html", "--json")
    assert {e["question"] for e in said.data["effects"]} == {"whole", "on top", "alone"}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--only", "Mixup"), "LabelSmoothing"),
        (("--only", "EMA"), "two methods or more apart, got EMA"),
        (("--only", "EMA,,LabelSmoothing"), "leave no part of it empty"),
        (("--hours", "0"), "above 0, got 0"),
        (("--hours", "1e-9"), "budget of 1e-09 h"),
        (("--seeds", "2"), "at least 3 seeds"),
        (("--durations", "1ep,2ep"), "4"),
        (("--out", "page.txt"), "HTML file, got 'page.txt'; write --out report.html"),
        (("--methods", "LAWA"), "average"),
    ],
)
def test_bad_input_is_one_sentence_and_trains_nothing(call: Call, words: tuple[str, ...], part: str) -> None:
    Path("recipe.yaml").write_text(RECIPE)
    said = call("ablate", "recipe.yaml", "--workers", "1", *words)
    assert said.code == 2
    assert part in said.sentence
    assert not Path("runs/runs").exists() or not list(Path("runs/runs").iterdir())
