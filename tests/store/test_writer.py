from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from reinvest.core.errors import CorruptFile, InvalidValue, LoopError, UnknownName
from reinvest.core.protocols import Recorder, current_recorder
from reinvest.store import Run, RunWriter, Store

Record = Callable[..., AbstractContextManager[RunWriter]]


def test_the_writer_is_the_ambient_recorder_while_the_block_lasts(record: Record) -> None:
    assert current_recorder.get() is None
    with record("outer") as outer:
        recorder: Recorder = outer
        assert current_recorder.get() is recorder
        with record("inner") as inner:
            assert current_recorder.get() is inner
        assert current_recorder.get() is outer
    assert current_recorder.get() is None
    with pytest.raises(ZeroDivisionError), record("broken"):
        raise ZeroDivisionError
    assert current_recorder.get() is None


def test_a_chain_leaves_records_plan_and_cost(record: Record) -> None:
    with record() as writer:
        assert writer.observing
        writer.begin({"duration": "2ep", "total_steps": 4, "epochs": 2, "examples": 4, "methods": [{"name": "EMA"}]})
        for epoch in range(2):
            for half in (0, 2):
                ids = torch.tensor([half, half + 1])
                writer.observe(epoch, ids, torch.ones(2), torch.eye(2), torch.tensor([0, 1]), None)
        writer.end({"steps": 4, "clock": {"seconds": 1.5, "warmup_seconds": 0.5, "wall_seconds": 3.0}})
    run = writer.run
    assert run.steps == 4 and run.seconds == 1.5 and run.cost["wall_seconds"] == 3.0
    assert run.training["duration"] == "2ep" and run.training["methods"] == [{"name": "EMA"}]
    assert run.records().loss.tolist() == [[1] * 4] * 2 and run.records().seen.tolist() == [2] * 4
    assert "records.safetensors" in json.loads((run.path / "run.json").read_text())["files"]


def test_without_records_nothing_is_observed(record: Record) -> None:
    with record(records=False) as writer:
        assert not writer.observing
        writer.begin({"epochs": 1, "examples": 4})
        writer.observe(0, torch.zeros(1).long(), torch.ones(1), torch.ones(1, 2), torch.zeros(1).long(), None)
        assert writer.state_dict() == {}
        writer.load_state_dict({})
    assert not (writer.path / "records.safetensors").exists()


def test_costs_of_two_chains_in_one_run_add_up(record: Record) -> None:
    with record() as writer:
        for _ in range(2):
            writer.begin({"epochs": 1, "examples": 4})
            writer.end({"steps": 5, "clock": {"seconds": 2.0}})
        writer.charge(price=0.1)
    assert writer.run.steps == 10 and writer.run.seconds == 4.0 and writer.run.cost["price"] == 0.1


def test_what_chains_used_adds_up_over_an_interruption_too(store: Store, record: Record) -> None:
    used = {"peak_memory": 900, "peak_memory_of": "device", "energy_joules": 4.0, "energy_seconds": 2.0}
    with pytest.raises(KeyboardInterrupt), record() as writer:
        writer.begin({"epochs": 1, "examples": 4})
        writer.end({"steps": 5, "clock": {"seconds": 2.0}, "used": used})
        writer.save_state({"chain": 1})
        raise KeyboardInterrupt
    with record() as again:
        assert again.load_state() == {"chain": 1}
        again.begin({"epochs": 1, "examples": 4})
        again.end({"steps": 5, "clock": {"seconds": 2.0}, "used": used | {"peak_memory": 700}})
    cost = store.get(again.id).cost
    assert cost == cost | used | {"energy_joules": 8.0, "energy_seconds": 4.0} and cost["seconds"] == 4.0


