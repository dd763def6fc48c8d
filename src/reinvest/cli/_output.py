"""What a command says: text for a person, or exactly one JSON object; progress and notes always on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

UNITS = ("B", "kB", "MB", "GB", "TB")


class Output:
    """Text goes to standard output at once; with `as_json`, only the object given last does, at the end."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.object: Mapping[str, Any] | None = None

    def give(self, data: Mapping[str, Any], text: Callable[[], str] | None = None) -> None:
        """The command's answer: `data` as JSON, or else what `text` returns (None: it has been printed already)."""
        self.object = data
        if text is not None and not self.as_json:
            print(text())

    def note(self, text: str) -> None:
        """A remark on standard error."""
        print(text, file=sys.stderr, flush=True)

    def show(self, draw: Callable[[Any], None]) -> None:
        """Let `draw` write to a rich console on standard output; nothing with `as_json`."""
        if not self.as_json:
            from rich.console import Console

            # A pipe has no width of its own, and a table cut to 80 columns loses figures.
            draw(Console(highlight=False, width=None if sys.stdout.isatty() else 120))

    @contextlib.contextmanager
    def only(self) -> Iterator[None]:
        """With `as_json`, whatever else is printed meanwhile (by a study's own code, say) goes to standard error."""
        if not self.as_json:
            yield
            return
        sys.stdout.flush()
        kept = os.dup(1)
        try:
            os.dup2(2, 1)
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)

    def close(self) -> None:
        """Print the object, if JSON was asked for."""
        if self.as_json and self.object is not None:
            print(dump(self.object), flush=True)


def dump(data: Mapping[str, Any]) -> str:
    """One line of strict JSON: NaN and infinities, which JSON does not know, become null."""
    return json.dumps(_clean(data), ensure_ascii=False, allow_nan=False)


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return str(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns two spaces apart, those in `right` flush right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    flush = set(right)
    return "\n".join(
        "  ".join(
            cell.rjust(w) if k in flush else cell.ljust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def size_text(count: float) -> str:
    """Bytes as 512 B, 14.2 kB, 3.1 GB (powers of 1000)."""
    for unit in UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"


def time_text(seconds: float | None) -> str:
    """Seconds as 0.42 s, 8.1 s, 3 min 20 s, 2 h 5 min; "-" if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(count: int, what: str) -> str:
    """ "1 run", "2 runs", "10,000 runs"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
