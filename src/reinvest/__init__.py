"""reinvest: each training run makes the next one cheaper, and every claim is measured."""

from ._version import __version__
from .core.names import catalogues as _catalogues

_catalogues.update(
    method="reinvest.methods._catalog:catalog",
    schedule="reinvest.methods.schedules:catalog",
    task="reinvest.testbed.tasks:catalog",
    model="reinvest.testbed.models:catalog",
)

__all__ = ["__version__"]
