"""What a command, called in this process, said: exit code, standard output, standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        assert self.out.count("\n") == 1
        value = json.loads(self.out, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
        assert isinstance(value, dict)
        return value

    @property
    def sentence(self) -> str:
        """The one sentence on standard error, with nothing on standard output."""
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("reinvest: ")
        return lines[0]


Call = Callable[..., Said]
