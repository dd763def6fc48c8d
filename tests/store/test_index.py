from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reinvest.core.errors import SchemaTooNew
from reinvest.store import Run, Store
from reinvest.store.index import VERSION, Index
from reinvest.store.run import Summary


def row(name: str, **changed: object) -> Summary:
    base = Summary(name, "f" * 64, "mine", "digits", 0, "finished", f"2026-{name}", None, 3, 1.5, 10, "[]", "{}")
    return base._replace(**changed)  # type: ignore[arg-type]


def test_rows_are_inserted_replaced_selected_and_removed(tmp_path: Path) -> None:
    index = Index(tmp_path, lambda: [])
    index.put([row("b"), row("a"), row("c", task="mnist")])
    index.put([row("a", status="failed")])
    assert [r.id for r in index.rows()] == ["a", "b", "c"] == index.ids()
    assert [r.id for r in index.rows(task="digits", name=None)] == ["a", "b"]
    assert index.rows()[0] == row("a", status="failed")
    index.remove("a")
    assert [r.id for r in index.rows()] == ["b", "c"]
    index.close()


def test_a_prefix_is_taken_literally(tmp_path: Path) -> None:
    index = Index(tmp_path, lambda: [])
    index.put([row("a_1"), row("ab1")])
    assert [r.id for r in index.starting("a_")] == ["a_1"]
    assert index.starting("%") == []
    index.close()


def _pragma(path: Path, text: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(text).fetchone()
        connection.commit()
        return found[0] if found else None


def test_the_file_is_in_wal_mode_with_a_version(store: Store, finished: Callable[..., Run]) -> None:
    finished()
    store.close()
    assert _pragma(store.path / "index.sqlite", "PRAGMA journal_mode") == "wal"
    assert _pragma(store.path / "index.sqlite", "PRAGMA user_version") == VERSION


def test_a_newer_schema_is_refused_with_the_remedy(store: Store, finished: Callable[..., Run]) -> None:
    run = finished()
    store.close()
    path = store.path / "index.sqlite"
    _pragma(path, f"PRAGMA user_version={VERSION + 1}")
    for act in (store.runs, store.rebuild, lambda: store.get(run.id)):
        with pytest.raises(SchemaTooNew, match=r"install the later version, or .* another store, or delete that file"):
            act()
    path.unlink()
    assert [r.id for r in store.runs()] == [run.id]


def test_an_older_schema_is_rebuilt_from_the_folders(store: Store, finished: Callable[..., Run]) -> None:
    run = finished()
    store.close()
    path = store.path / "index.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE runs")
        connection.execute("CREATE TABLE runs (id TEXT, old TEXT)")
        connection.execute('CREATE TABLE "of before" (x)')
        connection.execute("PRAGMA user_version=0")
        connection.commit()
    assert [(r.id, r.quality("accuracy", "validation")) for r in store.runs()] == [(run.id, 0.5)]
    assert store.verify() == []


@pytest.mark.parametrize("content", [None, b"", b"this is no database at all" * 100])
def test_a_missing_or_unreadable_index_is_rebuilt(
    store: Store, finished: Callable[..., Run], content: bytes | None
) -> None:
    run = finished()
    store.close()
    path = store.path / "index.sqlite"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert [r.id for r in store.runs()] == [run.id]


def test_rebuild_gives_the_rows_that_were_there(store: Store, finished: Callable[..., Run]) -> None:
    for seed in range(3):
        finished(seed=seed, accuracy=seed / 10)
    before = store._index.rows()
    assert store.rebuild() == 3
    assert store._index.rows() == before


def test_run_folders_of_a_later_version_are_named_beside_both_remedies(
    store: Store, finished: Callable[..., Run]
) -> None:
    run = finished()
    truth = run.path / "run.json"
    truth.write_text(json.dumps(json.loads(truth.read_text()) | {"schema": 99}))
    store.close()
    _pragma(store.path / "index.sqlite", f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(SchemaTooNew, match="install the later version, or point this version at another") as raised:
        store.runs()
    assert run.id in str(raised.value) and "delete that file" not in str(raised.value)
