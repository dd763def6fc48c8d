"""Plain values: what may stand in a run's JSON, and the canonical text from which an own loop gets its identity."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from ..core.errors import InvalidValue


def plain(value: Any, where: str = "value", *, finite: bool = False) -> Any:
    """`value` as JSON can hold it: tuples become lists, number-like scalars (numpy, torch) become numbers.

    NaN and infinity become None, or with `finite` are refused. Raises InvalidValue for anything else than text,
    numbers, booleans, None, lists and dicts with text keys; `where` names the place in the message.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        if finite:
            raise InvalidValue(f"{where} must be finite, got {value!r}; leave it out or write it as text")
        return None
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise InvalidValue(f"the keys of {where} must be text, got {key!r}; write {str(key)!r}")
        return {key: plain(v, f"{where}[{key!r}]", finite=finite) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i}]", finite=finite) for i, v in enumerate(value)]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return plain(value.item(), where, finite=finite)
    raise InvalidValue(
        f"{where} must be a plain value (text, number, true/false, none, list, dict), got {type(value).__name__}; "
        "write its name or its settings instead"
    )


def canonical(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, shortest exact numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def identity_of(name: str, task: str, config: dict[str, Any], seed: int, parents: list[str]) -> str:
    """The identity of an own loop (64 hex digits): what was decided before training, as sha256 of canonical text."""
    text = canonical({"name": name, "task": task, "config": config, "seed": seed, "parents": sorted(parents)})
    return hashlib.sha256(text.encode("utf8")).hexdigest()


def number(value: Any, where: str) -> float:
    """A metric as a float; a tensor or array of one element will do. Raises InvalidValue otherwise."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValue(f"{where} must be one number, got {value!r}; log its mean, for example") from error
