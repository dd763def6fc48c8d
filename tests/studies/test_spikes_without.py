"""A spike replayed with examples left out: it goes with those that made it and stays without others."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import reinvest as ri
from reinvest.core.errors import InvalidValue
from reinvest.dynamics.spike_findings import spikes_of
from reinvest.studies.spikes_result import spike_result
from reinvest.studies.spikes_without import Without, replay_without

WATCH = {"name": "SpikeWatch", "window": 40}
PLAIN = ri.Recipe(
    task={"name": "digits", "train_examples": 400},
    model={"name": "mlp", "hidden": [32]},
    duration="6ep",
    batch_size=32,
    optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9},
)
"""12 steps an epoch, 72 in all."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ri.Store:
    return ri.Store(tmp_path_factory.mktemp("without") / "runs")


@pytest.fixture(scope="module")
def spoiled(store: ri.Store) -> tuple[Any, int]:
    """A run in which one example explodes in epoch 5, and its id."""
    order = ri.train(PLAIN, 0, store, device="cpu", progress=False).records()
    some = (~order.loss[0].isnan()).nonzero()[:, 0][[5]].tolist()
    recipe = PLAIN.with_(WATCH, {"name": "spike_planting:Spoiled", "ids": some, "epoch": 5})
    return ri.train(recipe, 0, store, device="cpu", progress=False), some[0]


@pytest.fixture(scope="module")
def leapt(store: ri.Store) -> Any:
    recipe = PLAIN.with_(WATCH, {"name": "spike_planting:Leap", "step": 60}, duration="8ep")
    return ri.train(recipe, 0, store, device="cpu", progress=False)


def test_without_the_example_that_made_it_the_spike_vanishes(store: ri.Store, spoiled: tuple[Any, int]) -> None:
    run, bad = spoiled
    spike = spikes_of(run).spikes[0]
    before = len(store.runs())
    found = replay_without(run, spike, [bad], store=store)
    assert found.verdict == "vanishes" and found.after is not None and found.after <= 6 < found.before
    assert found.same_bits and found.differs is None
    assert found.steps == (spike.start,) and found.batches == ()
    assert "without example" in found.text and "vanishes" in found.text and "bit for bit" in found.text
    assert len(store.runs()) == before


def test_without_others_of_the_batch_it_returns(store: ri.Store, spoiled: tuple[Any, int]) -> None:
    run, bad = spoiled
    spike = spikes_of(run).spikes[0]
    others = [i for i in spike.ids.tolist() if i != bad][:3]
    found = replay_without(run, spike, others, store=store)
    assert found.verdict == "returns" and found.after is not None and found.after > 6
    assert found.same_bits and "returns" in found.text


def test_without_the_whole_batch(store: ri.Store, spoiled: tuple[Any, int]) -> None:
    run, _ = spoiled
    spike = spikes_of(run).spikes[0]
    found = replay_without(run, spike, None, store=store)
    assert found.batches == (spike.start,) and found.verdict == "vanishes"
    assert f"the batch of step {spike.start}" in found.text


def test_a_spike_before_the_first_change_is_no_return(
    store: ri.Store, spoiled: tuple[Any, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps before anything was left out are those of the run itself, another spike among them too."""
    run, _ = spoiled
    spike = spikes_of(run).spikes[0]

    def heights(found: dict[str, Any], name: str) -> torch.Tensor:
        z = torch.zeros(len(found["loss"]))
        z[[spike.start - 3, *([spike.start] if found["loss"][spike.start] > 4 else [])]] = 50.0
        return z

    monkeypatch.setattr("reinvest.studies.spikes_without.signal_z", heights)
    found = replay_without(run, spike, None, store=store)
    assert found.begin < spike.start - 3 < found.steps[0]
    assert found.after == 0.0 and found.verdict == "vanishes"


def test_an_update_too_far_is_that_of_the_batch_before(store: ri.Store, leapt: Any) -> None:
    spike = spikes_of(leapt).spikes[0]
    assert spike.cause == "update" and spike.start == 61
    found = replay_without(leapt, spike, None, store=store)
    # The leap is made in step 60 whatever the batch is, so the next batch takes its place and spikes.
    assert found.batches == (60,) and found.verdict == "returns"


def test_a_machine_that_gives_other_bits_is_told_of(
    store: ri.Store, spoiled: tuple[Any, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, bad = spoiled
    kept = run.findings()
    kept["SpikeWatch"]["loss"][30] += 1e-3
    monkeypatch.setattr(type(run), "findings", lambda self: kept)
    found = replay_without(run, spikes_of(run).spikes[0], [bad], store=store)
    assert not found.same_bits and found.differs == 30 and "differ from step 30 on" in found.text


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (20.0, 6.0, "vanishes"),
        (20.0, 9.9, "smaller"),
        (20.0, 10.0, "returns"),
        (math.inf, 1e6, "smaller"),
        (math.inf, math.inf, "returns"),
        (20.0, None, "vanishes"),
    ],
)
def test_verdicts(before: float, after: float | None, verdict: str) -> None:
    found = Without(60, (1, 2), (60,), (), 50, 66, before, after, 6.0, True, None, 0)
    assert found.verdict == verdict
    assert verdict in found.text.replace("is smaller", "smaller")
    assert "2 examples" in found.text


def test_the_result_is_plain(store: ri.Store, spoiled: tuple[Any, int]) -> None:
    run, bad = spoiled
    report = spikes_of(run)
    found = replay_without(run, report.spikes[0], [bad], store=store)
    result = spike_result(run, report, without={report.spikes[0].start: found})
    json.dumps(result, allow_nan=False)
    first, *others = result["spikes"]
    assert first["without"]["verdict"] == "vanishes" and first["without"]["ids"] == [bad]
    assert first["without"]["text"] == found.text and first["replay"] is None
    assert all(one["without"] is None for one in others)
    endless = replace(found, before=math.inf)
    made = spike_result(run, report, without={report.spikes[0].start: endless})
    assert made["spikes"][0]["without"]["before"] is None


def test_refusals(store: ri.Store, spoiled: tuple[Any, int]) -> None:
    run, bad = spoiled
    spike = spikes_of(run).spikes[0]
    elsewhere = [i for i in range(400, 1797) if i not in spike.ids.tolist()]
    held = torch.tensor([i for w in run.findings()["SpikeWatch"]["windows"] for i in w["ids"].tolist()])
    absent = next(i for i in elsewhere if i not in held.tolist())
    with pytest.raises(InvalidValue, match=rf"in the batches of steps .*, got \[{absent}\] in none"):
        replay_without(run, spike, [absent], store=store)
    with pytest.raises(InvalidValue, match="at least one, got none"):
        replay_without(run, spike, [], store=store)
    with pytest.raises(InvalidValue, match="whole numbers from 0 up, got -1"):
        replay_without(run, spike, [bad, -1], store=store)
    plain = ri.train(PLAIN, 0, store, device="cpu", progress=False)
    with pytest.raises(InvalidValue, match="add SpikeWatch"):
        replay_without(plain, spike, [bad], store=store)
