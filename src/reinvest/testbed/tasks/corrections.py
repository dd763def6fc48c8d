"""Lists that a user hands in: which examples get which label instead, and which are left out. CSV or .npy."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...core.errors import DataError, InvalidValue
from ...core.names import file_hash

Table = NDArray[np.int64]


def read_labels(path: object) -> tuple[Tensor, Tensor]:
    """(ids, labels), int64 [n] each, of a CSV file with the columns id and label, or a .npy file of whole numbers [n, 2].

    Other columns of a CSV file are ignored; a .npy file may have named columns instead. Raises DataError for a file
    that is absent or of another form, or names an id twice; InvalidValue for what is no path.
    """
    table = _table(path, "correction", ("id", "label"))
    return torch.from_numpy(table[:, 0].copy()), torch.from_numpy(table[:, 1].copy())


def read_ids(path: object, rows: int | None = None) -> Tensor:
    """Ids, int64 [n], of a CSV file with a column id, or a .npy file of whole numbers [n] or marks bool [N].

    rows: N, where it is known: marks of another number are a DataError, as those of one split alone would mean other ids.
    Raises as `read_labels`.
    """
    return torch.from_numpy(_table(path, "drop", ("id",), rows)[:, 0].copy())


def mark(path: str) -> str:
    """16 hex digits over a file that was read."""
    return file_hash(str(Path(path).expanduser()))


def check_ids(what: str, ids: Tensor, rows: int, kept: Tensor) -> None:
    """Raises DataError for ids [n] outside 0..rows-1, or among `kept`, those of the validation and test splits."""
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        raise DataError(
            f"{what} names examples of the task, ids 0 to {rows - 1}, got {int(ids.min())}..{int(ids.max())}; "
            "use the ids of the task's records"
        )
    held = ids[torch.isin(ids, kept)]
    if len(held):
        raise DataError(
            f"{what} is about training examples, got {len(held)} of the validation or test split, the first "
            f"{int(held[0])}; take them out of the file, those splits stay as they are"
        )


def _table(path: object, what: str, columns: tuple[str, ...], rows: int | None = None) -> Table:
    """The columns as int64 [n, len(columns)]. rows: of how many ids a file may hold marks."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise InvalidValue(f"{what} is the path of a file, got {path!r}; pass it as text or leave it out")
    file = Path(path).expanduser()
    try:
        table = _array(file, columns, rows) if file.suffix.lower() == ".npy" else _csv(file, columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{what} is a file that can be read, got {file}: {error}; check its path") from error
    values, counts = np.unique(table[:, 0], return_counts=True)
    if len(values) < len(table):
        raise DataError(
            f"{what} names an example once, got id {int(values[counts.argmax()])} {int(counts.max())} times in {file}; "
            "keep one of its rows"
        )
    return table


def _array(file: Path, columns: tuple[str, ...], rows: int | None) -> Table:
    try:
        found: Any = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _form(file, columns, str(error)) from error
    if not isinstance(found, np.ndarray):
        raise _form(file, columns, "several arrays")
    named = found.dtype.names
    if named is not None:
        if not set(columns) <= set(named) or found.ndim != 1:
            raise _form(file, columns, f"the columns {', '.join(named)}")
        found = np.stack([found[name] for name in columns], 1)
    elif len(columns) == 1 and found.ndim == 1:
        if found.dtype == np.bool_ and rows not in (None, len(found)):
            raise DataError(
                f"marks are one for each of the {rows} ids of the task, got {len(found)} in {file}; write ids instead, or "
                "marks of all splits"
            )
        found = (found.nonzero()[0] if found.dtype == np.bool_ else found)[:, None]
    if found.ndim != 2 or found.shape[1] != len(columns) or found.dtype.kind not in "iu":
        raise _form(file, columns, f"{found.dtype} {list(found.shape)}")
    table: Table = found.astype(np.int64)
    return table


def _csv(file: Path, columns: tuple[str, ...]) -> Table:
    with open(file, newline="", encoding="utf-8-sig") as opened:
        rows = csv.reader(opened)
        head = [name.strip().lower() for name in next(rows, [])]
        if not set(columns) <= set(head):
            raise _form(file, columns, f"the header {','.join(head)[:60]!r}")
        places = [head.index(name) for name in columns]
        found = [_numbers(row, places, file, rows.line_num) for row in rows if any(cell.strip() for cell in row)]
    return np.array(found, np.int64).reshape(-1, len(columns))


def _numbers(row: Sequence[str], places: Sequence[int], file: Path, line: int) -> list[int]:
    cells = [row[place].strip() if place < len(row) else "" for place in places]
    if not all(cell.removeprefix("-").isdecimal() and len(cell) < 19 for cell in cells):
        raise DataError(
            f"ids and labels are whole numbers, got {','.join(cells)!r} in line {line} of {file}; write class numbers, "
            "not names"
        )
    return [int(cell) for cell in cells]


def _form(file: Path, columns: tuple[str, ...], got: str) -> DataError:
    shape = "[n]" if len(columns) == 1 else f"[n, {len(columns)}]"
    return DataError(
        f"a list of examples is a CSV file with the columns {', '.join(columns)}, or a .npy file of whole numbers {shape}, "
        f"got {got} in {file}; write it in one of these forms"
    )
