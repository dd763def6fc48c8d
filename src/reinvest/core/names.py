"""From a name to the thing: built-in names through catalogues, anything else as "package.module:factory".

The catalogues belong to layers above this one, so this module never names them: the package root says where they are.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

from .errors import InvalidValue, UnknownName, unknown

catalogues: dict[str, str] = {}
"""kind -> "module:attribute" of a dict from built-in name to object, or to a "module:attribute" string."""


_sources: dict[str, tuple[Any, str]] = {}
"""module name -> (its spec, hash of its file when it was first seen); a reload brings another spec."""


def remember_source(module: Any) -> str:
    """16 hex digits over a module's file, taken when it is first seen: what runs is what was imported then."""
    spec, name = module.__spec__, module.__name__
    known = _sources.get(name)
    if known is None or known[0] is not spec:
        known = _sources[name] = (spec, file_hash(module.__file__))
    return known[1]


def file_hash(path: str) -> str:
    """16 hex digits over a file's bytes."""
    with open(path, "rb") as opened:
        return hashlib.sha256(opened.read()).hexdigest()[:16]


def load(reference: str) -> Any:
    """The object behind "package.module:attribute".

    Raises InvalidValue if the reference has no colon or points into `__main__` (another process could not find it
    there), UnknownName if the module or the attribute does not exist.
    """
    module_name, colon, attribute = reference.partition(":")
    if not colon or not attribute or not module_name:
        raise InvalidValue(
            f"a factory is written 'package.module:name', got {reference!r}; put a colon before the name"
        )
    if module_name == "__main__":
        raise InvalidValue(
            f"a factory must live in a file that another process can import, got {reference!r}; "
            "move it into a module and write 'that_module:name'"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UnknownName(
            f"no module {error.name!r} for the factory {reference!r}; check the spelling, or run from the folder that holds it"
        ) from error
    except SyntaxError as error:
        raise InvalidValue(
            f"a factory's module is Python, got {reference!r}, of which {Path(error.filename or module_name).name} does not "
            f"parse at line {error.lineno} ({error.msg}); mend that line"
        ) from error
    if module_name.partition(".")[0] != __name__.partition(".")[0] and getattr(module, "__file__", None):
        remember_source(module)
    if not hasattr(module, attribute):
        public = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise unknown(f"name in module {module_name!r}", attribute, public)
    return getattr(module, attribute)


def catalogue(kind: str) -> dict[str, Any]:
    """All built-in names of a kind ("task", "model", "method", "schedule"), loaded on first use."""
    if kind not in catalogues:
        raise unknown("kind of name", kind, catalogues)
    found: dict[str, Any] = load(catalogues[kind])
    return found


def resolve(kind: str, name: str) -> Any:
    """The object that `name` stands for: "package.module:factory", or a built-in name (case does not matter).

    Raises UnknownName, listing the known names and the nearest, and InvalidValue for anything that is not text.
    """
    if not isinstance(name, str):
        raise InvalidValue(
            f"a {kind} is given by name, got {name!r}; write a built-in name or 'package.module:factory' (a recipe holds plain values only)"
        )
    if ":" in name:
        return load(name)
    known = catalogue(kind)
    by_lower = {n.lower(): n for n in known}
    if name.lower() not in by_lower:
        raise unknown(kind, name, known)
    entry = known[by_lower[name.lower()]]
    return load(entry) if isinstance(entry, str) else entry


def canonical(kind: str, name: str) -> str:
    """The catalogue's own spelling of a built-in name; a factory reference is returned unchanged."""
    if ":" in name:
        return name
    known = catalogue(kind)
    for n in known:
        if n.lower() == name.lower():
            return n
    raise unknown(kind, name, known)
