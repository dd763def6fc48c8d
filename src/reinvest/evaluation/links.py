"""Which run answers a job whose run has an identity of its own, kept beside the runs of the store.

An arm that is a command or a callable may train with `train`, which gives its run the identity of its recipe. The job
then finds its run by a small file, <store>/arms/<identity of the job>.json = {"run": id}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import StoreUnwritable, UnknownName
from ..core.files import write_whole

USABLE = ("finished", "diverged")
"""Status of the runs that a study counts."""


def _file(identity: str, store: Any) -> Path:
    return Path(store.path) / "arms" / f"{identity}.json"


def link(identity: str, run: str, store: Any) -> None:
    """Remember that `run` (an id) answers the job `identity`. Raises StoreUnwritable."""
    target = _file(identity, store)
    try:
        write_whole(target, json.dumps({"run": run}) + "\n")
    except OSError as error:
        raise StoreUnwritable(
            f"a study keeps which run is whose in the store, got {target} that cannot be written ({error.strerror}); "
            "free space or choose another store"
        ) from None


def linked(identity: str, store: Any) -> Any:
    """The finished or diverged run that was linked to a job, or None (a damaged link, or one to no run, counts as none)."""
    try:
        name = json.loads(_file(identity, store).read_text(encoding="utf8"))["run"]
        run = store.get(str(name))
    except (OSError, ValueError, KeyError, TypeError, UnknownName):
        return None
    return run if run.id == name and run.status in USABLE else None
