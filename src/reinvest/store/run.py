"""A run as it lies in its folder: what was decided, what it left behind. Read-only, and read only when asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.errors import CorruptFile, SchemaTooNew, StoreError, unknown
from .artifacts import PARTIAL, get_tensors
from .lock import vacant

if TYPE_CHECKING:
    from torch import Tensor

    from .records import Records

SCHEMA = 1
"""Version of run.json. A reader understands its own and older ones."""
TRUTH, CURVE, STATE = "run.json", "curve.jsonl", "state.pt"
WEIGHTS, RECORDS = "weights.safetensors", "records.safetensors"
STATUSES = ("running", "finished", "interrupted", "diverged", "failed")
ENDED = ("finished", "diverged", "failed")
SPLITS = ("train", "validation", "test")
_POSITION = ("step", "epoch", "split", "seconds")


class Summary(NamedTuple):
    """What the index knows of a run: one row."""

    id: str
    identity: str
    name: str
    task: str
    seed: int
    status: str
    created: str
    ended: str | None
    steps: int | None
    seconds: float | None
    bytes: int
    parents: str
    last: str


def read_truth(folder: Path) -> dict[str, Any]:
    """run.json of a folder. Raises FileNotFoundError, CorruptFile, SchemaTooNew."""
    path = folder / TRUTH
    try:
        data = json.loads(path.read_text(encoding="utf8"))
        schema, found, later = data["schema"], data.get("id"), data["schema"] > SCHEMA
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(
            f"{path} is not the description of a run ({error}); restore it from a copy, "
            "or remove its folder and run 'store rebuild'"
        ) from error
    if later:
        raise SchemaTooNew(
            f"{path} has schema {schema} and this version of reinvest reads up to {SCHEMA}; "
            "install the later version, or point this version at another store"
        )
    if found != folder.absolute().name:
        # The id becomes a path: a folder that was copied or made by somebody else must not speak for another one.
        raise CorruptFile(
            f"{path} must describe the run of its folder, got the id {found!r}; "
            "give the folder that name inside its store, or remove it"
        )
    return dict(data)


def read_curve(folder: Path, *, whole: bool) -> list[dict[str, Any]]:
    """The entries of curve.jsonl; metrics that were not finite are NaN.

    A process that was killed can leave half a last line: unless the curve must be `whole`, that line is left out.
    Raises CorruptFile.
    """
    path = folder / CURVE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        if whole:
            raise CorruptFile(f"{path} is missing; restore it from a copy, or train the run again") from None
        return []
    torn = lines.pop()
    entries: list[dict[str, Any]] = []
    try:
        if torn and whole:
            raise ValueError("the last line is cut off")
        for line in lines:
            entry = json.loads(line)
            entries.append({k: math.nan if v is None and k not in _POSITION else v for k, v in entry.items()})
    except (ValueError, AttributeError) as error:
        raise CorruptFile(f"{path} is damaged ({error}); restore it from a copy, or train the run again") from error
    return entries


def last_of(curve: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """split -> metric -> last value (None where it was not finite, as JSON wants it)."""
    last: dict[str, dict[str, float | None]] = {}
    for entry in curve:
        values = {k: v if math.isfinite(v) else None for k, v in entry.items() if k not in _POSITION}
        last.setdefault(entry["split"], {}).update(values)
    return last


def summarise(folder: Path, *, alive: bool | None = None) -> Summary:
    """The index row of a run folder. Raises FileNotFoundError, CorruptFile, SchemaTooNew.

    A run that says "running" while nobody holds its lock was interrupted; `alive` tells it where that is known.
    """
    try:
        return _summarise(folder, alive)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(
            f"{folder / TRUTH} is not the description of a run ({error!r}); restore it from a copy, "
            "or remove its folder and run 'store rebuild'"
        ) from error


def _summarise(folder: Path, alive: bool | None) -> Summary:
    data = read_truth(folder)
    status = data["status"]
    if status == "running" and alive is None:
        with vacant(folder) as free:
            alive = not free
            if free:
                # Its writer may have ended between the two looks.
                data = read_truth(folder)
                status = data["status"]
    if status == "running" and not alive:
        status = "interrupted"
    ended = status in ENDED
    last = data.get("last") if ended else None
    if last is None:
        last = last_of(read_curve(folder, whole=ended))
    cost = data.get("cost") or {}
    return Summary(
        id=data["id"],
        identity=data["identity"],
        name=data["name"],
        task=data["task"],
        seed=data["seed"],
        status=status,
        created=data["created"],
        ended=data.get("ended"),
        steps=data.get("steps"),
        seconds=cost.get("seconds", cost.get("wall_seconds")),
        bytes=sum(file["bytes"] for file in (data.get("files") or {}).values()),
        parents=json.dumps(data["parents"]),
        last=json.dumps(last),
    )


class Run:
    """One run of a store. Listing reads the index only; config, facts, cost and curve are read when asked for."""

    __slots__ = ("_curve", "_data", "_folder", "_summary")

    def __init__(self, folder: str | Path, summary: Summary | None = None):
        self._folder = folder
        self._summary = summarise(Path(folder)) if summary is None else summary
        self._data: dict[str, Any] | None = None
        self._curve: list[dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return f"Run({self.id!r}, name={self.name!r}, task={self.task!r}, seed={self.seed}, status={self.status!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def _row(self) -> Summary:
        if self._summary.status in ("running", "interrupted"):
            try:
                self._summary = summarise(self.path)
            except FileNotFoundError:
                return self._summary  # removed since (by gc): what was last known
            if self._summary.status not in ENDED:
                self._data = self._curve = None
        return self._summary

    def _truth(self) -> dict[str, Any]:
        status = self._row().status  # forgets what was read of a run that has not ended
        if self._data is None or self._data["status"] != status:
            self._data = read_truth(self.path)
        return self._data

    @property
    def id(self) -> str:
        """The name of its folder: 16 letters and digits of the identity, and from the second attempt on its number."""
        return self._summary.id

    @property
    def identity(self) -> str:
        """Hash of everything decided before training; runs of one identity are attempts at the same thing."""
        return self._summary.identity

    @property
    def name(self) -> str:
        """What it was recorded as: a recipe's or an arm's name, or your own."""
        return self._summary.name

    @property
    def task(self) -> str:
        """Name of the task that it was trained on."""
        return self._summary.task

    @property
    def seed(self) -> int:
        """The seed that decided its initial weights, order and draws."""
        return self._summary.seed

    @property
    def created(self) -> str:
        """When the run began, ISO 8601 in UTC."""
        return self._summary.created

    @property
    def parents(self) -> list[str]:
        """Ids of the runs this one was made from."""
        return list(json.loads(self._summary.parents))

    @property
    def reuse(self) -> list[dict[str, str]]:
        """How it was made from earlier runs: {"run": id, "how": "records", "warm start", ...} each; [] for none."""
        return list(self._truth().get("reuse") or [])

    @property
    def status(self) -> str:
        """One of `STATUSES`; "interrupted" also for a run whose process is gone."""
        return self._row().status

    @property
    def steps(self) -> int | None:
        """Optimizer steps done, if a chain counted them or the run noted them."""
        return self._row().steps

    @property
    def seconds(self) -> float | None:
        """Training seconds by the chain's clock; without a chain, seconds inside `record`; None before the end."""
        return self._row().seconds

    @property
    def bytes(self) -> int:
        """Bytes of the files a run left behind (0 before its end)."""
        return self._row().bytes

    @property
    def last(self) -> dict[str, dict[str, float | None]]:
        """split -> metric -> last value (None if it was not finite)."""
        return dict(json.loads(self._row().last))

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self._folder)

    @property
    def config(self) -> dict[str, Any]:
        """The settings that it was recorded with: those of a recipe, or your own."""
        return dict(self._truth()["config"])

    @property
    def facts(self) -> dict[str, Any]:
        """Hardware, software and what was noted."""
        return dict(self._truth()["facts"])

    @property
    def cost(self) -> dict[str, Any]:
        """seconds, warmup_seconds, wall_seconds, peak_memory (bytes), ..., as far as known."""
        return dict(self._truth().get("cost") or {})

    @property
    def training(self) -> dict[str, Any]:
        """What the chain planned: duration, total_steps, epochs, methods, ... ({} without a chain)."""
        return dict(self._truth().get("training") or {})

    @property
    def curve(self) -> list[dict[str, Any]]:
        """Entries in the order logged: step, epoch, split, seconds and the metrics."""
        ended = self._row().status in ENDED
        if self._curve is None:
            self._curve = read_curve(self.path, whole=ended)
        return [dict(entry) for entry in self._curve]

    def quality(self, metric: str, split: str = "test") -> float:
        """The last logged value of `metric` on `split`. Raises UnknownName if there is none, naming what there is."""
        last = self.last
        if split not in last:
            raise unknown(f"split of run {self.id!r}", split, last)
        if metric not in last[split]:
            raise unknown(f"{split} metric of run {self.id!r}", metric, last[split])
        value = last[split][metric]
        return math.nan if value is None else value

    def _expected(self, name: str) -> Mapping[str, Any] | None:
        if not (self.path / name).exists() and name not in (self._truth().get("files") or {}):
            call = {WEIGHTS: "run.save_weights(model.state_dict())", RECORDS: "record(..., records=True) and ids"}[name]
            raise StoreError(f"run {self.id!r} ({self.status}) kept no {name}; record it again with {call}")
        found: Mapping[str, Any] | None = (self._truth().get("files") or {}).get(name)
        return found

    def weights(self, device: str = "cpu") -> dict[str, Tensor]:
        """The saved weights by name. Raises StoreError if there are none, CorruptFile if the bytes have changed."""
        return get_tensors(self.path / WEIGHTS, self._expected(WEIGHTS), device)

    def records(self) -> Records:
        """The per-example tables, read page by page as they are used (`store verify` re-hashes them).

        Raises StoreError if there are none, CorruptFile if the file is missing, cut off or no records.
        """
        from .records import Records

        expected = self._expected(RECORDS)
        return Records.load(self.path / RECORDS, expected)

    def findings(self) -> dict[str, dict[str, Any]]:
        """What methods found while it trained, by their names; {} for nothing. Raises CorruptFile if bytes have changed."""
        from .findings import FINDINGS, get_findings

        expected = (self._truth().get("files") or {}).get(FINDINGS)
        there = expected is not None or (self.path / FINDINGS).exists()
        return get_findings(self.path / FINDINGS, expected) if there else {}

    def state_at(self, step: int) -> Any:
        """The state that it kept at `step` for runs that begin there. Raises StoreError (naming the steps), CorruptFile."""
        from .forks import get_fork

        return get_fork(self.path, step, self._truth().get("files") or {})

    def leftovers(self) -> list[Path]:
        """Files that a killed process was still writing."""
        return sorted(self.path.glob("*" + PARTIAL))
