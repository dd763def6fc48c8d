"""The page of an ablation in a real browser: both pictures drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from page import Figure, agrees, at
from sample_ablation import ablation
from test_browser import BROWSER, DRIVER, asked_outside, background, browser, complaints, phone, settled

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
    rows = driver.execute_script(
        "return [...document.querySelectorAll('[data-path]')].map(e =>"
        " [e.dataset.path, e.dataset.value, Number(e.dataset.scale), e.textContent])"
    )
    figures = [Figure(path, json.loads(value), scale, shown) for path, value, scale, shown in rows]
    assert len(figures) > 20 and not [f for f in figures if not agrees(f, at(result, f.path))]


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    assert asked_outside(driver) == []
    assert complaints(driver) == []


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    assert background(driver) > 600
    driver.find_element("id", "theme").click()
    settled(driver, "document.getElementById('plot-matrix').layout.paper_bgcolor === '#1a1d22'")
    assert background(driver) < 150
    driver.find_element("id", "theme").click()
    settled(driver, "document.getElementById('plot-matrix').layout.paper_bgcolor === '#ffffff'")


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        settled(driver, "window.innerWidth <= 400")
        settled(driver, "document.documentElement.scrollWidth <= window.innerWidth + 1")
