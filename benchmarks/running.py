"""What benchmarks that run a plan, or simulate settings by name, do alike: their options, and how results are written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any


def plan_options(about: str | None, store: str, workers: int) -> argparse.Namespace:
    """PLAN, --store, --workers and --out of the command line, with these defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--store", type=Path, default=Path(store))
    parser.add_argument("--workers", type=int, default=workers)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def give(result: Mapping[str, Any], out: Path | None) -> None:
    """Write a result as one JSON to the file, or print it."""
    text = json.dumps(result, indent=1)
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n", encoding="utf8")


def simulate_settings(
    about: str | None, names: Iterable[str], simulate: Callable[[str, int], Mapping[str, Any]], reps: int
) -> None:
    """Print a line a setting as it is done; with --out also write them, beside those of the file that were not asked for."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=reps, help="studies of each setting")
    parser.add_argument("--out", type=Path, help="also write the lines to this file; settings not asked for stay in it")
    parser.add_argument("--only", default="", help="settings whose name starts with this")
    chosen, order = parser.parse_args(), list(names)
    kept: dict[str, str] = {}
    if chosen.out is not None and chosen.out.is_file():
        kept = {json.loads(line)["setting"]: line for line in chosen.out.read_text(encoding="utf8").splitlines()}
    for name in [n for n in order if n.startswith(chosen.only)]:
        kept[name] = json.dumps(simulate(name, chosen.reps))
        print(kept[name], flush=True)
        if chosen.out is not None:
            chosen.out.write_text("\n".join(kept[n] for n in order if n in kept) + "\n", encoding="utf8")
