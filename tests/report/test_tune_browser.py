"""The page of a tuning in a real browser: all pictures drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import check_colours, check_figures, check_silence, check_width
from sample_tuning import tuning
from test_browser import BROWSER, DRIVER, browser, phone

from reinvest.report.tune import write_tuning

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = tuning()
    with browser(write_tuning(result, tmp_path_factory.mktemp("browser") / "tuning.html")) as driver:
        yield driver, result


def test_all_pictures_are_drawn(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    count = "return document.querySelectorAll(arguments[0]).length"
    for name in ("tried", "best_of", "quality"):
        assert driver.execute_script(count, f"#plot-{name} .main-svg") > 0, name
    drawn = driver.execute_script(
        "return document.getElementById('plot-tried').data.filter(t => t.name !== 'winner')"
        ".reduce((n, t) => n + t.x.length, 0)"
    )
    assert drawn == sum(len(t["values"]) for t in result["tried"])


def test_figures_are_as_stored(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    check_figures(driver, result, 60)


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_silence(driver)


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_colours(driver, "plot-tried")


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
