"""The watch for loss spikes: it measures what it says, finds what was planted, and changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop, EpochLoader
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.method import Card, Method
from reinvest.methods.gradients.sam import SAM
from reinvest.methods.losses.spike_watch import SpikeWatch, measure_norms
from reinvest.methods.weights.layer_freezing import LayerFreezing
from reinvest.store import Store
from reinvest.testing import HandLoop, Setup

LONG = Setup(epochs=24, batch_norm=False, dropout=0.0)
"""72 steps, three an epoch."""
WATCH = {"window": 30, "check": 7, "around": 12}


def card(phase):
    return Card("toy", "none: a test", 2020, "none", phase, "none", "nothing", ("any",))


class Leap(Method):
    """gradients: those of one step are many times as large."""

    card = card("gradients")
    neutral: ClassVar = {"step": -1}

    def __init__(self, step=40, factor=300.0):
        self.step, self.factor = step, factor

    def gradients(self, context, again):
        """Enlarge."""
        if context.step == self.step:
            for p in context.model.parameters():
                if p.grad is not None:
                    p.grad *= self.factor
        return True


class Explode(Method):
    """augment: inputs of some examples are many times as large, in one step."""

    card = card("augment")
    neutral: ClassVar = {"step": -1}

    def __init__(self, step=40, rows=16, factor=30.0):
        self.step, self.rows, self.factor = step, rows, factor

    def augment(self, batch, context):
        """Enlarge and turn round."""
        if context.step != self.step:
            return batch
        inputs = batch.inputs.clone()
        inputs[: self.rows] *= -self.factor
        return batch.with_inputs(inputs)


class Refuse(Method):
    """gradients: every third batch is skipped, with gradients that are not finite."""

    card = card("gradients")

    def start(self, context):
        """Count from 0."""
        self.calls = 0

    def gradients(self, context, again):
        """Skip."""
        self.calls += 1
        if self.calls % 3 == 0:
            next(context.model.parameters()).grad.fill_(math.inf)
            return False
        return True


def watched(methods=(), setup=LONG, parts=1, **settings):
    """(findings, loop) of a run with the watch last in the list."""
    watch = SpikeWatch(**{**WATCH, **settings})
    loop = ChainLoop(setup, [*methods, watch], parts=parts)
    with loop.attached():
        found = loop.train() and watch.findings()
    return found, loop


def ids_of(setup, step):
    per_epoch = setup.examples // setup.batch_size
    batches = list(EpochLoader(setup, step // per_epoch, 0, 1, dicts=False))
    return batches[step % per_epoch][0]


def batch_of(window, step):
    row = window["steps"].tolist().index(step)
    begin, size = int(window["counts"][:row].sum()), int(window["counts"][row])
    return window["ids"][begin : begin + size], window["losses"][begin : begin + size]


# ---- norms ---------------------------------------------------------------------------------------------------------


def test_norms_are_torchs():
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator) for shape in ((3, 4), (7,), (2, 2, 2), ())]
    assert torch.equal(measure_norms(tensors), torch.stack([t.norm() for t in tensors]))
    gaps = measure_norms([tensors[0], None, tensors[1]])
    assert gaps.tolist() == [float(tensors[0].norm()), 0.0, float(tensors[1].norm())]
    assert measure_norms([None, None]).tolist() == [0.0, 0.0]
    assert measure_norms([]).shape == (0,)


def test_norms_of_short_and_long_types_are_float32():
    half = torch.full((100, 100), 1000.0, dtype=torch.float16)
    assert float(measure_norms([half])) == pytest.approx(100000.0, rel=1e-5), "beyond what half precision holds"
    fine = torch.full((9999,), 1.01, dtype=torch.bfloat16)
    assert float(measure_norms([fine])) == pytest.approx(math.sqrt(9999) * float(fine[0]), rel=1e-5)
    mixed = measure_norms([torch.ones(4, dtype=torch.float64), torch.ones(9), None])
    assert mixed.dtype == torch.float32 and mixed.tolist() == [2.0, 3.0, 0.0]
    among = measure_norms([half, torch.ones(9), torch.ones(4, dtype=torch.float64), fine])
    assert among.tolist() == [float(measure_norms([half])), 3.0, 2.0, float(measure_norms([fine]))]


def test_norms_of_sparse_gradients_count_what_is_added_up():
    sparse = torch.sparse_coo_tensor([[0, 0]], [3.0, 1.0], (5,), check_invariants=True)
    assert measure_norms([sparse]).tolist() == [4.0]


# ---- what is kept --------------------------------------------------------------------------------------------------


class ByHand(HandLoop):
    """Keeps losses, norms of gradients, updates and weights of every step."""

    def start(self):
        self.kept = []

    def losses(self, losses, output, ids, x):
        self.now = losses.detach().clone()
        return losses

    def gradients(self, again):
        self.grads = [p.grad.clone() for p in self.model.parameters()]
        self.old = [p.detach().clone() for p in self.model.parameters()]

    def weights(self):
        new = [p.detach() for p in self.model.parameters()]
        moved = [(a - b).norm() for a, b in zip(self.old, new, strict=True)]
        norms = torch.stack([g.norm() for g in self.grads])
        self.kept.append((self.now, norms, torch.stack(moved), torch.stack([w.norm() for w in new])))


def test_signals_and_windows_are_those_of_a_loop_by_hand():
    setup = Setup(epochs=8)
    hand = ByHand(setup).run()
    found, loop = watched([], setup, threshold=1e-9, window=8, check=5)
    assert differences(loop.result(), hand.result()) == []
    losses, gradients, updates, weights = zip(*hand.kept, strict=True)
    assert torch.equal(found["loss"], torch.stack([each.mean() for each in losses]))
    assert torch.equal(found["gradient_norm"], torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    assert found["names"] == [name for name, _ in loop.model.named_parameters()]
    assert found["windows"] and found["steps_per_epoch"] == 3
    for window in found["windows"]:
        steps = window["steps"].tolist()
        assert steps == list(range(max(0, window["start"] - 12), min(24, window["start"] + 13)))
        assert window["epochs"].tolist() == [step // 3 for step in steps]
        assert torch.equal(window["gradient_norms"], torch.stack([gradients[s] for s in steps]))
        assert torch.equal(window["weight_norms"], torch.stack([weights[s] for s in steps]))
        torch.testing.assert_close(window["update_norms"], torch.stack([updates[s] for s in steps]), rtol=1e-6, atol=0)
        for step in steps:
            ids, own = batch_of(window, step)
            assert torch.equal(ids, ids_of(setup, step)) and torch.equal(own, losses[step])


@pytest.mark.parametrize("check", [1, 3, 20, 1000])
def test_what_is_found_does_not_depend_on_when_it_looks(check):
    often, _ = watched([Leap()], threshold=4.0, check=5)
    seldom, _ = watched([Leap()], threshold=4.0, check=check)
    assert differences(often, seldom) == []
    assert often["windows"]


def test_a_leap_of_the_weights_is_seen_one_step_later_and_by_its_update():
    found, _ = watched([Leap(40)])
    window = found["windows"][0]
    assert window["start"] in (40, 41)
    before = found["loss"][20:40]
    assert float(found["loss"][41]) > 3 * float(before.max())
    row = window["steps"].tolist().index(40)
    moved = window["update_norms"].square().sum(1).sqrt()
    assert float(moved[row]) > 10 * float(moved[row - 1])
    assert batch_of(window, 41)[0].tolist() == ids_of(LONG, 41).tolist()


def test_inputs_that_explode_are_seen_at_once_with_their_ids():
    found, _ = watched([Explode(40, rows=2)])
    (window, *_) = found["windows"]
    assert window["start"] == 40
    ids, losses = batch_of(window, 40)
    assert ids.tolist() == ids_of(LONG, 40).tolist()
    assert set(losses.topk(2).indices.tolist()) == {0, 1}


def test_it_changes_nothing_whatever_it_finds():
    for methods in ([], [Leap(40)], [Explode(40)]):
        _, loop = watched(methods, threshold=1.0, check=3)
        assert differences(loop.result(), ChainLoop(LONG, methods).run().result()) == []


def test_no_alarm_in_ordinary_training():
    assert [len(watched([], Setup(seed=seed, epochs=40))[0]["windows"]) for seed in range(5)] == [0] * 5


def test_an_infinite_threshold_keeps_signals_and_no_window():
    found, _ = watched([Leap()], threshold=math.inf)
    assert found["windows"] == [] and len(found["loss"]) == 72


def test_only_the_highest_windows_are_kept():
    leaps = [Explode(30, factor=8.0), Explode(45, factor=60.0), Explode(60, factor=400.0)]
    every, _ = watched(leaps)
    one, _ = watched(leaps, most=1)
    highest = max(every["windows"], key=lambda w: w["z"])
    assert len(every["windows"]) >= 2
    assert differences(one["windows"], [highest]) == []


# ---- loops of all kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 38, 41, 47, 55])
def test_a_resumed_watch_finds_the_same(stop):
    methods = [Leap(40)]
    whole, _ = watched(methods)
    first = ChainLoop(LONG, [*methods, SpikeWatch(**WATCH)])
    with first.attached():
        written = first.train(until=stop).save()
    watch = SpikeWatch(**WATCH)
    second = ChainLoop(LONG, [*methods, watch])
    with second.attached():
        second.load(written)
        found = second.train() and watch.findings()
    assert differences(found, whole) == []


def test_asking_for_findings_in_between_changes_nothing():
    whole, _ = watched([Leap(40)])

    class Asked(SpikeWatch):
        """A watch that is asked at every step."""

        def weights(self, context):
            """Measure, and tell."""
            super().weights(context)
            self.findings()

    watch = Asked(**WATCH)
    with ChainLoop(LONG, [Leap(40), watch]).attached() as loop:
        assert differences(loop.train() and watch.findings(), whole) == []


def test_parts_of_a_batch_are_one_step():
    whole, _ = watched([Explode(40)])
    found, _ = watched([Explode(40)], parts=4)
    torch.testing.assert_close(found["loss"], whole["loss"])
    assert found["windows"][0]["start"] == 40
    assert torch.equal(found["windows"][0]["ids"], whole["windows"][0]["ids"])


def test_a_second_look_at_a_batch_is_not_kept():
    setup = Setup(epochs=4)
    seen = []

    class Listening(SpikeWatch):
        """A watch that is watched."""

        def losses(self, losses, output, batch, context):
            """Count."""
            seen.append(float(losses.detach().mean()))
            return super().losses(losses, output, batch, context)

    watch = Listening(**WATCH)
    loop = ChainLoop(setup, [SAM(rho=0.5), watch])
    with loop.attached():
        found = loop.train() and watch.findings()
    assert len(seen) == 2 * 12
    assert found["loss"].tolist() == pytest.approx(seen[::2], rel=1e-6)


def test_skipped_batches_are_no_steps():
    found, _ = watched([Refuse()], Setup(epochs=8), threshold=1e-9, window=8)
    assert len(found["loss"]) == 24 and bool(found["gradient_norm"].isfinite().all())
    window = found["windows"][0]
    taken = [k for k in range(36) if (k + 1) % 3]
    for step in window["steps"].tolist():
        assert batch_of(window, step)[0].tolist() == ids_of(Setup(epochs=12), taken[step]).tolist()


def test_frozen_layers_have_gradients_of_norm_0():
    found, _ = watched([LayerFreezing(start=0.2, share=0.5, stages=1), Leap(50)])
    late = next(w for w in found["windows"] if w["start"] >= 50)
    frozen = [k for k, name in enumerate(found["names"]) if name.startswith("body.0")]
    assert float(late["gradient_norms"][:, frozen].abs().max()) == 0.0
    assert float(late["update_norms"][:, frozen].abs().max()) == 0.0
    assert float(late["weight_norms"][:, frozen].min()) > 0.0


def test_without_ids_losses_are_kept_all_the_same():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    data = [(torch.randn(8, 3), torch.randint(0, 2, (8,))) for _ in range(30)]
    watch = SpikeWatch(threshold=1e-9, window=8, around=12, check=4)
    chain = Methods(watch)
    with chain.attach(model, torch.optim.SGD(model.parameters(), 0.1), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            chain.step()
        found = watch.findings()
    assert len(found["loss"]) == 30
    window = found["windows"][0]
    assert len(window["ids"]) == 0 and set(window["counts"].tolist()) == {8}


def test_a_loss_that_is_not_finite_is_a_spike():
    found, _ = watched([Leap(40, factor=math.inf)])
    assert found["windows"][0]["start"] == 40 and found["windows"][0]["z"] == math.inf


def test_a_loop_that_steps_by_itself_gives_gradients_alone():
    model = torch.nn.Linear(3, 2)
    watch = SpikeWatch(window=30, around=12, check=4)
    chain = Methods(watch)
    chain.reports = False
    with chain.attach(model, torch.optim.SGD(model.parameters(), 0.1), duration="50st", data=[0] * 50, seed=0):
        for k in range(52):
            model(torch.ones(4, 3) * (100.0 if k == 40 else 1.0)).sum().backward()
            chain.step()
        found = watch.findings()
    assert bool(found["loss"].isnan().all()) and len(found["gradient_norm"]) == 50
    assert [w["start"] for w in found["windows"]] == [40]


def test_a_state_belongs_to_its_model():
    watch = SpikeWatch(**WATCH)
    loop = ChainLoop(LONG, [watch])
    with loop.attached():
        loop.train(until=1)
        state = watch.state_dict()
        with pytest.raises(InvalidValue, match="same parameters, got a state of 1 for 6"):
            watch.load_state_dict({**state, "names": ["weight"]})


def test_a_chain_holds_one_watch():
    with pytest.raises(Conflict, match="holds one SpikeWatch"):
        Methods(SpikeWatch(), SpikeWatch(threshold=9.0))


@dataclass(frozen=True)
class Wide(Setup):
    """More steps than the norms of which are held."""

    epochs: int = 60


def test_an_own_loop_leaves_its_findings_in_the_run(tmp_path):
    whole, _ = watched([Leap(40)])
    with Store(tmp_path).record("mine", task="toy", facts={}) as run:
        ChainLoop(LONG, [Leap(40), SpikeWatch(**WATCH)]).run()
    assert differences(run.run.findings(), {"SpikeWatch": whole}) == []


def test_memory_is_bounded():
    watch = SpikeWatch(**WATCH)
    loop = ChainLoop(Wide(), [watch])
    with loop.attached():
        loop.train()
        state = watch.state_dict()
    assert state["norms"].shape == (3, 2 * 12 + 7 + 1, 8) and len(state["recent"]) == 32
    assert state["signals"].shape == (2, 180)
