"""Tasks with a label a pixel: the contract, flips of picture and map together, and the mean IoU through `evaluate`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest._testing.task import TaskContract
from reinvest.core.criterion import per_example
from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.core.names import resolve
from reinvest.core.streams import example_integers
from reinvest.loop.evaluate import evaluate
from reinvest.testbed.tasks.segmentation import SegmentationTask


def maps(change=None, n=60):
    g = torch.Generator().manual_seed(3)
    x = torch.randint(256, (n, 3, 6, 5), generator=g, dtype=torch.uint8)
    y = torch.randint(4, (n, 6, 5), generator=g)
    y[torch.rand(y.shape, generator=g) < 0.1] = -100
    if change == "pixel":
        x[n // 2, 1, 3, 2] ^= 1
    if change == "label":
        y[n // 2, 5, 4] = (y[n // 2, 5, 4].clamp(min=0) + 1) % 4
    return x, y


def task(change=None, **options):
    return SegmentationTask.from_maps("own", *maps(change), **{"classes": 4, **options})


class TestFromMaps(TaskContract):
    batch_size = 8

    def make_task(self):
        return task(augment="flip")

    def make_altered(self, change):
        return task(change, augment="flip")

    def test_losses_and_scores_are_per_example(self):
        made = self.make_task()
        _, _, y = next(iter(made.loader("test", self.batch_size)))
        output = torch.zeros(len(y), 4, *y.shape[1:])
        losses, scores = made.criterion(output, y), made.score(output, y)
        assert losses.shape == y.shape and per_example(losses, y).shape == scores.shape == (len(y),)
        valid = y != -100
        right = ((y == 0) & valid).flatten(1).sum(1) / valid.flatten(1).sum(1)
        assert torch.allclose(scores, right) and 0 < float(scores.mean()) < 1


def test_picture_and_map_are_mirrored_together_for_training_alone():
    x, y = maps()
    made = task(augment="flip")
    mirrored = 0
    for ids, got, labels in made.loader("train", 4, seed=5, epoch=2):
        flips = (example_integers(5, "crop-flip", 2, ids, 2)[:, 0] & 1).bool()
        for i, flip, picture, label in zip(ids.tolist(), flips.tolist(), got, labels, strict=True):
            plain = x[i].float() * (torch.ones(()) / 255)
            assert torch.equal(picture, plain.flip(-1) if flip else plain)
            assert torch.equal(label, y[i].flip(-1) if flip else y[i])
            mirrored += flip
    assert 5 < mirrored < 31
    for loader in (made.loader("test", 4), made.clean(4), task().loader("train", 4)):
        for ids, _, labels in loader:
            assert torch.equal(labels, y[ids])


def test_flips_are_told_and_change_no_fingerprint():
    plain, flipped = task(), task(augment="flip")
    assert not plain.view.moves and flipped.view.moves and plain.fingerprint == flipped.fingerprint
    assert plain.metric == "miou" and plain.higher_is_better and plain.input_shape == (3, 6, 5)


def test_hashes_cover_every_pixel_of_picture_and_map():
    base, pixel, label = (task(change).view.hashes() for change in (None, "pixel", "label"))
    for other in (pixel, label):
        assert (base != other).nonzero().flatten().tolist() == [30]
    ids = torch.tensor([30, 2])
    assert torch.equal(task().hashes(ids), base[ids])


def test_evaluate_tells_the_mean_iou_of_the_whole_split():
    made = task()
    model = resolve("model", "unet")(input_shape=made.input_shape, classes=4, width=2)
    told = evaluate(model, made, "test", batch_size=5)
    model.eval()
    with torch.no_grad():
        pairs = [(model(x).argmax(1), y) for _, x, y in made.loader("test", 12)]
    predicted, target = (torch.cat(part) for part in zip(*pairs, strict=True))
    valid, shares = target != -100, []
    for c in range(4):
        mine, truth = (predicted == c) & valid, (target == c) & valid
        if (mine | truth).any():
            shares.append(float((mine & truth).sum() / (mine | truth).sum()))
    assert set(told) == {"miou", "pixel_accuracy", "loss"}
    assert told["miou"] == pytest.approx(sum(shares) / len(shares), rel=1e-6)


def test_a_perfect_model_has_mean_iou_one():
    class Oracle(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot((x[:, 0] * 3).round().long(), 4).movedim(-1, 1).float() * 50

    y = torch.randint(4, (20, 4, 4), generator=torch.Generator().manual_seed(0))
    made = SegmentationTask.from_maps("seen", (y / 3)[:, None], y, classes=4)
    assert evaluate(Oracle(), made)["miou"] == 1.0


def test_a_moved_task_yields_the_same_batches():
    made = task(augment="flip")
    for a, b in zip(made.loader("train", 8), made.to("cpu").loader("train", 8), strict=True):
        assert all(torch.equal(one, two) for one, two in zip(a, b, strict=True))


X, Y = maps(n=20)


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (X.numpy(), Y, {}, InvalidValue, "got ndarray and torch.int64"),
        (X[0], Y, {}, InvalidValue, r"got torch.uint8 \[3, 6, 5\]"),
        (X, Y.float(), {}, InvalidValue, "torch.float32"),
        (X, Y.clamp(min=0).to(torch.uint8), {}, InvalidValue, "signed whole type"),
        (X, Y[:, :-1], {}, InvalidValue, r"\[20, 6, 5\], got \[20, 5, 5\]"),
        (X[:0], Y[:0], {}, InvalidValue, "one number a pixel"),
        (X, Y, {"classes": 3}, DataError, "classes - 1 = 2, or -100 for none, got 3"),
        (X, Y - 1, {}, DataError, r"got -1(01)?;"),
        (X, Y, {"classes": 1}, InvalidValue, "at least 2, got 1"),
        (X, Y, {"augment": "crop-flip"}, UnknownName, "did you mean 'flip'"),
        (X, Y, {"mean": [0.1, 0.2]}, InvalidValue, "one or 3 finite numbers"),
        (X, Y, {"class_names": ["a"]}, InvalidValue, "one name a class"),
        (X, Y, {"splits": {"train": [0]}}, InvalidValue, "give all three"),
    ],
)
def test_bad_maps_are_refused(x, y, options, error, message):
    with pytest.raises(error, match=message):
        SegmentationTask.from_maps("own", x, y, **{"classes": 4, **options})
