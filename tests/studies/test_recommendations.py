"""The recommendations: every figure from a file, negative results included, the same page from the same files."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path
from typing import Any

import pytest

from advised import arm, study
from reinvest.evaluation.outcome import ratio_text
from reinvest.studies.evidence import PACKAGED, read_studies
from reinvest.studies.policies import POLICIES
from reinvest.studies.recommendations import recommendations

PAGE = Path(__file__).parents[2] / "docs" / "recommendations.md"


def cells(**more: Any) -> dict[str, Any]:
    return {
        "quality": 0.7,
        "quality_low": 0.65,
        "quality_high": 0.75,
        "gain": 0.02,
        "gain_low": 0.01,
        "gain_high": 0.03,
        **more,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    """A study with an arm that helps, one that does not, and one whose quality falls."""
    falls = {"verdict": "falls", "slope": -0.0125, "low": -0.02, "high": -0.005}
    return study(
        {
            "good": arm(
                "records", 1.625, 1.25, 2.125, options={"weight": 0.9, "length": 0.5}, break_even={"sequences": 7}
            ),
            "useless": arm("clean pass", 0.875, 0.75, 1.0625, "inconclusive"),
            "sinking": arm("warm start", 2.5, 1.5, None, drift=falls),
        },
        positions=[
            {"arm": name, "duration": duration, "position": k, **cells(gain=gain)}
            for name, gain in (("scratch", None), ("good", 0.0475), ("useless", -0.0135))
            for duration in ("1ep", "8ep")
            for k in (1, 2, 3)
        ],
        at_durations=[
            {
                "arm": "useless",
                "duration": "8ep",
                **cells(gain=-0.03125, gain_low=-0.05, gain_high=-0.0115),
                "cost_ratio": 1.0425,
                "cost_low": 1.02,
                "cost_high": 1.065,
            }
        ],
        flags=["an estimate: 5 sequences an arm"],
        title="Planted study",
    )


def section(page: str, name: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    return found[1]


def test_at_a_glance_has_one_row_an_arm_with_speed_up_interval_and_verdict(result: dict[str, Any]) -> None:
    glance = section(recommendations([("a.json", result)]), "At a glance")
    table = [line for line in glance.splitlines() if line.startswith("|")][2:]
    assert len(table) == 3
    good = next(line for line in table if "records (length 0.5, weight 0.9)" in line)
    for expected in (
        "no new data",
        "digits, mlp, one model",
        "1.62 (1.25 to 2.12)",
        "0.615 (0.471 to 0.8)",
        "better",
        "5 of 3 runs",
        "a.json",
    ):
        assert expected in good, expected
    assert "2.5 (1.5 to open)" in next(line for line in table if "warm start" in line)
    assert "**records (length 0.5, weight 0.9)**, 1.62 (1.25 to 2.12) times as fast" in glance
    assert "**clean pass" not in glance


def test_a_study_shows_its_plan_quality_by_position_and_drift(result: dict[str, Any]) -> None:
    page = section(recommendations([("a.json", result)]), "The studies")
    for expected in (
        "### Planted study",
        "2. optimizer: lr 0.2",
        "Quality by position at 8ep",
        "| scratch | 0.7 (0.65 to 0.75) |",
        "| good | +0.0475 (+0.01 to +0.03) |",
        "falls, -0.0125 a run (-0.02 to -0.005)",
        "7 sequences",
        "1.04 (1.02 to 1.06)",
        "- an estimate: 5 sequences an arm",
    ):
        assert expected in page, expected
    assert "at 1ep" not in page


def test_what_did_not_help_is_listed_with_its_figures(result: dict[str, Any]) -> None:
    text = section(recommendations([("a.json", result)]), "What did not help")
    assert "clean pass: inconclusive, speed-up 0.875 (0.75 to 1.06)" in text
    assert "clean pass: quality lost at 8ep, -0.0312 (-0.05 to -0.0115)" in text
    assert "warm start: quality falls, -0.0125 a run" in text
    assert "records" not in text


def test_what_was_not_tested_follows_from_the_studies(result: dict[str, Any]) -> None:
    text = section(recommendations([("a.json", result)]), "What was not tested")
    (line,) = [line for line in text.splitlines() if line.startswith("- no new data")]
    named = line.rstrip(".").split("about ")[1].split(", ")
    assert named == [n for n in POLICIES if n not in ("scratch", "advise", "records", "clean pass", "warm start")]
    assert "Studied on digits, with one model" in text
    everything = next(line for line in text.splitlines() if line.startswith("- new classes"))
    assert "records, records average" in everything


def test_a_study_without_a_verdict_about_time_says_so(result: dict[str, Any]) -> None:
    bare = study({"x": arm("records", verdict=None)}, durations=["1ep", "2ep"])
    page = recommendations([("b.json", bare)])
    assert "no verdict about time: too few durations" in section(page, "At a glance")
    assert "Nothing in the stored studies" in section(page, "What did not help")


def test_without_a_study_nothing_is_recommended() -> None:
    page = recommendations([])
    assert "No sequence study is stored yet" in page and "At a glance" not in page
    assert (
        section(page, "What was not tested").count("warm start") == 6
    )  # two policies with these words, three settings


def test_the_page_depends_on_the_files_alone_not_on_their_order(result: dict[str, Any]) -> None:
    more = [
        ("a.json", result),
        ("b.json", {**result, "title": "B", "setting": "new data", "task": "cifar10"}),
        ("c.json", {**result, "title": "C", "setting": "a setting of later"}),
    ]
    expected = recommendations(copy.deepcopy(more))
    for seed in range(5):
        random.Random(seed).shuffle(more)
        assert recommendations(more) == expected
    assert expected.index("### Planted study") < expected.index("### B") < expected.index("### C")


def floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [v for inner in value.values() for v in floats(inner)]
    if isinstance(value, list):
        return [v for inner in value for v in floats(inner)]
    return [value] if isinstance(value, float) else []


def test_every_figure_on_the_page_is_one_of_the_file_or_one_over_it(result: dict[str, Any]) -> None:
    known = floats(result)
    allowed = {f"{v:.4g}" for v in known} | {f"{abs(v):.3g}" for v in known}
    allowed |= {ratio_text(v) for v in known} | {ratio_text(1 / v) for v in known}
    page = recommendations([("a.json", result)]).replace("version 0.0", "")
    shown = re.findall(r"\d+\.\d+", page)
    assert len(set(shown)) > 20
    assert set(shown) <= allowed


def test_the_page_in_the_repository_is_that_of_the_packaged_studies() -> None:
    """Written by `reinvest recommend --out docs/recommendations.md` in a folder without a store."""
    assert PAGE.read_text(encoding="utf8") == recommendations(read_studies([PACKAGED]))
