"""Small nets and a loader for the tests of warm starts."""

from __future__ import annotations

import torch
from torch import nn

from reinvest.core.chain import Methods
from reinvest.core.view import TaskView


class Loader:
    """One epoch of batches that offers its clean data and class names."""

    indexed = True

    def __init__(self, x, y, *, class_names=None, clean=True):
        self.x, self.y, self.examples, self.reads = x, y, len(x), 0
        self.view = TaskView(clean=self.clean if clean else None, class_names=class_names)

    def __len__(self):
        return 1

    def __iter__(self):
        yield torch.arange(len(self.x)), self.x, self.y

    def clean(self, size):
        self.reads += 1
        ids = torch.arange(len(self.x))
        for part in ids.split(size):
            yield part, self.x[part], self.y[part]


def mlp(seed=0, inputs=6, classes=3, bias=True, norm=False):
    torch.manual_seed(seed)
    layers = [nn.Linear(inputs, 8, bias=bias), nn.ReLU(), nn.Linear(8, 8, bias=bias), nn.ReLU()]
    if norm:
        layers.insert(1, nn.BatchNorm1d(8))
    return nn.Sequential(*layers, nn.Linear(8, classes, bias=bias))


def data(examples=40, inputs=6, classes=3):
    torch.manual_seed(5)
    return torch.randn(examples, inputs), torch.randint(0, classes, (examples,))


def state_of(model):
    return {n: t.detach().clone() for n, t in model.state_dict().items()}


def started(model, method, loader=None, optimizer=None):
    """The state and the report right after attach."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if optimizer is None else optimizer
    loader = Loader(*data()) if loader is None else loader
    with Methods(method).attach(model, optimizer, duration="1ep", data=loader, seed=0):
        return state_of(model), method.report()
