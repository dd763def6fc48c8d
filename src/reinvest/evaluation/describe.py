"""What an arm is, as text: by it runs are found again, and by it two arms are told apart."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import inspect
import json
import os
import re
import shlex
import sys
from pathlib import Path

from ..core.recipe import Recipe, source_hash
from .study import Arm


def describe(arm: Arm) -> str:
    """What an arm is, as text that changes when the arm's code does (durations and seeds left out)."""
    if isinstance(arm, Recipe):
        values = json.loads(arm.canonical())
        values.pop("duration", None)
        return json.dumps(values, sort_keys=True)
    if isinstance(arm, str):
        words = shlex.split(re.sub(r"\{(duration|seed)\}", "", arm))
        files = [Path(w) for w in words if Path(w).is_file()]
        if (module := _module_file(words)) is not None:
            files.append(module)
        return json.dumps(["command", arm, [hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in files]])
    made = inspect.unwrap(arm)
    return json.dumps(
        ["callable", getattr(made, "__module__", "?"), getattr(made, "__qualname__", repr(made)), source_hash(made)]
    )


def _module_file(words: list[str]) -> Path | None:
    """The file that `python -m package.module` runs, or None. Found without importing the packages above it."""
    if not words or not Path(words[0]).name.startswith("python") or "-m" not in words[:-1]:
        return None
    importlib.invalidate_caches()
    where = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    path = [entry for entry in where if entry]
    spec = None
    for part in (*words[words.index("-m") + 1].split("."), "__main__"):
        spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None or spec.submodule_search_locations is None:
            break
        path = list(spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else None
