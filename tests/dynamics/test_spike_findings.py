"""Planted spikes are explained by what was planted: layers, examples, updates; ordinary signals have none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reinvest.core.errors import InvalidValue, StoreError
from reinvest.dynamics.spike_findings import explain_spikes, explained_epochs, spikes_of
from reinvest.dynamics.trajectories import Trajectories
from reinvest.store import Store

NAMES = ["stem.weight", "stem.bias", "block.conv.weight", "head.weight", "scale"]
BATCH, PER_EPOCH, STEPS, AROUND = 20, 10, 120, 16


def ids_at(step: int) -> torch.Tensor:
    """Every epoch in the same order: 200 examples, 20 a batch."""
    return torch.arange(BATCH) + BATCH * (step % PER_EPOCH)


class Told:
    """What a watch would have found, with spikes planted in it."""

    def __init__(self, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)

        def noisy(*shape: int) -> torch.Tensor:
            return 1.0 + 0.1 * torch.randn(*shape, generator=draw)

        self.losses = noisy(STEPS, BATCH)
        self.gradients = noisy(STEPS, len(NAMES))
        self.updates = 0.01 * noisy(STEPS, len(NAMES))
        self.weights = torch.full((STEPS, len(NAMES)), 5.0)

    def found(self, *starts: int, window: int = 50) -> dict[str, Any]:
        windows = []
        for start in starts:
            steps = torch.arange(max(0, start - AROUND), min(STEPS, start + AROUND + 1))
            windows.append(
                {
                    "start": start,
                    "z": 9.0,
                    "steps": steps,
                    "epochs": steps // PER_EPOCH,
                    "gradient_norms": self.gradients[steps],
                    "update_norms": self.updates[steps],
                    "weight_norms": self.weights[steps],
                    "counts": torch.full((len(steps),), BATCH),
                    "losses": self.losses[steps].flatten(),
                    "ids": torch.cat([ids_at(int(s)) for s in steps]),
                }
            )
        return {
            "loss": self.losses.mean(1),
            "gradient_norm": self.gradients.norm(dim=1),
            "names": NAMES,
            "steps_per_epoch": PER_EPOCH,
            "threshold": 6.0,
            "window": window,
            "around": AROUND,
            "windows": windows,
        }

    def history(self, ids: torch.Tensor) -> torch.Tensor:
        """Losses [B, E] as records keep them."""
        table = self.losses.view(STEPS // PER_EPOCH, PER_EPOCH * BATCH).T
        return table[ids]


def test_a_few_examples_that_carried_it_are_named() -> None:
    told = Told()
    told.losses[75, [3, 8]] += torch.tensor([9.0, 6.0])
    told.gradients[75] *= torch.tensor([3.0, 3.0, 8.0, 1.0, 1.0])
    (spike,) = explain_spikes(told.found(75), told.history)
    assert (spike.start, spike.peak, spike.end, spike.epoch) == (75, 75, 75, 7)
    assert spike.signals == ("loss", "gradient norm") and spike.cause == "examples"
    assert spike.suspects == (103,) and spike.needed == 1
    assert [e.id for e in spike.examples[:2]] == [103, 108] and len(spike.examples) == 10
    assert spike.share == pytest.approx(9.0 / 15.0, abs=0.1)
    assert spike.ids.tolist() == ids_at(75).tolist()
    assert [layer.name for layer in spike.layers] == ["block.conv", "stem"]
    assert spike.layers[0].first == 75 and spike.layers[0].times == pytest.approx(8.0, rel=0.3)
    assert "One of the 20 examples of that batch carried" in spike.text and "id 103;" in spike.text
    assert "first" not in spike.text and "most in block.conv (at step 75" in spike.text


def test_a_loss_is_measured_against_the_examples_own_history() -> None:
    told = Told()
    told.losses[5::10, 3] = 2.5  # always hard, so nothing new
    told.losses[75, 8] += 6.0
    (spike,) = explain_spikes(told.found(75), told.history, 6.0)
    assert spike.suspects == (108,)
    usual = {e.id: e.usual for e in spike.examples}
    assert usual[108] == pytest.approx(1.0, abs=0.3) and usual.get(103, 2.5) == pytest.approx(2.5)
    (blind,) = explain_spikes(told.found(75), None, 6.0)
    assert [e.id for e in blind.examples[:2]] == [108, 103] and blind.examples[1].usual is None
    assert blind.examples[1].rise == pytest.approx(1.5, abs=0.1)


def test_the_layer_whose_gradient_rose_first_is_named_first() -> None:
    told = Told()
    told.gradients[74, 3] *= 4.0
    told.gradients[75] *= 20.0
    told.losses[75] += 3.0
    (spike,) = explain_spikes(told.found(74), told.history)
    assert next((r.name, r.first) for r in spike.layers) == ("head", 74)
    assert {r.first for r in spike.layers[1:]} == {75} and len(spike.layers) == 4
    assert spike.layers[0].times == pytest.approx(20.0, rel=0.3)
    assert "rose, first in head (at step 74" in spike.text


def test_an_update_that_went_too_far_is_blamed_and_not_the_data() -> None:
    told = Told()
    told.updates[74] *= 40.0
    told.losses[75:80] += 4.0
    (spike,) = explain_spikes(told.found(75), told.history)
    assert spike.cause == "update" and spike.suspects == ()
    assert (spike.start, spike.end) == (75, 79) and 6 <= spike.needed <= 11
    assert spike.update_times == pytest.approx(40.0, rel=0.2) and spike.update_z > 50
    for part in ("within 5 steps", "step moved the weights too far", "not to blame"):
        assert part in spike.text, part


def test_an_update_that_hits_a_few_examples_most_is_to_blame_all_the_same() -> None:
    told = Told()
    told.updates[74] *= 40.0
    told.losses[75, 3] += 9.0
    (spike,) = explain_spikes(told.found(75), told.history)
    assert spike.cause == "update" and spike.suspects == () and spike.examples[0].id == 103


def test_an_update_a_little_beyond_regular_ones_is_not_to_blame() -> None:
    told = Told()
    told.updates = 0.01 + 3e-5 * torch.randn(told.updates.shape, generator=torch.Generator().manual_seed(1))
    told.updates[74] *= 1.05
    told.losses[75, 3] += 40.0
    (spike,) = explain_spikes(told.found(75), told.history)
    assert spike.update_z > 6.0 and spike.update_times == pytest.approx(1.05, abs=0.01)
    assert spike.cause == "examples" and spike.suspects == (103,)


def test_what_has_no_usual_size_rose_infinitely() -> None:
    told = Told()
    told.gradients[:, :2] = 0.0
    told.gradients[75, :2] = 30.0
    told.updates[:] = 0.0  # a warm-up from a rate of nothing
    told.updates[74] = 0.1
    told.losses[75] += 4.0
    (spike,) = explain_spikes(told.found(75), told.history)
    assert (spike.layers[0].name, spike.layers[0].times, spike.update_times) == ("stem", math.inf, math.inf)
    assert "in stem: " not in spike.text and "infinitely many times its usual norm" in spike.text
    told.gradients[:75, :2] = 1e-30
    (spike,) = explain_spikes(told.found(75), told.history)
    assert "more than a million times its usual norm" in spike.text and len(spike.text) < 600


def test_of_a_loop_without_losses_nothing_is_said_of_them() -> None:
    told = Told()
    told.losses[:] = math.nan
    told.gradients[75] *= 9.0
    (spike,) = explain_spikes(told.found(), None)
    assert spike.signals == ("gradient norm",) and "loss" not in spike.text


def test_a_whole_batch_with_a_usual_update_takes_both() -> None:
    told = Told()
    told.losses[75] += 4.0
    (spike,) = explain_spikes(told.found(75), told.history)
    assert spike.cause == "batch" and "it takes this batch and these weights" in spike.text


def test_a_gradient_that_rose_alone() -> None:
    told = Told()
    told.gradients[75] *= 10.0
    (spike,) = explain_spikes(told.found(75), told.history)
    assert spike.cause == "gradient" and spike.signals == ("gradient norm",) and spike.suspects == ()
    assert "while the loss stayed as it was" in spike.text


def test_losses_that_are_not_finite() -> None:
    told = Told()
    told.losses[75, 4] = math.nan
    told.gradients[75] = math.nan
    (spike,) = explain_spikes(told.found(75), told.history)
    assert spike.suspects == (104,) and spike.z == math.inf and spike.share == 1.0
    assert "the loss was not finite (about 1 usually), and the gradient norm was not finite" in spike.text


def test_a_spike_without_a_window_says_so() -> None:
    told = Told()
    told.losses[75] += 4.0
    (spike,) = explain_spikes(told.found(), told.history)
    assert spike.cause == "unknown" and spike.epoch == 7 and "was not kept" in spike.text


def test_a_spike_early_in_its_window_has_nothing_to_be_compared_with() -> None:
    told = Told()
    told.losses[75] += 4.0
    found = told.found(75)
    window = found["windows"][0]
    late = window["steps"] >= 70
    for name in ("steps", "epochs", "gradient_norms", "update_norms", "weight_norms", "counts"):
        window[name] = window[name][late]
    for name in ("ids", "losses"):
        window[name] = window[name][late.repeat_interleave(BATCH)]
    (spike,) = explain_spikes(found, told.history)
    assert (
        spike.start == 75
        and spike.ids.tolist() == ids_at(75).tolist()
        and spike.layers == ()
        and math.isnan(spike.update_z)
    )
    assert spike.cause == "batch" and "not known" in spike.text


def test_no_false_alarm_over_twenty_seeds() -> None:
    assert sum(len(explain_spikes(Told(seed).found(window=100))) for seed in range(20)) == 0


def test_the_threshold_decides() -> None:
    told = Told()
    told.losses[75] += 4.0
    assert explain_spikes(told.found(75), None, 1e6) == []
    assert len(explain_spikes(told.found(75), None, 2.0)) > 1


# ---- runs ----------------------------------------------------------------------------------------------------------


def recorded(store: Store, name: str, *, epochs: int = 12, found: dict[str, Any] | None = None, jump: int = -1) -> Any:
    """A run of 200 examples, of which one jumps in one epoch."""
    draw = torch.Generator().manual_seed(1)
    with store.record(name, task="toy", facts={}) as writer:
        writer.begin({"total_steps": epochs, "steps_per_epoch": 1, "examples": 200})
        for epoch in range(epochs):
            losses = 1.0 + 0.05 * torch.rand(200, generator=draw)
            losses[7] += 50.0 * (epoch == jump)
            writer.observe(epoch, torch.arange(200), losses, torch.eye(4).repeat(50, 1), torch.arange(200) % 4, None)
        findings = [] if found is None else [{"method": "SpikeWatch", "found": found}]
        writer.end({"steps": epochs, "clock": {}, "findings": findings})
    return writer.run


def test_of_a_run_without_a_watch_epochs_are_compared(tmp_path: Path) -> None:
    report = spikes_of(recorded(Store(tmp_path), "plain", jump=10))
    assert report.source == "epochs" and len(report.loss) == 12
    (spike,) = report.spikes
    assert (spike.start, spike.epoch, spike.cause) == (10, 10, "epoch")
    assert next(e.id for e in spike.examples) == 7 and spike.examples[0].rise == pytest.approx(50.0, abs=0.1)
    assert "add SpikeWatch to the recipe (methods: [SpikeWatch])" in report.hint
    assert spike.text.startswith("In epoch 10 the mean loss rose") and "ids 7" in spike.text


def test_too_few_epochs_are_said(tmp_path: Path) -> None:
    report = spikes_of(recorded(Store(tmp_path), "short", epochs=5, jump=4))
    assert report.spikes == () and "its 5 epochs are too few" in report.hint


def test_of_a_run_with_a_watch_steps_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    told.losses[75] += 4.0
    store = Store(tmp_path)
    report = spikes_of(recorded(store, "watched", found=told.found(75) | {"threshold": 6.0}))
    assert report.source == "steps" and report.hint == "" and [s.start for s in report.spikes] == [75]
    (run,) = store.runs()
    both = {name: {**run.findings()["SpikeWatch"]} for name in ("SpikeWatch", "SpikeWatch 2")}
    monkeypatch.setattr(type(run), "findings", lambda self: both)
    assert "only the first is told of" in spikes_of(run).hint
    lower = spikes_of(store.runs()[0], threshold=3.0)
    assert lower.threshold == 3.0 and "kept from robust z 6 on" in lower.hint
    assert spikes_of(store.runs()[0], threshold=1e9).spikes == ()


def test_refusals_are_sentences(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.record("bare", task="toy", facts={}, records=False) as writer:
        pass
    with pytest.raises(
        StoreError, match=r"spikes are found in what a run kept .*, got run .* without either"
    ) as caught:
        spikes_of(writer.run)
    assert "methods: [SpikeWatch]" in str(caught.value)
    for threshold in (0, -1.0, math.nan, True, math.inf, "6"):
        with pytest.raises(InvalidValue, match="finite robust z above 0, got"):
            spikes_of(writer.run, threshold=threshold)


def test_epochs_that_never_came_are_no_spike() -> None:
    loss = 1.0 + 0.01 * torch.rand(30, 14, generator=torch.Generator().manual_seed(0))
    loss[:, 12:] = math.nan
    curve, spikes = explained_epochs(Trajectories(loss))
    assert spikes == [] and bool(curve[:12].isfinite().all()) and bool(curve[12:].isnan().all())


def test_epochs_left_out_in_between_are_no_spike_and_hide_none() -> None:
    loss = 1.0 + 0.01 * torch.rand(30, 20, generator=torch.Generator().manual_seed(0))
    loss[:, [9, 10, 14]] = math.nan  # all of their batches were mixed
    assert explained_epochs(Trajectories(loss))[1] == []
    loss[4, 15:17] += 30.0
    (spike,) = explained_epochs(Trajectories(loss))[1]
    assert (spike.start, spike.end, spike.batch) == (15, 16, 30)
    assert [e.id for e in spike.examples[:1]] == [4] and spike.examples[0].rise == pytest.approx(30.0, abs=0.1)
    assert spike.examples[0].usual == pytest.approx(float(loss[4, [12, 13]].min()))
