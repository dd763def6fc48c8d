"""The page of a plan in a real browser: pictures drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import check_colours, check_figures, check_silence, check_width
from sample_plan import plan_result
from test_browser import BROWSER, DRIVER, browser, phone

from reinvest.report.plan import write_plan

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = plan_result()
    with browser(write_plan(result, tmp_path_factory.mktemp("browser") / "plan.html")) as driver:
        yield driver, result


def test_effects_costs_and_noise_are_drawn(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    count = "return document.querySelectorAll(arguments[0]).length"
    for name in ("effects", "noise"):
        assert driver.execute_script(count, f"#plot-{name} .main-svg") > 0, name
        source = driver.execute_script(f"return document.getElementById('print-{name}').src")
        assert source.startswith("data:image/svg+xml"), name
    prices = driver.execute_script(
        "return [...document.querySelectorAll('#plot-effects .x2tick')].map(e => e.textContent)"
    )
    assert len(prices) == 5 and prices[0] == "3 h7.50 USD"
    assert driver.execute_script(count, "#plot-effects .points path.point") == len(result["by_seeds"]) + 1


def test_names_are_shown_as_they_are_and_figures_as_stored(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    text = driver.execute_script("return document.body.innerText")
    assert "<i>mine" in text and "finds <a lot>" in text
    check_figures(driver, result, 120)


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_silence(driver)


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_colours(driver, "plot-effects")


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
