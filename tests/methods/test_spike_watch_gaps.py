"""The watch in loops that ask the chain for a loss in some steps only: those without are not seen, and no alarm."""

from __future__ import annotations

import math

import pytest
import torch

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop
from reinvest.core.spikes import LEAST, seen_z, spike_z
from reinvest.dynamics.spike_findings import explain_spikes
from reinvest.methods.losses.spike_watch import SpikeWatch
from reinvest.testing import Setup

WATCH = {"window": 30, "check": 7, "around": 12}
LONG = Setup(epochs=48, batch_norm=False, dropout=0.0)
"""144 steps, three an epoch."""


class Sometimes(ChainLoop):
    """A loop that asks for the chain's loss in every second step, and else computes its own."""

    explode, broken = -1, -1

    def _step(self, batch):
        x, y = batch
        step = self.chain.context.step
        x = -30 * x if step == self.explode else x
        output = self.forward(x)
        if step == self.broken:
            output = output * math.nan
        loss = self.chain.loss(output, y) if step % 2 == 0 else torch.nn.functional.cross_entropy(output, y)
        loss.backward()
        if step == self.broken:
            self.optimizer.zero_grad()
        self.chain.step()


def found_by(explode=-1, broken=-1, until=None, written=None, **settings):
    """What the watch found, or a saved loop."""
    watch = SpikeWatch(**{**WATCH, **settings})
    loop = Sometimes(LONG, [watch])
    loop.explode, loop.broken = explode, broken
    with loop.attached():
        if written is not None:
            loop.load(written)
        loop.train(until)
        return loop.save() if until is not None else watch.findings()


def test_steps_without_a_loss_are_no_spikes():
    found = found_by()
    assert found["asked"].tolist() == [k % 2 == 0 for k in range(144)]
    assert found["loss"].isnan().tolist() == [k % 2 == 1 for k in range(144)]
    assert found["windows"] == []
    assert explain_spikes(found) == []


@pytest.mark.parametrize("step", [90, 100])
def test_a_spike_between_gaps_is_found_at_its_step(step):
    found = found_by(explode=step)
    window = found["windows"][0]
    assert window["start"] == step and window["z"] > 6
    # Of the steps that were asked the examples are known.
    assert len(window["ids"]) == int(window["counts"].sum()) > 0
    spike = explain_spikes(found)[0]
    assert spike.start == step and "loss" in spike.signals and spike.peak % 2 == 0
    assert math.isfinite(spike.value) and spike.value == pytest.approx(float(found["loss"][spike.peak]))


def test_a_loss_that_was_asked_for_and_is_not_finite_is_a_spike():
    found = found_by(broken=100)
    assert found["windows"][0]["start"] == 100 and found["windows"][0]["z"] == math.inf
    assert explain_spikes(found)[0].start == 100


def test_what_is_kept_on_the_way_is_what_all_steps_tell():
    """The look every few steps goes far enough back, though half of the steps have no loss."""
    found = found_by(explode=100, threshold=2.0, most=1000)
    z = torch.stack([seen_z(found["loss"], found["asked"], 30), spike_z(found["gradient_norm"], 30)])
    high = (z > 2.0).any(0).nonzero()[:, 0].tolist()
    assert high[0] == found["windows"][0]["start"]
    assert max(w["z"] for w in found["windows"]) == pytest.approx(float(z.nan_to_num(-math.inf).max()))


@pytest.mark.parametrize("stop", [55, 99, 103])
def test_a_resumed_watch_finds_the_same(stop):
    whole = found_by(explode=100)
    found = found_by(explode=100, written=found_by(explode=100, until=stop))
    assert torch.equal(found["loss"].isnan(), whole["loss"].isnan())
    for one in (found, whole):
        one["loss"] = one["loss"].nan_to_num(-1.0)
    assert differences(found, whole) == []


def test_scores_are_those_of_the_steps_seen_put_together():
    g = torch.Generator().manual_seed(0)
    values, seen = torch.rand(300, generator=g) + 1, torch.rand(300, generator=g) < 0.4
    z = seen_z(values, seen, 40)
    assert z[~seen].isnan().all()
    torch.testing.assert_close(z[seen], spike_z(values[seen], 40), equal_nan=True)
    assert int(z.isfinite().sum()) == int(seen.sum()) - LEAST
    assert torch.equal(
        seen_z(values, torch.ones(300, dtype=torch.bool), 40).nan_to_num(-1), spike_z(values, 40).nan_to_num(-1)
    )


def test_findings_of_before_count_every_step_as_asked():
    found = found_by(explode=100)
    del found["asked"]
    found["loss"] = found["gradient_norm"].clone()
    assert [s.start for s in explain_spikes(found)][:1] == [100]
