"""docs/teaching.md is what the stored studies of single students say now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from page_writers import writer_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "teaching.md"
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("teaching_*.json"))


@pytest.fixture(scope="module")
def writer() -> Any:
    """The module that writes the page."""
    return writer_of("teaching_table")


def test_the_page_in_the_repository_is_up_to_date(writer: Any) -> None:
    assert PAGE.read_text(encoding="utf8") == writer.page(), "run python -m benchmarks.teaching_table"


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_result_has_all_runs_of_its_plan(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf8"), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    plan = result["plan"]
    cells = {(p["arm"], p["duration"], p["replicate"]) for p in result["points"]}
    assert len(cells) == (1 + len(plan["arms"])) * len(plan["durations"]) * plan["replicates"]
    assert (ROOT / "benchmarks" / "plans" / f"{path.stem}.yaml").exists()


def test_cells_show_the_figures_of_the_result(writer: Any) -> None:
    row = {"mean": 0.5, "se": 0.02, "local_speedup": {"value": 1.5, "low": 1.25, "high": 1.8}}
    assert writer.quality(row) == "0.500 ± 0.020; 1.50 (1.25 to 1.80)"
    assert writer.quality(row | {"local_speedup": None}) == "0.500 ± 0.020"
    assert (
        writer.judged({"verdict": "better", "speedup": 1.4, "low": 1.2, "high": None}) == "better, 1.40 (1.20 to open)"
    )
    assert writer.judged({"verdict": "worse", "speedup": None, "low": None, "high": None}) == "worse"
