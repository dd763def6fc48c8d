from __future__ import annotations

from types import SimpleNamespace

import pytest

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.store.where import parse

RUN = SimpleNamespace(
    id="ab12", identity="ff", name="my run", task="digits", status="interrupted", created="2026-05-01T00:00:00",
    seed=3, steps=None, seconds=12.5, bytes=1000,
)  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("task=digits", True),
        ("task = digits AND status=interrupted", True),
        ("task=digits and status=finished", False),
        ("status!=finished", True),
        ("name='my run'", True),
        ("seed<3", False),
        ("seed<=3 and seed>=3", True),
        ("seconds>12", True),
        ("bytes>1e3", False),
        ("created<2026-06", True),
        ("steps>0", False),  # not known
        ("steps<1e9", False),
    ],
)
def test_filter(expression: str, expected: bool) -> None:
    assert parse(expression)(RUN) is expected


def test_unknown_key_lists_the_known() -> None:
    with pytest.raises(UnknownName, match=r"'stat'; did you mean 'status'\? Known: bytes, created, id"):
        parse("stat=finished")


@pytest.mark.parametrize(
    "bad", ["", "task", "task=", "=digits", "task=digits and", "seed=abc", "__import__('os')", "seed"]
)
def test_what_is_no_filter_is_refused(bad: str) -> None:
    with pytest.raises(InvalidValue):
        parse(bad)
