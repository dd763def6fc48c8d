"""States of a run that are kept for good, so that other runs can begin there: one file a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import CorruptFile, StoreError
from ..core.recipe import branch_of
from .artifacts import check_file, digest_of, get_state, put_state

__all__ = ["fork_files", "get_fork", "parts_of", "put_fork", "without_trunk"]

PATTERN = "fork_*.pt"


def _path(folder: Path, step: int) -> Path:
    return folder / f"fork_{step}.pt"


def put_fork(folder: Path, step: int, state: Any) -> None:
    """Write the state at `step`. Raises InvalidValue for what is no tensor or plain value, StoreUnwritable."""
    put_state(_path(folder, step), state)


def fork_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of each state by the name of its file."""
    return {path.name: digest_of(path) for path in sorted(folder.glob(PATTERN))}


def get_fork(folder: Path, step: int, known: dict[str, Any]) -> Any:
    """The state at `step`, tensors on the CPU. known: files of the run with their hashes.

    Raises StoreError where that step was not kept, CorruptFile where the bytes have changed.
    """
    path = _path(folder, step)
    if path.name not in known:
        steps = sorted(int(name[5:-3]) for name in known if name.startswith("fork_"))
        raise StoreError(
            f"a run begins where another one kept its state, got step {step} of run {folder.name!r}, which kept "
            f"{', '.join(map(str, steps)) or 'none'}; train it with a cool-down whose forks hold that share of the run"
        )
    wrong = check_file(path, known[path.name])
    if wrong:
        raise CorruptFile(f"{path} {wrong}; train the run again")
    return get_state(path)


def without_trunk(run: Any) -> list[str]:
    """Ids of the runs that a stored run builds on, but not of the trunk in whose middle it begins."""
    begun = (run.facts.get("branch") or {}).get("trunk")
    return [parent for parent in run.parents if parent != begun]


def parts_of(run: Any) -> tuple[str, ...]:
    """What the identity of a stored run is made from beside its recipe and seed: `run_identity(..., parents=)`.

    The trunk of a branch lies beside it in the store: it cannot be removed before it.
    """
    begun = run.facts.get("branch")
    if begun is None:
        return tuple(run.parents)
    trunk = type(run)(run.path.parent / begun["trunk"])
    return (*without_trunk(run), branch_of(trunk.identity))
