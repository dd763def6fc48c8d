"""Built-in tasks: `factory(**options) -> Task`, loaded by name on demand; importing this package loads no torch."""

from __future__ import annotations

catalog: dict[str, str] = {
    "digits": "reinvest.testbed.tasks.digits:digits",
    "mnist": "reinvest.testbed.tasks.mnist:mnist",
    "cifar10": "reinvest.testbed.tasks.cifar:cifar10",
    "cifar100": "reinvest.testbed.tasks.cifar:cifar100",
}
"""Name of a task -> where its factory is."""
