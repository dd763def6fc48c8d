"""The page of suspects in a real browser: 10,000 of them scroll, filter and print; nothing is asked for, nothing complains."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_browser import check_silence
from sample_suspects import HOSTILE, pictures, suspects
from test_browser import BROWSER, DRIVER, asked_outside, background, browser, complaints, phone, settled

from reinvest.report.suspects import write_suspects

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install selenium")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the browser test needs chromium and chromedriver: apt-get install chromium-driver"
)
COUNT = 10_000
MOST_ROWS = 40
ROWS = "document.querySelectorAll('.row').length"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    result = suspects(COUNT)
    page = tmp_path_factory.mktemp("browser") / "suspects.html"
    with browser(write_suspects(result, page, pictures=pictures(COUNT, side=8, colours=1))) as driver:
        yield driver, result


def choose(driver: Any, what: str, value: str) -> None:
    driver.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event(e.tagName === 'SELECT' ? 'change' : 'input'))",
        f"pick-{what}",
        value,
    )


def shown(driver: Any) -> list[int]:
    """Ids of the rows in the document, from top to bottom."""
    texts = driver.execute_script(
        "return [...document.querySelectorAll('.row')].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)"
        ".map(e => e.querySelector('.id').textContent)"
    )
    return [int(text.removeprefix("id ")) for text in texts]


@pytest.fixture(autouse=True)
def from_the_top(opened: tuple[Any, dict[str, Any]]) -> None:
    for what, value in (("kind", ""), ("label", ""), ("id", ""), ("order", "rank")):
        choose(opened[0], what, value)


def test_only_rows_in_sight_are_in_the_document(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    ids = shown(driver)
    assert 8 < len(ids) <= MOST_ROWS
    assert ids == result["suspects"]["id"][: len(ids)]
    text = driver.execute_script("return document.getElementById('count').textContent")
    assert text == "10,000 of 10,000 suspects"


def test_it_scrolls_to_the_end_with_few_rows_all_the_way(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    for part in (0.1, 0.5, 0.9, 1.0):
        driver.execute_script(
            "const l = document.getElementById('list'); l.scrollTop = arguments[0] * l.scrollHeight", part
        )
        place = f"{part} * (document.getElementById('list').scrollHeight - 800)"
        settled(
            driver,
            f"[...document.querySelectorAll('.row')].some(e => Math.abs(parseFloat(e.style.top) - ({place})) < 1600)",
        )
        assert driver.execute_script(f"return {ROWS}") <= MOST_ROWS
    assert shown(driver)[-1] == result["suspects"]["id"][-1]
    bottom = driver.execute_script(
        "const l = document.getElementById('list').getBoundingClientRect();"
        "const rows = [...document.querySelectorAll('.row')].map(e => e.getBoundingClientRect().bottom);"
        "return l.bottom - Math.max(...rows)"
    )
    assert abs(bottom) < 4


def test_pictures_are_decoded_when_their_row_comes_into_sight(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    settled(driver, "[...document.querySelectorAll('.row img')].slice(0, 5).every(e => e.naturalWidth === 8)")
    assert driver.execute_script("return document.querySelectorAll('img[src]:not([src=\"\"])').length") <= MOST_ROWS
    assert driver.execute_script("return document.querySelector('.row img').loading") == "lazy"


def test_each_row_tells_labels_kind_and_evidence(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    columns, names = result["suspects"], result["class_names"]
    for place in range(6):
        text = driver.execute_script(
            "return [...document.querySelectorAll('.row')].find(e => Number(e.ariaPosInSet) === arguments[0]).innerText",
            place + 1,
        )
        assert names[columns["label"][place]].split("<")[0].strip() in text
        assert f"id {columns['id'][place]}" in text and "label error" in text
        assert f"rank {columns['score'][place]:.4f}" in text
        assert ("never learned" in text) == (columns["learned"][place] is None)
        assert ("probability 25 %" in text) == (columns["probability"][place] is not None)
    assert driver.execute_script("return document.querySelectorAll('.row .spark path.own').length") >= 6
    assert driver.execute_script("return document.querySelectorAll('.row b b').length") == 0
    given = driver.execute_script("return [...document.querySelectorAll('.row .given')].map(e => e.textContent)")
    assert HOSTILE in given


def test_filters_search_and_order(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    columns = result["suspects"]
    every = range(COUNT)
    choose(driver, "kind", "1")
    never = [columns["id"][k] for k in every if columns["kind"][k] == 1]
    ids = shown(driver)
    assert ids == never[: len(ids)]
    choose(driver, "label", "2")
    both = [columns["id"][k] for k in every if columns["kind"][k] == 1 and columns["label"][k] == 2]
    count = driver.execute_script("return document.getElementById('count').textContent")
    assert count == f"{len(both):,} of 10,000 suspects"
    assert shown(driver) == both[: len(shown(driver))]
    choose(driver, "order", "loss")
    loss = dict(zip(columns["id"], columns["mean_loss"], strict=True))
    costs = [loss[i] for i in shown(driver)]
    assert costs == sorted((loss[i] for i in both), reverse=True)[: len(costs)]
    choose(driver, "order", "id")
    assert shown(driver) == sorted(both)[: len(shown(driver))]
    choose(driver, "kind", "")
    choose(driver, "label", "")
    wanted = columns["id"][7_777]
    choose(driver, "id", str(wanted))
    assert wanted in shown(driver)
    assert all(str(i).startswith(str(wanted)) for i in shown(driver))
    choose(driver, "id", "no such id")
    assert driver.execute_script(f"return {ROWS}") == 0
    assert "None of the suspects" in driver.execute_script("return document.getElementById('list').innerText")


def test_learned_last_puts_those_never_learned_first(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    choose(driver, "order", "learned")
    learned = dict(zip(result["suspects"]["id"], result["suspects"]["learned"], strict=True))
    assert all(learned[i] is None for i in shown(driver))


def test_the_keyboard_scrolls_the_list(opened: tuple[Any, dict[str, Any]]) -> None:
    from selenium.webdriver.common.keys import Keys

    driver, result = opened
    box = driver.find_element("id", "list")
    box.send_keys(Keys.END)
    last = result["suspects"]["id"][-1]
    settled(driver, f"[...document.querySelectorAll('.row .id')].some(e => e.textContent === 'id {last}')")


def test_chosen_rows_can_be_saved(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, result = opened
    choose(driver, "kind", "2")
    driver.execute_script(
        "window.saved = null; const made = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then((t) => { window.saved = t }); return made.call(URL, blob) };"
        "HTMLAnchorElement.prototype.click = function () { window.named = this.download }"
    )
    driver.find_element("id", "save-rows").click()
    settled(driver, "window.saved")
    lines = driver.execute_script("return window.saved").splitlines()
    assert lines[0].startswith("id,kind,score,label,suggested")
    assert len(lines) - 1 == result["kinds"]["duplicate"]["listed"]
    assert all(line.split(",")[1] == "duplicate" for line in lines[1:])
    assert driver.execute_script("return window.named") == "suspects.csv"


def test_it_fits_a_phone(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    with phone(driver):
        settled(driver, "document.querySelector('.row').getBoundingClientRect().height > 150")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 400
        inside = driver.execute_script(
            "const row = document.querySelector('.row').getBoundingClientRect();"
            "return [...document.querySelectorAll('.row')[0].children].every(e => {"
            " const b = e.getBoundingClientRect(); return b.bottom <= row.bottom + 1 && b.right <= row.right + 1 })"
        )
        assert inside
    settled(driver, "document.querySelector('.row').getBoundingClientRect().height < 100")


def test_the_button_changes_the_colours(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    assert background(driver) > 600
    driver.find_element("id", "theme").click()
    settled(driver, "document.documentElement.dataset.theme === 'dark'")
    assert background(driver) < 150
    driver.find_element("id", "theme").click()
    assert background(driver) > 600


def test_paper_gets_the_first_of_them(opened: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    driver, _ = opened
    pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert "first 60 of 10,000" in driver.execute_script("return document.getElementById('paper').textContent")
    settled(driver, f"{ROWS} <= {MOST_ROWS} && {ROWS} > 8")


def test_the_console_is_silent_and_the_network_unused(opened: tuple[Any, dict[str, Any]]) -> None:
    driver, _ = opened
    check_silence(driver)
    entries = driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [url for url in entries if not url.startswith(("data:", "blob:"))] == []


@pytest.mark.parametrize("look", ["texts", "nothing"])
def test_texts_and_pages_without_a_look(tmp_path: Path, look: str) -> None:
    result = {**suspects(50, answers=False), "pictures_note": "no pictures: <they> were not asked for"}
    texts = [f"sentence <{k}> of many words " * 8 for k in range(50)] if look == "texts" else None
    with browser(write_suspects(result, tmp_path / "page.html", texts=texts)) as driver:
        text = driver.execute_script("return document.body.innerText")
        assert ("sentence <0> of many words" in text) == (look == "texts")
        assert "No pictures: <they> were not asked for." in text
        heights = driver.execute_script(
            "return [...document.querySelectorAll('.row')].map(e => [e.scrollHeight, e.clientHeight])"
        )
        assert all(inner <= outer + 1 for inner, outer in heights)
        assert complaints(driver) == []
        assert json.dumps(asked_outside(driver)) == "[]"


def test_a_row_without_a_single_label_has_its_map_and_no_label(tmp_path: Path) -> None:
    result = {**suspects(50, answers=False), "labelled": False, "bottom": 1.0}
    maps = np.arange(50 * 64).reshape(50, 8, 8) % 3
    with browser(write_suspects(result, tmp_path / "page.html", pictures=pictures(50, side=8), maps=maps)) as driver:
        row = "document.querySelector('.row')"
        widths = driver.execute_script(f"return [...{row}.querySelectorAll('img')].map(e => [e.alt, e.clientWidth])")
        number = result["suspects"]["id"][0]
        assert widths == [[f"example {number}", 64], [f"labels of example {number}", 64]]
        told = driver.execute_script(f"return {row}.innerText")
        assert "of all" in told and "learned in" not in told and "no label" not in told and f"id {number}" in told
        page = driver.execute_script("return document.body.innerText")
        assert "Given label" not in page and "Curves are drawn from the lowest loss up" in page
        assert complaints(driver) == []
