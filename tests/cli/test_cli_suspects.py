"""`reinvest suspects`: from a run made anyway to a page, tables and arrays; refusals in one sentence."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from calling import Call

from reinvest.cli._pictures import contents_of, looks_of, open_task
from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.store import Store

PLANTED = {
    "name": "planted",
    "base": "digits",
    "label_noise": 0.2,
    "probes": {"kinds": ["random label"], "count": 40},
}
FACTORY = """
import os
import torch
from reinvest import Task


def build():
    if os.environ.get("PETS") == "gone":
        raise FileNotFoundError("the pets have gone")
    g = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = y[:, None] * 0.5 + torch.rand(300, 6, generator=g)
    if os.environ.get("PETS") == "changed":
        x[7] += 1
    return Task.from_tensors("pets", x, y, classes=3, class_names=["ant", "bee", "cat"])
"""


def recipe(**changes: Any) -> Recipe:
    plain = {"task": PLANTED, "model": "mlp", "duration": "8ep", "batch_size": 64}
    return Recipe(**{**plain, **changes})


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A store with runs: two seeds with planted noise, one of two epochs, one without records, one on features."""
    folder = tmp_path_factory.mktemp("suspects")
    (folder / "pets.py").write_text(FACTORY)
    sys.path.insert(0, str(folder))
    settings: dict[str, Any] = {"device": "cpu"}
    with Store(folder / "runs") as store:
        found = {
            "first": train(recipe(), 0, store, **settings).id,
            "second": train(recipe(), 1, store, **settings).id,
            "short": train(recipe(duration="2ep"), 0, store, **settings).id,
            "bare": train(recipe(duration="3ep"), 0, store, records=False, **settings).id,
            "pets": train(recipe(task="pets:build", duration="4ep", batch_size=20), 0, store, **settings).id,
        }
    sys.path.remove(str(folder))
    return folder, found


