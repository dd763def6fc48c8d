from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from reinvest.core.errors import AlreadyFinished, InvalidValue, RunBusy, StoreError, StoreUnwritable, UnknownName
from reinvest.core.protocols import IDENTITY_VARIABLE
from reinvest.store import Run, RunWriter, Store, artifacts

Record = Callable[..., AbstractContextManager[RunWriter]]
FACTS = {"hardware": {}, "software": {}}


@pytest.mark.parametrize("url", ["postgresql://host/db", "s3://bucket/runs", "sqlite:///runs.db", ""])
def test_only_folders_are_stores(url: str) -> None:
    with pytest.raises(InvalidValue, match="a store is a folder"):
        Store(url)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidValue, match="got the file"):
        Store(tmp_path / "file")


def test_reading_a_store_that_is_not_there_creates_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert (store.runs(), store.tree(), store.verify(), store.size(), store.rebuild()) == ([], [], [], 0, 0)
    assert store.find("x") is None and store.gc().runs == []
    with pytest.raises(UnknownName, match="no run 'x' among the 0"):
        store.get("x")
    assert not store.path.exists()


def test_runs_are_listed_by_age_and_filtered(
    store: Store, finished: Callable[..., Run], interrupted: Callable[..., Run]
) -> None:
    a, b, c = finished("a"), interrupted("b"), finished("a", task="mnist")
    assert store.runs() == [a, b, c]
    assert store.runs(task="mnist") == [c] and store.runs(name="a") == [a, c]
    assert store.runs(status="interrupted") == [b]
    assert store.runs(where="task=digits and status=finished") == [a]
    assert store.runs(task="none") == []
    with pytest.raises(UnknownName, match="did you mean 'finished'"):
        store.runs(status="finish")


def test_get_takes_an_id_or_a_prefix_and_names_the_nearest(store: Store, finished: Callable[..., Run]) -> None:
    first, again, other = finished(), finished(), finished("other")
    assert again.id == first.id + "-2"
    assert store.get(first.id) == first and store.get(again.id) == again and store.get(other.id[:6]) == other
    with pytest.raises(InvalidValue, match=f"for 2: {first.id}, {again.id}"):
        store.get(first.id[:6])
    wrong = ("x" if other.id[0] != "x" else "y") + other.id[1:]
    with pytest.raises(UnknownName, match=f"no run '{wrong}' among the 3 of .*; nearest: {other.id}"):
        store.get(wrong)
    with pytest.raises(UnknownName):
        store.get("")


