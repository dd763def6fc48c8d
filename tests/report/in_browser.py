"""What holds of every page in a browser: figures as stored, nothing asked outside, both colours, whole on a phone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from page import Figure, agrees, at
from test_browser import asked_outside, background, complaints, settled


def check_figures(driver: Any, result: Mapping[str, Any], least: int) -> None:
    """More than `least` figures are on the page, each as the result holds it."""
    rows = driver.execute_script(
        "return [...document.querySelectorAll('[data-path]')].map(e =>"
        " [e.dataset.path, e.dataset.value, Number(e.dataset.scale), e.textContent])"
    )
    figures = [Figure(path, json.loads(value), scale, shown) for path, value, scale, shown in rows]
    assert len(figures) > least and not [f for f in figures if not agrees(f, at(result, f.path))]


def check_silence(driver: Any) -> None:
    """Nothing was asked of the network, and nothing is in the console."""
    assert asked_outside(driver) == []
    assert complaints(driver) == []


def check_colours(driver: Any, plot: str) -> None:
    """The button turns the page and this picture dark, and light again."""
    assert background(driver) > 600
    driver.find_element("id", "theme").click()
    settled(driver, f"document.getElementById('{plot}').layout.paper_bgcolor === '#1a1d22'")
    assert background(driver) < 150
    driver.find_element("id", "theme").click()
    settled(driver, f"document.getElementById('{plot}').layout.paper_bgcolor === '#ffffff'")


def check_width(driver: Any) -> None:
    """On a phone nothing is cut off."""
    settled(driver, "window.innerWidth <= 400")
    settled(driver, "document.documentElement.scrollWidth <= window.innerWidth + 1")
