"""Suspects as files: a table (CSV, Parquet), arrays as cleanlab gives them, a list of changed labels."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InvalidValue
from .suspects import Suspects

__all__ = ["write_cleanlab", "write_csv", "write_parquet", "write_relabelled"]


def write_csv(suspects: Suspects, path: str | Path) -> Path:
    """One line a suspect with a header; numbers that are not known are empty, "inf" is an epoch that never came."""
    columns = suspects.columns()
    target = Path(path)
    with target.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    return target


def write_parquet(suspects: Suspects, path: str | Path) -> Path:
    """The same table as Parquet, by pyarrow, or by pandas with fastparquet. Raises InvalidValue where they are missing."""
    columns = suspects.columns()
    columns["same_as"] = [" ".join(map(str, twins)) for twins in columns["same_as"]]
    if importlib.util.find_spec("pyarrow"):
        table: Any = importlib.import_module("pyarrow").table(columns)
        importlib.import_module("pyarrow.parquet").write_table(table, str(path))
    elif all(map(importlib.util.find_spec, ("pandas", "fastparquet"))):
        frame: Any = importlib.import_module("pandas").DataFrame(columns)
        frame.to_parquet(path, engine="fastparquet")
    else:
        raise InvalidValue(
            "Parquet is written with pyarrow, or pandas and fastparquet, got an environment without them; pip install "
            "pyarrow, or write CSV"
        )
    return Path(path)


def write_cleanlab(suspects: Suspects, path: str | Path) -> tuple[Path, Path]:
    """Two .npy files: `path`, bool [N], True for a label issue, as cleanlab's find_label_issues returns it; and beside it
    NAME_quality.npy, float32 [N] in [0, 1], as its get_label_quality_scores does, where 1 is a label that is surely right.

    Position i is id i; ids outside the training split have no issue and the quality NaN. Raises InvalidValue for another
    ending than .npy.
    """
    target = Path(path)
    if target.suffix != ".npy":
        raise InvalidValue(f"arrays are kept in .npy files, got {str(path)!r}; write issues.npy")
    beside = target.with_name(f"{target.stem}_quality.npy")
    np.save(target, suspects.issues().numpy())
    np.save(beside, suspects.quality.numpy())
    return target, beside


def write_relabelled(suspects: Suspects, path: str | Path) -> Path:
    """The suggested labels of what `Suspects.issues` marks, as CSV with the columns id and label."""
    target = Path(path)
    ids, labels = suspects.relabelled()
    with target.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "label"))
        writer.writerows(zip(ids.tolist(), labels.tolist(), strict=True))
    return target


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
