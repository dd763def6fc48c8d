"""What a run was made from, as the methods of its chain tell: each run by its whole id, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import UnknownName
from ..core.protocols import current_runs
from .plain import plain


def with_reuse(data: Mapping[str, Any], told: Sequence[Mapping[str, str]]) -> dict[str, list[Any]]:
    """{"reuse", "parents"} of a run's description once a chain told which runs it re-uses: {"run", "how"} each."""
    reuse = list(data.get("reuse") or [])
    for entry in plain({"reuse": list(told)}, "reuse")["reuse"]:
        whole = {**entry, "run": _whole(entry["run"])}
        if whole not in reuse:
            reuse.append(whole)
    return {"reuse": reuse, "parents": list(dict.fromkeys([*data["parents"], *(r["run"] for r in reuse)]))}


def _whole(reference: str) -> str:
    """The id of the run that a beginning of it names in the store in use; a run of elsewhere keeps its name."""
    find = current_runs.get()
    if find is None:
        return reference
    try:
        return str(find(reference).id)
    except UnknownName:
        return reference
