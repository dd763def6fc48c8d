"""A small filter for runs: "task=digits and status!=finished and seconds>60". Parsed, never evaluated."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from ..core.errors import InvalidValue, unknown

NUMBERS = ("seed", "steps", "seconds", "bytes")
TEXTS = ("id", "identity", "name", "task", "status", "created")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_TERM = re.compile(r"\s*([A-Za-z_]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)


def parse(expression: str) -> Callable[[Any], bool]:
    """A test of an object with the attributes `NUMBERS` and `TEXTS`; terms joined by "and" must all hold.

    Raises UnknownName for an unknown key (listing the known), InvalidValue for what is not KEY OP VALUE.
    A run in which the value is not known satisfies no term about it.
    """
    terms = [_term(text) for text in re.split(r"\s+and(?:\s+|$)", expression.strip(), flags=re.IGNORECASE)]

    def test(run: Any) -> bool:
        for key, compare, wanted in terms:
            value = getattr(run, key)
            if value is None or not compare(value, wanted):
                return False
        return True

    return test


def _term(text: str) -> tuple[str, Callable[[Any, Any], bool], Any]:
    match = _TERM.fullmatch(text)
    if not match or not match[3]:
        raise InvalidValue(
            f"a filter is KEY=VALUE terms joined by 'and' (= != < > <= >=), got {text!r}; "
            "write for example 'task=digits and status=interrupted'"
        )
    key, compare, value = match[1].lower(), _COMPARE[match[2]], match[3]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    if key in TEXTS:
        return key, compare, value
    if key not in NUMBERS:
        raise unknown("key in a filter", key, NUMBERS + TEXTS)
    try:
        return key, compare, float(value)
    except ValueError as error:
        raise InvalidValue(f"{key} is compared with a number, got {value!r}; write for example {key}>10") from error