def test_the_device_of_a_chain_is_among_the_facts_and_not_in_its_plan(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def found(about: dict[str, object]) -> dict[str, object]:
        asked.append(about.get("device"))
        return {"hardware": {"device": str(about.get("device"))}, "software": {}}

    monkeypatch.setattr("reinvest.store.facts.found", found)
    with store.record("mine", task="digits") as writer:
        writer.begin({"epochs": 1, "examples": 4, "device": "cuda:1"})
    assert asked == [None, "cuda:1"] and writer.run.facts["hardware"] == {"device": "cuda:1"}
    assert "device" not in writer.run.training


def test_a_chain_that_ends_after_the_run_was_ended_still_counts(store: Store, record: Record) -> None:
    with record() as writer:
        writer.finish("diverged")
        writer.end({"steps": 3, "clock": {"seconds": 2.0}})
    run = store.get(writer.id)
    assert (run.status, run.steps, run.seconds) == ("diverged", 3, 2.0) and store.verify() == []


def test_facts_that_were_noted_are_not_overwritten_by_a_chain(store: Store) -> None:
    with store.record("mine", task="digits") as writer:
        assert writer.run.facts["software"]["torch"] == torch.__version__
        writer.note(hardware={"device": "noted"})
        writer.begin({"epochs": 1, "examples": 1})
    assert writer.run.facts["hardware"] == {"device": "noted"}


def test_where_training_stands_is_logged_unless_told_otherwise(record: Record) -> None:
    with record() as writer:
        stands = {"step": 5, "epoch": 1, "seconds": 2.5}
        about = {"duration": "2ep", "epochs": 2, "examples": 4, "where": lambda: stands}
        writer.begin(about)
        writer.log(split="validation", accuracy=torch.tensor(0.5))
        writer.log(split="validation", accuracy=0.5, step=6)
        stands = {"step": 7, "epoch": 2, "seconds": 3.5}
        writer.log(split="validation", accuracy=0.5)
        writer.end({"steps": 7})
        writer.log(split="test", accuracy=0.5)
    logged = [(e["step"], e["epoch"], e["seconds"]) for e in writer.run.curve]
    assert logged == [(5, 1, 2.5), (6, 1, 2.5), (7, 2, 3.5), (None, None, None)]
    assert "where" in about and "where" not in writer.run.training and writer.run.training["duration"] == "2ep"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_means_diverged(record: Record, value: float) -> None:
    with record() as writer:
        writer.log(split="train", loss=value)
        writer.log(split="train", loss=1.0)
    assert writer.run.status == "diverged"


@pytest.mark.parametrize("status", ["finished", "diverged", "failed"])
def test_a_run_ends_once(record: Record, status: str) -> None:
    with record() as writer:
        writer.save_state({"a": 1})
        writer.finish(status)
        for act in (
            lambda: writer.log(split="test", accuracy=1),
            lambda: writer.save_weights({}),
            lambda: writer.save_state(1),
            lambda: writer.note(a=1),
            writer.finish,
        ):
            with pytest.raises(LoopError, match="has ended takes nothing more"):
                act()
    assert writer.run.status == status and not (writer.path / "state.pt").exists()


def test_bad_entries_are_refused_and_the_run_goes_on(record: Record) -> None:
    with record() as writer:
        with pytest.raises(UnknownName, match="did you mean 'validation'"):
            writer.log(split="valid", accuracy=1)
        with pytest.raises(InvalidValue, match="at least one metric"):
            writer.log(split="test")
        with pytest.raises(InvalidValue, match="metric 'accuracy' must be one number"):
            writer.log(split="test", accuracy=torch.zeros(2))
        with pytest.raises(UnknownName, match="Known: diverged, failed, finished"):
            writer.finish("done")
        with pytest.raises(InvalidValue):
            writer.note(model=object())
        writer.log(split="test", accuracy=0.5)
    assert writer.run.status == "finished" and len(writer.run.curve) == 1


def test_an_exception_leaves_the_run_interrupted_with_what_was_logged(store: Store, record: Record) -> None:
    with pytest.raises(KeyboardInterrupt), record() as writer:
        writer.log(split="train", loss=1.0)
        raise KeyboardInterrupt
    run = store.get(writer.id)
    assert run.status == "interrupted" and run.curve[0]["loss"] == 1.0
    assert store.runs(status="interrupted") == [run] and store.runs(status="running") == []


def test_an_interrupted_run_is_opened_again_where_its_state_was_saved(record: Record) -> None:
    with pytest.raises(ZeroDivisionError), record() as first:
        assert not first.resumed and first.load_state() is None
        first.log(split="train", loss=3.0, step=1)
        first.save_state({"w": torch.arange(3), "step": 1})
        first.log(split="train", loss=2.0, step=2)
        raise ZeroDivisionError
    with record() as second:
        assert second.id == first.id and second.resumed
        state = second.load_state()
        assert state["step"] == 1 and state["w"].tolist() == [0, 1, 2]
        second.log(split="train", loss=1.5, step=2)
    assert [e["loss"] for e in second.run.curve] == [3.0, 1.5]
    data = json.loads((second.path / "run.json").read_text())
    assert "sessions" not in data and "mixed" not in data["facts"]


def test_a_loop_that_does_not_load_its_state_starts_over(record: Record) -> None:
    with pytest.raises(ZeroDivisionError), record() as first:
        first.log(split="train", loss=3.0)
        first.save_weights({"w": torch.ones(1)})
        first.save_state(1)
        raise ZeroDivisionError
    with record() as second:
        second.log(split="train", loss=1.0)
    assert [e["loss"] for e in second.run.curve] == [1.0]
    assert not (second.path / "weights.safetensors").exists() and not (second.path / "state.pt").exists()


def test_a_divergence_before_the_saved_state_is_remembered(record: Record) -> None:
    with pytest.raises(ZeroDivisionError), record() as first:
        first.log(split="train", loss=math.nan)
        first.save_state(1)
        raise ZeroDivisionError
    with record() as second:
        second.load_state()
    assert second.run.status == "diverged"


def test_resuming_on_other_hardware_is_noted(record: Record) -> None:
    with pytest.raises(ZeroDivisionError), record() as first:
        first.save_state(1)
        raise ZeroDivisionError
    other = {"hardware": {"device": "other", "threads": 1}, "software": {"torch": "2.13.0"}}
    with record(facts=other) as second:
        second.load_state()
    assert isinstance(second.run.facts["mixed"], str) and "equal device" in second.run.facts["mixed"]


def test_a_chain_that_continues_on_its_device_is_not_mixed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "reinvest.core.hardware.facts",
        lambda device="cpu", precision="fp32": {"hardware": {"device": device, "precision": precision}, "software": {}},
    )

    def session(device: str, *, whole: bool = False, precision: str = "bf16") -> str | None:
        writer = None
        try:
            with store.record("mine", task="digits") as writer:
                writer.begin({"epochs": 1, "examples": 4, "device": device, "precision": precision})
                if not whole:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert writer is not None
        return writer.run.facts.get("mixed")

    with pytest.raises(ZeroDivisionError), store.record("mine", task="digits"):
        raise ZeroDivisionError  # before the chain was attached
    assert session("gpu") is None
    assert session("gpu") is None
    with pytest.raises(ZeroDivisionError), store.record("mine", task="digits"):
        raise ZeroDivisionError
    assert session("gpu") is None
    said = session("other")
    assert said is not None and "equal device" in said
    assert session("other", whole=True) == said


