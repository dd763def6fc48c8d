"""Points of any trainer, read into one form: rows with arm, duration, seed, seconds, quality and options.

Nothing is judged here. What a reader cannot attribute to an arm is an error; everything else stays in the
row (a missing number becomes NaN) and is judged, and refused with a reason, by `refusals`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError, InvalidValue

REQUIRED = ("arm", "duration", "seed", "seconds", "quality")
# Columns that must hold one value over everything that is compared.
UNIFORM = ("metric", "split", "test_set", "device", "hardware", "software", "threads", "precision", "kind")
FINISHED = "finished"
# What other tools write for the same.
AS_FINISHED = ("", "ok", "done", "complete", "completed", "success", "succeeded", FINISHED)
# Beyond this, squares overflow: no metric is meant.
HUGE = 1e100


@dataclass(frozen=True, slots=True)
class Point:
    """One run seen as (time, quality).

    seconds: training seconds (> 0 where usable); quality: in the declared metric; steps: optimizer steps or None;
    status: "finished" or anything else; cluster: what makes the run independent of others (its study, trunk
    or seed); uniform: the values of the columns in `UNIFORM` that the row has.
    """

    arm: str
    duration: str
    seed: str
    seconds: float
    quality: float
    steps: float | None
    status: str
    trunk: str
    study: str
    uniform: tuple[tuple[str, str], ...]

    @property
    def finished(self) -> bool:
        """True if the run reached its planned end."""
        return self.status == FINISHED


def read_points(points: Any) -> list[Point]:
    """Rows of `points`, a list of dicts or a data frame (pandas or polars), as `Point`s in the same order.

    Columns: arm, duration, seed, seconds, quality; optional steps, status, trunk, study, metric, split, test_set,
    device, hardware, kind. Numbers may be text, as a CSV file has them.

    Raises InvalidValue for an empty table, a missing column, a row without an arm, or something that is no table.
    """
    rows = _rows(points)
    if not rows:
        raise InvalidValue("points must hold at least one row, received none: pass the runs of every arm.")
    seen = {key for row in rows for key in row}
    missing = [name for name in REQUIRED if name not in seen]
    if missing:
        raise InvalidValue(
            f"points need the columns {', '.join(REQUIRED)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing (received {', '.join(sorted(map(str, seen)))}): "
            "add or rename the columns."
        )
    return [_point(row, number) for number, row in enumerate(rows, start=1)]


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header line, as dicts of text for `verdict`.

    Raises DataError if the file cannot be read as text with a header.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [{key.strip(): value for key, value in row.items() if isinstance(key, str)} for row in reader]
            names = reader.fieldnames
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"a points file must be readable CSV text, {path} is not ({error}): check the path.") from error
    if not names:
        raise DataError(f"a points file needs a header line, {path} is empty: write {','.join(REQUIRED)} first.")
    missing = [name for name in REQUIRED if name not in {str(n).strip() for n in names}]
    if missing:
        raise InvalidValue(
            f"a points file needs the columns {', '.join(REQUIRED)}; {path} lacks {', '.join(missing)} "
            f"(it has {', '.join(map(str, names))}): add or rename the columns."
        )
    return rows


def arm_names(points: Iterable[Point]) -> list[str]:
    """Names of the arms in order of appearance."""
    return list(dict.fromkeys(point.arm for point in points))


def by_duration(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points grouped by duration label, in order of appearance."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.duration, []).append(point)
    return groups


def _rows(points: Any) -> Sequence[Mapping[str, Any]]:
    if hasattr(points, "to_dicts"):
        points = points.to_dicts()
    elif hasattr(points, "to_dict") and not isinstance(points, Mapping):
        points = points.to_dict("records")
    if isinstance(points, (str, bytes, Mapping)) or not isinstance(points, Iterable):
        raise InvalidValue(
            f"points must be a list of dicts or a data frame, received {type(points).__name__}: pass one dict a run."
        )
    rows = list(points)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InvalidValue(
                f"every point must be a dict, row {number} is {type(row).__name__}: pass one dict a run."
            )
    return rows


def _point(row: Mapping[str, Any], number: int) -> Point:
    arm = _label(row.get("arm"))
    if not arm:
        raise InvalidValue(f"every point needs an arm, row {number} has none: name the arm.")
    steps = _number(row.get("steps"))
    status = _label(row.get("status")).lower()
    return Point(
        arm=arm,
        duration=_number_label(row.get("duration")),
        seed=_number_label(row.get("seed")),
        seconds=_number(row.get("seconds")),
        quality=_number(row.get("quality")),
        steps=steps if math.isfinite(steps) and steps > 0 else None,
        status=FINISHED if status in AS_FINISHED else status,
        trunk=_label(row.get("trunk")),
        study=_label(row.get("study")),
        uniform=tuple((name, text) for name in UNIFORM if (text := _label(row.get(name)))),
    )


def _label(value: Any) -> str:
    """Text of a label: 3, 3.0 and "3" are the same; None, NaN and "" are no label."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    try:
        as_float = float(value)
    except (TypeError, ValueError):
        return str(value)
    if math.isnan(as_float):
        return ""
    return str(int(as_float)) if math.isfinite(as_float) and as_float == int(as_float) else str(as_float)


def _number_label(value: Any) -> str:
    """As `_label`, and numbers written as text too: "60.0" and "60" are one duration, "0.0" and "0" one seed."""
    text = _label(value)
    try:
        number = float(text)
    except ValueError:
        return text
    return _label(number) if math.isfinite(number) else text


def _number(value: Any) -> float:
    """The value as a float; NaN for what is no number."""
    if value is None or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
