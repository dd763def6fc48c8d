"""Spikes planted in training on digits: found at their step, explained by what was planted, and replayed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import reinvest as ri
from reinvest._testing.compare import differences
from reinvest.core.errors import CorruptFile, InvalidValue
from reinvest.core.recipe import SOURCES
from reinvest.dynamics.spike_findings import spikes_of
from reinvest.studies import spikes
from reinvest.studies.spikes import _compared, replay_spikes
from reinvest.studies.spikes_result import read_spikes, spike_result

WATCH = {"name": "SpikeWatch", "window": 40}
PLAIN = ri.Recipe(
    task={"name": "digits", "train_examples": 400},
    model={"name": "mlp", "hidden": [32]},
    duration="8ep",
    batch_size=32,
    optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9},
)
"""12 steps an epoch, 96 in all."""


def planted(*methods: dict[str, Any]) -> ri.Recipe:
    return PLAIN.with_(WATCH, *methods)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ri.Store:
    return ri.Store(tmp_path_factory.mktemp("spikes") / "runs")


@pytest.fixture(scope="module")
def leapt(store: ri.Store) -> Any:
    return ri.train(planted({"name": "spike_planting:Leap", "step": 60}), 0, store, device="cpu", progress=False)


@pytest.fixture(scope="module")
def spoiled(store: ri.Store) -> Any:
    order = ri.train(PLAIN, 0, store, device="cpu", progress=False).records()
    some = (~order.loss[0].isnan()).nonzero()[:, 0][[5]].tolist()
    recipe = planted({"name": "spike_planting:Spoiled", "ids": some, "epoch": 5})
    return ri.train(recipe, 0, store, device="cpu", progress=False), some


def test_the_watch_leaves_weights_and_records_as_they_are(store: ri.Store) -> None:
    plain = ri.train(PLAIN, 0, store, device="cpu", progress=False)
    watched = ri.train(planted(), 0, store, device="cpu", progress=False)
    assert plain.id != watched.id
    assert differences(dict(plain.weights()), dict(watched.weights())) == []
    one, two = plain.records().loss, watched.records().loss
    assert torch.equal(one.nan_to_num(-1.0), two.nan_to_num(-1.0))
    assert plain.last == watched.last
    assert spikes_of(watched).spikes == ()


def test_the_signals_of_a_run_are_those_of_its_records(store: ri.Store) -> None:
    run = ri.train(planted(), 0, store, device="cpu", progress=False)
    found = run.findings()["SpikeWatch"]
    assert found["loss"].shape == found["gradient_norm"].shape == (96,)
    epochs = found["loss"].view(8, 12).mean(1)
    rows = run.records().loss
    torch.testing.assert_close(epochs, rows.nanmean(1), rtol=2e-3, atol=1e-3)


def test_an_update_too_far_is_found_and_blamed(leapt: Any) -> None:
    spike = spikes_of(leapt).spikes[0]
    assert spike.start == 61 and spike.cause == "update" and spike.update_times > 20
    assert "loss" in spike.signals and spike.value > 5 * spike.usual
    assert {layer.first for layer in spike.layers} == {61}
    batch = leapt.findings()["SpikeWatch"]["windows"][0]
    row = batch["steps"].tolist().index(61)
    assert torch.equal(spike.ids, batch["ids"][32 * row : 32 * row + 32])


def test_a_spoiled_example_is_found_and_named(spoiled: Any) -> None:
    run, some = spoiled
    rows = run.records().loss[:, some[0]]
    spike = spikes_of(run).spikes[0]
    assert spike.epoch == 5 and some[0] in spike.ids.tolist()
    assert spike.suspects == tuple(some) and spike.cause == "examples"
    assert spike.examples[0].loss == pytest.approx(float(rows[5]), rel=2e-3)
    assert f"id {some[0]};" in spike.text


def test_a_replay_gives_the_same_bits_and_the_same_spike(store: ri.Store, leapt: Any) -> None:
    before = len(store.runs())
    report = spikes_of(leapt)
    (replay,) = replay_spikes(leapt, report.spikes[:1], store=store)
    assert replay.same_bits and replay.same_ids and replay.again and replay.differs is None
    assert replay.until == min(96, report.spikes[0].end + 5)
    # With another seed the same step leaps as well, but not because of these examples.
    assert replay.other_seed == 1 and replay.held > 0 and replay.held_high / replay.held < 0.5
    assert (
        "bit for bit, and the spike came again at step 61" in replay.text
        and "no more than other batches" in replay.text
    )
    assert len(store.runs()) == before


def test_spoiled_examples_spike_again_under_another_seed(store: ri.Store, spoiled: Any) -> None:
    run, some = spoiled
    (replay,) = replay_spikes(run, spikes_of(run).spikes[:1], store=store, other_seed=7)
    assert replay.same_bits and replay.asked == tuple(some)
    assert replay.above is not None
    # Met in each of the eight epochs, spoiled in the last three of them; the first steps have no z.
    assert 6 <= replay.held <= 8 and replay.held_high >= 1
    assert replay.held_high / replay.held > 5 * replay.others_high / replay.others
    assert "With seed 7 the same example came in" in replay.text


def test_another_seed_is_another_one_where_the_recipe_fixes_seeds_too(store: ri.Store) -> None:
    """Held at the recipe's own seeds, the second replay would be the first one again."""
    fixed = planted({"name": "spike_planting:Leap", "step": 60}).with_(seeds=dict.fromkeys(SOURCES, 3))
    run = ri.train(fixed, 0, store, device="cpu", progress=False)
    begun: list[tuple[int, float]] = []
    real = spikes.train_again

    def watched(recipe: Any, seed: int, *more: Any, **named: Any) -> Any:
        found = real(recipe, seed, *more, **named)
        begun.append((seed, float(found[0]["loss"][0])))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spikes, "train_again", watched)
        (replay,) = replay_spikes(run, spikes_of(run).spikes[:1], store=store)
    assert replay.same_bits and replay.other_seed == 1
    assert [seed for seed, _ in begun] == [0, 1] and begun[0][1] != begun[1][1]


