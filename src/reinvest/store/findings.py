"""What the methods of a run found while it trained: tensors and plain values, nested, in one file of the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CorruptFile
from .artifacts import digest_of, get_tensors, put_tensors
from .plain import plain

if TYPE_CHECKING:
    from torch import Tensor

FINDINGS = "findings.safetensors"
_TENSOR = "$tensor"
"""The only key of what stands in a tensor's place among the plain values."""


class Findings:
    """The writing side: gathers what the chains of a run found, and keeps the file up to date."""

    def __init__(self, folder: Path):
        self._path = folder / FINDINGS
        self.found: dict[str, Any] = {}
        """By the method's name; part of a checkpoint, as chains that have ended do not train again."""

    def take(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """What a chain says at its end, less the findings, which are written.

        Of several chains in one run, and of several methods of one name, the second's is "NAME 2". Raises InvalidValue for
        findings that are neither tensors nor plain values, StoreUnwritable.
        """
        rest = dict(about)
        for one in rest.pop("findings", ()):
            name, count = one["method"], 1
            while (name if count == 1 else f"{name} {count}") in self.found:
                count += 1
            self.found[name if count == 1 else f"{name} {count}"] = one["found"]
        if self.found:
            put_findings(self._path, self.found)
        return rest

    def files(self) -> dict[str, dict[str, Any]]:
        """{name: {"sha256", "bytes"}} of the file, {} if there is none."""
        return {FINDINGS: digest_of(self._path)} if self._path.exists() else {}

    def start_over(self) -> None:
        """Remove what an earlier session of the run left."""
        if not self.found:
            self._path.unlink(missing_ok=True)


def put_findings(path: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Write nested tensors and plain values as one safetensors file; {"sha256", "bytes"}. Not finite numbers become None.

    Raises InvalidValue for other values, StoreUnwritable.
    """
    tensors: dict[str, Tensor] = {}
    values = plain(_without_tensors(found, "", tensors), "findings")
    return put_tensors(path, tensors, {"findings": json.dumps(values, ensure_ascii=False)})


def get_findings(path: Path, expected: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `put_findings` wrote, after size and sha256 were compared with `expected`. Raises CorruptFile."""
    from safetensors import safe_open

    tensors = get_tensors(path, expected)
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})["findings"])
        found: dict[str, Any] = _with_tensors(values, tensors)
        if not isinstance(found, dict):
            raise TypeError(type(found).__name__)
        return found
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptFile(
            f"{path} holds no findings ({error!r}); restore it from a copy, or train the run again"
        ) from error


def _without_tensors(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """The value with {"$tensor": name} in place of each tensor, which goes into `tensors`."""
    import torch

    if isinstance(value, torch.Tensor):
        while where in tensors:  # {"a/b": ...} beside {"a": {"b": ...}}
            where += "'"
        tensors[where] = value
        return {_TENSOR: where}
    if isinstance(value, Mapping):
        return {k: _without_tensors(v, f"{where}/{k}", tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(v, f"{where}/{k}", tensors) for k, v in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {k: _with_tensors(v, tensors) for k, v in value.items()}
    return [_with_tensors(v, tensors) for v in value] if isinstance(value, list) else value
