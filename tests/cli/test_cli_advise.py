"""`reinvest advise`, `reinvest recommend`, `train --reuse`, and what `runs` and `store gc` say of lineage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from calling import Call

from advised import arm, changed, kept, recipe, scored, study, trained
from reinvest.core.recipe import Recipe
from reinvest.store import Store
from reinvest.studies import evidence
from reinvest.studies.evidence import PACKAGED, read_studies
from reinvest.studies.recommendations import recommendations

RECIPE = "recipe.yaml"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two runs of one recipe."""
    store = Store(tmp_path_factory.mktemp("planted"))
    for seed in (0, 1):
        trained(store, recipe(), seed)
    store.close()
    return store.path


@pytest.fixture
def store(planted: Path, call: Call, tmp_path: Path) -> Store:
    """A copy of it in ./runs, and the recipe in ./recipe.yaml."""
    shutil.copytree(planted, tmp_path / "runs")
    (tmp_path / RECIPE).write_text(yaml.safe_dump(recipe().to_dict()), encoding="utf8")
    made = Store(tmp_path / "runs")
    for seed, validation in ((0, 0.8), (1, 0.7)):
        changed(made, run_of(made, seed), scored(validation, 0.5))
    return made


@pytest.fixture
def unstudied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No study comes with the package."""
    monkeypatch.setattr(evidence, "PACKAGED", tmp_path / "no studies")


def run_of(store: Store, seed: int) -> str:
    (run,) = store.runs(where=f"seed={seed}")
    return run.id


@pytest.mark.usefixtures("unstudied")
def test_advice_is_a_table_sentences_and_what_train_would_do(call: Call, store: Store) -> None:
    said = call("advise", RECIPE)
    assert said.code == 0 and said.err == ""
    lines = said.out.splitlines()
    assert lines[0].split() == ["re-use", "runs", "speed-up", "evidence"]
    assert lines[1].split() == ["1", "warm", "start", run_of(store, 0), "not", "known", "none"]
    for expected in ("no study stored yet", "validation accuracy 0.8", "reinvest train --reuse auto does"):
        assert expected in said.out


@pytest.mark.usefixtures("unstudied")
def test_advice_with_evidence_has_speed_up_and_source(call: Call, store: Store) -> None:
    kept(store.path / "studies", "planted.json", study({"x": arm("records", 1.625, 1.25, 2.125)}))
    said = call("advise", RECIPE)
    row = said.out.splitlines()[1]
    assert "records" in row and "1.62 (1.25 to 2.12)" in row and "5 sequences in 1 study" in row
    assert "planted.json" in said.out


@pytest.mark.usefixtures("unstudied")
def test_advice_takes_the_options_of_train_and_gives_json(call: Call, store: Store) -> None:
    data = call("advise", RECIPE, "--model.hidden", "[24]", "--json").data
    assert data["choice"]["how"] == "records" and data["choice"]["runs"] == [run_of(store, 0)]
    assert data["looked"] == 2 and data["studied"] is False
    assert {r["how"] for r in data["refused"]} == {"warm start"}
    assert Recipe.from_dict(data["asked"]) == recipe(hidden=(24,))
    assert Recipe.from_dict(data["recipe"]).methods[0]["teacher"] == run_of(store, 0)
    assert call("advise", RECIPE, "--seed", "1", "--json").data["found"] == run_of(store, 1)
    assert len(store.runs()) == 2  # nothing is trained


def test_where_nothing_helps_it_says_so_and_that_is_no_error(call: Call, store: Store) -> None:
    said = call("advise", RECIPE, "--store", "empty")
    assert said.code == 0 and "Nothing helps: of 0 runs" in said.out and not Path("empty").exists()
    test_seen = call("advise", RECIPE, "--task.test_on", "validation")
    assert test_seen.code == 0
    assert "Nothing helps: of 2 runs" in test_seen.out and "has not seen the student's test examples" in test_seen.out


@pytest.mark.usefixtures("unstudied")
def test_a_damaged_study_is_a_remark(call: Call, store: Store) -> None:
    kept(store.path / "studies", "half.json", "{")
    said = call("advise", RECIPE, "--json")
    assert said.code == 0 and said.data["studied"] is False
    assert said.err.count("half.json") >= 1 and said.err.startswith("reinvest: a stored study is")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("advise",), "a recipe names its task"),
        (("advise", "none.yaml"), "does not exist"),
        (("advise", RECIPE, "--sed", "1"), "did you mean '--seed'?"),
        (("train", RECIPE, "--reuse", "nobody"), "no run 'nobody'"),
        (("recommend", "--out", "page.html"), "a Markdown file"),
        (("recommend", "--out", "no/such/page.md"), "in a folder that exists"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    call: Call, store: Store, words: tuple[str, ...], expected: str
) -> None:
    said = call(*words)
    assert said.code == 2
    assert expected in said.sentence


@pytest.mark.usefixtures("unstudied")
def test_train_follows_the_advice_says_so_and_does_it_once(call: Call, store: Store) -> None:
    said = call("train", RECIPE, "--seed", "4", "--reuse", "auto", "--device", "cpu", "--json")
    assert said.code == 0
    reuse = said.data["reuse"]
    assert (reuse["asked"], reuse["how"], reuse["runs"]) == ("auto", ["warm start"], [run_of(store, 0)])
    assert "no study stored yet" in reuse["said"]
    assert said.data["recipe"]["methods"] == [{"name": "WarmStart", "run": run_of(store, 0)}]
    text = call("train", RECIPE, "--seed", "4", "--reuse", "auto", "--device", "cpu").out
    assert text.startswith("re-use: ") and "already: there is nothing to train" in text and said.data["id"] in text
    assert len(store.runs()) == 3


def test_train_takes_a_run_that_is_named_or_refuses_it(call: Call, store: Store) -> None:
    named = run_of(store, 1)
    words = ("train", RECIPE, "--model.hidden", "[24]", "--seed", "4", "--device", "cpu")
    assert call(*words, "--reuse", named[:8], "--json").data["reuse"]["runs"] == [named]
    changed(store, named, lambda v: v["training"]["data"].update(namespace="birds"))
    said = call(*words, "--seed", "5", "--reuse", named)
    assert said.code == 2
    assert f"got run '{named}', which cannot" in said.sentence and "birds" in said.sentence


def test_train_re_uses_nothing_unless_told(call: Call, store: Store) -> None:
    data = call("train", RECIPE, "--seed", "4", "--device", "cpu", "--json").data
    assert data["reuse"] is None and data["recipe"]["methods"] == []
    empty = call(
        "train", RECIPE, "--seed", "4", "--reuse", "auto", "--store", "empty", "--device", "cpu", "--json"
    ).data
    assert empty["reuse"]["how"] == [] and "trained from scratch" in empty["reuse"]["said"]


@pytest.mark.usefixtures("unstudied")
def test_lineage_is_shown_with_the_kind_of_re_use(call: Call, store: Store) -> None:
    first = run_of(store, 0)
    warm = call("train", RECIPE, "--seed", "4", "--reuse", first, "--device", "cpu", "--json").data["id"]
    wide = call(
        "train", RECIPE, "--model.hidden", "[24]", "--seed", "5", "--reuse", warm, "--device", "cpu", "--json"
    ).data["id"]
    lines = call("runs", "tree").out.splitlines()
    place = next(k for k, line in enumerate(lines) if line.startswith(first))
    assert lines[place + 1].startswith(f"└─ [warm start] {warm}")
    assert lines[place + 2].startswith(f"   └─ [records] {wide}")
    tree = {run["id"]: run["reuse"] for run in call("runs", "tree", "--json").data["runs"]}
    assert tree[wide] == [{"run": warm, "how": "records"}] and tree[first] == []
    assert f"re-uses {warm}: records" in call("runs", "show", wide).out
    assert call("runs", "show", warm, "--json").data["reuse"] == [{"run": first, "how": "warm start"}]


def test_a_parent_that_children_rest_on_stays_and_the_reason_is_said(call: Call, store: Store) -> None:
    first, second = run_of(store, 0), run_of(store, 1)
    words = ("train", RECIPE, "--seed", "4", "--device", "cpu", "--json")
    warm = call(*words, "--reuse", first).data["id"]
    wide = call(*words, "--model.hidden", "[24]", "--reuse", second).data["id"]
    said = call("store", "gc", "--where", "seed<2", "--delete", "--json").data
    assert said["kept"] == {first: "has children", second: "has children"} and said["runs"] == []
    text = call("store", "gc", "--where", f"id={first}", "--delete").out
    assert f"{first} stays: it has children" in text
    # Also where both match: the child goes first, the parent after it.
    one = call("store", "gc", "--where", "seed>=0", "--delete", "--json").data
    assert {r["id"] for r in one["runs"]} == {warm, wide} and set(one["kept"]) == {first, second}
    assert {r["id"] for r in call("store", "gc", "--where", "seed<2", "--delete", "--json").data["runs"]} == {
        first,
        second,
    }


def test_a_child_whose_description_is_damaged_does_not_hide_the_tree(call: Call, store: Store) -> None:
    warm = call("train", RECIPE, "--seed", "4", "--reuse", "auto", "--device", "cpu", "--json").data["id"]
    (store.path / "runs" / warm / "run.json").write_text("{", encoding="utf8")
    said = call("runs", "tree")
    assert said.code == 0 and f"└─ {warm}" in said.out


def test_recommendations_are_printed_or_written(call: Call, store: Store) -> None:
    kept(store.path / "studies", "planted.json", study({"x": arm("records", 1.625, 1.25, 2.125)}))
    expected = recommendations(read_studies([store.path / "studies", PACKAGED]))
    assert call("recommend").out == expected
    said = call("recommend", "--out", "page.md")
    assert said.code == 0 and "page.md" in said.out
    assert Path("page.md").read_text(encoding="utf8") == expected
    data = call("recommend", "--json").data
    assert data["text"] == expected and "planted.json" in data["studies"]
