"""The page of a gate in a real browser: both pictures drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import check_colours, check_figures, check_silence, check_width
from sample_gate import gate
from test_browser import BROWSER, DRIVER, browser, phone

from reinvest.report.gate import write_gate

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = gate()
    with browser(write_gate(result, tmp_path_factory.mktemp("browser") / "gate.html")) as driver:
        yield driver, result


def test_it_is_drawn_shown_as_stored_silent_and_turns_dark(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    count = "return document.querySelectorAll(arguments[0]).length"
    assert driver.execute_script(count, "#plot-parts .main-svg") > 0
    assert driver.execute_script(count, "#plot-quality .main-svg") > 0
    check_figures(driver, result, 25)
    check_silence(driver)
    check_colours(driver, "plot-parts")


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