def test_a_finished_run_stays_and_the_next_is_another_attempt(store: Store, finished: Callable[..., Run]) -> None:
    first, second = finished(accuracy=0.1), finished(accuracy=0.2)
    assert first.identity == second.identity and first.id != second.id
    assert store.find(first.identity) == second
    assert first.quality("accuracy", "validation") == 0.1


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_what_another_process_ended_while_this_one_waited_is_not_repeated(
    store: Store, record: Record, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    from reinvest.store import store as module

    def hold(folder: Path) -> Any:
        monkeypatch.undo()
        with Store(store.path) as other, other.record("mine", task="digits", identity="x", facts=FACTS) as writer:
            writer.log(split="test", accuracy=0.5)
            writer.finish(status)
        return module.hold(folder)

    for hurry in (hold, module.hold):
        monkeypatch.setattr(module, "hold", hurry)
        with pytest.raises(AlreadyFinished, match=f"has {status}") as raised, record(identity="x", once=True):
            raise AssertionError("trained again")
        run = raised.value.run
        assert isinstance(raised.value, StoreError) and isinstance(run, Run)
        assert (run.identity, run.status, run.quality("accuracy")) == ("x", status, 0.5)
    assert store.runs() == [run]
    with record(identity="x") as again:
        pass
    assert again.id == f"{run.id}-2"


def test_once_continues_interrupted_runs_and_repeats_failed_ones(store: Store, record: Record) -> None:
    with pytest.raises(ZeroDivisionError), record(identity="x", once=True) as first:
        raise ZeroDivisionError
    with record(identity="x", once=True) as second:
        assert second.resumed and second.id == first.id
        second.finish("failed")
    with record(identity="x", once=True) as third:
        assert third.id == f"{first.id}-2"
    with pytest.raises(AlreadyFinished) as raised, record(identity="x", once=True):
        pass
    assert raised.value.run == third.run


def test_identity_given_from_outside(store: Store, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    with record(identity="ab" * 32) as given:
        pass
    assert given.identity == "ab" * 32 and given.id == "ab" * 8
    with record(identity="any text") as text:
        pass
    assert store.find("any text") == text.run and len(text.id) == 16
    monkeypatch.setenv(IDENTITY_VARIABLE, "cd" * 16)
    with record() as environment:
        pass
    assert store.find("cd" * 16) == environment.run


def test_find_takes_other_statuses_when_asked(store: Store, record: Record, interrupted: Callable[..., Run]) -> None:
    run = interrupted()
    assert store.find(run.identity) is None and store.find(run.identity, status="interrupted") == run
    with record() as writer:
        writer.finish("diverged")
    assert store.find(run.identity) is None
    assert store.find(run.identity, status=("finished", "diverged")) == writer.run


@pytest.mark.parametrize(
    "bad",
    [{"name": ""}, {"task": None}, {"seed": 1.5}, {"seed": True}, {"seed": 2**63}, {"config": {"f": len}},
     {"config": {"lr": float("nan")}}, {"parents": "abc"}],
)  # fmt: skip
def test_bad_values_are_refused_before_anything_is_written(store: Store, record: Record, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue), record(**({"name": "mine"} | bad)):
        pass
    assert not store.path.exists()


def test_parents_must_be_known(record: Record) -> None:
    with pytest.raises(UnknownName, match="no run 'abc'"), record(parents=["abc"]):
        pass


def test_the_same_run_is_written_once_at_a_time(store: Store, record: Record) -> None:
    code = (
        "import sys\nfrom reinvest.store import Store\n"
        f"with Store({str(store.path)!r}).record('mine', task='digits', facts={{}}, records=False) as run: pass"
    )
    with record() as writer:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "RunBusy: a run has one writer, and another process is writing" in done.stderr
        with pytest.raises(RunBusy), record():
            pass
        assert store.get(writer.id).status == "running"
    assert len(store.runs()) == 1


MANY = """
import sys
from reinvest.store import Store
with Store(sys.argv[1]) as store:
    for k in range(25):
        with store.record("many", task="digits", seed=int(sys.argv[2]) * 25 + k, facts={}, records=False) as run:
            run.log(split="validation", accuracy=k / 25)
        store.runs(status="running")
"""


def test_four_processes_write_25_runs_each_into_one_store(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", MANY, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(k)], stderr=subprocess.PIPE, text=True) for k in range(4)]
    errors = [process.communicate()[1] for process in processes]
    assert errors == [""] * 4
    with Store(tmp_path) as store:
        assert sorted(run.seed for run in store.runs(status="finished")) == list(range(100))
        assert sorted(run.id for run in store.runs()) == sorted(p.name for p in (tmp_path / "runs").iterdir())
        assert store.verify() == []
        rows = store._index.rows()
        assert store.rebuild() == 100 and store._index.rows() == rows


def test_copies_of_one_run_at_once_end_as_attempts_or_busy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom reinvest.store import Store\nfrom reinvest.core.errors import RunBusy\n"
        "for _ in range(4):\n"
        "    try:\n"
        f"        with Store({str(tmp_path)!r}).record('one', task='digits', facts={{}}, records=False) as run: pass\n"
        "    except RunBusy: print('busy')\n"
        "    else: print(run.id)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = " ".join(process.communicate()[0] for process in processes).split()
    ids = [word for word in printed if word != "busy"]
    assert len(printed) == 12 and len(ids) == len(set(ids))
    with Store(tmp_path) as store:
        assert sorted(run.id for run in store.runs(status="finished")) == sorted(ids)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own on `folder`; the test is skipped where mounting is not allowed."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting is not allowed here; the tests with RLIMIT_FSIZE and ENOSPC stand in")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    path = folder / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return path


@pytest.mark.parametrize("moment", ["before", "weights", "log", "state", "finish"])
def test_a_full_disk_is_one_sentence_and_no_half_run_is_finished(tmp_path: Path, moment: str) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk, Store(disk / "runs") as store:
        with store.record("good", task="digits", facts=FACTS) as writer:
            writer.log(split="validation", accuracy=0.5)
        if moment == "before":
            ballast = fill(disk)
        refused = pytest.raises(StoreUnwritable, match=r"must be writable.*free some space")
        with refused, store.record("bad", task="digits", facts=FACTS) as bad:
            bad.log(split="validation", accuracy=0.9)
            bad.save_weights({"w": torch.ones(1000)})
            ballast = fill(disk)
            if moment == "weights":
                bad.save_weights({"w": torch.ones(100_000)})
            if moment == "state":
                bad.save_state({"w": torch.ones(100_000)})
            while moment == "log":
                bad.log(split="train", loss=1.0)
        # Reading works on the full disk, in this process and in a fresh one.
        for reader in (store, Store(disk / "runs")):
            assert [run.name for run in reader.runs(status="finished")] == ["good"]
            assert [run.status for run in reader.runs(name="bad")] in (["interrupted"], [])
            reader.close()
        ballast.unlink()
        assert [p for p in store.verify() if "run.json" not in p.file] == []
        with store.record("bad", task="digits", facts=FACTS) as again:
            again.log(split="validation", accuracy=0.8)
        assert [(r.name, r.status) for r in store.runs()] == [("good", "finished"), ("bad", "finished")]
        assert store.verify() == [] and len(again.run.curve) == 1
        assert not list(store.path.rglob("*.partial"))


def test_gc_makes_room_on_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk, Store(disk / "runs") as store:
        for seed in range(2):
            with store.record("large", task="digits", seed=seed, facts=FACTS) as writer:
                writer.save_weights({"w": torch.ones(100_000)})
        store.close()
        fill(disk)
        assert len(store.gc(delete=True, where="seed=0").runs) == 1
        assert [run.seed for run in store.runs()] == [1] and store.verify() == []


def test_a_read_only_disk_is_one_sentence_and_can_be_read(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "tmpfs") as disk:
        with Store(disk / "runs") as store, store.record("good", task="digits", facts=FACTS) as writer:
            writer.log(split="validation", accuracy=0.5)
        for index in (True, False):
            if not index:
                subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
                (disk / "runs" / "index.sqlite").unlink()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with Store(disk / "runs") as store:
                assert [run.status for run in store.runs()] == ["finished"] and store.verify() == []
                refused = pytest.raises(StoreUnwritable, match="read-only")
                with refused, store.record("bad", task="digits", facts=FACTS):
                    pass
                for act in (store.rebuild, lambda: store.gc(delete=True, where="name=good")):
                    with pytest.raises(StoreUnwritable):
                        act()
                assert [run.name for run in store.runs()] == ["good"]


LIMITED = """
import resource, sys
from reinvest.core.errors import StoreUnwritable
from reinvest.store import Store
store = Store(sys.argv[1])
with store.record("good", task="digits", facts={}, records=False): pass
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with store.record("bad", task="digits", facts={}, records=False) as run:
        while True: run.log(split="train", loss=1.0, step=10**9)
except StoreUnwritable as error:
    print(error)
print([(r.name, r.status) for r in store.runs()])
"""


@pytest.mark.parametrize("limit", [0, 100, 5000])
def test_a_limit_on_file_sizes_acts_like_a_full_disk(tmp_path: Path, limit: int) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path), str(limit)], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "the store must be writable" in lines[0] and "('good', 'finished')" in lines[1]
    with Store(tmp_path) as store:
        assert [run.name for run in store.runs(status="finished")] == ["good"]
        assert all(run.status == "interrupted" for run in store.runs(name="bad"))


@pytest.mark.parametrize("call", range(1, 12))
def test_an_error_at_any_write_leaves_a_store_that_makes_sense(
    store: Store, record: Record, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The k-th flush to the disk and all after it fail."""
    calls = 0
    real = os.fsync

    def fail(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "fsync", fail)
        try:
            with record() as writer:
                writer.log(split="validation", accuracy=0.5)
                writer.save_state({"a": 1})
                writer.save_weights({"w": torch.ones(3)})
            finished = True
        except StoreUnwritable:
            # All files were durable and run.json renamed when the last flushes failed: the run is whole.
            finished = call >= 9
    with record() as writer:
        assert (writer.id.endswith("-2")) is finished
        writer.log(split="validation", accuracy=0.6)
    statuses = [run.status for run in store.runs()]
    assert statuses == (["finished"] * 2 if finished else ["finished"])
    assert store.verify() == [] and store.rebuild() == len(statuses)


def test_the_first_error_is_the_one_seen(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError) as caught, record():
        patch.setattr(artifacts.os, "fsync", fail)
        raise ZeroDivisionError
    assert "while ending run" in caught.value.__notes__[0]
