"""docs/methods.md is what the catalogue, the measured costs and the stored comparisons say now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from page_writers import writer_of
from reinvest.methods._catalog import catalog

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"


@pytest.fixture(scope="module")
def writer() -> Any:
    """The module that writes the page."""
    return writer_of("method_table")


def test_the_page_in_the_repository_is_up_to_date(writer: Any) -> None:
    assert PAGE.read_text(encoding="utf8") == writer.table(), "run python -m benchmarks.method_table"


def test_every_method_has_one_line() -> None:
    lines = PAGE.read_text(encoding="utf8").splitlines()
    for name in catalog:
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1, name


def test_experimental_methods_stand_apart() -> None:
    text = PAGE.read_text(encoding="utf8")
    ordinary, _, experimental = text.partition("(experimental)")
    for name, method in catalog.items():
        assert (f"| `{name}` |" in experimental) is method.card.experimental
        assert (f"| `{name}` |" in ordinary) is not method.card.experimental


def test_a_verdict_is_told_only_of_arms_that_differ_by_one_method(writer: Any) -> None:
    plain = {"task": {"name": "t"}, "optimizer": {"lr": 0.1}, "methods": [], "duration": "1ep"}
    says = {"verdict": "better", "speedup": 1.5, "low": 1.2, "high": None}
    arms = {
        "base": {"recipe": plain, "verdict": None},
        "one": {"recipe": {**plain, "methods": [{"name": "SAM"}]}, "verdict": says},
        "two": {"recipe": {**plain, "methods": [{"name": "SAM"}, {"name": "EMA"}]}, "verdict": says},
        "rate": {"recipe": {**plain, "methods": [{"name": "EMA"}], "optimizer": {"lr": 0.2}}, "verdict": says},
    }
    found = list(writer.judged({"baseline": "base", "arms": arms, "task": {"name": "t"}}))
    assert found == [("SAM", "better 1.5 (1.2 to open), t")]
