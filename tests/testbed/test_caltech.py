"""Caltech-101 in its published layout, with small pictures written here: ids, splits, metric, refusals."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from reinvest._testing.task import TaskContract
from reinvest.core.errors import DataError, InvalidValue
from reinvest.loop.evaluate import evaluate
from reinvest.testbed.tasks import held
from reinvest.testbed.tasks.caltech import caltech101

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
NAMES = [f"{'Zebra' if k == 100 else 'thing'}_{k:03}" for k in range(101)]


def fill(place, per_class=5):
    """101 class folders of `per_class` pictures (class 0 has two more), and the background class."""
    for k, name in enumerate([*NAMES, "BACKGROUND_Google"]):
        (place / name).mkdir(parents=True)
        for n in range(per_class + 2 * (k == 0)):
            values = np.full((9, 12, 3), (k, 10 * n, 255 - k), np.uint8)
            Image.fromarray(values).save(place / name / f"image_{n + 1:04}.png")
    return place.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("caltech") / "caltech101" / "101_ObjectCategories").parent


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    monkeypatch.setattr(held, "_held", {})
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def small(folder, **options):
    return caltech101(folder=str(folder), **{"size": 8, "per_class": 3, "augment": None, **options})


class TestCaltech(TaskContract):
    @pytest.fixture(autouse=True)
    def _folder(self, made, tmp_path):
        self.folder, self.own = made, tmp_path

    def make_task(self):
        return small(self.folder, augment="crop-flip")

    def make_altered(self, change):
        place = self.own / change
        shutil.copytree(self.folder, place)
        folders = place / "caltech101" / "101_ObjectCategories"
        if change == "pixel":
            Image.new("RGB", (9, 9)).save(folders / NAMES[7] / "image_0002.png")
        else:  # one picture is of the next class, under a name that keeps its row number
            (folders / NAMES[7] / "image_0005.png").rename(folders / NAMES[8] / "image_0000.png")
        return small(place)


def test_ids_follow_class_folder_and_file_name(made):
    task = small(made)
    assert task.name == "caltech101" and task.classes == 101 and task.input_shape == (3, 8, 8)
    assert task.class_names == tuple(sorted(NAMES)) and task.class_names[0] == "Zebra_100"
    assert task.view.examples == 101 * 5 + 2
    x, y = next((x, y) for ids, x, y in task.clean(3, torch.tensor([0, 5, 11])))
    assert y.tolist() == [0, 1, 1]
    # The first class is Zebra (folder 100), the second thing_000 with seven pictures: row 11 is its seventh.
    plain = x * torch.tensor([0.30207, 0.29602, 0.30940]).view(3, 1, 1) + torch.tensor(
        [0.54563, 0.52868, 0.50205]
    ).view(3, 1, 1)
    assert (plain[:, :, 0, 0] * 255).round().tolist() == [[100, 0, 155], [0, 0, 255], [0, 60, 255]]


def test_each_class_gives_the_same_number_and_the_rest_is_the_test(made):
    task = small(made)
    labels = {k: torch.cat([y for _, _, y in task.clean(64, ids)]) for k, ids in task.splits.items()}
    assert labels["train"].bincount().tolist() == [2] * 101 and labels["validation"].bincount().tolist() == [1] * 101
    assert labels["test"].bincount().tolist() == [2, 4, *[2] * 99]
    assert not torch.equal(labels["train"], labels["train"].sort().values)
    assert torch.equal(task.splits["test"], task.splits["test"].sort().values)


def test_the_metric_weighs_classes_alike(made):
    class FirstRight(nn.Module):
        """Right on every picture of class 1 alone, which has twice the pictures of the others."""

        def forward(self, x):
            return nn.functional.one_hot(torch.ones(len(x), dtype=torch.int64), 101).float()

    told = evaluate(FirstRight(), small(made))
    assert told["class_accuracy"] == pytest.approx(1 / 101) and told["accuracy"] == pytest.approx(4 / 204)


def test_portions_and_sizes(made):
    task = small(made, first_classes=4, train_examples=150, train_start=20, test_on="validation", size=16)
    assert task.classes == 4 and task.input_shape == (3, 16, 16)
    whole = small(made)
    assert set(task.splits["test"].tolist()) < set(whole.splits["validation"].tolist())
    assert set(task.splits["train"].tolist()) < set(whole.splits["train"][20:150].tolist())
    assert "16x16" in task.view.preprocessing and task.view.namespace == whole.view.namespace


def test_the_folder_may_be_named_at_any_level(made, monkeypatch):
    inside = made / "caltech101"
    assert len({small(p).fingerprint for p in (made, inside, inside / "101_ObjectCategories")}) == 1


def test_absent_folders_are_one_sentence(tmp_path):
    with pytest.raises(
        DataError, match=r"101_ObjectCategories, not found in .*get caltech-101\.zip.*REINVEST_DATA"
    ) as e:
        small(tmp_path / "gone")
    assert "(no such folder)" in str(e.value) and "\n" not in str(e.value)


def test_an_incomplete_set_is_refused(copy):
    place = copy / "caltech101" / "101_ObjectCategories"
    (place / NAMES[5] / "image_0001.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"readable, got .*thing_005.image_0001\.png"):
        small(copy)
    for n in (1, 2):
        (place / NAMES[5] / f"image_{n:04}.png").unlink()
    with pytest.raises(DataError, match=r"more than 3 examples \(2 to train on, 1 .* got 3 of 'thing_005'"):
        small(copy)
    shutil.rmtree(place / NAMES[5])
    with pytest.raises(DataError, match="101 class folders beside BACKGROUND_Google, got 100 in"):
        small(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "size is a whole number of pixels from 8 to 512, got 4"),
        ({"per_class": 1}, "per_class is a whole number from 2 to 30, got 1"),
        ({"per_class": 31}, "from 2 to 30, got 31"),
        ({"per_class": 2.0}, "got 2.0"),
    ],
)
def test_wrong_options_are_refused(made, options, message):
    with pytest.raises(InvalidValue, match=message):
        small(made, **options)
