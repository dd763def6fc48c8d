"""How long: "10ep" (epochs), "3900st" (steps), "0.5" (a share of the run), "30min" (calibrated once into steps)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from .errors import InvalidValue

UNITS = {"ep": "epochs", "st": "steps", "min": "minutes", "": "share of the run"}
_PATTERN = re.compile(r"^\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*$")


@dataclass(frozen=True)
class Duration:
    """A positive amount with its unit: "ep", "st", "min", or "" for a share of the run in [0, 1]."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str | float | Duration) -> Duration:
        """Read "10ep", "3900st", "30min" or a share such as "0.5" or 0.5.

        Raises InvalidValue for an unknown unit, a negative amount, and for whole numbers without a unit, which could
        mean epochs or steps ("1.0" is the whole run; "1" is ambiguous).
        """
        if isinstance(text, Duration):
            return text
        if isinstance(text, bool) or not isinstance(text, (str, int, float)):
            raise InvalidValue(f"a duration is text such as '10ep', got {text!r}; write '10ep', '3900st' or '0.5'")
        written = _plain(text) if isinstance(text, (int, float)) else text
        match = _PATTERN.match(written.lower())
        if match is None:
            raise InvalidValue(
                f"a duration is a positive number and a unit, got {text!r}; write '10ep', '3900st', '30min' or '0.5'"
            )
        amount, unit = float(match[1]), match[2]
        if unit not in UNITS:
            raise InvalidValue(
                f"a duration's unit is ep, st or min, got {unit!r} in {text!r}; write '10ep', '3900st' or '30min'"
            )
        if unit == "" and ("." not in match[1] or amount > 1):
            raise InvalidValue(
                f"a duration without a unit is a share of the run between 0.0 and 1.0, got {text!r}; "
                f"write '{match[1]}ep' for epochs or '{match[1]}st' for steps"
            )
        if unit == "st" and amount != int(amount):
            raise InvalidValue(f"steps are whole, got {text!r}; write '{math.ceil(amount)}st'")
        return cls(amount, unit)

    def __str__(self) -> str:
        number = int(self.amount) if self.unit and self.amount == int(self.amount) else self.amount
        return f"{_plain(number)}{self.unit}"

    def steps(self, steps_per_epoch: int | None, total_steps: int | None = None) -> int:
        """The number of optimizer steps (at least 1 for a positive amount).

        steps_per_epoch is needed for epochs, total_steps for a share; minutes are refused here, because they become
        steps only by a calibration.
        """
        if self.unit == "st":
            return int(self.amount)
        if self.unit == "ep":
            if steps_per_epoch is None:
                raise InvalidValue(
                    f"a duration in epochs needs a loader with a length, got {self} and a loader without one; "
                    "give the duration in steps, such as '3900st'"
                )
            return max(1, round(self.amount * steps_per_epoch)) if self.amount else 0
        if self.unit == "":
            if total_steps is None:
                raise InvalidValue(
                    f"a share of the run needs a run, got {self} as the run's own duration; write '10ep' or '3900st'"
                )
            return max(1, round(self.amount * total_steps)) if self.amount else 0
        raise InvalidValue(
            f"minutes become steps by a calibration, which only train makes, got {self}; write the duration in epochs or steps"
        )


def _plain(number: float) -> str:
    """The shortest decimal that reads back as `number`, without an exponent."""
    return f"{Decimal(repr(number)):f}" if math.isfinite(number) else repr(number)
