"""The page of outcomes in a real browser: every picture drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from page import Figure, agrees, at
from sample_outcomes import outcomes_result
from test_browser import BROWSER, DRIVER, asked_outside, background, browser, complaints, phone, settled

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
    rows = driver.execute_script(
        "return [...document.querySelectorAll('[data-path]')].map(e =>"
        " [e.dataset.path, e.dataset.value, Number(e.dataset.scale), e.textContent])"
    )
    figures = [Figure(path, json.loads(value), scale, shown) for path, value, scale, shown in rows]
    assert len(figures) > 60 and not [f for f in figures if not agrees(f, at(result, f.path))]


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    assert asked_outside(driver) == []
    assert complaints(driver) == []


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    assert background(driver) > 600
    driver.find_element("id", "theme").click()
    settled(driver, "document.getElementById('plot-churn').layout.paper_bgcolor === '#1a1d22'")
    assert background(driver) < 150
    driver.find_element("id", "theme").click()
    settled(driver, "document.getElementById('plot-churn').layout.paper_bgcolor === '#ffffff'")


def test_nothing_is_cut_off_on_a_phone_and_every_picture_stays(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        settled(driver, "window.innerWidth <= 400")
        settled(driver, "document.documentElement.scrollWidth <= window.innerWidth + 1")
        for name in PICTURES:
            place = f"document.getElementById('plot-{name}')"
            settled(driver, f"{place}._fullLayout.width < 400")
        heights = [driver.execute_script(f"return document.getElementById('plot-{n}').offsetHeight") for n in PICTURES]
        assert min(heights) > 100, heights
