"""Looking after a store: checking every byte, removing what nobody needs, showing what came from what."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..core.errors import CorruptFile, RunBusy, SchemaTooNew, StoreError, StoreUnwritable
from .artifacts import check_file, writing
from .lock import hold
from .run import ENDED, TRUTH, Run, Summary, read_truth, summarise

DELETED = ".deleted-"
"""Beginning of the name of a folder that is being removed."""
REMOVABLE = ("interrupted", "failed")


class Problem(NamedTuple):
    """Something `verify` found: the run's id, the file's name, and what is wrong as the rest of a sentence."""

    run: str
    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.run}/{self.file} {self.problem}"


@dataclass
class Garbage:
    """What `gc` removed or would remove: runs, bytes by run, folders without a run, and matching runs that stay."""

    deleted: bool
    runs: list[Run] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    leftovers: list[Path] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """All bytes together."""
        return sum(self.sizes.values())


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_size
        except FileNotFoundError:
            continue  # a concurrent writer renamed it
    return total


def run_folders(runs: Path) -> list[Path]:
    """The folders of a store that hold a run, or should."""
    if not runs.is_dir():
        return []
    return sorted(f for f in runs.iterdir() if f.is_dir() and not f.name.startswith("."))


def summaries(runs: Path) -> list[Summary]:
    """The index rows of all readable run folders; unreadable ones are for `verify` to tell. Raises SchemaTooNew."""
    found = []
    for folder in run_folders(runs):
        try:
            found.append(summarise(folder))
        except (FileNotFoundError, CorruptFile):
            continue
    return found


def later_versions(runs: Path) -> list[str]:
    """Names of the run folders that a later version of this package wrote."""
    return [folder.name for folder in run_folders(runs) if isinstance(_unreadable(folder), SchemaTooNew)]


def unreadable(runs: Path) -> list[Problem]:
    """The folders that `summaries` leaves out."""
    found = [(folder.name, _unreadable(folder)) for folder in run_folders(runs)]
    return [Problem(name, "run.json", _why(error)) for name, error in found if error is not None]


def _unreadable(folder: Path) -> Exception | None:
    try:
        summarise(folder)
    except (FileNotFoundError, CorruptFile, SchemaTooNew) as error:
        return error
    return None


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing; 'store gc' removes the folder"
    return f"cannot be read: {error}"


def verify(runs: Path, rows: Iterable[Summary]) -> list[Problem]:
    """Re-hash every file of every run that has ended, and compare the folders with the index rows."""
    problems = []
    indexed = {row.id: row for row in rows}
    folders = run_folders(runs)
    for folder in folders:
        problems += _verify_run(folder, indexed.pop(folder.name, None))
    for lost in indexed:
        problems.append(Problem(lost, "", "is in the index and has no folder; run 'store rebuild'"))
    return problems


def _verify_run(folder: Path, row: Summary | None) -> list[Problem]:
    try:
        truth = summarise(folder)
        data = read_truth(folder)
    except (FileNotFoundError, CorruptFile, SchemaTooNew) as error:
        return [Problem(folder.name, "run.json", _why(error))]
    problems = []
    if truth.status in ENDED:
        for name, expected in data["files"].items():
            wrong = check_file(folder / name, expected)
            if wrong:
                problems.append(Problem(folder.name, name, wrong))
    if row is None:
        problems.append(Problem(folder.name, "", "is not in the index; run 'store rebuild'"))
    elif row != truth and truth.status in ENDED:
        problems.append(Problem(folder.name, "", "differs from its row in the index; run 'store rebuild'"))
    return problems


def collect(
    root: Path, runs: list[Run], *, delete: bool, where: Callable[[Run], bool] | None, forget: Callable[[str], None]
) -> Garbage:
    """Find, and with `delete` remove, runs that nobody needs; `runs` are all runs of the store."""
    parents = {parent for run in runs for parent in run.parents}
    garbage = Garbage(deleted=delete)
    for run in runs:
        try:
            status = run.status
            wanted = where(run) if where else status in REMOVABLE
        except (CorruptFile, SchemaTooNew):
            garbage.kept[run.id] = "cannot be read ('store verify' says why)"
            continue
        if not wanted:
            continue
        if status == "running":
            garbage.kept[run.id] = "is running"
        elif run.id in parents:
            garbage.kept[run.id] = "has children"
        else:
            size = size_of(run.path)
            if delete and not _remove(root, run.path, forget):
                garbage.kept[run.id] = "is running"
                continue
            garbage.runs.append(run)
            garbage.sizes[run.id] = size
    _leftovers(root, garbage, delete=delete, forget=forget)
    return garbage


def _leftovers(root: Path, garbage: Garbage, *, delete: bool, forget: Callable[[str], None]) -> None:
    if not root.is_dir():
        return
    for folder in sorted(root.iterdir()):
        half = folder.name.startswith(DELETED)
        if folder.is_symlink() or not folder.is_dir() or not (half or not (folder / "run.json").exists()):
            continue
        size = size_of(folder)
        if delete:
            if half:
                shutil.rmtree(folder)
            elif not _remove(root, folder, forget):
                continue
        garbage.leftovers.append(folder)
        garbage.sizes[folder.name] = size


def _remove(root: Path, folder: Path, forget: Callable[[str], None]) -> bool:
    """Rename, forget, delete: whatever interrupts it, no half-deleted folder looks like a run.

    Raises StoreError for what is no folder directly in `root`, however it came to be listed.
    """
    if folder.parent != root or folder.resolve() != root.resolve() / folder.name:
        raise StoreError(
            f"only folders directly in {root} are removed, got {folder}; "
            "run 'store rebuild' and 'store verify' to see what is wrong there"
        )
    try:
        lock = hold(folder, timeout=0)
    except RunBusy:
        return False
    try:
        gone = folder.with_name(DELETED + folder.name)
        with writing(folder):
            folder.rename(gone)
            try:
                forget(folder.name)
            except StoreUnwritable:
                # On a full disk the index can be written only after something is gone.
                shutil.rmtree(gone)
                forget(folder.name)
            else:
                shutil.rmtree(gone)
    finally:
        lock.release()
    return True


def remove_empty(root: Path, folder: Path, forget: Callable[[str], None]) -> bool:
    """Remove a run without a step, an entry in its curve, or any file: whether it was one."""
    try:
        nothing = not read_truth(folder)["steps"]
    except (FileNotFoundError, CorruptFile, SchemaTooNew):
        return False
    files = (path for path in folder.iterdir() if path.name != TRUTH)
    return nothing and not any(path.stat().st_size for path in files) and _remove(root, folder, forget)


def tree(runs: list[Run]) -> list[tuple[int, Run]]:
    """(depth, run) in reading order: each run below each of its parents, its own children shown the first time only."""
    by_id = {run.id: run for run in runs}
    children: dict[str, list[Run]] = {}
    roots = []
    for run in runs:
        known = [parent for parent in run.parents if parent in by_id]
        for parent in known:
            children.setdefault(parent, []).append(run)
        if not known:
            roots.append(run)
    lines: list[tuple[int, Run]] = []
    shown: set[str] = set()
    waiting = [(0, run) for run in reversed(roots)]
    while waiting:
        depth, run = waiting.pop()
        lines.append((depth, run))
        if run.id not in shown:
            shown.add(run.id)
            waiting += [(depth + 1, child) for child in reversed(children.get(run.id, []))]
    return lines
