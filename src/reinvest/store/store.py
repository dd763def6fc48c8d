"""Where runs live: a folder a run, and an index beside them."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import BaseFileLock

from ..core.errors import (
    AlreadyFinished,
    CorruptFile,
    InvalidValue,
    ReinvestError,
    SchemaTooNew,
    StoreError,
    StoreUnwritable,
    UnknownName,
    unknown,
)
from ..core.metrics import known_direction
from ..core.protocols import IDENTITY_VARIABLE, current_recorder, current_runs
from . import upkeep, where
from .accumulate import Accumulator
from .artifacts import writing
from .history import Asked, asked
from .index import Index
from .lock import hold, vacant
from .plain import identity_of, plain
from .run import ENDED, STATUSES, TRUTH, Run, Summary, summarise
from .upkeep import Garbage, Problem
from .writer import RunWriter


class Store:
    """All runs below one folder. Nothing is created before the first `record`; reading needs no torch.

    `url` is the folder's path. Raises InvalidValue for what is no folder path.
    """

    def __init__(self, url: str | Path):
        text = str(url)
        if "://" in text:
            raise InvalidValue(
                f"a store is a folder in this version (no database server, no object store), got {text!r}; "
                "give a path such as 'runs'"
            )
        if not text:
            raise InvalidValue("a store is a folder, got an empty path; give a path such as 'runs'")
        self.path = Path(text).expanduser().absolute()
        if self.path.exists() and not self.path.is_dir():
            raise InvalidValue(f"a store is a folder, got the file {text!r}; give another path")
        self._folder = self.path / "runs"
        self._index = Index(self.path, lambda: upkeep.summaries(self._folder))

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the index; using the store again opens it again."""
        self._index.close()

    @contextmanager
    def record(
        self,
        name: str,
        *,
        task: str,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
        parents: Sequence[Run | str] = (),
        records: bool | Mapping[str, Any] = True,
        identity: str | None = None,
        facts: Mapping[str, Any] | None = None,
        once: bool = False,
    ) -> Iterator[RunWriter]:
        """Record one run while the block lasts; a chain attached inside finds it by itself.

        Leaving the block finishes the run; an exception (Ctrl-C too) leaves it interrupted, but one of this package's
        before the first step (something was refused) leaves nothing. The identity is the hash of name, task, config,
        seed and parents, unless it is given or a comparison has set it in the environment (see `IDENTITY_VARIABLE`); an
        interrupted run of the same identity is opened again
        (`writer.resumed`, `writer.load_state()`), one that has ended stays, and the new run is another attempt.
        `records=False` keeps no per-example tables; a dict asks for more than the usual: "views": K, what was said of every
        view in the last K planned epochs, for students that replay them; "margins": True, each example's margin in every
        epoch; "loss": "float32" in place of "float16". `facts` replaces what is found out about hardware and software.
        With `once` there is no further attempt: AlreadyFinished carries the run of this identity that has finished or
        diverged, in another process a moment ago perhaps.
        Raises InvalidValue, UnknownName (a parent that is not here), RunBusy (another process records it),
        AlreadyFinished, StoreUnwritable.
        """
        keep = asked(records)
        writer = self._begin(self._plan(name, task, config, seed, parents, identity), keep, facts, once)
        token, lent = current_recorder.set(writer), current_runs.set(self.get)
        try:
            yield writer
            if not writer.ended:
                writer.finish()
        except BaseException as error:
            try:
                writer.interrupt()
            except ReinvestError as second:
                # The first error is the one to see; without its run.json the run reads as interrupted anyway.
                error.add_note(f"while ending run {writer.id}: {second}")
            if isinstance(error, ReinvestError) and not isinstance(error, StoreError):
                writer.release()
                with suppress(StoreError, OSError):  # the first error is the one to see
                    upkeep.remove_empty(self._folder, writer.path, self._index.remove)
            raise
        finally:
            current_runs.reset(lent)
            current_recorder.reset(token)
            writer.release()

    @contextmanager
    def lending(self) -> Iterator[Store]:
        """While the block lasts, methods find this store's runs by id (inside `record` they do anyway)."""
        token = current_runs.set(self.get)
        try:
            yield self
        finally:
            current_runs.reset(token)

    def _plan(
        self,
        name: str,
        task: str,
        config: Mapping[str, Any] | None,
        seed: int,
        parents: Sequence[Run | str],
        identity: str | None,
    ) -> dict[str, Any]:
        for what, value in (("name", name), ("task", task)):
            if not isinstance(value, str) or not value.strip():
                raise InvalidValue(f"the {what} of a run is a text, got {value!r}; write for example 'mine'")
        if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**63:
            raise InvalidValue(f"the seed of a run is a whole number below 2^63, got {seed!r}; write seed=0")
        if isinstance(parents, str | Run):
            raise InvalidValue(f"parents is a list of runs or ids, got {parents!r}; write parents=[...]")
        settings = plain(dict(config or {}), "config", finite=True)
        ids = [parent.id if isinstance(parent, Run) else self.get(parent).id for parent in parents]
        identity = identity or os.environ.get(IDENTITY_VARIABLE) or identity_of(name, task, settings, seed, ids)
        base = identity if re.fullmatch(r"[0-9a-f]{16,}", identity) else hashlib.sha256(identity.encode()).hexdigest()
        return {
            "id": base[:16],
            "identity": identity,
            "name": name,
            "task": task,
            "seed": seed,
            "config": settings,
            "parents": ids,
        }

    def _begin(self, plan: dict[str, Any], records: Asked, facts: Mapping[str, Any] | None, once: bool) -> RunWriter:
        with writing(self.path):
            self._folder.mkdir(parents=True, exist_ok=True)
        folder, lock = self._claim(plan, once)
        try:
            return RunWriter(
                folder,
                lock,
                plan=plan | {"id": folder.name},
                records=Accumulator(folder, records) if records.kept else None,
                given_facts=None if facts is None else dict(facts),
                publish=lambda summary: self._index.put([summary]),
            )
        except BaseException:
            lock.release()
            raise

    def _claim(self, plan: dict[str, Any], once: bool) -> tuple[Path, BaseFileLock]:
        """The folder to write: the interrupted attempt if there is one, else a new one. Its lock is held."""
        attempt = 1
        while True:
            folder = self._folder / (plan["id"] if attempt == 1 else f"{plan['id']}-{attempt}")
            if (folder / TRUTH).exists() and self._over(folder, plan["identity"], once):
                attempt += 1
                continue
            with writing(folder):
                folder.mkdir(exist_ok=True)
            try:
                lock = hold(folder)
            except FileNotFoundError:
                continue  # removed by gc in this moment
            # Another process may have ended the run while this one waited.
            try:
                over = (folder / TRUTH).exists() and self._over(folder, plan["identity"], once)
            except BaseException:
                lock.release()
                raise
            if over:
                lock.release()
                attempt += 1
                continue
            return folder, lock

    @staticmethod
    def _over(folder: Path, identity: str, once: bool) -> bool:
        """Whether this folder is not to be written any more. Raises AlreadyFinished if no other is either."""
        try:
            found = summarise(folder, alive=True)
        except FileNotFoundError:
            return False
        if once and found.identity == identity and found.status in ("finished", "diverged"):
            raise AlreadyFinished(
                f"a run is recorded once here, and run {found.id!r} has {found.status}; use that run",
                Run(folder, found),
            )
        return found.status in ENDED or found.identity != identity

    def get(self, run: str) -> Run:
        """The run with this id, or with the only id that begins so. Raises UnknownName, InvalidValue if several do."""
        rows = self._index.starting(run) if run and self._exists() else []
        exact = [row for row in rows if row.id == run]
        if len(exact or rows) == 1:
            return self._run((exact or rows)[0])
        if rows:
            raise InvalidValue(
                f"a prefix must name one run, got {run!r} for {len(rows)}: "
                f"{', '.join(row.id for row in rows[:5])}; write more of it"
            )
        ids = self._index.ids() if self._exists() else []
        near = difflib.get_close_matches(run, ids, n=5, cutoff=0.4)
        raise UnknownName(
            f"no run {run!r} among the {len(ids)} of {self.path}; "
            f"{'nearest: ' + ', '.join(near) if near else 'list them with reinvest runs'}"
        )

    def runs(
        self, task: str | None = None, status: str | None = None, name: str | None = None, *, where: str | None = None
    ) -> list[Run]:
        """Runs by age, those of a task, status or name, or matching a filter such as "seed<3 and seconds>60".

        Raises UnknownName for an unknown status or filter key, InvalidValue for a filter that cannot be read.
        """
        if status is not None and status not in STATUSES:
            raise unknown("status", status, STATUSES)
        test = _parse(where)
        found = [self._run(row) for row in self._rows(task=task, name=name) if status in (None, row.status)]
        return found if test is None else [run for run in found if test(run)]

    def find(self, identity: str, *, status: str | Collection[str] = "finished") -> Run | None:
        """The newest run of an identity that has this status (or one of these), or None."""
        wanted = {status} if isinstance(status, str) else set(status)
        rows = [row for row in self._rows(identity=identity) if row.status in wanted]
        return self._run(rows[-1]) if rows else None

    def best(self, *, task: str, metric: str, higher_is_better: bool | None = None) -> Run:
        """The finished run of a task with the best last value of `metric` on validation (never on test).

        Without `higher_is_better` the metric's name decides: the smallest "loss", "val_loss" or "error rate" is best, and
        the largest "accuracy", "f1" or "top5". Raises StoreError if no finished run has that metric, saying what there
        is, InvalidValue for a name that says neither.
        """
        runs = self.runs(task=task, status="finished")
        scored = [(run.last.get("validation", {}).get(metric), run) for run in runs]
        known = [(value, run) for value, run in scored if value is not None]
        if known:
            higher = known_direction(metric) if higher_is_better is None else higher_is_better
            if higher is None:
                raise InvalidValue(
                    "the best run has the largest value of its metric or the smallest, got "
                    f"{metric!r}, a name that does not tell which; pass higher_is_better=True or False"
                )
            return (max if higher else min)(known, key=lambda pair: pair[0])[1]
        there = sorted({name for run in runs for name in run.last.get("validation", {})})
        raise StoreError(
            f"the best run is chosen by a validation metric, and none of the {len(runs)} finished runs "
            f"of task {task!r} has {metric!r} (they have: {', '.join(there) or 'none'}); "
            f"log it with run.log(split='validation', {metric}=...)"
        )

    def tree(self) -> list[tuple[int, Run]]:
        """Lineage as (depth, run) in reading order, a run below each of its parents."""
        return upkeep.tree(self.runs())

    def verify(self) -> list[Problem]:
        """Re-hash all files of ended runs and compare the folders with the index; what is wrong, [] if nothing."""
        return upkeep.verify(self._folder, self._rows())

    def rebuild(self) -> int:
        """Make the index anew from the run folders; the number of runs. Raises StoreUnwritable, SchemaTooNew."""
        return self._index.rebuild() if self._exists() else 0

    def unreadable(self) -> list[Problem]:
        """The run folders that no index can hold, and why: a `run.json` that is missing, damaged or of another run."""
        return upkeep.unreadable(self._folder)

    def gc(self, delete: bool = False, where: str | None = None) -> Garbage:
        """What could go: interrupted and failed runs, or instead exactly those that match `where`; dry by default.

        A run that has children or is running stays (`.kept` says why). Folders that never became a run go too.
        """
        test = _parse(where)
        return upkeep.collect(self._folder, self.runs(), delete=delete, where=test, forget=self._index.remove)

    def size(self) -> int:
        """Bytes of everything in the store."""
        return upkeep.size_of(self.path)

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _run(self, row: Summary) -> Run:
        return Run(f"{self._folder}/{row.id}", row)

    def _rows(self, **equal: str | None) -> list[Summary]:
        """Index rows, after those of runs that say "running" were compared with the truth."""
        if not self._exists():
            return []
        rows = self._index.rows(**equal)
        return [self._settle(row) if row.status == "running" else row for row in rows]

    def _settle(self, row: Summary) -> Summary:
        folder = self._folder / row.id
        with vacant(folder) as free:
            if not free:
                return row
            try:
                truth = summarise(folder, alive=False)
            except (FileNotFoundError, CorruptFile, SchemaTooNew):
                return row._replace(status="interrupted")  # what else is wrong there, `verify` says
            # Written while nobody can begin to write the run, so that its next writer cannot be overtaken.
            try:
                if not self._index.read_only:
                    self._index.put([truth])
            except StoreUnwritable:
                # A reader needs the truth, which it has; the row is put right when there is space again.
                return truth
            return truth


def _parse(expression: str | None) -> Any:
    return None if expression is None else where.parse(expression)
