"""`reinvest store verify|rebuild|gc`: looking after a store. Loads no torch."""

from __future__ import annotations

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ..store import Store
from ._output import Output, plural, size_text, table
from ._parser import Command, Parser, option, store_option


def _open(folder: str) -> Store:
    store = Store(folder)
    if not store.path.is_dir():
        raise InvalidValue(
            f"a store is an existing folder here, got {folder!r}, which does not exist; give it with --store"
        )
    return store


def _verify(options: Namespace, out: Output) -> int:
    store = _open(options.store)
    problems = store.verify()
    count = len(store.runs())
    data = {"store": str(store.path), "runs": count, "problems": [p._asdict() for p in problems]}
    found = [str(p) for p in problems]
    out.give(
        data,
        lambda: "\n".join(
            [*found, f"{plural(count, 'run')} checked, {plural(len(found), 'problem') if found else 'all as written'}"]
        ),
    )
    return 3 if problems else 0


VERIFY = Command(
    about=(
        "Re-hash (sha256) every file of every run that has ended, and compare folders and index. Changes nothing.\n"
        "Exit code 3 if anything differs."
    ),
    examples=("reinvest store verify", "reinvest store verify --store /data/runs --json"),
    arguments=store_option,
    run=_verify,
)


def _rebuild(options: Namespace, out: Output) -> int:
    store = _open(options.store)
    count = store.rebuild()
    left_out = store.unreadable()
    data = {"store": str(store.path), "runs": count, "problems": [p._asdict() for p in left_out]}
    said = f"the index of {store.path} holds {plural(count, 'run')}"
    out.give(data, lambda: "\n".join([*map(str, left_out), said]))
    return 3 if left_out else 0


REBUILD = Command(
    about=(
        "Make the index anew from the run folders, which are the truth: after damage, or when folders were copied.\n"
        "Exit code 3 if a folder could not be read and was left out."
    ),
    examples=("reinvest store rebuild", "reinvest store rebuild --store /data/runs"),
    arguments=store_option,
    run=_rebuild,
)


def _gc_arguments(parser: Parser) -> None:
    store_option(parser)
    parser.add_argument("--delete", action="store_true", help="really remove; without it nothing is changed")
    option(
        parser,
        "--where",
        type=str,
        metavar="FILTER",
        help=("exactly the runs that match, instead of interrupted and failed ones, e.g. 'task=digits and seconds<1'"),
    )


def _gc(options: Namespace, out: Output) -> int:
    store = _open(options.store)
    garbage = store.gc(delete=options.delete, where=options.get("where"))
    data = {
        "store": str(store.path),
        "deleted": garbage.deleted,
        "bytes": garbage.bytes,
        "runs": [{"id": run.id, "bytes": garbage.sizes[run.id]} for run in garbage.runs],
        "leftovers": [str(path) for path in garbage.leftovers],
        "kept": dict(garbage.kept),
    }

    def text() -> str:
        rows = [[run.id, run.task, run.name, str(run.seed), size_text(garbage.sizes[run.id])] for run in garbage.runs]
        rows += [[path.name, "-", "(no run)", "-", size_text(garbage.sizes[path.name])] for path in garbage.leftovers]
        lines = [table(["run", "task", "name", "seed", "size"], rows, right=(3, 4))] if rows else []
        lines += [f"{name} stays: it {why}" for name, why in garbage.kept.items()]
        many = plural(len(rows), "folder")
        done = (
            f"removed {many}, {size_text(garbage.bytes)}"
            if garbage.deleted
            else f"would remove {many}, {size_text(garbage.bytes)} (--delete does)"
        )
        return "\n".join([*lines, done if rows else "nothing to remove"])

    out.give(data, text)
    return 0


GC = Command(
    about=(
        "Say which runs nobody needs (interrupted and failed ones, or those that match --where) and their bytes;\n"
        "with --delete, remove them. A run that has children or is running always stays."
    ),
    examples=(
        "reinvest store gc",
        "reinvest store gc --delete",
        "reinvest store gc --where 'task=digits and status=diverged' --delete",
    ),
    arguments=_gc_arguments,
    run=_gc,
)
