"""The page of suspects and their table: figures as stored, names escaped, pictures in chunks, sizes, refusals."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from page import Page, agrees, at
from rich.console import Console
from sample_suspects import HOSTILE, pictures, suspects

from reinvest.core.errors import InvalidValue
from reinvest.report.suspects import PER_CHUNK, print_suspects, render_suspects, write_suspects


def test_every_figure_on_the_page_is_in_the_twin():
    result = suspects()
    page = Page(render_suspects(result))
    twin = json.loads(page.scripts["result"])
    assert {name: twin[name] for name in result} == result
    assert len(page.figures) > 10
    assert not [f for f in page.figures if not agrees(f, at(twin, f.path))]


def test_nothing_outside_is_named_and_names_are_escaped():
    text = render_suspects(suspects(), pictures=pictures())
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    body = text[: text.index("<script")]
    assert "<pets>" not in body and "&lt;pets&gt;" in body and "<i>what" not in body
    assert "</script>" not in page.scripts["result"]
    assert json.loads(page.scripts["result"])["class_names"][0] == HOSTILE


def test_pictures_lie_in_chunks_in_the_order_of_the_suspects():
    shown = pictures(PER_CHUNK + 5)
    page = Page(render_suspects(suspects(PER_CHUNK + 5), pictures=shown))
    chunks = [json.loads(page.scripts[f"look-{k}"]) for k in range(2)]
    assert [len(chunk) for chunk in chunks] == [PER_CHUNK, 5]
    image = pytest.importorskip("PIL.Image", reason="reading PNG files needs Pillow")
    with image.open(io.BytesIO(base64.b64decode(chunks[1][4]))) as opened:
        assert (np.asarray(opened) == shown[-1]).all()


def test_the_size_of_a_thousand_small_pictures(tmp_path):
    path = write_suspects(suspects(1000), tmp_path / "page.html", pictures=pictures(1000, side=32))
    # Noise cannot be made smaller: 3 kB a picture and a third more as text are the most there is.
    assert path.stat().st_size < 5_500_000


def test_other_results_and_other_pictures_are_refused():
    with pytest.raises(InvalidValue, match="what find_suspects found, got kind 'comparison'"):
        render_suspects({"kind": "comparison"})
    with pytest.raises(InvalidValue, match="one a suspect, got 3 for 300"):
        render_suspects(suspects(), pictures=pictures(3))
    with pytest.raises(InvalidValue, match="at most 64 pixels a side"):
        render_suspects(suspects(2), pictures=pictures(2, side=65))
    with pytest.raises(InvalidValue, match="texts are one a suspect, got 1 for 2"):
        render_suspects(suspects(2), texts=["one"])


def test_the_table_in_the_terminal():
    result = suspects()
    console = Console(record=True, width=140, file=io.StringIO())
    print_suspects(result, console)
    text = console.export_text()
    first = result["suspects"]["id"][0]
    assert str(first) in text and "label error" in text and "[b]" not in text
    assert "... and 280 more on the page" in text
    assert "How much of it is wrong is <not> known." in text


def test_no_suspects_are_said_to_be_none():
    console = Console(record=True, width=140, file=io.StringIO())
    print_suspects(suspects(0), console)
    assert "more on the page" not in console.export_text()
    assert '"id":[]' in render_suspects(suspects(0))


def test_label_maps_lie_beside_their_pictures_in_the_colours_that_the_page_explains():
    shown, maps = pictures(3), np.zeros((3, 16, 16), np.int64)
    maps[0, 0, 0], maps[1, 2] = 2, -100
    page = Page(render_suspects({**suspects(3), "labelled": False}, pictures=shown, maps=maps))
    twin = json.loads(page.scripts["result"])
    assert [key["label"] for key in twin["maps"]] == [0, 2]
    assert "class 2" in page.text and "class 1" not in page.text and "white: none" in page.text
    pairs = json.loads(page.scripts["look-0"])
    assert [len(pair) for pair in pairs] == [2, 2, 2]
    image = pytest.importorskip("PIL.Image", reason="reading PNG files needs Pillow")
    read = [[np.asarray(image.open(io.BytesIO(base64.b64decode(code)))) for code in pair] for pair in pairs]
    assert (read[2][0] == shown[2]).all()
    colours = {key["label"]: [int(key["colour"][i : i + 2], 16) for i in (1, 3, 5)] for key in twin["maps"]}
    assert read[0][1][0, 0].tolist() == colours[2] and read[0][1][0, 1].tolist() == colours[0]
    assert (read[1][1][2] == 255).all()


def test_maps_of_another_size_are_refused():
    with pytest.raises(InvalidValue, match=r"label maps have a number a pixel.*got \(2, 8, 8\) for \(2, 16, 16\)"):
        render_suspects(suspects(2), pictures=pictures(2), maps=np.zeros((2, 8, 8), np.int64))


def test_without_single_labels_nothing_is_said_of_them():
    result = {**suspects(30, answers=False), "labelled": False}
    console = Console(record=True, width=140, file=io.StringIO())
    print_suspects(result, console)
    text = console.export_text()
    assert "given" not in text and "said in" not in text and "mean loss" in text
    assert "Suggested label" not in Page(render_suspects(result)).text
