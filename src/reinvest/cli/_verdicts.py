"""What `demo`, `compare`, `verdict` and `report` share: the table in the terminal and the files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue
from ._output import Output


def print_table(result: dict[str, Any], out: Output) -> None:
    """The verdict table of a result on standard output (nothing with --json)."""
    if not out.as_json:
        from ..report.text import print_verdicts

        out.show(lambda console: print_verdicts(result, console))


def target(path: str) -> Path:
    """The path of a report, refused before the work begins if nothing could be written there."""
    file = Path(path).expanduser()
    if file.suffix.lower() not in (".html", ".htm"):
        raise InvalidValue(f"a report is an HTML file, got {path!r}; write --out report.html")
    if file.is_dir() or not file.resolve().parent.is_dir():
        raise InvalidValue(
            f"a report is written into a folder that exists, got {path!r}; make {str(file.resolve().parent)!r} first"
        )
    return file


def exit_code(verdicts: list[str]) -> int:
    """0 if at least one verdict was reached, 3 if every arm is "not comparable"."""
    return 3 if verdicts and all(verdict == "not comparable" for verdict in verdicts) else 0
