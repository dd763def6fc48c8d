"""`reinvest store verify|rebuild|gc`."""

from __future__ import annotations

import pytest
from calling import Call

from reinvest.store import Store


def test_verify_finds_a_changed_byte(call: Call, runs: Store) -> None:
    said = call("store", "verify")
    assert (said.code, said.out) == (0, "4 runs checked, all as written\n")
    run = runs.runs(name="first")[0]
    curve = run.path / "curve.jsonl"
    curve.write_bytes(curve.read_bytes().replace(b"0.5", b"0.9"))
    said = call("store", "verify")
    assert said.code == 3
    assert f"{run.id}/curve.jsonl" in said.out
    data = call("store", "verify", "--json").data
    assert data["problems"][0]["run"] == run.id


def test_rebuild_makes_the_index_anew(call: Call, runs: Store) -> None:
    (runs.path / "index.sqlite").write_bytes(b"not a database at all")
    assert call("store", "rebuild", "--json").data["runs"] == 4
    assert call("runs", "--json").data["total"] == 4


def test_gc_changes_nothing_until_told(call: Call, runs: Store) -> None:
    dry = call("store", "gc")
    assert "would remove 1 folder" in dry.out
    assert len(runs.runs()) == 4
    data = call("store", "gc", "--json").data
    assert (data["deleted"], len(data["runs"])) == (False, 1)
    assert "removed 1 folder" in call("store", "gc", "--delete").out
    assert [run.name for run in runs.runs()] == ["first", "second", "third"]
    assert "nothing to remove" in call("store", "gc").out


def test_gc_keeps_a_run_with_children(call: Call, runs: Store) -> None:
    data = call("store", "gc", "--where", "name=first", "--delete", "--json").data
    assert data["runs"] == []
    assert list(data["kept"].values()) == ["has children"]


@pytest.mark.parametrize("action", ["verify", "rebuild", "gc"])
def test_a_store_that_is_not_there_is_refused(call: Call, action: str) -> None:
    said = call("store", action, "--store", "nowhere")
    assert said.code == 2
    assert "does not exist" in said.sentence


def test_a_file_is_no_store(call: Call, runs: Store) -> None:
    (runs.path.parent / "file").write_text("x")
    assert "got the file" in call("runs", "--store", "file").sentence


def test_rebuild_names_the_folders_that_it_left_out(call: Call, runs: Store) -> None:
    run = runs.runs()[0]
    run.path.rename(run.path.with_name("renamed"))
    said = call("store", "rebuild", "--json")
    assert said.code == 3
    assert said.data["runs"] == 3
    (problem,) = said.data["problems"]
    assert problem["run"] == "renamed"
    assert run.id in problem["problem"]
    assert "renamed/run.json cannot be read" in call("store", "rebuild").out
