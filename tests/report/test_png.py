"""PNG files written without a library: read back by hand and by Pillow."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from reinvest.core.errors import InvalidValue
from reinvest.report.png import SIGNATURE, png


def chunks(data: bytes) -> dict[bytes, bytes]:
    """Name and content of each chunk, with its check sum checked."""
    assert data.startswith(SIGNATURE)
    found, at = {}, len(SIGNATURE)
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + body)
        found[name] = body
        at += 12 + size
    return found


def drawn(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(23), np.arange(17))
    return {
        "noise": rng.integers(0, 256, (17, 23, 3)),
        "ramp": np.stack([across * 9, down * 13, across + down], -1),
        "edges": np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((4, 4, 1), int)),
        "grey": across * 7 + down,
        "one": np.array([[200]]),
        "flat": np.full((64, 64), 77),
    }[kind].astype(np.uint8)


@pytest.mark.parametrize("kind", ["noise", "ramp", "edges", "grey", "one", "flat"])
def test_pillow_reads_the_same_pixels(kind: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="reading PNG files needs Pillow")
    picture = drawn(kind)
    with image.open(io.BytesIO(png(picture))) as opened:
        assert opened.mode == ("L" if picture.ndim == 2 else "RGB")
        assert (np.asarray(opened) == picture).all()


def test_the_parts_of_a_file() -> None:
    found = chunks(png(drawn("noise")))
    assert list(found) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (23, 17, 8, 2, 0, 0, 0)
    assert len(zlib.decompress(found[b"IDAT"])) == 17 * (23 * 3 + 1)


def test_a_smooth_picture_is_written_as_differences() -> None:
    data = png(drawn("ramp"))
    marks = np.frombuffer(zlib.decompress(chunks(data)[b"IDAT"]), np.uint8).reshape(17, -1)[:, 0]
    assert set(marks) <= {1, 2, 4}
    assert len(data) < 17 * 23 * 3 / 2


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), np.zeros(4, np.uint8)])
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InvalidValue, match="uint8"):
        png(wrong)
