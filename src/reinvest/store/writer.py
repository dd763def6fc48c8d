"""The writing side of a run: what `store.record(...)` hands out, and the recorder that a chain finds."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock

from ..core.energy import together
from ..core.errors import CorruptFile, InvalidValue, LoopError, unknown
from . import facts
from .accumulate import Accumulator
from .artifacts import PARTIAL, digest_of, get_state, put_json, put_state, put_tensors, sync_folder, writing
from .findings import Findings
from .forks import fork_files, put_fork
from .lineage import with_reuse
from .plain import number, plain
from .run import (
    CURVE,
    ENDED,
    RECORDS,
    SCHEMA,
    SPLITS,
    STATE,
    TRUTH,
    WEIGHTS,
    Run,
    Summary,
    last_of,
    read_curve,
    read_truth,
    summarise,
)

if TYPE_CHECKING:
    from torch import Tensor


class RunWriter:
    """One run while it is being written. Made by `Store.record`, which also ends it.

    It is the ambient recorder too: `begin`, `observe`, `end`, `state_dict` and `load_state_dict` are the chain's.
    """

    def __init__(
        self,
        folder: Path,
        lock: BaseFileLock,
        *,
        plan: dict[str, Any],
        records: Accumulator | None,
        given_facts: dict[str, Any] | None,
        publish: Callable[[Summary], None],
    ):
        self.path, self.ended = folder, False
        self._lock, self._publish = lock, publish
        self._records, self._findings = records, Findings(folder)
        self._given_facts, self._facts_known = given_facts, given_facts is not None
        self._before_facts: dict[str, Any] | None = None
        self._begun = self._diverged = False
        self._files: dict[str, dict[str, Any]] = {}
        self._where: Callable[[], Mapping[str, Any]] | None = None
        self._done: dict[str, Any] = {"steps": None, "clock": {}}
        self._charged: dict[str, Any] = {}
        self._began = time.monotonic()
        self._resumed = (folder / TRUTH).exists()
        if self._resumed:
            self._data = self._reopen(plan)
        else:
            self._data = {"schema": SCHEMA, **plan, "created": facts.now(), "ended": None, "curve": CURVE}
            self._data |= {"steps": None, "cost": {}, "training": {}, "facts": self._facts(), "files": {}}
        self._before = float(self._data["cost"].get("wall_seconds", 0.0))
        self._data["status"] = "running"
        # Unless the loop loads the state, what an earlier session logged is dropped at the first log.
        self._stale = self._resumed
        self._write_truth()
        with writing(folder / CURVE):
            self._curve = open(folder / CURVE, "ab", buffering=0)  # noqa: SIM115 - open as long as the run
        try:
            publish(summarise(folder, alive=True))
        except BaseException:
            self._curve.close()
            raise

    def _reopen(self, plan: dict[str, Any]) -> dict[str, Any]:
        for path in self.path.glob("*" + PARTIAL):
            path.unlink()
        data = read_truth(self.path)
        self._before_facts = dict(data["facts"])
        if self._facts_known:
            data["facts"] = facts.continued(self._before_facts, self._before_facts | self._facts())
        data["ended"] = None
        return data | {"config": plan["config"]}

    def _facts(self, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
        given = self._given_facts
        return facts.found(about or {}) if given is None else dict(plain(given, "facts"))

    def _see_machine(self, about: Mapping[str, Any] | None = None) -> None:
        """Find out about the machine, unless told; once more for each chain, whose plan may name a device."""
        if not self._facts_known:
            self._data["facts"] |= self._facts(about)
        self._compare_machines()

    def _compare_machines(self) -> None:
        if self._before_facts is not None:
            self._data["facts"] = facts.continued(self._before_facts, self._data["facts"])

    @property
    def id(self) -> str:
        """The name of the run's folder."""
        return str(self._data["id"])

    @property
    def identity(self) -> str:
        """Hash of everything decided before training."""
        return str(self._data["identity"])

    @property
    def resumed(self) -> bool:
        """Whether an interrupted run was opened again (then `load_state()` may hold where it was)."""
        return self._resumed

    @property
    def run(self) -> Run:
        """The run as others see it."""
        return Run(self.path, summarise(self.path, alive=not self.ended))

    def log(
        self,
        *,
        split: str,
        step: int | None = None,
        epoch: int | None = None,
        seconds: float | None = None,
        **metrics: Any,
    ) -> None:
        """Append one entry to the curve: numbers by name, measured on "train", "validation" or "test".

        `step`, `epoch` and `seconds` (of training, so far) are the attached chain's unless given. A metric that
        is NaN or infinite marks the run as diverged, whatever follows; leave out what is not defined.
        Raises UnknownName for another split, InvalidValue for what is no number, StoreUnwritable.
        """
        self._open()
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if not metrics:
            raise InvalidValue(
                f"a curve entry has at least one metric, got none for {split!r}; "
                f"write log(split={split!r}, accuracy=...)"
            )
        values = {name: number(value, f"metric {name!r}") for name, value in metrics.items()}
        self._diverged |= not all(map(math.isfinite, values.values()))
        given = {"step": step, "epoch": epoch, "seconds": seconds}
        stands = self._where() if self._where is not None and None in given.values() else {}
        entry = {k: v if v is not None else stands.get(k) for k, v in given.items()}
        entry |= {"split": split} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._start_over()
        line = (json.dumps(plain(entry, "a curve entry"), ensure_ascii=False) + "\n").encode("utf8")
        with writing(self.path / CURVE):
            size = os.fstat(self._curve.fileno()).st_size
            try:
                if self._curve.write(line) != len(line):
                    # What is left of a full disk took half the line; the second attempt names the reason.
                    os.ftruncate(self._curve.fileno(), size)
                    self._curve.write(line)
            except OSError:
                os.ftruncate(self._curve.fileno(), size)
                raise

    def save_weights(self, state: Mapping[str, Tensor]) -> None:
        """Keep named tensors (a state_dict) as the run's weights, replacing earlier ones.

        Raises InvalidValue for what is no tensor, StoreUnwritable.
        """
        self._open()
        self._files[WEIGHTS] = put_tensors(self.path / WEIGHTS, state)

    def save_state(self, state: Any) -> None:
        """Keep what a resume needs: tensors and plain values, as deep as you like. Replaces the state before.

        Raises InvalidValue for other objects, StoreUnwritable.
        """
        self._open()
        self._start_over()
        with writing(self.path / CURVE):
            os.fsync(self._curve.fileno())
            size = os.fstat(self._curve.fileno()).st_size
        whole = {"state": state, "curve_bytes": size, "wall_seconds": self._wall(), "diverged": self._diverged}
        put_state(self.path / STATE, whole | {"done": self._done, "findings": self._findings.found})

    def load_state(self) -> Any:
        """The last saved state, tensors on the CPU, or None if there is none. The curve goes back to that moment.

        Raises CorruptFile (nothing in the file is executed).
        """
        self._open()
        path = self.path / STATE
        if not path.exists():
            return None
        whole = get_state(path)
        try:
            size, self._before = int(whole["curve_bytes"]), float(whole["wall_seconds"])
            self._diverged, self._done = bool(whole["diverged"]), dict(whole["done"])
            state, self._findings.found = whole["state"], dict(whole.get("findings") or {})
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} is no saved state ({error!r}); delete it to start the run over") from error
        if size > os.fstat(self._curve.fileno()).st_size:
            raise CorruptFile(
                f"{self.path / CURVE} is shorter than when {path.name} was saved; delete {path} to start the run over"
            )
        os.ftruncate(self._curve.fileno(), size)
        self._began = time.monotonic()
        self._stale = False
        return state

    def keep_state(self, step: int, state: Any) -> None:
        """Keep the state at `step` for good, so that other runs can begin there. Raises as `save_state` does."""
        self._open()
        put_fork(self.path, step, state)

    def note(self, **more: Any) -> None:
        """Add plain values to the run's facts; "hardware" and "software" replace what was found."""
        self._open()
        self._facts_known |= "hardware" in more
        self._data["facts"] |= plain(more, "a fact")

    def charge(self, **cost: Any) -> None:
        """Add to the run's cost: seconds, warmup_seconds, peak_memory (bytes), energy, price, ... (plain values)."""
        self._open()
        self._charged |= plain(cost, "a cost")

    def begin(self, about: dict[str, Any]) -> None:
        """A chain starts: its plan is kept, and the tables of the records are planned.

        about["where"], which is not kept, tells `log` where training stands: {"step", "epoch", "seconds"}; about["draws"]
        tells the records from which (seed, epoch) the views of the present epoch are drawn.
        """
        self._open()
        about = dict(about)
        self._where, view, draws = (about.pop(name, None) for name in ("where", "view", "draws"))
        parents = self._data["parents"]
        self._data |= with_reuse(self._data, about.pop("reuse", []))
        plan = plain({name: value for name, value in about.items() if name != "device"}, "the plan of the chain")
        if not self._data["training"] and not self._facts_known:
            self._before_facts = None  # interrupted before a chain had said what it trains on
        self._data["training"], self._begun = plan, True
        self._see_machine(about)
        self._write_truth()
        if self._data["parents"] != parents:
            # Known from now on: a parent that nobody knows of would be removed while its child trains.
            self._publish(summarise(self.path, alive=True))
        if self._records is not None:
            steps, each = about.get("total_steps"), about.get("steps_per_epoch")
            epochs = steps / each if steps and each else about.get("epochs")
            self._records.begin(about.get("examples"), epochs, view, draws)

    @property
    def observing(self) -> bool:
        """Whether per-example records are kept."""
        return self._records is not None

    def observe(
        self, epoch: int, ids: Tensor, losses: Tensor, output: Tensor, targets: Tensor, valid: Tensor | None
    ) -> None:
        """One batch of a chain: ids [B], raw losses [B], output [B, C], original targets [B], valid [B] or None."""
        if self._records is not None:
            self._records.observe(epoch, ids, losses, output, targets, valid)

    def end(self, about: dict[str, Any]) -> None:
        """A chain stops: steps and clock become the run's cost; those of several chains in one run add up."""
        self._where = None
        found = plain(self._findings.take(about), "the end of the chain")
        clock = found.get("clock") or {}
        if found.get("steps") is not None:
            self._done["steps"] = (self._done["steps"] or 0) + found["steps"]
        for name, value in clock.items():
            old = self._done["clock"].get(name)
            both = isinstance(old, int | float) and isinstance(value, int | float)
            self._done["clock"][name] = old + value if both else value
        self._done["used"] = together(self._done.get("used") or {}, found.get("used") or {})
        if self.ended:
            # The run was ended inside the chain (it diverged, say): what it cost and found belongs to it all the same.
            self._data["files"] = dict(sorted((self._data["files"] | self._findings.files()).items()))
            self._account()
            self._write_truth()
            self._publish(summarise(self.path))

    def state_dict(self) -> dict[str, Any]:
        """The records so far ({} if none are kept): part of a checkpoint."""
        return {} if self._records is None else self._records.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the records from `state_dict()`."""
        if self._records is not None and state:
            self._records.load_state_dict(state)

    def finish(self, status: str = "finished") -> None:
        """End the run as "finished", "diverged" or "failed". Leaving the `with` block does it too.

        First the files and their hashes, then run.json, then the index: whatever happens in between, a run that says
        finished is whole. A run in which a metric was not finite ends as diverged. Raises StoreUnwritable.
        """
        self._open()
        if status not in ENDED:
            raise unknown("status to finish with", status, ENDED)
        if self._records is not None:
            tables, about = self._records.tensors()
            self._data["records"] = {k: v for k, v in about.items() if k != "class_names"}
            if tables:
                self._files[RECORDS] = put_tensors(self.path / RECORDS, tables, about)
            else:
                (self.path / RECORDS).unlink(missing_ok=True)
        self._start_over()
        with writing(self.path / CURVE):
            os.fsync(self._curve.fileno())
        self._files[CURVE] = digest_of(self.path / CURVE)
        if WEIGHTS not in self._files and (self.path / WEIGHTS).exists():
            self._files[WEIGHTS] = digest_of(self.path / WEIGHTS)
        self._files |= self._findings.files() | fork_files(self.path)
        with writing(self.path):
            sync_folder(self.path)
        curve = read_curve(self.path, whole=True)
        self._account()
        self._data |= {
            "status": "diverged" if self._diverged and status == "finished" else status,
            "ended": facts.now(),
            "last": last_of(curve),
            "files": dict(sorted(self._files.items())),
        }
        self._write_truth()
        self._close()
        self._publish(summarise(self.path))
        (self.path / STATE).unlink(missing_ok=True)

    def interrupt(self) -> None:
        """End this session, leaving the run to be resumed.

        Raises StoreUnwritable, and the run is interrupted all the same: nobody holds it any more.
        """
        if self.ended:
            return
        try:
            # The interruption may have come right after the run was sealed.
            if read_truth(self.path)["status"] not in ENDED:
                self._account()
                self._data |= {"status": "interrupted", "ended": None}
                self._write_truth()
        finally:
            self._close()
        self._publish(summarise(self.path, alive=False))

    def release(self) -> None:
        """Let other processes have the run."""
        self._lock.release()

    def _open(self) -> None:
        if self.ended:
            raise LoopError(
                f"a run that has ended takes nothing more, and run {self.id!r} has; "
                "log, save and note before finish() and inside the with block"
            )

    def _start_over(self) -> None:
        if self._stale:
            os.ftruncate(self._curve.fileno(), 0)
            (self.path / STATE).unlink(missing_ok=True)
            if WEIGHTS not in self._files:
                (self.path / WEIGHTS).unlink(missing_ok=True)
            self._findings.start_over()
            self._before, self._stale = 0.0, False

    def _wall(self) -> float:
        return self._before + time.monotonic() - self._began

    def _account(self) -> None:
        found = {"wall_seconds": round(self._wall(), 6), **(self._done.get("used") or facts.peak())}
        self._data["cost"] = found | self._done["clock"] | self._charged
        self._data["steps"] = self._done["steps"]
        if self._resumed and not self._begun and not self._data["training"]:
            self._see_machine()
        elif self._begun or self._facts_known:
            self._compare_machines()

    def _write_truth(self) -> None:
        put_json(self.path / TRUTH, self._data)
        with writing(self.path):
            sync_folder(self.path)

    def _close(self) -> None:
        self.ended = True
        self._curve.close()
        if self._records is not None:
            self._records.discard()
