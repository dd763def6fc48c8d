"""Suspects as files and as plain values: what is written is what was found, and can be read by what it is meant for."""

from __future__ import annotations

import base64
import csv
import dataclasses
import importlib
import importlib.util
import json
import math

import numpy as np
import pytest
import torch
from suspect_runs import drawn

from reinvest.core.errors import InvalidValue
from reinvest.dynamics.suspects import find_suspects
from reinvest.dynamics.suspects_files import write_cleanlab, write_csv, write_parquet, write_relabelled
from reinvest.dynamics.suspects_text import GAP, LEVELS, POINTS, plain, statements
from reinvest.testbed.tasks.corrections import read_ids, read_labels


@pytest.fixture(scope="module")
def found():
    run, _, _ = drawn(count=300, probes=30, class_names=("a", "b, c", "d", 'e"', "f"))
    return find_suspects(run, most=60)


def test_the_table_holds_every_suspect(found, tmp_path):
    with write_csv(found, tmp_path / "s.csv").open(newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == found.ids.tolist()
    assert [int(row["given"]) for row in rows] == found.label.tolist()
    names = {row["given_name"] for row in rows}
    assert "b, c" in names and 'e"' in names
    assert [float(row["score"]) for row in rows] == pytest.approx(found.score.tolist(), rel=1e-5)
    learned = [math.inf if row["learned"] == "inf" else float(row["learned"]) for row in rows]
    assert learned == found.learned.tolist()


def test_what_is_not_known_is_empty(tmp_path):
    found = find_suspects(drawn(count=300)[0], most=5)
    text = write_csv(dataclasses.replace(found, probability=torch.full((len(found),), math.nan)), tmp_path / "s.csv")
    assert "nan" not in text.read_text()


def test_arrays_for_cleanlab(found, tmp_path):
    path, beside = write_cleanlab(found, tmp_path / "issues.npy")
    issues, quality = np.load(path), np.load(beside)
    assert issues.dtype == np.bool_ and issues.shape == (300,)
    assert quality.dtype == np.float32 and quality.shape == (300,)
    assert np.nanmin(quality) >= 0 and np.nanmax(quality) <= 1
    assert beside.name == "issues_quality.npy"
    assert issues.sum() > 5
    assert np.nanmean(quality[issues]) < np.nanmean(quality[~issues])
    # The same array is a list of ids to leave out, for the task `planted`.
    assert read_ids(path, 300).tolist() == issues.nonzero()[0].tolist()
    with pytest.raises(InvalidValue, match=r"\.npy files, got"):
        write_cleanlab(found, tmp_path / "issues.npz")


def test_changed_labels_are_a_correction(found, tmp_path):
    ids, labels = read_labels(write_relabelled(found, tmp_path / "labels.csv"))
    assert ids.tolist() == found.issues().nonzero()[:, 0].tolist()
    suggested = dict(zip(found.ids.tolist(), found.suggested.tolist(), strict=True))
    assert labels.tolist() == [suggested[i] for i in ids.tolist()]


def test_without_probabilities_a_line_has_to_be_drawn(tmp_path):
    run, _, _ = drawn(count=300, wrong=0.0)
    assert find_suspects(run).issues().sum() == 0
    assert find_suspects(run, most=12).issues().sum() == len(find_suspects(run, most=12).of("label error"))
    assert "until a line is drawn" in " ".join(statements(find_suspects(run)))
    assert write_relabelled(find_suspects(run), tmp_path / "none.csv").read_text() == "id,label\n"


def test_a_run_that_learned_nothing_says_so():
    learned, _, _ = drawn(count=300)
    assert "learned next to nothing" not in " ".join(statements(find_suspects(learned)))
    # Nothing is learned within the run: each loss stays near that of guessing among five, log 5 = 1.61.
    guess = dataclasses.replace(learned, loss=torch.full_like(learned.loss, 1.61))
    told = statements(find_suspects(guess))
    assert told[1].startswith("this run learned next to nothing: it gave the labels a probability of 0.20 on average")
    assert "among 5 gives 0.20" in told[1]


def test_parquet_without_a_library_is_refused(found, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidValue, match="pip install pyarrow"):
        write_parquet(found, tmp_path / "s.parquet")


@pytest.mark.parametrize("library", ["pyarrow", "fastparquet"])
def test_parquet_holds_the_table(found, tmp_path, monkeypatch, library):
    pytest.importorskip(library, reason=f"needs {library}")
    if library == "fastparquet":
        there = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else there(name))
    path = write_parquet(found, tmp_path / "s.parquet")
    if library == "pyarrow":
        read = importlib.import_module("pyarrow.parquet").read_table(path).to_pydict()
    else:
        read = importlib.import_module("pandas").read_parquet(path, engine=library).to_dict("list")
    assert read["id"] == found.ids.tolist()
    assert read["kind"] == found.columns()["kind"]


def test_plain_values_are_json_and_hold_the_courses(found):
    values = plain(found)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    levels = np.frombuffer(base64.b64decode(values["losses"]), np.uint8).reshape(len(found), values["points"])
    known = levels != GAP
    back = np.expm1(levels / LEVELS * values["top"])
    true = found.losses.numpy()
    inside = known & (np.log1p(true) <= values["top"])
    assert np.abs(np.log1p(back) - np.log1p(true))[inside].max() <= 0.51 * values["top"] / LEVELS
    assert (known == np.isfinite(true)).all()
    assert [len(row) for row in values["answers"]] == [found.epochs] * len(found)
    assert values["suspects"]["id"] == found.ids.tolist()
    assert list(values["kinds"])[values["suspects"]["kind"][0]] == "label error"
    assert [band["name"] for band in values["bands"]] == ["ordinary examples", "probes: random label"]


def test_long_courses_are_averaged_and_gaps_stay(found):
    losses = torch.ones(2, 3 * POINTS)
    losses[1, : 30 * 3] = math.nan
    bands = tuple(
        dataclasses.replace(band, low=losses[0], middle=losses[0], high=losses[0]) for band in found.bands[:1]
    )
    long = dataclasses.replace(found, losses=losses, bands=bands, answers=None)
    values = plain(long)
    levels = np.frombuffer(base64.b64decode(values["losses"]), np.uint8).reshape(2, values["points"])
    assert values["points"] == POINTS
    assert (levels[0] == LEVELS).all()
    assert (levels[1] == GAP).sum() == 30


def test_statements_name_what_is_missing(found):
    told = " ".join(statements(found))
    assert "probes" in told and "not looked for" in told
    bare = find_suspects(drawn(count=300, hashes=torch.arange(300))[0])
    assert "equal labels only" in " ".join(statements(bare))
    opened = find_suspects(drawn(count=300)[0], contents=torch.arange(300))
    assert "with equal labels and with different ones" in " ".join(statements(opened))
    assert "clean pass" in " ".join(statements(find_suspects(drawn(count=300, source="clean pass")[0])))
