"""Facts of a run: what machine it is on, and whether an interrupted run continues on one like it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def now() -> str:
    """This moment, ISO 8601 in UTC with microseconds: sorts by age."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def found(about: Mapping[str, Any]) -> dict[str, Any]:
    """Hardware and software here; `about`: the plan of a chain, which may name device and precision."""
    from ..core.hardware import facts

    return facts(device=about.get("device", "cpu"), precision=about.get("precision", "fp32"))


def peak() -> dict[str, Any]:
    """The peak memory of a run without a chain, of which nobody knows the device: bytes, and whose they are."""
    from ..core.hardware import peak_memory

    size, whose = peak_memory()
    return {"peak_memory": size, "peak_memory_of": whose}


def continued(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The facts `now` of a run that had the facts `before` when it was interrupted.

    "mixed" says as text that one run was made on machines that cannot be compared; once said, it stays.
    """
    from ..core.hardware import comparable

    rest = {name: value for name, value in now.items() if name != "mixed"}
    if "mixed" in before:
        return rest | {"mixed": before["mixed"]}
    fits, reason = comparable(dict(before), rest)
    return rest if fits else rest | {"mixed": f"resumed after an interruption elsewhere: {reason}"}
