"""The page of a search for spikes in a real browser: pictures drawn, figures as stored, silent, and whole on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import check_colours, check_figures, check_silence, check_width
from sample_spikes import spikes
from test_browser import BROWSER, DRIVER, browser, phone

from reinvest.report.spikes import write_spikes

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = spikes()
    with browser(write_spikes(result, tmp_path_factory.mktemp("browser") / "spikes.html")) as driver:
        yield driver, result


def test_signals_and_layers_are_drawn(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    for name in ("signals", "heat-0", "heat-1"):
        count = f"return document.querySelectorAll('#plot-{name} .main-svg').length"
        assert driver.execute_script(count) > 0, name
    marks = driver.execute_script(
        "return document.getElementById('plot-signals').data.filter(t => t.meta.kind === 'spike').map(t => t.x[0])"
    )
    assert sorted(marks) == [40, 41, 60, 61, 89]
    assert driver.execute_script("return document.getElementById('plot-heat-0').data[0].type") == "heatmap"


def test_names_are_shown_as_they_are_and_figures_as_stored(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    text = driver.execute_script("return document.body.innerText")
    assert "<i>mine" in text and "it came <again>." in text
    check_figures(driver, result, 40)


def test_it_asks_nothing_of_the_network_and_complains_of_nothing(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_silence(driver)


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_colours(driver, "plot-heat-0")


def test_nothing_is_cut_off_on_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        check_width(driver)
