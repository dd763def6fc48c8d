"""What a row of the contract's table is; the rows are in contract_<phase>.py beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reinvest.testing import HandLoop


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    function_form: type[HandLoop]
    bad: tuple[dict[str, Any], ...]
    example: dict[str, Any] | None = None
    """Arguments that act, where the class has none that work everywhere."""
    needed: dict[str, Any] | None = None
    """Arguments that must be there, whatever else is given."""

    def acting(self, method: type[Any]) -> dict[str, Any]:
        """Arguments with which the method acts."""
        return dict(method.example if self.example is None else self.example)
