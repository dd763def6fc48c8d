"""Reading picture files (JPEG, PNG) with Pillow, which is loaded only here and only when a task needs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, InvalidValue

ENDINGS = (".jpg", ".jpeg", ".png")


def pillow() -> ModuleType:
    """PIL.Image. Raises DataError, with the remedy, where Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"picture files are read with Pillow, got an environment without it ({error}); "
            "install it with: pip install 'reinvest[vision]'"
        ) from error
    return Image


def pictures_in(folder: Path) -> list[Path]:
    """The picture files right in a folder, sorted by name; hidden files are no pictures."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))


def marks(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """(path, size, time of the last change in ns) of each file: equal marks, equal contents."""
    return tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths)


def read_pictures(paths: Sequence[Path], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Colour pictures as uint8 [n, 3, height, width], each resized (and if need be squashed) to `size`, smoothly.

    Raises DataError for a file that is no picture or is damaged.
    """
    image = pillow()
    found = np.empty((len(paths), 3, *size), np.uint8)
    for row, path in enumerate(paths):
        try:
            with image.open(path) as opened:
                picture = opened.convert("RGB")
        except _damage(image) as error:
            raise _damaged(path, error) from error
        if picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), image.Resampling.BILINEAR)
        found[row] = np.asarray(picture).transpose(2, 0, 1)
    return found


def read_maps(paths: Sequence[Path], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures of one number a pixel (grey or palette) as uint8 [n, height, width]; `size` takes the nearest pixel's.

    Raises DataError for a file that is no such picture or is damaged.
    """
    image = pillow()
    found = np.empty((len(paths), *size), np.uint8)
    for row, path in enumerate(paths):
        try:
            with image.open(path) as opened:
                opened.load()
                labels = opened
        except _damage(image) as error:
            raise _damaged(path, error) from error
        if labels.mode not in ("L", "P"):
            raise DataError(
                f"an annotation has one number a pixel (mode L or P), got mode {labels.mode} in {path}; "
                "get the file again"
            )
        found[row] = np.asarray(labels.resize((size[1], size[0]), image.Resampling.NEAREST))
    return found


def sizes(path: Path) -> tuple[int, int]:
    """(height, width) that a picture file says it has. Raises DataError for a file that is no picture."""
    image = pillow()
    try:
        with image.open(path) as opened:
            return opened.size[1], opened.size[0]
    except _damage(image) as error:
        raise _damaged(path, error) from error


def check_side(what: str, value: object, low: int, high: int) -> int:
    """`value` as a number of pixels from `low` to `high`. Raises InvalidValue for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidValue(
            f"{what} is a whole number of pixels from {low} to {high}, got {value!r}; pass such a number"
        )
    return value


def _damage(image: ModuleType) -> tuple[type[BaseException], ...]:
    # What Pillow raises for broken files: which one depends on the format and on where the file is broken.
    return (OSError, ValueError, SyntaxError, EOFError, image.DecompressionBombError)


def _damaged(path: Path, error: BaseException) -> DataError:
    first = str(error).split("\n")[0]
    return DataError(f"picture files must be readable, got {path}: {first}; get the file again")
