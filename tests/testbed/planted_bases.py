"""Small tasks to plant things in, as factories that a base can name, and ways to look at what came out."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset

from reinvest.testbed.tasks.caltech import PerClassTask
from reinvest.testbed.tasks.segmentation import SegmentationTask
from reinvest.testbed.tasks.task import Task

ROWS, CLASSES = 2_000, 5


def data(rows=ROWS):
    g = torch.Generator().manual_seed(3)
    x = torch.randint(256, (rows, 3, 6, 5), generator=g, dtype=torch.uint8)
    return x, torch.randint(CLASSES, (rows,), generator=g)


def own(augment=None, rows=ROWS):
    return Task.from_tensors("own", *data(rows), augment=augment, pad=1, mean=0.5, classes=CLASSES)


def floats(scale=1.0):
    x, y = data(200)
    return Task.from_tensors("floats", x.float() / 255 * scale, y, classes=CLASSES)


def grey():
    return Task.from_tensors("grey", torch.full((600, 1, 8, 8), 128, dtype=torch.uint8), torch.arange(600) % CLASSES)


def features():
    x, y = data(200)
    return Task.from_tensors("features", x.flatten(1), y, classes=CLASSES)


def read_one_by_one():
    x, y = data(200)
    parts = [TensorDataset(x[a:b].float() / 255, y[a:b]) for a, b in ((0, 120), (120, 160), (160, 200))]
    return Task.from_datasets("items", *parts, classes=CLASSES)


def per_class():
    return PerClassTask.from_tensors("per class", *data(200), classes=CLASSES, metric="class_accuracy")


def maps():
    x, _ = data(50)
    return SegmentationTask.from_maps("maps", x, torch.zeros(50, 6, 5, dtype=torch.int64), classes=2)


def map_items():
    x, _ = data(30)
    y = torch.zeros(30, 6, 5, dtype=torch.int64)
    parts = [TensorDataset(x[a:b].float(), y[a:b]) for a, b in ((0, 10), (10, 20), (20, 30))]
    return Task.from_datasets("map items", *parts, classes=2, fingerprint="maps")


def no_task():
    return TensorDataset(torch.zeros(3, 1))


def here(name, **options):
    return {"name": f"{__name__}:{name}", **options}


OWN = here("own")


def of(task, ids):
    """(x, y) of examples as evaluation sees them."""
    found = [(x, y) for _, x, y in task.clean(64, ids)]
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def same_batches(a, b, **options):
    pairs = [
        *(zip(a.loader(s, 32, **options), b.loader(s, 32, **options), strict=True) for s in a.splits),
        zip(a.clean(50), b.clean(50), strict=True),
    ]
    return all(torch.equal(p, q) for pair in pairs for one, two in pair for p, q in zip(one, two, strict=True))


def ids_of(mask):
    return set(mask.nonzero()[:, 0].tolist())
