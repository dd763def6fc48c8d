"""The page of a variance in a real browser: every picture drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import check_colours, check_figures, check_silence, check_width
from sample_variance import variance_result
from test_browser import BROWSER, DRIVER, browser, phone, settled

from reinvest.report.variance import write_variance

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)
PICTURES = ("against", "sources", "spread", "agreement")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = variance_result()
    with browser(write_variance(result, tmp_path_factory.mktemp("browser") / "variance.html")) as driver:
        yield driver, result


def test_every_picture_is_drawn_and_figures_are_as_stored(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    for name in PICTURES:
        count = "return document.querySelectorAll(arguments[0]).length"
        assert driver.execute_script(count, f"#plot-{name} .main-svg") > 0, name
    dots = driver.execute_script("return document.querySelectorAll('#plot-spread .points path.point').length")
    assert dots == len(result["runs"])
    check_figures(driver, result, 60)


def test_it_asks_nothing_of_the_network_changes_colours_and_complains_of_nothing(
    opened: tuple[Any, dict[str, Any]],
) -> None:
    driver, _ = opened
    check_colours(driver, "plot-sources")
    check_silence(driver)


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
        for name in PICTURES:
            settled(driver, f"document.getElementById('plot-{name}')._fullLayout.width < 400")
