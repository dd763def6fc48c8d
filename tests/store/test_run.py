from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from reinvest.core.errors import CorruptFile, SchemaTooNew, StoreError, UnknownName
from reinvest.store import Run, RunWriter, Store

Record = Callable[..., AbstractContextManager[RunWriter]]


def test_a_run_tells_what_was_decided_and_what_happened(
    store: Store, record: Record, finished: Callable[..., Run]
) -> None:
    parent = finished("parent")
    with record(config={"lr": 0.1, "sizes": (1, 2)}, seed=7, parents=[parent]) as writer:
        writer.note(colour="blue")
        writer.log(split="train", loss=2.0, step=1, epoch=0, seconds=0.5)
        writer.log(split="test", accuracy=0.25, step=1)
        writer.log(split="test", accuracy=0.75, loss=1.0, step=2, epoch=1)
        writer.log(split="test", loss=0.5, step=3)
        writer.save_weights({"w": torch.arange(3.0)})
    run = store.get(writer.id)
    assert (run.name, run.task, run.seed, run.status) == ("mine", "digits", 7, "finished")
    assert run.config == {"lr": 0.1, "sizes": [1, 2]} and run.parents == [parent.id]
    assert run.facts["colour"] == "blue" and run.facts["hardware"]["device"] == "none"
    assert run.curve[0] == {"step": 1, "epoch": 0, "split": "train", "seconds": 0.5, "loss": 2.0}
    assert run.quality("accuracy") == 0.75 and run.quality("loss") == 0.5 and run.quality("loss", "train") == 2.0
    assert run.seconds == run.cost["wall_seconds"] > 0 and run.cost["peak_memory"] > 0 and run.steps is None
    assert torch.equal(run.weights()["w"], torch.arange(3.0))
    files = json.loads((run.path / "run.json").read_text())["files"]
    assert sorted(files) == ["curve.jsonl", "weights.safetensors"]
    assert run.bytes == sum((run.path / name).stat().st_size for name in files)
    assert run == store.find(run.identity) == Run(run.path)


def test_unknown_metrics_and_splits_list_the_known(finished: Callable[..., Run]) -> None:
    run = finished(split="test")
    with pytest.raises(UnknownName, match="did you mean 'accuracy'"):
        run.quality("acuracy")
    with pytest.raises(UnknownName, match="Known: test"):
        run.quality("accuracy", "validation")


def test_a_run_without_weights_or_records_says_so(finished: Callable[..., Run]) -> None:
    run = finished()
    with pytest.raises(StoreError, match=r"kept no weights\.safetensors; record it again with run\.save_weights"):
        run.weights()
    with pytest.raises(StoreError, match=r"kept no records\.safetensors"):
        run.records()


def test_altered_and_missing_weights_are_refused(record: Record) -> None:
    with record() as writer:
        writer.save_weights({"w": torch.arange(100.0)})
    path = writer.path / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=r"weights\.safetensors has another sha256"):
        writer.run.weights()
    path.unlink()
    with pytest.raises(CorruptFile, match=r"weights\.safetensors is missing"):
        writer.run.weights()


def test_damaged_curve_and_description(store: Store, finished: Callable[..., Run]) -> None:
    run = finished()
    curve, truth = run.path / "curve.jsonl", run.path / "run.json"
    whole = curve.read_bytes()
    for damaged in (whole[:-3], b"\x00" + whole, b"[1]\n"):
        curve.write_bytes(damaged)
        with pytest.raises(CorruptFile, match=r"curve\.jsonl"):
            store.get(run.id).curve  # noqa: B018
    curve.unlink()
    with pytest.raises(CorruptFile, match=r"curve\.jsonl is missing"):
        store.get(run.id).curve  # noqa: B018
    data = json.loads(truth.read_text())
    truth.write_text(json.dumps(data | {"schema": 99}))
    with pytest.raises(SchemaTooNew, match="install the later version"):
        store.get(run.id).config  # noqa: B018
    for damaged_text in ("", "{", "[]", '{"id": 1}'):
        truth.write_text(damaged_text)
        with pytest.raises(CorruptFile, match=r"run\.json"):
            store.get(run.id).config  # noqa: B018


def test_a_diverged_run_has_quality_nan(record: Record) -> None:
    with record() as writer:
        writer.log(split="test", accuracy=math.nan)
    assert writer.run.status == "diverged"
    assert math.isnan(writer.run.quality("accuracy")) and math.isnan(writer.run.curve[0]["accuracy"])
    assert "NaN" not in (writer.path / "curve.jsonl").read_text()


def test_a_view_taken_while_the_run_is_written_follows_it(store: Store, record: Record) -> None:
    with record() as writer:
        early = store.get(writer.id)
        assert early.status == "running" and early.curve == []
        writer.log(split="test", accuracy=0.5)
        assert early.quality("accuracy") == 0.5 and len(early.curve) == 1
    assert early.status == "finished" and early.cost["wall_seconds"] > 0


def test_listing_and_reading_need_no_torch(store: Store, finished: Callable[..., Run], tmp_path: Path) -> None:
    import subprocess
    import sys

    run = finished()
    code = (
        "import sys\nfrom reinvest.store import Store\n"
        f"s = Store({str(store.path)!r})\n"
        "r, = s.runs()\nr.curve, r.facts, r.config, r.quality('accuracy', 'validation'), s.tree(), s.gc(), s.verify()\n"
        "assert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)\nprint(r.id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == run.id
