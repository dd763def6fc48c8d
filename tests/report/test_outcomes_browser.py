"""The page of outcomes in a real browser: every picture drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import check_colours, check_figures, check_silence, check_width
from sample_outcomes import outcomes_result
from test_browser import BROWSER, DRIVER, browser, phone, settled

from reinvest.report.outcomes import write_outcomes

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)
PICTURES = ("accuracy", "consistency", "churn", "by_group", "by_class")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = outcomes_result()
    with browser(write_outcomes(result, tmp_path_factory.mktemp("browser") / "outcomes.html")) as driver:
        yield driver, result


def test_every_picture_is_drawn_on_screen_and_for_paper(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    for name in PICTURES:
        count = "return document.querySelectorAll(arguments[0]).length"
        assert driver.execute_script(count, f"#plot-{name} .main-svg") > 0, name
        source = driver.execute_script(f"return document.getElementById('print-{name}').src")
        assert source.startswith("data:image/svg+xml"), name
    dots = driver.execute_script("return document.querySelectorAll('#plot-accuracy .points path.point').length")
    assert dots == len(result["runs"])
    written = driver.execute_script(
        "return [...document.querySelectorAll('#plot-churn .annotation-text')].map(e => e.textContent)"
    )
    pairs = [v for i, row in enumerate(result["churn"]) for j, v in enumerate(row) if i != j]
    assert sorted(written) == sorted(f"{100 * value:.1f}" for value in pairs)


def test_names_are_shown_as_they_are_and_figures_as_stored(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    text = driver.execute_script("return document.body.innerText")
    assert "<b>cat" in text and "<i>dark" in text and "Too <few> runs" in text
    check_figures(driver, result, 60)


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_silence(driver)


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_colours(driver, "plot-churn")


def test_nothing_is_cut_off_on_a_phone_and_every_picture_stays(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
        for name in PICTURES:
            place = f"document.getElementById('plot-{name}')"
            settled(driver, f"{place}._fullLayout.width < 400")
        heights = [driver.execute_script(f"return document.getElementById('plot-{n}').offsetHeight") for n in PICTURES]
        assert min(heights) > 100, heights
