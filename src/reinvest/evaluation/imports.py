"""Points out of the files of other tools: W&B, MLflow and Lightning's CSVLogger, as rows that `verdict` takes.

Each tool's file becomes a table with a row a run; which of its columns are arm, duration, seed, seconds and quality is
said by the caller, or found by the usual names. A column is named in full ("metrics.accuracy") or by its last part
("accuracy") where that is no other column's. Nothing is guessed beyond that, and what was taken is told.
"""

from __future__ import annotations

import ast
import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..core.errors import DataError, InvalidValue, unknown
from .points import REQUIRED
from .wandb_files import flat, read_run_file

TOOLS = ("wandb", "mlflow", "lightning")
USUAL: dict[str, tuple[str, ...]] = {
    "arm": ("arm",),
    "duration": ("duration", "epochs", "max_epochs", "num_epochs", "num_train_epochs", "max_steps"),
    "seed": ("seed", "random_seed"),
    "seconds": ("seconds", "train_seconds", "training_seconds", "train_time"),
    "steps": ("steps", "global_step", "train_steps"),
}
"""Column names that are taken without being asked for, the first that is there."""
CLOCKS = {"wandb": ("Runtime", "_runtime"), "mlflow": ("end_time - start_time",), "lightning": ()}
"""What each tool knows of a run's time, from its start to its end."""
ENDS: dict[str, tuple[str, ...]] = {"wandb": ("State", "state"), "mlflow": ("status",), "lightning": ()}
"""Where each tool says how a run ended."""
STATES = {1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed"}
"""MLflow's numbers for how a run ended."""

BOOLEANS = {"true": "true", "1": "true", "1.0": "true", "false": "false", "0": "false", "0.0": "false"}

Table = list[dict[str, Any]]


@dataclass(frozen=True)
class Imported:
    """rows: for `verdict`; tool; mapping: which column each field was read from; notes: what to read it with."""

    rows: list[dict[str, Any]]
    tool: str
    mapping: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What was taken for what."""
        taken = ", ".join(f"{field} = {column}" for field, column in self.mapping.items())
        return f"read {len(self.rows)} runs from {self.tool}: {taken}"


def read_wandb(path: str | Path, **columns: Any) -> Imported:
    """Runs of a W&B runs table (its CSV export), of a data frame made with `wandb.Api().runs` (summary, config, name), or
    of W&B's own run files (a folder wandb, which offline runs leave behind).

    columns: as for `read_tool`. Raises DataError for another file, CorruptFile for a damaged run file.
    """
    return read_tool("wandb", path, **columns)


def read_mlflow(path: str | Path, **columns: Any) -> Imported:
    """Runs of an MLflow CSV (`mlflow experiments csv`, `search_runs().to_csv`) or of a local store (a folder mlruns).

    columns: as for `read_tool`. Raises DataError for another file.
    """
    return read_tool("mlflow", path, **columns)


def read_lightning(path: str | Path, **columns: Any) -> Imported:
    """Runs of Lightning's CSVLogger: a folder with version_0, version_1, ..., each with metrics.csv and hparams.yaml.

    The last value of every column counts. columns: as for `read_tool`. Raises DataError for another folder.
    """
    return read_tool("lightning", path, **columns)


def read_tool(
    tool: str,
    path: str | Path,
    *,
    metric: str = "accuracy",
    arm: str | None = None,
    duration: str | None = None,
    seed: str | None = None,
    seconds: str | None = None,
    steps: str | None = None,
    percent: bool = False,
) -> Imported:
    """Runs of one of `TOOLS`. metric, arm, duration, seed, seconds, steps: columns (left out: by the usual names; seconds
    then by the tool's own clock, steps not at all); percent: quality is in per cent and becomes a share.

    Raises UnknownName for another tool, DataError for a file that is not the tool's, InvalidValue for a missing column,
    with the columns that are there.
    """
    if tool not in TOOLS:
        raise unknown("tool to import from", tool, TOOLS)
    if not Path(path).exists():
        raise DataError(f"an import needs a file or folder, got {path}, which does not exist; check the path")
    table = _READERS[tool](Path(path))
    if not table:
        raise DataError(f"an import needs at least one run, got none in {path}; check the path")
    asked = {"arm": arm, "duration": duration, "seed": seed, "seconds": seconds, "quality": metric, "steps": steps}
    mapping = _mapping(table, tool, asked, str(path))
    end = next((name for name in ENDS[tool] if any(name in run for run in table)), None)
    rows = []
    for run in table:
        row = {field: run.get(column, "") for field, column in mapping.items()}
        row["status"] = "" if end is None else run.get(end) or "unknown"
        if percent:
            row["quality"] = _hundredth(row["quality"])
        rows.append(row)
    _one_spelling(rows, "arm")
    notes = []
    if end is None:
        notes.append(
            "nothing in it says how a run ended, so every run counts as finished: take out those that broke off"
        )
    if percent and max((abs(row["quality"]) for row in rows if math.isfinite(row["quality"])), default=1.0) <= 0.01:
        notes.append(f"no {mapping['quality']} is above 1 %: leave --percent out if it is a share already")
    if seconds is None and mapping["seconds"] in CLOCKS[tool]:
        notes.append(
            f"seconds are the whole run's by {tool}'s clock ({mapping['seconds']}), with start-up, evaluation and logging: "
            "name a column of training seconds with --seconds if there is one"
        )
    return Imported(rows, tool, mapping, tuple(notes))


def sniff(path: str | Path) -> str | None:
    """The tool that wrote a file or folder, "points" for a points file, None where it is not unmistakable."""
    place = Path(path)
    if place.is_dir():
        if any(place.rglob("*.wandb")):
            return "wandb"
        # Before Lightning, since MLflow's runs may keep a metrics.csv among their artifacts.
        if any(place.glob("*/*/meta.yaml")) or any(place.glob("*/meta.yaml")):
            return "mlflow"
        if any(place.rglob("metrics.csv")):
            return "lightning"
        return None
    if place.suffix == ".wandb":
        return "wandb"
    header = set(_header(place))
    if set(REQUIRED) <= header:
        return "points"
    if {"run_id", "experiment_id"} <= header:
        return "mlflow"
    if {"Name", "State"} <= header or {"summary", "config", "name"} <= header:
        return "wandb"
    return "lightning" if place.name == "metrics.csv" and {"epoch", "step"} <= header else None


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [name.strip() for name in next(csv.reader(file, skipinitialspace=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


# ---- columns -----------------------------------------------------------------------------------------------------------


def _mapping(table: Table, tool: str, asked: Mapping[str, str | None], path: str) -> dict[str, str]:
    columns = list(dict.fromkeys(name for run in table for name in run))
    found: dict[str, str] = {}
    for field, name in asked.items():
        if name is not None:
            column = _column(columns, name)
            if column is None:
                raise _missing(field, f"got {name!r}, which {path} lacks", columns)
        else:
            names = (*USUAL[field], *(CLOCKS[tool] if field == "seconds" else ()))
            column = next((c for c in (_column(columns, n) for n in names) if c is not None), None)
            if column is None and field == "steps":
                continue
            if column is None:
                raise _missing(field, f"got none of the usual names ({', '.join(names)}) in {path}", columns)
        found[field] = column
    return found


def _column(columns: Sequence[str], name: str) -> str | None:
    """The column of that name, or the only one whose last part it is. Raises InvalidValue for several."""
    if name in columns:
        return name
    ends = [column for column in columns if column.endswith(f".{name}")]
    if len(ends) > 1:
        raise InvalidValue(f"a column is named so that one fits, got {name!r} for {', '.join(ends)}; write one in full")
    return ends[0] if ends else None


def _missing(field: str, what: str, columns: Sequence[str]) -> InvalidValue:
    option = "--metric" if field == "quality" else f"--{field}"
    return InvalidValue(f"an import needs a column of {field}, {what}; name one with {option}: {', '.join(columns)}")


def _one_spelling(rows: Table, field: str) -> None:
    """Booleans of a field as "true" and "false": a tool's forms write True, true or 1 for one and the same configuration.

    1 and 0 are booleans only where nothing but booleans is there, and some are words.
    """
    texts = ["" if row[field] is None else str(row[field]).strip().lower() for row in rows]
    words = any(text in BOOLEANS and not text[0].isdigit() for text in texts)
    alone = all(text in BOOLEANS for text in texts if text)
    for row, text in zip(rows, texts, strict=True):
        if words and text in BOOLEANS and (alone or not text[0].isdigit()):
            row[field] = BOOLEANS[text]


def _hundredth(value: Any) -> float:
    try:
        return float(value) / 100.0
    except (TypeError, ValueError):
        return math.nan


# ---- files -------------------------------------------------------------------------------------------------------------


def _csv(path: Path, tool: str) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *rows = [row for row in csv.reader(file, skipinitialspace=True) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"an export of {tool} is a readable CSV file, got {path} ({error}); check the path") from error
    names = _told_apart([name.strip() for name in head], rows)
    return [{name: cell for name, cell in zip(names, row, strict=False) if name} for row in rows]


def _told_apart(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names of columns, with their numbers where several of one name differ: W&B writes what was configured and what was
    logged under the same name."""
    found = list(names)
    for name in {n for n in names if names.count(n) > 1}:
        places = [place for place, other in enumerate(names) if other == name]
        if any(len({row[place] for place in places if place < len(row)}) > 1 for row in rows):
            for place in places:
                found[place] = f"{name} (column {place + 1})"
    return found


def _wandb(path: Path) -> Table:
    if path.is_dir() or path.suffix == ".wandb":
        # The same run may be there twice: W&B keeps a link to the latest.
        files = {file.resolve() for file in path.rglob("*.wandb")} if path.is_dir() else {path}
        return [read_run_file(file) for file in sorted(files)]
    header = set(_header(path))
    if {"summary", "config", "name"} <= header:
        return [_unpacked(row, path) for row in _csv(path, "W&B")]
    if "_step" in header and "Name" not in header:
        raise DataError(
            f"a verdict needs every run's end, got the history of one run in {path}; export the runs table of the project"
        )
    if "Name" not in header:
        raise DataError(
            f"an export of W&B has the columns Name and State, or summary, config and name, got {', '.join(header)} in "
            f"{path}; export the runs table of the project as CSV"
        )
    return _csv(path, "W&B")


def _unpacked(row: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A row of the data frame whose summary and config are dictionaries as Python prints them."""
    run: dict[str, Any] = {name: value for name, value in row.items() if name not in ("summary", "config")}
    for part in ("config", "summary"):
        text = str(row[part] or "{}")
        try:
            value = json.loads(text)
        except ValueError:
            # Python prints what is not a number as a bare word, which no literal is.
            for word in ("nan", "inf"):
                text = text.replace(f": -{word}", f": '-{word}'").replace(f": {word}", f": '{word}'")
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                raise DataError(
                    f"{part} of a W&B data frame is a dictionary as text, got {text[:60]!r} in {path}; write plain values"
                ) from None
        run |= {f"{part}.{key}": inner for key, inner in flat(value)}
    return run


def _mlflow(path: Path) -> Table:
    if path.is_dir():
        metas = [meta for meta in sorted(path.rglob("meta.yaml")) if (meta.parent / "metrics").is_dir()]
        kept = [(meta, _yaml(meta)) for meta in metas if ".trash" not in meta.relative_to(path).parts]
        # Logged models have a folder like a run's, without a run's id.
        return [
            _mlflow_run(meta, said)
            for meta, said in kept
            if (said.get("run_id") or said.get("run_uuid")) and said.get("lifecycle_stage") != "deleted"
        ]
    table = _csv(path, "MLflow")
    if table and not {"run_id", "experiment_id"} <= set(table[0]):
        raise DataError(
            f"an export of MLflow has the columns run_id and experiment_id, got {', '.join(table[0])} in {path}; write it "
            "with 'mlflow experiments csv'"
        )
    for run in table:
        run["end_time - start_time"] = _between(run.get("start_time"), run.get("end_time"))
    return table


def _between(start: Any, end: Any) -> float:
    try:
        return (datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))).total_seconds()
    except (ValueError, TypeError):
        return math.nan


def _mlflow_run(meta: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = {name: said.get(name) for name in ("run_id", "experiment_id", "run_name")}
    run["status"] = STATES.get(said.get("status", 0), str(said.get("status")))
    start, end = said.get("start_time"), said.get("end_time")
    run["end_time - start_time"] = (end - start) / 1000.0 if start and end else math.nan
    for part, read in (("params", _text), ("metrics", _latest), ("tags", _text)):
        folder = meta.parent / part
        for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if file.is_file():
                run[f"{part}.{file.relative_to(folder).as_posix()}"] = read(file)
    return run


def _text(file: Path) -> str:
    return file.read_text(encoding="utf8", errors="replace").strip()


def _latest(file: Path) -> str:
    """Of lines "timestamp value step" the value at the highest step, the last one written where several have it."""
    lines = [line.split() for line in _text(file).splitlines() if line.strip()]
    try:
        return max(enumerate(lines), key=lambda one: (int(one[1][2]) if len(one[1]) > 2 else 0, one[0]))[1][1]
    except (ValueError, IndexError):
        raise DataError(
            f"a metric of an MLflow store has lines 'timestamp value step', got others in {file}; check the store"
        ) from None


def _lightning(path: Path) -> Table:
    files = sorted(path.rglob("metrics.csv")) if path.is_dir() else [path]
    if not files or files[0].name != "metrics.csv":
        raise DataError(
            f"runs of Lightning are read from its CSVLogger's folder, which holds metrics.csv files, got {path}; pass the "
            "folder that holds version_0"
        )
    return [_lightning_run(file) for file in files]


def _lightning_run(file: Path) -> dict[str, Any]:
    folder = file.parent
    run: dict[str, Any] = {"name": folder.parent.name, "version": folder.name}
    hparams = folder / "hparams.yaml"
    if hparams.is_file():
        run |= {f"hparams.{key}": value for key, value in flat(_yaml(hparams))}
    for row in _csv(file, "Lightning"):
        run |= {key: value for key, value in row.items() if value not in (None, "")}
    return run


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(file.read_text(encoding="utf8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        raise DataError(
            f"a run is described by plain YAML, got other values in {file}; log plain values only"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"a run is described by a mapping, got {type(value).__name__} in {file}; check the file")
    return value


_READERS: dict[str, Callable[[Path], Table]] = {"wandb": _wandb, "mlflow": _mlflow, "lightning": _lightning}
