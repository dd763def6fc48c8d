"""Reading points: dicts, data frames and CSV files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from reinvest.core.errors import DataError, InvalidValue
from reinvest.evaluation.points import read_csv, read_points

ROW = {"arm": "a", "duration": "5ep", "seed": 0, "seconds": 3.0, "quality": 0.9}


class Frame:
    """The one method of a data frame that is used."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return self.rows


def test_dicts_frames_and_text_give_the_same_points() -> None:
    text = {key: str(value) for key, value in ROW.items()}
    floats = {**ROW, "seed": 0.0, "steps": math.nan, "trunk": math.nan, "status": math.nan}
    assert read_points([ROW]) == read_points(Frame([ROW])) == read_points([text]) == read_points([floats])


def test_options_are_read() -> None:
    point = read_points([{**ROW, "steps": "40", "status": " Diverged ", "trunk": 7, "device": "cpu"}])[0]
    assert (point.steps, point.status, point.trunk, point.finished) == (40.0, "diverged", "7", False)
    assert point.uniform == (("device", "cpu"),)


@pytest.mark.parametrize("value", [None, "", "abc", True, float("nan")])
def test_what_is_no_number_becomes_nan(value: object) -> None:
    assert math.isnan(read_points([{**ROW, "seconds": value}])[0].seconds)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([], "at least one row"),
        ([{k: v for k, v in ROW.items() if k != "seconds"}], "seconds is missing"),
        ([{"arm": "a", "seed": 1}], "duration, seconds, quality are missing"),
        ([{**ROW, "arm": ""}], "row 1 has none"),
        ("points.csv", "list of dicts or a data frame"),
        (ROW, "list of dicts or a data frame"),
        ([1], "row 1 is int"),
        (None, "list of dicts"),
    ],
)
def test_unreadable_tables_raise_one_sentence(points: object, says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as caught:
        read_points(points)
    assert "\n" not in str(caught.value)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("\ufeffarm, duration, seed, seconds, quality\na, 5ep, 0, 3.0, 0.9\n", encoding="utf-8")
    assert read_points(read_csv(path)) == read_points([ROW])


def test_bad_csv_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check the path"):
        read_csv(tmp_path / "absent.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="header"):
        read_csv(tmp_path / "empty.csv")
    (tmp_path / "short.csv").write_text("arm,duration,seed,seconds\na,1,0,3\n")
    with pytest.raises(InvalidValue, match="lacks quality"):
        read_csv(tmp_path / "short.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError):
        read_csv(tmp_path / "binary.csv")
