"""Small pictures as PNG files, without any library for pictures."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InvalidValue

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR = 0, 2


def png(picture: NDArray[np.uint8]) -> bytes:
    """The PNG file of a picture uint8 [H, W] (grey) or [H, W, 3]. Raises InvalidValue for another shape or type.

    Lines are written as differences to the left, to the upper, or to the nearer of both neighbours, whichever are
    smallest, or as they are if nothing is.
    """
    if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise InvalidValue(
            f"a picture is uint8 [H, W] or [H, W, 3], got {picture.dtype} {list(picture.shape)}; convert it"
        )
    lines = picture if picture.ndim == 3 else picture[:, :, None]
    height, width, channels = lines.shape
    data = zlib.compress(min((_filtered(lines, kind) for kind in range(4)), key=_weight).tobytes(), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, COLOUR if channels == 3 else GREY, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _filtered(lines: NDArray[np.uint8], kind: int) -> NDArray[np.uint8]:
    """Lines [H, W, C] as bytes [H, 1 + W C] with the filter's mark first: none, left, up, or Paeth's predictor."""
    left, up, corner = np.zeros_like(lines), np.zeros_like(lines), np.zeros_like(lines)
    left[:, 1:], up[1:], corner[1:, 1:] = lines[:, :-1], lines[:-1], lines[:-1, :-1]
    if kind == 0:
        found = lines
    elif kind < 3:
        found = lines - (left if kind == 1 else up)
    else:
        a, b, c = (part.astype(np.int16) for part in (left, up, corner))
        to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
        nearest = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, up, corner))
        found = lines - nearest
    mark = np.full((len(lines), 1), (0, 1, 2, 4)[kind], np.uint8)
    return np.concatenate([mark, found.reshape(len(lines), -1)], axis=1)


def _weight(data: NDArray[np.uint8]) -> int:
    """What a filter is chosen by: the sum of the differences, each taken as a step up or down."""
    return int(np.abs(data[:, 1:].view(np.int8).astype(np.int16)).sum())


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
