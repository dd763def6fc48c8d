"""Picture files: read, resized, and refused where they are damaged or Pillow is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from reinvest.core.errors import DataError, InvalidValue
from reinvest.testbed.tasks.pictures import check_side, marks, pictures_in, read_maps, read_pictures, sizes

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def save(path, values, mode=None):
    Image.fromarray(np.asarray(values, np.uint8)).convert(mode or "RGB").save(path)
    return path


def test_pictures_of_the_right_size_are_read_as_they_are(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    read = read_pictures([save(tmp_path / "a.png", values)], (4, 6))
    assert read.shape == (1, 3, 4, 6) and np.array_equal(read[0], values.transpose(2, 0, 1))


def test_grey_pictures_become_colour_and_others_are_squashed(tmp_path):
    grey = save(tmp_path / "grey.png", np.full((5, 9), 77), "L")
    clear = save(tmp_path / "clear.png", np.full((8, 8, 3), 50), "RGBA")
    read = read_pictures([grey, clear], (4, 6))
    assert read.shape == (2, 3, 4, 6) and (read[0] == 77).all() and (read[1] == 50).all()


def test_labels_take_the_nearest_pixel_and_mix_nothing(tmp_path):
    values = np.zeros((8, 8))
    values[:, 4:] = 11
    path = save(tmp_path / "map.png", values, "L")
    assert np.array_equal(read_maps([path], (8, 8))[0], values)
    small = read_maps([path], (2, 4))[0]
    assert small.tolist() == [[0, 0, 11, 11]] * 2


def test_palette_maps_are_read_by_number_not_by_colour(tmp_path):
    picture = Image.new("P", (2, 2))
    picture.putdata([0, 3, 2, 1])
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    picture.save(tmp_path / "p.png")
    assert read_maps([tmp_path / "p.png"], (2, 2))[0].tolist() == [[0, 3], [2, 1]]


def test_colours_are_no_labels(tmp_path):
    path = save(tmp_path / "map.png", np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match=r"mode L or P\), got mode RGB in .*map\.png; get the file again"):
        read_maps([path], (4, 4))


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("harm", ["cut", "text", "empty", "noise"])
def test_damaged_files_are_one_sentence(tmp_path, ending, harm):
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    path = save(tmp_path / f"a.{ending}", values)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "text": b"no picture",
            "empty": b"",
            "noise": whole[:40] + bytes(200),
        }[harm]
    )
    for read in (read_pictures, read_maps):
        with pytest.raises(
            DataError, match=rf"picture files must be readable, got .*a\.{ending}: .*get the file again"
        ):
            read([path], (8, 8))


def test_sizes_are_height_and_width(tmp_path):
    assert sizes(save(tmp_path / "a.png", np.zeros((4, 6, 3)))) == (4, 6)
    (tmp_path / "b.png").write_bytes(b"x")
    with pytest.raises(DataError, match="must be readable"):
        sizes(tmp_path / "b.png")


def test_pictures_in_a_folder_are_sorted_and_nothing_else(tmp_path):
    for name in ("b.JPG", "a.png", "c.txt", ".hidden.png", "d.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    found = pictures_in(tmp_path)
    assert [p.name for p in found] == ["a.png", "b.JPG", "d.jpeg"]
    before = marks(found)
    (tmp_path / "a.png").write_bytes(b"xy")
    assert before != marks(found) and before[1:] == marks(found)[1:]


def test_without_pillow_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"read with Pillow, got .*; install it with: pip install 'reinvest\[vision\]'"):
        read_pictures([tmp_path / "a.png"], (4, 4))


@pytest.mark.parametrize("wrong", [7, 513, 8.0, True, None])
def test_a_side_is_a_number_of_pixels(wrong):
    assert (check_side("size", 8, 8, 512), check_side("size", 512, 8, 512)) == (8, 512)
    with pytest.raises(InvalidValue, match="size is a whole number of pixels from 8 to 512, got"):
        check_side("size", wrong, 8, 512)
