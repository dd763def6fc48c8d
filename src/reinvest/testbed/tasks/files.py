"""Reading published data sets from a folder the user names. Nothing is downloaded and nothing is unpickled."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, InvalidValue

Bytes = NDArray[np.uint8]

VARIABLE = "REINVEST_DATA"
"""Environment variable that names the folder of data sets; without it ./data."""


@dataclass(frozen=True)
class Published:
    """A data set as it is published: the files it consists of and where to look for them."""

    name: str
    title: str
    home: str
    archive: str
    """The file to download and unpack; empty if the files are published one by one."""
    places: tuple[str, ...]
    files: tuple[tuple[str, int], ...]
    """(name, size in bytes) in the order in which they are read."""
    pickled: tuple[str, ...] = ()
    """Names that only the pickled edition has."""


def data_folder(folder: str | os.PathLike[str] | None) -> Path:
    """The folder the user named, or $REINVEST_DATA, or ./data. Raises InvalidValue for what is no path."""
    if folder is not None and (not isinstance(folder, str | os.PathLike) or not os.fspath(folder)):
        raise InvalidValue(f"folder is the path of a folder, got {folder!r}; pass it as text or leave it out")
    return Path(folder if folder is not None else os.environ.get(VARIABLE) or "data").expanduser().absolute()


def _present(place: Path, name: str) -> Path | None:
    """The file, or its gzip, in `place`."""
    return next((p for p in (place / name, place / f"{name}.gz") if os.path.isfile(p)), None)


def _hint(data: Published, places: Sequence[Path]) -> str:
    for place in [places[0].parent, *places]:
        for name in data.pickled:
            if os.path.exists(place / name):
                return f"; {place / name} is of the Python edition, which is pickled and so is never opened here"
        if data.archive and os.path.isfile(place / data.archive):
            return f"; unpack {place / data.archive} there"
    return ""


def locate(data: Published, folder: str | os.PathLike[str] | None) -> list[Path]:
    """Paths of the set's files, all in one place under `folder` (or $REINVEST_DATA, or ./data).

    Raises DataError, saying what was looked for, where, and how to get it, if any is missing.
    """
    root = data_folder(folder)
    places = [root / place for place in data.places]
    names = [name for name, _ in data.files]
    found = [[_present(place, name) for name in names] for place in places]
    best = max(found, key=lambda paths: sum(p is not None for p in paths))
    complete = [p for p in best if p is not None]
    if len(complete) == len(names):
        return complete
    missing = [name for name, path in zip(names, best, strict=True) if path is None]
    where = str(root) if os.path.isdir(root) else f"{root} (no such folder)"
    get = (
        f"get {data.archive} from {data.home}, unpack it"
        if data.archive
        else f"get them, gzipped or not, from {data.home}"
    )
    raise DataError(
        f"task {data.name!r} reads {', '.join(missing)} of the {data.title}, not found in {where} "
        f"or its {data.places[-1]}{_hint(data, places)}; {get} and name the folder that holds the files "
        f"with folder=... or {VARIABLE}"
    )


def _content(path: Path, size: int) -> Bytes:
    """The file's `size` bytes, unpacked if it is a gzip. Raises DataError for any other size."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                # One byte more than is right shows a file that is too long without reading all of it.
                return _sized(np.frombuffer(bytearray(file.read(size + 1)), np.uint8), size, path, "over ")
        if path.stat().st_size != size:
            return _sized(np.empty(0, np.uint8), size, path, "", path.stat().st_size)
        return _sized(np.fromfile(path, np.uint8), size, path, "")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"data files must be readable, got {path}: {error}; check its permissions or get the file again"
        ) from error


def _sized(values: Bytes, size: int, path: Path, more: str, actual: int | None = None) -> Bytes:
    got = len(values) if actual is None else actual
    if got == size:
        return values
    count = f"{more}{size:,}" if more and got > size else f"{got:,}"
    raise DataError(f"{path.name} holds exactly {size:,} bytes, got {count} in {path}; get the file again")


def read(data: Published, folder: str | os.PathLike[str] | None = None, checksum: str | None = None) -> list[Bytes]:
    """The content of each file of the set: uint8 [size] each, in the set's order.

    checksum: sha256, as 64 hex digits, of the files' (unpacked) contents one after the other; None checks sizes only.
    Raises DataError if a file is absent, of another size or not readable, or if the checksum differs; InvalidValue for
    a checksum that is no sha256.
    """
    if checksum is not None and (not isinstance(checksum, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", checksum)):
        raise InvalidValue(f"checksum is a sha256 of 64 hex digits, got {checksum!r}; leave it out or pass it all")
    paths = locate(data, folder)
    parts = [_content(path, size) for path, (_, size) in zip(paths, data.files, strict=True)]
    if checksum is not None:
        total = hashlib.sha256()
        for part in parts:
            total.update(part.data)
        if total.hexdigest() != checksum.lower():
            raise DataError(
                f"the files of {data.name!r} must have sha256 {checksum.lower()}, got {total.hexdigest()} "
                f"in {paths[0].parent}; point to the right copy or pass its checksum"
            )
    return parts


def marks(data: Published, folder: str | os.PathLike[str] | None) -> tuple[tuple[str, int, int], ...]:
    """(path, size, time of the last change in ns) of each file: equal marks, equal contents. Raises as `locate`."""
    return tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in locate(data, folder))


def names_beside(data: Published, folder: str | os.PathLike[str] | None, name: str, count: int) -> list[str] | None:
    """The class names in a text file beside the set's files, one a line; None if it is absent or has another count."""
    path = locate(data, folder)[0].with_name(name)
    if not os.path.isfile(path):
        return None
    lines = [line.strip() for line in path.read_text(encoding="utf8", errors="replace").splitlines() if line.strip()]
    return lines if len(lines) == count else None


def idx(values: Bytes, shape: tuple[int, ...], name: str) -> Bytes:
    """The array in an idx file of unsigned bytes: [size] -> uint8 `shape`. Raises DataError for another header."""
    head = 4 + 4 * len(shape)
    magic, *sizes = (int(n) for n in values[:head].view(">u4"))
    if magic != 0x800 + len(shape) or tuple(sizes) != shape:
        raise DataError(
            f"{name} starts with magic {0x800 + len(shape):#06x} and sizes {list(shape)}, "
            f"got {magic:#06x} and {sizes}; get the file again"
        )
    return values[head:].reshape(shape)


def records(values: Bytes, labels: int, shape: tuple[int, ...]) -> tuple[Bytes, Bytes]:
    """(labels uint8 [n, labels], pictures uint8 [n, *shape]) of records that hold label bytes before the picture."""
    rows = values.reshape(-1, labels + int(np.prod(shape)))
    return rows[:, :labels], rows[:, labels:].reshape(-1, *shape)