def test_a_damaged_state_is_refused_with_the_remedy(record: Record) -> None:
    with pytest.raises(ZeroDivisionError), record() as first:
        first.save_state({"w": torch.ones(100)})
        raise ZeroDivisionError
    path = first.path / "state.pt"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptFile, match="delete it to start the run over"), record() as second:
        second.load_state()
    assert second.run.status == "interrupted"
    path.unlink()
    with record() as third:
        assert third.load_state() is None
    assert third.id == first.id and third.run.status == "finished"


KILLED = """
import sys, time, torch
from reinvest.store import Store
with Store(sys.argv[1]).record("killed", task="digits", records=True) as run:
    run.begin({"epochs": 3, "examples": 8})
    state = run.load_state()
    step = 0
    if state:
        step = state["step"]
        run.load_state_dict(state["recorder"])
    while step < 3 * 4:
        ids = torch.tensor([step % 4 * 2, step % 4 * 2 + 1])
        run.observe(step // 4, ids, torch.full((2,), float(step)), torch.eye(2) * step, torch.tensor([0, 1]), None)
        step += 1
        run.log(split="train", loss=step, step=step)
        if step % 5 == 0:
            run.save_state({"step": step, "recorder": run.state_dict()})
        if step == 7 and not state and len(sys.argv) == 2:
            (run.path / "weights.safetensors.partial").write_bytes(b"half")
            print("ready", flush=True)
            time.sleep(60)
    run.save_weights({"w": torch.tensor(float(step))})
"""


def test_a_killed_run_is_interrupted_and_resumes_as_if_nothing_had_happened(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED]
    process = subprocess.Popen([*command, str(store.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        (run,) = store.runs()
        assert run.status == "running" and len(run.curve) == 7
        assert store.gc(where="name=killed").kept == {run.id: "is running"}
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()
    (run,) = store.runs(status="interrupted")
    assert len(run.curve) == 7 and [p.name for p in run.leftovers()] == ["weights.safetensors.partial"]
    assert store.verify() == []
    for folder in (store.path, tmp_path / "whole"):
        monkeypatch.setattr(sys, "argv", ["-c", str(folder), "awake"])
        exec(KILLED, {})
    (resumed,) = store.runs(status="finished")
    with Store(tmp_path / "whole") as other:
        (whole,) = other.runs()
        assert resumed.id == run.id == whole.id and resumed.leftovers() == []
        assert (resumed.path / "curve.jsonl").read_bytes() == (whole.path / "curve.jsonl").read_bytes()
        assert (resumed.path / "records.safetensors").read_bytes() == (whole.path / "records.safetensors").read_bytes()
        assert torch.equal(resumed.weights()["w"], whole.weights()["w"])
    assert store.verify() == []


def test_half_a_line_left_by_a_killed_process_is_not_an_entry(store: Store, interrupted: Callable[..., Run]) -> None:
    run = interrupted()
    with open(run.path / "curve.jsonl", "ab") as file:
        file.write(b'{"split": "tr')
    assert len(store.get(run.id).curve) == 1


def test_logging_is_cheap(record: Record) -> None:
    with record() as writer:
        begun = time.process_time()
        for step in range(200):
            writer.log(split="train", loss=1.0, step=step)
        # Processor time: others on the machine do not count, and a log neither waits for the disk nor reads the curve.
        assert (time.process_time() - begun) / 200 < 0.005