def test_a_replay_that_makes_no_step_any_more_ends(store: ri.Store) -> None:
    methods = [{"name": "spike_planting:Leap", "step": 40}, {"name": "spike_planting:Refuse", "seed": 1}]
    run = ri.train(planted(*methods), 0, store, device="cpu", progress=False)
    spikes = spikes_of(run).spikes[:1]
    (replay,) = replay_spikes(run, spikes, store=store)
    assert replay.same_bits and replay.other_seed == 1 and 0 < replay.held + replay.others <= 50 - 30
    methods = [methods[0], {"name": "spike_planting:Refuse", "seed": 0}]
    stuck = replay_spikes(_as_if(run, planted(*methods)), [replace(spikes[0], end=70)], store=store, elsewhere=False)
    assert not stuck[0].same_bits and stuck[0].differs == 50


def _as_if(run: Any, recipe: ri.Recipe) -> Any:
    """The run, with another recipe in its file: its code has changed since."""
    return SimpleNamespace(
        id=run.id,
        config=recipe.to_dict(),
        seed=run.seed,
        facts=run.facts,
        training=run.training,
        findings=run.findings,
    )


def test_steps_with_examples_are_compared_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reinvest.studies.spikes.signal_z", lambda found, name: found[name].double())
    draw = torch.Generator().manual_seed(0)

    def compared(count: int, levels: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        signal = torch.randint(levels, (count,), generator=draw).float()
        has = torch.rand(count, generator=draw) < 0.5
        seen = {k: frozenset([7] if held else [8]) for k, held in enumerate(has.tolist())}
        found = {"loss": signal, "gradient_norm": signal, "window": 100}
        return signal[has], signal[~has], _compared(found, seen, (7, 9), 3.0)

    mine, rest, said = compared(60, 5)
    pairs = (mine.unsqueeze(1) > rest).double() + 0.5 * (mine.unsqueeze(1) == rest).double()
    assert said["above"] == pytest.approx(float(pairs.mean())) and said["held"] == len(mine)
    assert said["held_high"] == int((mine > 3).sum()) and said["others_high"] == int((rest > 3).sum())
    # As many steps as ImageNet has: a table of all pairs would take 80 GB.
    assert compared(200_000, 1000)[2]["above"] == pytest.approx(0.5, abs=0.01)


def test_a_change_of_the_run_shows_in_the_replay(store: ri.Store, leapt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = leapt.findings()
    found["SpikeWatch"]["loss"][30] += 1e-3
    monkeypatch.setattr(type(leapt), "findings", lambda run: found)
    spikes = spikes_of(leapt).spikes[:1]
    (replay,) = replay_spikes(leapt, spikes, store=store, elsewhere=False)
    assert not replay.same_bits and replay.differs == 30 and replay.other_seed is None
    assert "differ from step 30 on" in replay.text and "came again at step 61" in replay.text


def test_refusals_are_sentences(store: ri.Store, leapt: Any) -> None:
    plain = ri.train(PLAIN, 0, store, device="cpu", progress=False)
    with pytest.raises(InvalidValue, match=r"what a watch kept of each step, got run .* without; add SpikeWatch"):
        replay_spikes(plain, [])
    with pytest.raises(InvalidValue, match="another seed than the run's own shows other weights, got 0"):
        replay_spikes(leapt, [], other_seed=0)
    with store.record("own", task="digits", facts={}) as writer:
        pass
    with pytest.raises(InvalidValue, match=r"trains a recipe again, got run .* of an own loop"):
        replay_spikes(writer.run, [])
    assert replay_spikes(leapt, []) == []


def test_a_diverged_run_keeps_what_was_seen(store: ri.Store) -> None:
    recipe = planted({"name": "spike_planting:Leap", "step": 60, "factor": 1e30})
    run = ri.train(recipe, 0, store, device="cpu", progress=False)
    assert run.status == "diverged"
    spike = spikes_of(run).spikes[0]
    assert spike.start == 61 and spike.cause == "update"
    assert "infinitely many times as large as usual" in spike.text
    result = spike_result(run, spikes_of(run))
    json.dumps(result, allow_nan=False)
    assert result["spikes"][0]["loss"] is None


def test_an_interrupted_run_goes_on_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = planted({"name": "spike_planting:Leap", "step": 60}, {"name": "spike_planting:Stop", "step": 70})
    options: dict[str, Any] = {"device": "cpu", "progress": False, "checkpoint_seconds": 0.0}
    whole = ri.train(recipe, 0, ri.Store(tmp_path / "whole"), **options)
    store = ri.Store(tmp_path / "torn")
    monkeypatch.setattr("spike_planting.Stop.asked", True)
    with pytest.raises(KeyboardInterrupt):
        ri.train(recipe, 0, store, **options)
    torn = store.runs()[0]
    assert torn.status == "interrupted" and len(torn.findings()["SpikeWatch"]["loss"]) >= 69
    run = ri.train(recipe, 0, store, **options)
    assert run.id == torn.id and run.status == "finished"
    assert differences(run.findings(), whole.findings()) == []
    assert [s.text for s in spikes_of(run).spikes] == [s.text for s in spikes_of(whole).spikes] != []


def test_the_result_is_plain_and_is_read_again(leapt: Any, store: ri.Store, tmp_path: Path) -> None:
    report = spikes_of(leapt)
    replays = replay_spikes(leapt, report.spikes, store=store)
    result = spike_result(leapt, report, replays)
    text = json.dumps(result, allow_nan=False)
    path = tmp_path / "spikes.json"
    path.write_text(text)
    assert read_spikes(path) == result == json.loads(text)
    assert result["unjudged"] == 30 and result["notes"][0].startswith("the first 30 of 96 steps cannot be judged")
    assert result["series"]["loss"]["steps"] == list(range(96))
    heat = result["spikes"][0]["heat"]
    assert len(heat["z"]) == len(heat["layers"]) and {len(row) for row in heat["z"]} == {len(heat["steps"])}
    path.write_text("{}")
    with pytest.raises(CorruptFile, match="kind 'spikes' and series"):
        read_spikes(path)


def test_a_long_series_keeps_its_highest_points() -> None:
    from reinvest.studies.spikes_result import POINTS, _thinned

    values = torch.rand(10 * POINTS, generator=torch.Generator().manual_seed(0))
    values[12345] = 50.0
    values[777] = float("nan")
    thin = _thinned(values)
    assert len(thin["steps"]) == len(thin["values"]) == POINTS and thin["steps"] == sorted(thin["steps"])
    assert 12345 in thin["steps"] and thin["values"][thin["steps"].index(777)] is None
