"""`reinvest outcomes`, and `reinvest report` of its result, as a user types them."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest
from calling import Call

from reinvest.cli.main import main
from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.store import Store

RECIPE = Recipe(
    task={"name": "digits", "train_examples": 200}, model={"name": "mlp", "hidden": [8]}, duration="2ep", batch_size=50
)


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A folder with a store of three seeds and one run of another recipe; the runs' ids, the folder first."""
    folder = tmp_path_factory.mktemp("outcomes")
    with Store(folder / "runs") as store:
        made = [train(RECIPE, seed, store, device="cpu", progress=False).id for seed in range(3)]
        made.append(train(RECIPE.with_(duration="1ep"), 0, store, device="cpu", progress=False).id)
    (folder / "groups.csv").write_text(
        "id,group\n" + "".join(f"{k},{'odd' if k % 2 else 'even'}\n" for k in range(1797))
    )
    return [str(folder), *made]


@pytest.fixture
def here(ids: list[str], call: Call, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(ids[0])
    return ids[1:]


def test_the_runs_of_a_recipe_are_found_and_the_page_and_votes_written(here: list[str], call: Call) -> None:
    said = call(
        "outcomes",
        here[1][:10],
        "--same-recipe",
        "--groups",
        "groups.csv",
        "--repeat",
        "--out",
        "o.html",
        "--csv",
        "v.csv",
    )
    assert said.code == 0, said.err
    for part in (
        "Outcomes: 3 runs of digits mlp",
        "By subgroup",
        "even",
        "two runs differ on",
        "Page: o.html",
        "v.csv",
    ):
        assert part in said.out, part
    assert all(run in said.out for run in here[:3]) and here[3] not in said.out
    assert Path("o.html").stat().st_size > 10**6
    kept = json.loads(Path("o.json").read_text())
    assert [run["run"] for run in kept["runs"]] == here[:3] and kept["repeat"]["same_bits"] == 3
    rows = list(csv.DictReader(Path("v.csv").read_text().splitlines()))
    assert len(rows) == 359 and rows[0]["group"] in ("odd", "even")
    right = sum(row[here[0]] == row["label"] for row in rows)
    assert kept["runs"][0]["accuracy"] == pytest.approx(right / 359)
    # What the page says to type gives the same figures.
    words = shlex.split(kept["reproduce"]["command"])[1:]
    again = call(*words, "--json").data
    assert [again[name] for name in ("runs", "whole", "by_group")] == [kept[n] for n in ("runs", "whole", "by_group")]


def test_report_draws_the_result_again(here: list[str], call: Call) -> None:
    assert main(["outcomes", *here[:3], "--out", "first.html"]) == 0
    said = call("report", "first.json", "--out", "again.html")
    assert said.code == 0 and "Most disputed examples" in said.out and "Page: again.html" in said.out
    assert Path("again.html").read_text() == Path("first.html").read_text()


def test_with_json_it_is_one_object(here: list[str], call: Call) -> None:
    data = call("outcomes", *here[:2], "--split", "validation", "--json").data
    assert data["kind"] == "outcomes" and data["split"] == "validation" and len(data["runs"]) == 2
    assert data["examples"] == 360 and "report" not in data


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("{0}",), "2 runs or more (5 are advised), got 1"),
        (("{0}", "{0}"), "twice"),
        (("{0}", "{3}"), "another duration than run"),
        (("{0}", "nowhere"), "no run 'nowhere'"),
        (("{0}", "{1}", "--split", "train"), "Known: test, validation"),
        (("{0}", "{1}", "--below", "0"), "in (0, 1], got 0.0"),
        (("{0}", "{1}", "--groups", "none.csv"), "'none.csv', which does not exist"),
        (("{0}", "{1}", "--out", "page.txt"), "HTML file, got 'page.txt'"),
        (("{0}", "{1}", "--csv", "votes.txt"), "written as CSV, got 'votes.txt'"),
        (("{0}", "{1}", "--csv", "no/votes.csv"), "a folder that exists, got 'no/votes.csv'"),
        (("{0}", "{1}", "--device", "gpu"), "a device of this machine, got 'gpu'"),
    ],
)
def test_bad_input_is_one_sentence(here: list[str], call: Call, words: tuple[str, ...], part: str) -> None:
    said = call("outcomes", *(word.format(*here) for word in words))
    assert said.code == 2
    assert part in said.sentence


def test_any_mixes_recipes(here: list[str], call: Call) -> None:
    data = call("outcomes", here[0], here[3], "--any", "--json").data
    assert data["recipe"] == {} and any("have the same seed (0)" in note for note in data["notes"])


def test_a_terminal_sees_a_bar(here: list[str], call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    said = call("outcomes", *here[:2])
    assert said.code == 0 and "Most disputed" in said.out
    assert f"run {here[1]}, seed 1" in said.err and "2/2 runs" in said.err
