"""The report in a real browser: it draws, asks nothing of the network, complains of nothing, prints."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page import Figure, agrees, at
from sample_results import HOSTILE, every_kind

from reinvest.report.html import write_report

BROWSER = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)


@contextmanager
def browser(page: Path, colours: str = "light") -> Iterator[Any]:
    """A browser that has opened a page; its logs hold what the page asked for and complained of."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, f"--user-data-dir={page.parent / 'profile'}", "--window-size=1100,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(60)
        system_colours(driver, colours)
        driver.get("about:blank")
        driver.get_log("performance")  # what the browser loaded to start is not the page's doing
        driver.get(page.as_uri())
        ready(driver)
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A browser that has opened the report of every kind of outcome, in light colours."""
    result = every_kind()
    with browser(write_report(result, tmp_path_factory.mktemp("browser") / "report.html")) as driver:
        yield driver, result


def system_colours(driver: Any, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def ready(driver: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 60).until(
        lambda d: d.execute_script("return document.documentElement.dataset.ready") == "true"
    )


@contextmanager
def phone(driver: Any) -> Iterator[None]:
    """The page on a screen 400 pixels wide."""
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def asked_outside(driver: Any) -> list[str]:
    """Addresses outside the page that it asked for since the last look."""
    sent = [json.loads(e["message"])["message"] for e in driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    return [u for u in urls if not u.startswith(("file:", "data:", "blob:"))]


def complaints(driver: Any) -> list[Any]:
    """What the browser said went wrong."""
    return [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]


def background(driver: Any) -> int:
    """Brightness of the page, 0 to 765."""
    colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(v) for v in colour.strip("rgb()").split(","))


def settled(driver: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 30).until(lambda d: d.execute_script(f"return Boolean({condition})"))


def test_both_pictures_are_drawn_with_every_run(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    runs = sum(len(arm["points"]) for arm in result["arms"].values())
    count = "return document.querySelectorAll(arguments[0]).length"
    assert driver.execute_script(count, "#plot-quality .scatterlayer .points path.point") == runs
    assert driver.execute_script(count, "#plot-quality .scatterlayer path.js-line") >= len(result["arms"])
    assert driver.execute_script(count, "#plot-speedup .scatterlayer path.js-line") == 4 * 5
    assert driver.execute_script(count, "#plot-quality .main-svg") > 0


def test_what_is_drawn_is_the_json(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    drawn = driver.execute_script(
        "return document.getElementById('plot-quality').data.map(t => [t.meta.kind, t.meta.path, t.x, t.y])"
    )
    for kind, path, x, y in drawn:
        if kind == "points":
            done = [p for p in at(result, path) if p["status"] == "finished"]
            assert (x, y) == ([p["seconds"] for p in done], [p["quality"] for p in done])
        if kind == "curve":
            assert (x, y) == (at(result, path)["seconds"], at(result, path)["quality"])


def test_the_figures_shown_are_the_json(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    rows = driver.execute_script(
        "return [...document.querySelectorAll('[data-path]')].map(e =>"
        " [e.dataset.path, e.dataset.value, Number(e.dataset.scale), e.textContent])"
    )
    figures = [Figure(path, json.loads(value), scale, shown) for path, value, scale, shown in rows]
    assert len(figures) > 1000
    assert not [f for f in figures if not agrees(f, at(result, f.path))]
    assert driver.execute_script("return JSON.parse(document.getElementById('result').textContent)") == result


def test_hostile_names_are_shown_as_they_are(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    names = driver.execute_script("return [...document.querySelectorAll('.verdicts .name')].map(e => e.textContent)")
    assert HOSTILE in [n.strip() for n in names]
    legend = driver.execute_script(
        "return [...document.querySelectorAll('#plot-quality .legendtext')].map(e => e.textContent)"
    )
    assert HOSTILE[:25] + "…" in legend


def test_the_colours_follow_the_system_and_the_button(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    paper = "document.getElementById('plot-quality').layout.paper_bgcolor"
    assert background(driver) > 600
    driver.find_element("id", "theme").click()
    settled(driver, f"{paper} === '#1a1d22'")
    assert background(driver) < 150
    driver.find_element("id", "theme").click()
    settled(driver, f"{paper} === '#ffffff'")
    assert background(driver) > 600
    driver.execute_script("try { localStorage.clear() } catch {}")
    driver.execute_script("delete document.documentElement.dataset.theme")
    system_colours(driver, "dark")
    settled(driver, f"{paper} === '#1a1d22'")
    assert background(driver) < 150
    system_colours(driver, "light")
    settled(driver, f"{paper} === '#ffffff'")


def test_a_choice_in_the_legend_outlives_a_change_of_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    shown = "document.querySelectorAll('#plot-quality .scatterlayer path.js-line').length"
    before = driver.execute_script(f"return {shown}")
    driver.execute_script(
        "const items = [...document.querySelectorAll('#plot-quality .traces')];"
        "const item = items.find(e => e.textContent.startsWith('predicted')).querySelector('.legendtoggle');"
        "for (const kind of ['mousedown', 'mouseup']) item.dispatchEvent(new MouseEvent(kind, { bubbles: true }))"
    )
    settled(driver, f"{shown} > {before}")
    driver.find_element("id", "theme").click()
    settled(driver, "document.getElementById('plot-quality').layout.paper_bgcolor === '#1a1d22'")
    assert driver.execute_script(f"return {shown}") > before
    driver.find_element("id", "theme").click()


def test_it_fits_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        settled(driver, "document.getElementById('plot-quality')._fullLayout.height === 470")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 400


def test_the_copy_button_says_that_it_copied(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    button = driver.find_element("css selector", "button[data-copy=command]")
    driver.execute_script("arguments[0].scrollIntoView({ block: 'center' })", button)
    button.click()
    settled(driver, "document.querySelector('button[data-copy=command]').textContent === 'Copied'")


def test_it_prints_with_both_pictures_and_all_runs(opened: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    driver, _ = opened
    for name in ("quality", "speedup"):
        source = driver.execute_script(f"return document.getElementById('print-{name}').src")
        assert source.startswith("data:image/svg+xml")
    pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert pdf.startswith(b"%PDF")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = "return getComputedStyle(document.getElementById(arguments[0])).display"
        assert driver.execute_script(shown, "plot-quality") == driver.execute_script(shown, "theme") == "none"
        assert driver.execute_script(shown, "print-quality") == "block"
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_console_is_silent_and_the_network_unused(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    assert [e for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(e["message"])["message"] for e in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in sent)
    assert [url for url in sent if not url.startswith(("file:", "data:", "blob:"))] == []
    entries = driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [url for url in entries if not url.startswith(("data:", "blob:"))] == []
