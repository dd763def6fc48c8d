"""`reinvest suspects RUN`: which examples of the data are suspect, by what a run saw of them anyway, with pictures."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from .._version import __version__
from ..core.errors import InvalidValue, StoreError, unknown
from ._output import Output, size_text
from ._parser import Command, Parser, option, store_option
from ._verdicts import target

if TYPE_CHECKING:
    from ..dynamics.suspects import Suspects
    from ..store.run import Run
    from ._pictures import Looks

FILES = {"csv": ".csv", "parquet": ".parquet", "cleanlab": ".npy", "relabel": ".csv"}


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "runs", type=str, nargs="+", metavar="RUN", help="a run's id, or the first digits; several are averaged"
    )
    store_option(parser)
    option(parser, "--kind", type=str, metavar="KIND", help='list one kind only, such as "label error" or duplicate')
    option(parser, "--class", type=str, metavar="CLASS", dest="label", help="list one given label only: name or number")
    option(
        parser,
        "--most",
        type=int,
        metavar="N",
        help="suspects of a kind (default: 1000, but no more than a tenth of the examples)",
    )
    option(parser, "--csv", type=str, metavar="FILE.csv", help="the whole list as a table")
    option(
        parser,
        "--parquet",
        type=str,
        metavar="FILE.parquet",
        help="the same as Parquet (needs pyarrow, or pandas and fastparquet)",
    )
    option(
        parser,
        "--cleanlab",
        type=str,
        metavar="FILE.npy",
        help="bool [N], True for a label issue, and FILE_quality.npy, float [N], 1 for a label that is surely right",
    )
    option(parser, "--relabel", type=str, metavar="FILE.csv", help="id and suggested label of the likely label errors")
    parser.add_argument(
        "--out",
        type=str,
        default="suspects.html",
        metavar="FILE.html",
        help="the page (1,000 pictures in colour: 3 MB of 32 x 32 pixels, 10 MB of 64 x 64)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="do not open the data: records only")


def _run(options: Namespace, out: Output) -> int:
    from ..store import Store

    file = target(options.out)
    _check_files(options)
    store = Store(options.store)
    runs = [store.get(reference) for reference in options.runs]
    if len({run.id for run in runs}) < len(runs):
        raise InvalidValue(f"runs are named once each, got {' '.join(options.runs)}; leave the second one out")
    for run in runs:
        if run.status in ("running", "interrupted"):
            raise StoreError(
                f"suspects are found in the records that a run leaves at its end, got {run.id}, which is {run.status}; let it "
                "end first"
            )
    suspects, looks = _found(runs, options)
    result = _result(suspects, runs, options, looks)
    written = _write(suspects, options)
    from ..report.suspects import print_suspects, write_suspects

    write_suspects(result, file, pictures=looks.pictures, maps=looks.maps, texts=looks.texts)
    out.show(lambda console: print_suspects(result, console))
    answer = {
        **{
            k: result[k]
            for k in ("title", "known", "listed", "kinds", "statements", "precision", "agreement", "pictures_note")
        },
        "runs": [run.id for run in runs],
        "suspects": _rows(suspects) if out.as_json else [],
        "report": str(file),
        "files": written,
    }
    out.give(answer, lambda: "\n".join(["", *_said(file, looks, written)]))
    return 0


def _found(runs: list[Run], options: Namespace) -> tuple[Suspects, Looks]:
    from ..dynamics.suspects import find_suspects
    from ._pictures import Looks, contents_of, looks_of, open_task

    asked: dict[str, Any] = {
        "most": options.get("most"),
        "kinds": None if options.get("kind") is None else [options.kind],
    }
    records = runs[0].records()
    label = _label(options.get("label"), records.class_names, records.classes)
    task, why = (None, "no pictures: they were not asked for") if options.no_pictures else open_task(runs[0])
    contents = None if task is None else contents_of(task)
    suspects = find_suspects(runs, contents=contents, label=label, **asked)
    looks = Looks(note=why) if task is None else looks_of(task, runs[0].config["task"], suspects.ids)
    return suspects, looks


def _label(text: str | None, names: tuple[str, ...] | None, classes: int | None) -> int | None:
    """The number of a class given by name or number."""
    if text is None:
        return None
    if names is not None and text in names:
        return names.index(text)
    if text.isdecimal() and (classes is None or int(text) < classes):
        return int(text)
    raise unknown("class", text, names or map(str, range(classes or 0)))


def _check_files(options: Namespace) -> None:
    """Refuse what could not be written before anything is read."""
    given = [(name, options.get(name)) for name in FILES if options.get(name) is not None]
    for name, path in given:
        file = Path(path)
        if name in ("cleanlab", "parquet") and file.suffix != FILES[name]:
            raise InvalidValue(
                f"--{name} writes a file with the ending {FILES[name]}, got {path!r}; write suspects{FILES[name]}"
            )
        if file.is_dir() or not file.resolve().parent.is_dir():
            raise InvalidValue(
                f"a file is written into a folder that exists, got --{name} {path!r}; make that folder first"
            )
    paths = [os.path.abspath(path) for _, path in given]
    if len(set(paths)) < len(paths):
        raise InvalidValue(f"each file has a name of its own, got {', '.join(path for _, path in given)}; change one")


def _write(suspects: Suspects, options: Namespace) -> dict[str, str]:
    from ..dynamics import suspects_files as files

    written: dict[str, str] = {}
    plain: dict[str, Callable[[Suspects, str], Path]] = {
        "csv": files.write_csv,
        "parquet": files.write_parquet,
        "relabel": files.write_relabelled,
    }
    for name, write in plain.items():
        if options.get(name) is not None:
            written[name] = str(write(suspects, options.get(name)))
    if options.get("cleanlab") is not None:
        issues, quality = files.write_cleanlab(suspects, options.cleanlab)
        written |= {"cleanlab": str(issues), "cleanlab quality": str(quality)}
    return written


def _result(suspects: Suspects, runs: list[Run], options: Namespace, looks: Looks) -> dict[str, Any]:
    from ..dynamics.suspects_text import plain

    return {
        **plain(suspects),
        "title": f"Suspects in {runs[0].records().namespace or runs[0].task}",
        "runs": [{"id": run.id, "name": run.name, "seed": run.seed} for run in runs],
        "pictures_note": looks.note,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "reproduce": {"command": _command(options)},
    }


def _command(options: Namespace) -> str:
    words = ["reinvest", "suspects", *options.runs, "--store", options.store]
    for name, flag in (("kind", "--kind"), ("label", "--class"), ("most", "--most")):
        if options.get(name) is not None:
            words += [flag, str(options.get(name))]
    return shlex.join([*words, *(["--no-pictures"] if options.no_pictures else [])])


def _rows(suspects: Suspects) -> list[dict[str, Any]]:
    columns = suspects.columns()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _said(file: Path, looks: Looks, written: dict[str, str]) -> list[str]:
    lines = [] if looks.note is None else [f"{looks.note[:1].upper()}{looks.note[1:]}."]
    lines.append(f"Page: {file} ({size_text(file.stat().st_size)})")
    return lines + [f"{name[:1].upper()}{name[1:]}: {path}" for name, path in written.items()]


SUSPECTS = Command(
    about=(
        "List the examples that a run's own records make suspect: labels that are probably wrong (with the label that the\n"
        "model kept saying), examples that were never learned, forgotten again and again or learned last, doubles, and\n"
        "spoiled inputs if probes of that kind were trained along. Nothing is trained: every run made with records has\n"
        "seen the losses already. The page shows each one's picture, or text, and the course of its loss against what\n"
        "is usual. A ranking always has a top: only probes (task 'planted') tell how much of it is wrong.\n\n"
        "kinds: label error, label conflict, high loss, corrupted, never learned, forgotten often, atypical, duplicate"
    ),
    examples=(
        "reinvest suspects 3f2a",
        "reinvest suspects 3f2a 77c0 --kind 'label error' --csv suspects.csv",
        "reinvest suspects 3f2a --class cat --most 200 --out cats.html",
        "reinvest suspects 3f2a --no-pictures --cleanlab issues.npy --relabel labels.csv --json",
    ),
    arguments=_arguments,
    run=_run,
)
