"""The index: one row a run in SQLite, so that a list of ten thousand runs opens no run folder. Never the truth."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError

from ..core.errors import CorruptFile, SchemaTooNew, StoreError, StoreUnwritable
from .artifacts import writing
from .run import Summary
from .upkeep import later_versions

VERSION = 1
"""Version of the table. Another table layout gets the next number, and older files are rebuilt from the folders."""
BUSY_SECONDS = 60

_meta = MetaData()
_runs = Table(
    "runs",
    _meta,
    Column("id", String, primary_key=True),
    Column("identity", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("task", String, nullable=False, index=True),
    Column("seed", Integer, nullable=False),
    Column("status", String, nullable=False, index=True),
    Column("created", String, nullable=False),
    Column("ended", String),
    Column("steps", Integer),
    Column("seconds", Float),
    Column("bytes", Integer, nullable=False),
    Column("parents", String, nullable=False),
    Column("last", String, nullable=False),
)


class _NoDatabase(CorruptFile):
    """The file is not an SQLite database, or a damaged one: it can be rebuilt."""


class Index:
    """The rows of one store. `summaries` reads all run folders: the index is made from it whenever it must be."""

    def __init__(self, root: Path, summaries: Callable[[], Iterable[Summary]]):
        self.path = root / "index.sqlite"
        self._summaries = summaries
        self._engine: Engine | None = None
        self._owner = 0
        self.read_only = False

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        if self._engine is not None:
            # After a fork the connections belong to the parent, which must not find them closed.
            self._engine.dispose(close=self._owner == os.getpid())
        self._engine = None

    def rows(self, **equal: str | None) -> list[Summary]:
        """Rows by age, those with the given columns equal (None: any)."""
        query = select(_runs).order_by(_runs.c.created, _runs.c.id)
        for name, value in equal.items():
            if value is not None:
                query = query.where(_runs.c[name] == value)
        with self._connection() as connection:
            return [Summary(*row) for row in connection.execute(query)]

    def starting(self, prefix: str) -> list[Summary]:
        """Rows whose id begins with `prefix`."""
        query = select(_runs).where(_runs.c.id.startswith(prefix, autoescape=True)).order_by(_runs.c.id)
        with self._connection() as connection:
            return [Summary(*row) for row in connection.execute(query)]

    def ids(self) -> list[str]:
        """All ids, sorted."""
        with self._connection() as connection:
            return list(connection.execute(select(_runs.c.id).order_by(_runs.c.id)).scalars())

    def put(self, summaries: Iterable[Summary]) -> None:
        """Insert rows or replace those of the same id, in one transaction. Raises StoreUnwritable."""
        with self._connection(write=True) as connection:
            self._put(connection, summaries)

    def remove(self, run: str) -> None:
        """Delete the row of a run. Raises StoreUnwritable."""
        with self._connection(write=True) as connection:
            connection.execute(_runs.delete().where(_runs.c.id == run))

    def rebuild(self) -> int:
        """Make the whole index anew from the run folders; the number of runs. Raises StoreUnwritable."""
        return self._restore(always=True)

    def _restore(self, *, always: bool) -> int:
        self.close()
        with writing(self.path), FileLock(self.path.with_name("index.lock"), timeout=BUSY_SECONDS):
            version = self._version_on_disk()
            if version is not None and version > VERSION:
                raise self._too_new(version)
            if version == VERSION and not always:
                return 0  # another process was faster
            try:
                return self._fill_file()
            except _NoDatabase:
                for ending in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
                return self._fill_file()

    def _fill_file(self) -> int:
        engine = self._create(URL.create("sqlite", database=str(self.path)))
        try:
            return self._fill(engine)
        finally:
            engine.dispose()

    def _put(self, connection: Connection, summaries: Iterable[Summary]) -> None:
        rows = [s._asdict() for s in summaries]
        if rows:
            statement = insert(_runs)
            changed = {c.name: statement.excluded[c.name] for c in _runs.c if c.name != "id"}
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed), rows)

    @contextmanager
    def _connection(self, *, write: bool = False) -> Iterator[Connection]:
        engine = self._open()
        if write and self.read_only:
            # What made the file unusable may have passed (space was freed): try it once more.
            self.close()
            engine = self._open()
            if self.read_only:
                raise self._unwritable()
        with _translated(self.path), engine.connect() as connection:
            if write:
                connection = connection.execution_options(immediate=True)
            with connection.begin():
                yield connection

    def _open(self) -> Engine:
        if self._engine is not None and self._owner == os.getpid():
            return self._engine
        self.close()
        self._owner = os.getpid()
        try:
            self._engine = self._open_file()
            self.read_only = False
        except StoreUnwritable:
            # Reading must work on a full or read-only disk: the same rows, made from the folders, in memory.
            self._engine = self._create(URL.create("sqlite"))
            self._fill(self._engine)
            self.read_only = True
        return self._engine

    def _open_file(self) -> Engine:
        if not os.access(self.path.parent, os.W_OK):
            return self._open_read_only()
        version = self._version_on_disk()
        if version is not None and version > VERSION:
            raise self._too_new(version)
        if version != VERSION:
            self._restore(always=False)
        return self._create(URL.create("sqlite", database=str(self.path)))

    def _open_read_only(self) -> Engine:
        log = self.path.with_name(self.path.name + "-wal")
        if not self.path.exists() or (log.exists() and log.stat().st_size):
            raise self._unwritable()
        address = f"file:{self.path.absolute()}"
        engine = self._create(
            URL.create("sqlite", database=address, query={"mode": "ro", "immutable": "1", "uri": "true"})
        )
        with _translated(self.path), engine.connect() as connection:
            version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        if version > VERSION:
            raise self._too_new(version)
        if version < VERSION:
            raise self._unwritable()
        self.read_only = True
        return engine

    def _version_on_disk(self) -> int | None:
        """None: there is no file, or it is no database."""
        if not self.path.exists():
            return None
        engine = self._create(URL.create("sqlite", database=str(self.path)))
        try:
            with _translated(self.path), engine.connect() as connection:
                return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        except _NoDatabase:
            return None
        finally:
            engine.dispose()

    def _create(self, url: URL) -> Engine:
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            # The driver would begin transactions on its own terms; "begin" below does it on ours.
            connection.isolation_level = None
            if url.database and "mode" not in url.query:
                connection.execute("PRAGMA journal_mode=WAL")
            # In WAL mode a commit survives its process without an fsync; after a power cut the folders tell.
            connection.execute("PRAGMA synchronous=NORMAL")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            immediate = connection.get_execution_options().get("immediate")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    def _fill(self, engine: Engine) -> int:
        with _translated(self.path), engine.connect() as connection:
            connection = connection.execution_options(immediate=True)
            with connection.begin():
                old = connection.exec_driver_sql(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                )
                for name in old.scalars().all():
                    quoted = name.replace('"', '""')
                    connection.exec_driver_sql(f'DROP TABLE "{quoted}"')
                _meta.create_all(connection)
                # Inside the transaction: a run that ends now waits, and then replaces its row.
                summaries = list(self._summaries())
                self._put(connection, summaries)
                connection.exec_driver_sql(f"PRAGMA user_version={VERSION}")
        return len(summaries)

    def _unwritable(self) -> StoreUnwritable:
        return StoreUnwritable(
            f"the store must be writable, but the disk of {self.path} is read-only or full; "
            "free some space or choose another folder, then run again (what is finished stays)"
        )

    def _too_new(self, version: int) -> SchemaTooNew:
        later = later_versions(self.path.with_name("runs"))
        if later:
            # Made anew, the index would lack these: deleting it is no remedy.
            named = ", ".join(later[:5]) + (f" and {len(later) - 5} more" if len(later) > 5 else "")
            other = f"as it does the run folders that the later version wrote ({named})"
        else:
            other = "or delete that file to have it rebuilt from the run folders, all of which this version reads"
        remedy = "install the later version, or point this version at another store"
        return SchemaTooNew(
            f"{self.path} has schema {version} and this version of reinvest reads up to {VERSION}; {remedy}, {other}"
        )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        # Errors while a connection is being set up arrive as the driver's own.
        cause = error.orig if isinstance(error, DatabaseError) else error
        name = str(getattr(cause, "sqlite_errorname", ""))
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise _NoDatabase(f"the index {path} is damaged ({cause}); run 'store rebuild'") from error
        if name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR")):
            raise StoreUnwritable(
                f"the store must be writable, but its index {path} cannot be written ({cause}); "
                "free some space or choose another folder, then run again (what is finished stays)"
            ) from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreError(
                f"the index {path} was locked for {BUSY_SECONDS} s; look which process hangs on it, then run again"
            ) from error
        raise CorruptFile(f"the index {path} cannot be used ({cause}); run 'store rebuild'") from error
