"""What methods found lies whole in the run's folder, and comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from reinvest._testing.compare import differences
from reinvest.core.errors import CorruptFile, InvalidValue, StoreError
from reinvest.store import RunWriter, Store
from reinvest.store.findings import FINDINGS, get_findings, put_findings

Record = Callable[..., AbstractContextManager[RunWriter]]

FOUND: dict[str, Any] = {
    "loss": torch.tensor([1.0, 0.5]),
    "names": ["body.0.weight", "Köpfe"],
    "windows": [{"start": 3, "ids": torch.tensor([7, 9])}, {"start": 8, "ids": torch.empty(0, dtype=torch.int64)}],
    "threshold": 6.0,
    "nothing": None,
    "empty": {},
}


def said(**found: Any) -> dict[str, Any]:
    """What a chain says at its end."""
    return {"steps": 2, "clock": {"seconds": 1.0}, "findings": [{"method": n, "found": f} for n, f in found.items()]}


def test_nested_tensors_and_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    expected = put_findings(path, {"Watch": FOUND, "Other": {"note": "a"}})
    assert differences(get_findings(path, expected), {"Watch": FOUND, "Other": {"note": "a"}}) == []


def test_names_with_strokes_keep_their_tensors_apart(tmp_path: Path) -> None:
    found = {"W": {"a/b": torch.tensor([1.0]), "a": {"b": torch.tensor([2.0])}, "a/b'": torch.tensor([3.0])}}
    put_findings(tmp_path / "file", found)
    assert differences(get_findings(tmp_path / "file", None), found) == []


def test_values_without_tensors_are_a_file_too(tmp_path: Path) -> None:
    put_findings(tmp_path / "file", {"Watch": {"count": 3, "share": float("nan")}})
    assert get_findings(tmp_path / "file", None) == {"Watch": {"count": 3, "share": None}}


def test_what_is_no_plain_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"findings\['Watch'\]\['model'\] must be a plain value"):
        put_findings(tmp_path / "file", {"Watch": {"model": object()}})
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_them_and_says_so(record: Record) -> None:
    with record() as writer:
        writer.begin({"total_steps": 2})
        writer.end(said(Watch=FOUND))
    run = writer.run
    assert differences(run.findings(), {"Watch": FOUND}) == []
    assert FINDINGS in json.loads((run.path / "run.json").read_text())["files"]
    assert run.steps == 2 and run.seconds == 1.0


def test_a_run_without_any_has_no_file(record: Record) -> None:
    with record() as writer:
        writer.begin({"total_steps": 2})
        writer.end({"steps": 2, "clock": {}})
    assert writer.run.findings() == {} and not (writer.run.path / FINDINGS).exists()


def test_a_run_that_ended_inside_its_chain_keeps_them(record: Record) -> None:
    with record() as writer:
        writer.begin({"total_steps": 2})
        writer.finish("diverged")
        writer.end(said(Watch=FOUND))
    run = writer.run
    assert run.status == "diverged" and differences(run.findings(), {"Watch": FOUND}) == []
    assert FINDINGS in json.loads((run.path / "run.json").read_text())["files"]


def test_several_chains_in_one_run_are_told_apart(record: Record) -> None:
    with record() as writer:
        for k in range(3):
            writer.begin({"total_steps": 2})
            writer.end(said(Watch={"chain": k}))
    assert writer.run.findings() == {"Watch": {"chain": 0}, "Watch 2": {"chain": 1}, "Watch 3": {"chain": 2}}


def test_changed_bytes_are_found_by_the_reader_and_by_verify(record: Record, store: Store) -> None:
    with record() as writer:
        writer.begin({"total_steps": 2})
        writer.end(said(Watch=FOUND))
    path = writer.run.path / FINDINGS
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CorruptFile, match=r"findings.safetensors has another sha256"):
        writer.run.findings()
    assert [p.file for p in store.verify()] == [FINDINGS]
    path.unlink()
    with pytest.raises(CorruptFile, match="is missing"):
        writer.run.findings()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from reinvest.store.artifacts import put_tensors

    put_tensors(tmp_path / "file", {"a": torch.ones(2)})
    with pytest.raises(CorruptFile, match="holds no findings"):
        get_findings(tmp_path / "file", None)


def test_an_interrupted_run_shows_them_and_the_next_session_replaces_them(record: Record, store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), record() as writer:
        writer.begin({"total_steps": 4})
        writer.save_state({"step": 1})
        writer.end(said(Watch={"steps": 1}))
        raise KeyboardInterrupt
    assert store.get(writer.id).findings() == {"Watch": {"steps": 1}}
    with record() as again:
        assert again.resumed and again.load_state() == {"step": 1}
        again.begin({"total_steps": 4})
        again.end(said(Watch={"steps": 4}))
    assert again.id == writer.id and again.run.findings() == {"Watch": {"steps": 4}}


def test_what_an_abandoned_session_found_goes_with_its_state(record: Record) -> None:
    with pytest.raises(KeyboardInterrupt), record() as writer:
        writer.begin({"total_steps": 4})
        writer.end(said(Watch={"steps": 1}))
        raise KeyboardInterrupt
    with record() as again:
        again.begin({"total_steps": 4})
        again.log(split="validation", loss=1.0)
        again.end({"steps": 4, "clock": {}})
    assert again.id == writer.id and again.run.findings() == {}


def test_a_run_that_is_running_tells_what_it_is_asked_twice(tmp_path):
    """Looking at a running run forgets what was read of it, also between a question and its answer."""
    store = Store(tmp_path)
    with store.record("r", task="t", config={"a": 1}, facts={"hardware": {}, "software": {}}) as writer:
        run = store.get(writer.id)
        assert [run.config, run.config, run.training] == [{"a": 1}, {"a": 1}, {}]
        with pytest.raises(StoreError, match="kept no records"):
            run.records()


def test_findings_of_a_chain_that_ended_survive_an_interruption_of_the_next(record: Record) -> None:
    """The first chain does not train again, so what it found must be in the checkpoint of the second."""
    table = torch.arange(6.0).view(2, 3)
    with pytest.raises(KeyboardInterrupt), record() as writer:
        writer.begin({})
        writer.end({"steps": 2, "clock": {}, "findings": [{"method": "W", "found": {"table": table, "n": 1}}]})
        writer.begin({})
        writer.save_state({"at": 1})
        raise KeyboardInterrupt
    with record() as writer:
        assert writer.resumed and writer.load_state() == {"at": 1}
        writer.begin({})
        writer.end({"steps": 2, "clock": {}, "findings": [{"method": "W", "found": {"n": 2}}]})
    found = writer.run.findings()
    assert found["W"]["n"] == 1 and torch.equal(found["W"]["table"], table) and found["W 2"] == {"n": 2}
    assert writer.run.steps == 4
