"""The timing block and the systems-only arms on the page; results without them, of earlier versions, are drawn too."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sample_results import every_kind

from reinvest.report.html import render
from reinvest.report.text import print_verdicts

KEPT = ("rounds", "clock", "seconds", "notes")


def earlier(result: dict[str, Any]) -> dict[str, Any]:
    """As results were before the baseline took part twice."""
    old = copy.deepcopy(result)
    del old["systems"]
    arms = {
        name: {k: arm[k] for k in ("seconds_per_step", "ratio", "ratio_low", "ratio_high")}
        for name, arm in old["timing"]["arms"].items()
    }
    old["timing"] = {"arms": arms, **{k: old["timing"][k] for k in KEPT}}
    return old


def said(result: dict[str, Any]) -> str:
    stream = io.StringIO()
    print_verdicts(result, Console(file=stream, width=200))
    return stream.getvalue()


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return every_kind(timed=True)


def test_the_baseline_again_both_clocks_and_the_calibration_are_shown(result: dict[str, Any]) -> None:
    page = render(result)
    for path in (
        "/timing/again/ratio",
        "/timing/again/ratio_low",
        "/timing/arms/EMA/cpu_seconds_per_step",
        "/timing/arms/EMA/wall_seconds_per_step",
        "/timing/facts/calibration_drift",
        "/timing/facts/rounds_moved",
        "/timing/facts/others_during",
    ):
        assert f'data-path="{path}"' in page, path
    assert "baseline again" in page


def test_systems_only_arms_are_shown_with_outcome_sentence_and_weights(result: dict[str, Any]) -> None:
    page, text = render(result), said(result)
    assert "Declared to alter speed alone" in page and 'data-path="/systems/EMA/maths/sentence"' in page
    assert "EMA, declared to alter speed alone: quality differs." in text
    assert "After 4 steps with one seed the weights are bit-identical." in text


def test_results_of_earlier_versions_are_drawn(result: dict[str, Any], tmp_path: Path) -> None:
    page = render(earlier(result))
    assert "Timing block" in page and "baseline again" not in page and "Declared to alter speed" not in page
    assert "declared to alter" not in said(earlier(result))


def test_a_system_that_does_not_tell_of_other_programs_is_drawn(result: dict[str, Any]) -> None:
    without = copy.deepcopy(result)
    without["timing"]["facts"]["others_during"] = None
    assert "cores meanwhile" not in render(without) and "cores meanwhile" in render(result)
