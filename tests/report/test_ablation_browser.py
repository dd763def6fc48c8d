"""The page of an ablation in a real browser: both pictures drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import check_colours, check_figures, check_silence, check_width
from sample_ablation import ablation
from test_browser import BROWSER, DRIVER, browser, phone

from reinvest.report.ablation import write_ablation

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = ablation()
    with browser(write_ablation(result, tmp_path_factory.mktemp("browser") / "ablation.html")) as driver:
        yield driver, result


def test_both_pictures_are_drawn(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    count = "return document.querySelectorAll(arguments[0]).length"
    assert driver.execute_script(count, "#plot-effects .main-svg") > 0
    assert driver.execute_script(count, "#plot-matrix .main-svg") > 0
    drawn = driver.execute_script(
        "return document.getElementById('plot-effects').data.filter(t => t.meta.kind === 'interval').map(t => t.x)"
    )
    singles = [e for e in result["effects"] if e["question"] != "together" and e["time"] is not None]
    assert sorted(x[0] for x in drawn) == sorted(e["low"] for e in singles)


def test_names_are_shown_as_they_are_and_figures_as_stored(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    text = driver.execute_script("return document.body.innerText")
    assert "<b>A" in text and "too <few> seeds" in text
    check_figures(driver, result, 20)


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_silence(driver)


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_colours(driver, "plot-matrix")


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
