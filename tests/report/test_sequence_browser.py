"""The page of a sequence study in a real browser, drawn from a stored study: complete, silent, and whole on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_browser import check_silence, check_width
from test_browser import BROWSER, DRIVER, browser, phone

from reinvest.report.sequence import write_sequence

STORED = Path(__file__).parents[2] / "benchmarks" / "results" / "sequence_hyperparameters.json"

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = json.loads(STORED.read_text(encoding="utf8"))
    with browser(write_sequence(result, tmp_path_factory.mktemp("browser") / "sequence.html")) as driver:
        yield driver, result


def test_every_arm_has_its_words_and_every_sequence_its_mark(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    text = driver.execute_script("return document.body.innerText")
    for name, arm in result["arms"].items():
        assert name in text
        if arm.get("relative_time") is not None and name != result["baseline"]:
            assert f"{arm['relative_time']:.3f}" in text, name
    drawn = "return [...document.querySelectorAll('.js-plotly-plot')].map(p => p.querySelectorAll('.main-svg').length)"
    assert len(driver.execute_script(drawn)) >= 3 and all(driver.execute_script(drawn))
    marks = "return document.querySelectorAll('.js-plotly-plot .scatterlayer .points path.point').length"
    assert driver.execute_script(marks) >= len(result["points"])


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_silence(driver)


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
