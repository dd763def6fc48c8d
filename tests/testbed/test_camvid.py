"""CamVid in its published layout, with small frames written here: ids, labels, splits, refusals."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.testbed.tasks import held
from reinvest.testbed.tasks.camvid import COUNTS, NAMES, camvid

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """701 frames of 12 x 16: frame n has grey n % 256, its map is n % 12 all over, upper left pixel unlabelled."""
    root = tmp_path_factory.mktemp("camvid")
    n = 0
    for split, count in COUNTS.items():
        (root / "CamVid" / split).mkdir(parents=True)
        (root / "CamVid" / f"{split}annot").mkdir()
        for _ in range(count):
            Image.new("RGB", (16, 12), (n % 256,) * 3).save(root / "CamVid" / split / f"{n:04}.png", compress_level=1)
            labels = np.full((12, 16), n % 12, np.uint8)
            labels[0, 0] = 11
            Image.fromarray(labels).save(root / "CamVid" / f"{split}annot" / f"{n:04}.png", compress_level=1)
            n += 1
    return root


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    monkeypatch.setattr(held, "_held", {})
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def small(folder, **options):
    return camvid(folder=str(folder), **{"size": (12, 16), **options})


def test_ids_labels_and_the_published_split(made):
    task = small(made)
    assert (task.name, task.metric, task.classes, task.input_shape) == ("camvid", "miou", 11, (3, 12, 16))
    assert task.class_names == NAMES and task.view.examples == 701
    assert sorted(task.splits["train"].tolist()) == list(range(367)) != task.splits["train"].tolist()
    assert task.splits["validation"].tolist() == list(range(367, 468))
    assert task.splits["test"].tolist() == list(range(468, 701)) and task.test_examples == 233
    for ids, x, y in task.loader("test", 50):
        expected = (ids % 12).where(ids % 12 < 11, -100)
        assert x.dtype == torch.float32 and torch.equal(y[:, 5, 5], expected) and bool((y[:, 0, 0] == -100).all())
        assert torch.allclose(x[:, 0, 3, 3] * 0.30169 + 0.41342, (ids % 256) / 255, atol=1e-5)


def test_sizes_resize_pictures_and_labels(made):
    task = small(made, size=[24, 8])
    _, x, y = next(iter(task.loader("validation", 2)))
    assert x.shape == (2, 3, 24, 8) and y.shape == (2, 24, 8)
    assert "24x8" in task.view.preprocessing and task.fingerprint != small(made).fingerprint
    assert {int(v) for v in y[0].unique()} <= {367 % 12, -100}


def test_default_frames_are_of_60_by_80_and_not_moved(made):
    task = camvid(folder=str(made))
    assert task.input_shape == (3, 60, 80) and not task.view.moves and task.evaluation_batch < 512
    assert small(made, augment="flip").view.moves


def test_portions(made):
    whole, part = small(made), small(made, train_examples=50, train_start=20, test_on="validation")
    assert torch.equal(part.splits["train"], whole.splits["train"][20:50])
    assert part.splits["validation"].tolist() == list(range(367, 418))  # the drive's first half: frames are neighbours
    assert part.splits["test"].tolist() == list(range(418, 468))
    assert whole._source._x is part._source._x and whole.fingerprint != part.fingerprint


def test_absent_folders_are_one_sentence(made, tmp_path):
    with pytest.raises(DataError, match=r"folders train, trainannot, val, .* not found in .*REINVEST_DATA") as caught:
        small(tmp_path / "gone")
    assert "(no such folder)" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_or_wrong_is_named(copy):
    place = copy / "CamVid"

    def refused(message):
        with pytest.raises(DataError, match=message):
            small(copy)

    Image.new("L", (16, 12), 12).save(place / "testannot" / "0500.png")
    refused(r"from 0 to 11 \(none\), got 12 in .*testannot.0500\.png")
    Image.new("L", (8, 6), 1).save(place / "testannot" / "0500.png")
    refused(r"one size, got \(12, 16\) and \(6, 8\) of .*test.0500\.png")
    (place / "testannot" / "0500.png").write_bytes(b"broken")
    refused(r"must be readable, got .*testannot.0500\.png")
    (place / "testannot" / "0500.png").unlink()
    refused(r"an annotation of its name, got none for .*test.0500\.png")
    (place / "val" / "0400.png").unlink()
    refused(r"101 pictures in 'val', got 100 in")
    shutil.rmtree(place / "valannot")
    refused("not found in")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 60}, InvalidValue, r"\(height, width\) in pixels, got 60"),
        ({"size": [60]}, InvalidValue, r"got \[60\]"),
        ({"size": "60"}, InvalidValue, "got '60'"),
        ({"size": (4, 80)}, InvalidValue, "from 8 to 1024, got 4"),
        ({"augment": "crop-flip"}, UnknownName, "did you mean 'flip'"),
        ({"train_examples": 368}, InvalidValue, "from 1 to 367, got 368"),
        ({"test_on": "train"}, UnknownName, "split to test on"),
    ],
)
def test_wrong_options_are_refused(made, options, error, message):
    with pytest.raises(error, match=message):
        small(made, **options)