@pytest.fixture
def ids(shelf: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The runs' ids, with the store as ./runs and the factory beside it."""
    shutil.copytree(shelf[0] / "runs", tmp_path / "runs")
    shutil.copy(shelf[0] / "pets.py", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return shelf[1]


def test_a_run_becomes_a_page_and_files(call: Call, ids: dict[str, str]) -> None:
    files = ("--csv", "s.csv", "--relabel", "r.csv", "--cleanlab", "c.npy")
    said = call("suspects", ids["first"], *files)
    assert said.code == 0 and said.err == ""
    for expected in ("label error", "probability", "Page: suspects.html", "Relabel: r.csv", "c_quality.npy"):
        assert expected in said.out
    page = Path("suspects.html").read_text(encoding="utf8")
    assert page.count("data:image/png") == 1 and 'id="look-0"' in page
    truth = task_of(ids["first"]).planted
    with Path("s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [int(row["id"]) for row in rows if row["kind"] == "label error"]
    assert len(errors) > 50
    assert float(truth.relabelled[errors[:50]].float().mean()) > 0.9
    with Path("r.csv").open(newline="") as file:
        changed = [(int(row["id"]), int(row["label"])) for row in csv.DictReader(file)]
    right = [int(truth.clean_labels[i]) == label for i, label in changed if truth.relabelled[i]]
    assert len(right) > 50 and sum(right) / len(right) > 0.8
    issues = np.load("c.npy")
    assert issues.nonzero()[0].tolist() == [i for i, _ in changed]


def task_of(run: str) -> Any:
    return open_task(Store("runs").get(run))[0]


def test_json_is_one_object_with_every_suspect(call: Call, ids: dict[str, str]) -> None:
    data = call("suspects", ids["first"], "--most", "5", "--json").data
    assert data["runs"] == [ids["first"]]
    assert data["listed"] == len(data["suspects"])
    assert data["kinds"]["label error"]["listed"] == 5
    assert set(data["suspects"][0]) >= {"id", "kind", "score", "given_name", "suggested_name", "probability"}
    assert data["precision"]["probes"] == 80
    assert data["report"] == "suspects.html"


def test_kind_class_and_several_runs(call: Call, ids: dict[str, str]) -> None:
    data = call("suspects", ids["first"], ids["second"], "--kind", "label error", "--class", "3", "--json").data
    assert {row["kind"] for row in data["suspects"]} == {"label error"}
    assert {row["given_name"] for row in data["suspects"]} == {"3"}
    assert data["agreement"][0][1] > 0.5
    assert "average of 2 runs" in " ".join(data["statements"])


def test_without_pictures_nothing_is_opened(call: Call, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETS", "changed")
    data = call("suspects", ids["pets"], "--no-pictures", "--json").data
    assert data["pictures_note"] == "no pictures: they were not asked for"


def test_data_that_are_gone_cost_only_the_pictures(
    call: Call, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETS", "gone")
    said = call("suspects", ids["pets"])
    assert said.code == 0
    assert "FileNotFoundError: the pets have gone" in said.out


def test_data_that_have_changed_are_refused(call: Call, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETS", "changed")
    said = call("suspects", ids["pets"])
    assert said.code == 2
    assert "'pets:build' with the fingerprint" in said.sentence and "--no-pictures" in said.sentence
    assert not Path("suspects.html").exists()


def test_inputs_that_are_no_pictures_are_said_to_be_none(call: Call, ids: dict[str, str]) -> None:
    assert "inputs of shape [6] are no pictures" in call("suspects", ids["pets"], "--json").data["pictures_note"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("RUN", "RUN"), "runs are named once each"),
        (("SHORT",), "at least 3 epochs, got 2"),
        (("BARE",), "kept no records.safetensors"),
        (("nosuchrun",), "nosuchrun"),
        (("RUN", "--kind", "lable error"), "unknown kind of suspect 'lable error'"),
        (("RUN", "--class", "eleven"), "unknown class 'eleven'"),
        (("RUN", "--class", "10"), "unknown class '10'"),
        (("RUN", "--most", "0"), "from 1 up, got 0"),
        (("RUN", "--out", "page.txt"), "a report is an HTML file"),
        (("RUN", "--cleanlab", "c.npz"), "--cleanlab writes a file with the ending .npy"),
        (("RUN", "--csv", "no/folder/s.csv"), "a folder that exists"),
        (("RUN", "--csv", "s.csv", "--relabel", "s.csv"), "a name of its own"),
        (("RUN", "PETS"), "about the same data"),
    ],
)
def test_refusals_are_one_sentence(call: Call, ids: dict[str, str], words: tuple[str, ...], expected: str) -> None:
    names = {"RUN": ids["first"], "SHORT": ids["short"], "BARE": ids["bare"], "PETS": ids["pets"]}
    said = call("suspects", *(names.get(word, word) for word in words))
    assert said.code == 2
    assert expected in said.sentence
    assert not Path("suspects.html").exists()


def test_help_has_examples(call: Call) -> None:
    text = call("suspects", "--help").out
    assert "reinvest suspects 3f2a --class cat" in text and "label conflict" in text


# ---- what the data look like -----------------------------------------------------------------------------------------


class Shown:
    """A task whose training examples are `x`."""

    def __init__(self, x: torch.Tensor, **more: Any) -> None:
        self.x = x
        self.view = SimpleNamespace(hashes=lambda: None, examples=len(x))
        for name, value in more.items():
            setattr(self, name, value)

    def clean(self, size: int, ids: torch.Tensor) -> Any:
        for some in ids.split(size):
            yield some, self.x[some], torch.zeros(len(some), dtype=torch.int64)


def test_pictures_are_made_small_and_stretched_to_all_shades() -> None:
    x = torch.rand(5, 3, 100, 50) * 4 - 2
    shown = looks_of(Shown(x), {}, torch.tensor([3, 1])).pictures
    assert shown is not None and shown.shape == (2, 64, 32, 3) and shown.dtype == np.uint8
    assert shown.min((0, 1, 2)).tolist() == [0, 0, 0] and shown.max((0, 1, 2)).tolist() == [255, 255, 255]


def test_pictures_keep_their_pixels_up_to_the_scale() -> None:
    x = torch.arange(256.0).view(1, 1, 16, 16)
    shown = looks_of(Shown((x - 30) / 7), {}, torch.tensor([0])).pictures
    assert shown is not None and np.abs(shown[0].astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


def test_other_numbers_of_colours_become_grey() -> None:
    shown = looks_of(Shown(torch.rand(2, 5, 8, 8)), {}, torch.arange(2)).pictures
    assert shown is not None and shown.shape == (2, 8, 8)


def test_tokens_become_text_by_the_task_or_its_vocabulary() -> None:
    words = torch.tensor([[2 + ord(c) for c in "hello you "]])
    own = Shown(words, decode=lambda row: f"{len(row)}  tokens\n<b>")
    assert looks_of(own, {}, torch.tensor([0])).texts == ["10 tokens <b>"]
    built_in = looks_of(Shown(words), {"name": "trec6"}, torch.tensor([0]))
    assert built_in.texts == ["hello you"]
    inside = looks_of(Shown(words), {"name": "planted", "base": {"name": "sst2"}}, torch.tensor([0]))
    assert inside.texts == ["hello you"]
    assert "no decode(tokens)" in str(looks_of(Shown(words), {"name": "digits"}, torch.tensor([0])).note)


def test_equal_inputs_share_a_hash_and_nothing_else_does() -> None:
    x = torch.rand(6, 4)
    x[4] = x[1]
    found = contents_of(Shown(x))
    assert found is not None and found[4] == found[1]
    assert len(torch.unique(found)) == 5
    slow = Shown(x)
    slow.view.hashes = None
    assert contents_of(slow) is None


def test_a_run_that_names_no_task_has_no_pictures() -> None:
    task, why = open_task(SimpleNamespace(config={"lr": 0.1}))  # type: ignore[arg-type]
    assert task is None and "do not say how its data are made" in why


def test_the_page_says_what_made_it(call: Call, ids: dict[str, str]) -> None:
    call("suspects", ids["first"], "--kind", "label error", "--class", "3", "--most", "9", "--no-pictures")
    page = Path("suspects.html").read_text(encoding="utf8")
    twin = json.loads(page.split('id="result">')[1].split("</script>")[0])
    again = twin["reproduce"]["command"]
    assert (
        again == f"reinvest suspects {ids['first']} --store runs --kind 'label error' --class 3 --most 9 --no-pictures"
    )


def test_label_maps_come_with_the_size_of_their_pictures() -> None:
    y = torch.arange(2 * 128 * 64).reshape(2, 128, 64) % 11
    y[1, 0] = -100

    class Maps(Shown):
        def clean(self, size: int, ids: torch.Tensor) -> Any:
            yield ids, self.x[ids], y[ids]

    found = looks_of(Maps(torch.rand(2, 3, 128, 64)), {}, torch.tensor([1, 0]))
    assert found.pictures is not None and found.maps is not None
    assert found.pictures.shape == (2, 64, 32, 3) and found.maps.shape == (2, 64, 32)
    assert (found.maps[0, 0] == -100).all() and (found.maps[1] == y[0, ::2, ::2].numpy()).all()
    assert looks_of(Shown(torch.rand(2, 3, 8, 8)), {}, torch.arange(2)).maps is None
