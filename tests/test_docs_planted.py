"""docs/planted_noise.md is what the stored study of planted wrong labels says now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from page_writers import writer_of

ROOT = Path(__file__).parents[1]
RESULT = json.loads((ROOT / "benchmarks" / "results" / "planted_noise.json").read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def writer() -> Any:
    """The module that writes the page."""
    return writer_of("planted_table")


def test_the_page_in_the_repository_is_up_to_date(writer: Any) -> None:
    page = (ROOT / "docs" / "planted_noise.md").read_text(encoding="utf8")
    assert page == writer.page(), "run python -m benchmarks.planted_table"


def test_the_result_has_every_run_of_its_plan() -> None:
    plan = yaml.safe_load((ROOT / "benchmarks" / "plans" / "planted_noise.yaml").read_text(encoding="utf8"))
    assert RESULT["plan"] == plan
    assert [len(own) for own in RESULT["detection"]] == [plan["seeds"]] * len(plan["noises"])
    assert len(RESULT["cross_validation"]) == len(plan["noises"]) and len(RESULT["clean"]["runs"]) == plan["seeds"]
    assert [one["noise"] for one in RESULT["acting"]] == [plan["noises"][k] for k in plan["acting"]]
    for one in RESULT["acting"]:
        assert {len(values) for values in one["accuracy"].values()} == {plan["seeds"]}


def test_cells_show_mean_and_range(writer: Any) -> None:
    assert writer.several([0.5, 0.25, None]) == "0.375 (0.250 to 0.500)"
    assert writer.several([0.5]) == "0.500" and writer.several([None]) == "–"
