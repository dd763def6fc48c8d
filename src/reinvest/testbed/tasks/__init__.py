"""Built-in tasks: `factory(**options) -> Task`, loaded by name on demand; importing this package loads no torch."""

from __future__ import annotations

catalog: dict[str, str] = {
    "digits": "reinvest.testbed.tasks.digits:digits",
    "mnist": "reinvest.testbed.tasks.mnist:mnist",
    "cifar10": "reinvest.testbed.tasks.cifar:cifar10",
    "cifar100": "reinvest.testbed.tasks.cifar:cifar100",
    "caltech101": "reinvest.testbed.tasks.caltech:caltech101",
    "camvid": "reinvest.testbed.tasks.camvid:camvid",
    "books": "reinvest.testbed.tasks.books:books",
    "sst2": "reinvest.testbed.tasks.sentences:sst2",
    "trec6": "reinvest.testbed.tasks.sentences:trec6",
    "planted": "reinvest.testbed.tasks.planted:planted",
}
"""Name of a task -> where its factory is."""
