"""The methods by name, found by walking this package's folders: a new file is a new entry."""

from __future__ import annotations

import importlib
import pkgutil

from ..core.method import Method

__all__ = ["catalog"]


def _walk() -> dict[str, type[Method]]:
    package = importlib.import_module(__package__)
    found: dict[str, type[Method]] = {}
    for entry in pkgutil.walk_packages(package.__path__, f"{__package__}."):
        if entry.ispkg or entry.name.rpartition(".")[2].startswith("_"):
            continue
        module = importlib.import_module(entry.name)
        for value in vars(module).values():
            # A method belongs to the file that defines it, not to those that import it.
            if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__:
                found[value.__name__] = value
    return dict(sorted(found.items()))


catalog: dict[str, type[Method]] = _walk()
