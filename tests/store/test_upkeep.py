from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from reinvest.core.errors import CorruptFile, StoreError, UnknownName
from reinvest.store import Run, RunWriter, Store

Record = Callable[..., AbstractContextManager[RunWriter]]


def test_verify_finds_every_kind_of_damage(store: Store, finished: Callable[..., Run]) -> None:
    runs = [finished(seed=seed) for seed in range(6)]
    assert store.verify() == []
    curve = runs[0].path / "curve.jsonl"
    curve.write_bytes(curve.read_bytes().replace(b"0.5", b"0.9"))
    (runs[1].path / "curve.jsonl").unlink()
    (runs[2].path / "run.json").write_text("{")
    (runs[3].path / "run.json").unlink()
    runs[4].path.rename(store.path / "gone")
    (store.path / "runs" / "empty").mkdir()
    found = {(p.run, p.file): p.problem for p in store.verify()}
    assert "another sha256" in found[runs[0].id, "curve.jsonl"]
    assert found[runs[1].id, "curve.jsonl"] == "is missing"
    assert "cannot be read" in found[runs[2].id, "run.json"]
    assert found[runs[3].id, "run.json"].startswith("is missing")
    assert "has no folder" in found[runs[4].id, ""]
    assert found["empty", "run.json"].startswith("is missing")
    assert len(found) == 6


def test_verify_sees_an_index_that_differs_and_rebuild_mends_it(store: Store, finished: Callable[..., Run]) -> None:
    kept, lost = finished(seed=0), finished(seed=1)
    store._index.put([store._index.rows()[0]._replace(status="failed")])
    store._index.remove(lost.id)
    problems = {p.run: p.problem for p in store.verify()}
    assert "differs from its row" in problems[kept.id] and "is not in the index" in problems[lost.id]
    assert store.rebuild() == 2
    assert store.verify() == [] and store.runs(status="finished") == [kept, lost]


def test_gc_is_dry_by_default_and_takes_interrupted_and_failed_runs(
    store: Store, record: Record, finished: Callable[..., Run], interrupted: Callable[..., Run]
) -> None:
    good, half = finished("good"), interrupted("half")
    with record("failed") as writer:
        writer.finish("failed")
    garbage = store.gc()
    assert not garbage.deleted and {r.name for r in garbage.runs} == {"half", "failed"}
    assert garbage.sizes[half.id] == sum(p.stat().st_size for p in half.path.iterdir())
    assert garbage.bytes == sum(garbage.sizes.values()) > 0
    assert len(store.runs()) == 3
    done = store.gc(delete=True)
    assert done.deleted and {r.name: r.status for r in done.runs} == {"half": "interrupted", "failed": "failed"}
    assert store.runs() == [good] and not half.path.exists()
    assert store.verify() == [] and store.gc().runs == []


def test_gc_never_takes_a_run_that_has_children_or_is_running(
    store: Store, record: Record, finished: Callable[..., Run]
) -> None:
    parent = finished("parent")
    child = finished("child", parents=[parent])
    with record("busy") as busy:
        garbage = store.gc(delete=True, where="task=digits")
        assert garbage.kept == {parent.id: "has children", busy.id: "is running"}
        assert [r.id for r in garbage.runs] == [child.id]
    assert [r.id for r in store.gc(delete=True, where="name=parent").runs] == [parent.id]


def test_gc_with_a_filter_takes_exactly_what_matches(
    store: Store, finished: Callable[..., Run], interrupted: Callable[..., Run]
) -> None:
    interrupted("half", seed=1)
    interrupted("half", seed=2)
    finished("good")
    assert [r.seed for r in store.gc(where="status=interrupted and seed>1").runs] == [2]
    assert [r.name for r in store.gc(where="name=good").runs] == ["good"]
    with pytest.raises(UnknownName):
        store.gc(delete=True, where="colour=red")


def test_gc_takes_folders_that_never_became_a_run(store: Store, finished: Callable[..., Run]) -> None:
    finished()
    (store.path / "runs" / "empty").mkdir()
    half = store.path / "runs" / ".deleted-abc"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"123")
    garbage = store.gc()
    assert [p.name for p in garbage.leftovers] == [".deleted-abc", "empty"] and garbage.bytes == 3
    store.gc(delete=True)
    assert len(list((store.path / "runs").iterdir())) == 1


def test_tree_shows_each_run_below_its_parents(store: Store, finished: Callable[..., Run]) -> None:
    a = finished("a")
    b = finished("b", parents=[a])
    other = finished("other")
    finished("c", parents=[b, other.id[:8]])
    finished("d", parents=[store.find(b.identity) or b])
    assert [(depth, run.name) for depth, run in store.tree()] == [
        (0, "a"), (1, "b"), (2, "c"), (2, "d"), (0, "other"), (1, "c"),
    ]  # fmt: skip


def _victim(store: Store) -> Path:
    folder = store.path.parent / "victim"
    folder.mkdir()
    (folder / "precious").write_text("x")
    return folder


@pytest.mark.parametrize("given", ["../../victim", "..", ".", "/", "", None, 3, ["a"]])
def test_a_folder_cannot_speak_for_another_one(store: Store, interrupted: Callable[..., Run], given: object) -> None:
    run, victim = interrupted(), _victim(store)
    truth = run.path / "run.json"
    truth.write_text(json.dumps(json.loads(truth.read_text()) | {"id": given}))
    assert store.rebuild() == 0 and store.runs() == []
    (problem,) = store.verify()
    assert (problem.run, problem.file) == (run.id, "run.json") and "must describe the run of its folder" in str(problem)
    assert store.unreadable() == [problem]
    with pytest.raises(CorruptFile, match="must describe the run of its folder"):
        Run(run.path)
    assert store.gc(delete=True).runs == []
    assert (victim / "precious").exists() and run.path.is_dir()


def test_what_the_index_lists_outside_the_store_is_not_removed(store: Store, interrupted: Callable[..., Run]) -> None:
    interrupted()
    victim = _victim(store)
    row = store._index.rows()[0]
    for bad in ("../../victim", str(victim), "..", "link"):
        (store.path / "runs" / "link").unlink(missing_ok=True)
        (store.path / "runs" / "link").symlink_to(victim)
        store._index.put([row._replace(id=bad, status="failed")])
        with pytest.raises(StoreError, match="only folders directly in"):
            store.gc(delete=True, where="status=failed")
        store._index.remove(bad)
        assert [p.name for p in victim.iterdir()] == ["precious"]
    store.gc(delete=True)
    assert [p.name for p in victim.iterdir()] == ["precious"] and store.path.is_dir()


def test_damaged_descriptions_do_not_stop_rebuild_verify_and_gc(
    store: Store, finished: Callable[..., Run], interrupted: Callable[..., Run]
) -> None:
    good, bad, half = finished("good"), interrupted("bad"), interrupted("half")
    (bad.path / "run.json").write_text(json.dumps({"schema": 1, "id": bad.id}))
    copied = good.path.with_name("copied")
    shutil.copytree(good.path, copied)
    assert "cannot be read" in store.gc().kept[bad.id]
    assert [run.id for run in store.gc(delete=True).runs] == [half.id]
    assert store.rebuild() == 1
    assert {p.run for p in store.verify()} == {bad.id, "copied"}
