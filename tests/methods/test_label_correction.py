"""Label correction: targets by hand, p = 1 leaves training as it is, an own history, an earlier run's records."""

from __future__ import annotations

import math

import pytest
import torch
from noisy_setup import NoisySetup
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop, HandLoop, Setup
from reinvest._testing.pair import run_pair
from reinvest.core import names
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import Conflict, InvalidValue, MissingIds
from reinvest.core.view import TaskView
from reinvest.methods._clean import Cleaned, History
from reinvest.methods.augment.cutmix import CutMix
from reinvest.methods.augment.mixup import Mixup
from reinvest.methods.gradients.sam import SAM
from reinvest.methods.targets.label_correction import LabelCorrection, correct_targets
from reinvest.methods.targets.label_smoothing import LabelSmoothing


class Batches:
    """Batches (ids, x, y) of four examples, the same in every epoch."""

    indexed = True

    def __init__(self, x, y, size=4, **view):
        self.x, self.y, self.size = x, y, size
        self.examples = len(y)
        self.view = TaskView(**({"examples": len(y)} | view))

    def __len__(self):
        return len(self.y) // self.size

    def __iter__(self):
        for ids in torch.arange(len(self.y)).split(self.size):
            yield ids, self.x[ids], self.y[ids]


def told(p, said):
    """A catalogue entry that stands for an earlier run."""
    return lambda runs, context, noise=None: (torch.tensor(p), torch.tensor(said))


def from_run(monkeypatch, p, said):
    monkeypatch.setattr(names, "resolve", lambda kind, name: {("clean", "records"): told(p, said)}[kind, name])
    return LabelCorrection("0123456789abcdef")


def taught(methods, loader, classes=3, epochs=1, start_epoch=0):
    """Targets [N, C] of the last epoch, read off the gradient of the loss at uniform logits."""
    chain, model, found = Methods(*methods), nn.Linear(1, 1), {}
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), duration=f"{epochs}ep", data=loader, seed=0):
        for _ in range(epochs):
            for _, y in chain.batches(loader):
                ids = chain._now.batch.ids.tolist()
                output = torch.zeros(len(y), classes, requires_grad=True)
                chain.loss(output, y).backward()
                chain.step()
                found |= dict(zip(ids, 1 / classes - len(y) * output.grad, strict=True))
    return torch.stack([found[i] for i in sorted(found)])


X, Y = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
P = [1.0, 0.5, 0.0, 0.25, math.nan, 0.5, 0.75, 0.0]
SAID = [1, 2, 0, 2, 0, -1, 0, 2]


# ---- the formula -----------------------------------------------------------------------------------------------------


def test_targets_by_hand():
    output = torch.zeros(4, 3)
    labels, said, p = torch.tensor([0, 1, 2, -100]), torch.tensor([1, 1, 0, 2]), torch.tensor([0.75, 0.5, 0.0, 0.5])
    wanted = [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert correct_targets(labels, output, labels, said, p).tolist() == wanted
    # Half of a blend with class 2: that half is corrected, the other is not.
    blend = 0.5 * F.one_hot(labels[:3], 3).float() + 0.5 * F.one_hot(torch.tensor([2, 2, 2]), 3).float()
    found = correct_targets(blend, output[:3], labels[:3], said[:3], p[:3], torch.full((3,), 0.5))
    assert found.tolist() == [[0.375, 0.125, 0.5], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
    assert correct_targets(labels, output.double(), labels, said, p).dtype == torch.float64
    with pytest.raises(InvalidValue, match="dense"):
        correct_targets(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, 3), labels[:2], said[:2], p[:2])


def test_an_earlier_run_says_what_is_taught(monkeypatch):
    found = taught([from_run(monkeypatch, P, SAID)], Batches(X, Y))
    wanted = F.one_hot(Y, 3).float()
    wanted[1], wanted[2], wanted[3], wanted[7] = (
        torch.tensor(row) for row in ([0, 0.5, 0.5], [1.0, 0, 0], [0.25, 0, 0.75], [0, 0, 1.0])
    )
    assert torch.allclose(found, wanted, atol=1e-6), (
        "id 4 has no probability, id 5 no prediction: they keep their labels"
    )


def test_ids_that_came_later_keep_their_labels(monkeypatch):
    found = taught([from_run(monkeypatch, P[:3], SAID[:3])], Batches(X, Y, examples=None))
    assert torch.allclose(found[3:], F.one_hot(Y, 3).float()[3:], atol=1e-6)
    assert torch.allclose(found[2], torch.tensor([1.0, 0, 0]), atol=1e-6)


def test_certain_labels_leave_training_bit_identical(monkeypatch):
    """p = 1 for all: no target is even made soft, and where an earlier run said so that is told."""
    setup = Setup()
    sure = from_run(monkeypatch, [1.0] * 48, [0] * 48)
    with pytest.warns(
        NoEffectWarning, match=r"no group of wrong labels, so LabelCorrection changes nothing.*noise=0\.2"
    ):
        found = ChainLoop(setup, [sure]).run().result()
    assert differences(found, HandLoop(setup).run().result()) == []
    given = LabelCorrection(p_clean=[1.0] * 48, start=0.0)
    assert differences(ChainLoop(setup, [given]).run().result(), HandLoop(setup).run().result()) == []


def test_never_starting_reads_nothing():
    method = LabelCorrection("0123456789abcdef", start=1.0)
    assert method.reuses() == [("0123456789abcdef", "data")] and method.one_off() == 0.0
    loader = Batches(X, Y)
    assert torch.allclose(taught([method], loader), F.one_hot(Y, 3).float(), atol=1e-6), "no store is asked"


def test_where_it_starts(monkeypatch):
    assert LabelCorrection("0123456789abcdef").begin == 0.0 and LabelCorrection().begin == 0.3
    assert LabelCorrection("0123456789abcdef", start=0.5).begin == 0.5
    monkeypatch.setattr(names, "resolve", lambda kind, name: told([0.0] * 8, [2] * 8))
    half = LabelCorrection("0123456789abcdef", start=0.5)
    found = taught([half], Batches(X, Y))
    wanted = F.one_hot(torch.where(torch.arange(8) < 4, Y, 2), 3).float()
    assert torch.allclose(found, wanted, atol=1e-6), "the second of two steps"


# ---- with methods that blend or soften -------------------------------------------------------------------------------


@pytest.mark.parametrize("blend", [Mixup(1.0), CutMix(1.0)])
def test_both_parts_of_a_blend_are_corrected(monkeypatch, blend):
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    loader = Batches(x, Y, 8)
    corrected = F.one_hot(Y, 3).float()
    for i, (p, said) in enumerate(zip(P, SAID, strict=True)):
        if not math.isnan(p) and said >= 0:
            corrected[i] = p * F.one_hot(Y[i], 3) + (1 - p) * F.one_hot(torch.tensor(said), 3)
    method = from_run(monkeypatch, P, SAID)
    chain, model = Methods(blend, method), nn.Linear(1, 1)
    chain.reports = False
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), duration="1ep", data=loader, seed=0):
        for _, y in chain.batches(loader):
            mix = chain._now.batch.mix
            assert mix is not None and mix.ids is not None
            output = torch.zeros(8, 3, requires_grad=True)
            chain.loss(output, y).backward()
            found = 1 / 3 - 8 * output.grad
            c = mix.coefficients.float().unsqueeze(1)
            assert torch.allclose(found, c * corrected + (1 - c) * corrected[mix.ids], atol=1e-6)
            chain.step()


def test_smoothing_comes_after_correcting(monkeypatch):
    method = from_run(monkeypatch, P, SAID)
    found = taught([method, LabelSmoothing(0.3)], Batches(X, Y))
    plain = taught([from_run(monkeypatch, P, SAID)], Batches(X, Y))
    assert torch.allclose(found, 0.7 * plain + 0.1, atol=1e-6)
    with pytest.raises(Conflict, match="list it first"):
        taught([LabelSmoothing(0.3), from_run(monkeypatch, P, SAID)], Batches(X, Y))
    with pytest.raises(Conflict, match="list Mixup first"):
        taught([from_run(monkeypatch, P, SAID), Mixup(1.0)], Batches(X, Y))


def test_an_own_history_needs_single_examples():
    """The answer to a blend is no answer to either of its examples."""
    with pytest.raises(InvalidValue, match=r"blended ones; take the probabilities from an earlier run"):
        taught([Mixup(1.0), LabelCorrection()], Batches(X, Y))


# ---- an own history --------------------------------------------------------------------------------------------------


def test_the_history_is_the_mean_after_the_first_epoch_and_the_averaged_answer():
    history = History(3, torch.device("cpu"), decay=0.75)
    labels, ids = torch.tensor([0, 1]), torch.tensor([0, 2])
    logits = torch.tensor([[[4.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [2.0, 0.0]], [[0.0, 3.0], [0.0, 0.0]]])
    average = None
    for epoch, output in enumerate(logits):
        losses = torch.tensor([math.e - 1, math.e**2 - 1]) if epoch else torch.tensor([99.0, 99.0])
        history.record(ids, losses, labels, output)
        history.record(ids, losses + 5, labels, -output)  # a second look at the batch does not count
        history.close_epoch(first=epoch == 0)
        average = output.softmax(1) if average is None else 0.75 * average + 0.25 * output.softmax(1)
    assert (history.total / history.seen)[[0, 2]].tolist() == pytest.approx([1.0, 2.0])
    assert history.seen.tolist() == [2, 0, 2, 0] and history.shown.tolist() == [3, 0, 3, 0]
    assert torch.allclose(history.answers[[0, 2]], average)
    assert history.said().tolist() == [int(average[0].argmax()), -1, int(average[1].argmax()), -1]
    assert history.said()[0] == 0, "a single late answer does not turn the average"
    assert history.p_clean(None)[1].isnan() and history.p_clean(None)[0] == 1.0


def test_losses_that_are_not_finite_are_no_sighting():
    history = History(2, torch.device("cpu"))
    for losses in ([math.nan, math.inf], [1.0, 1.0]):
        history.record(torch.tensor([0, 1]), torch.tensor(losses), torch.tensor([0, 0]), torch.zeros(2, 2))
    history.close_epoch(first=False)
    assert history.seen.tolist() == [1, 1, 0]
    history.record(torch.tensor([0, 7]), torch.tensor([math.nan, 1.0]), None)
    history.close_epoch(first=False)
    assert history.seen.tolist()[:2] == [1, 1], "grown data have no row of their own"
    assert history.said().tolist() == [0, 0, -1]


def test_tables_too_large_for_memory_are_refused():
    history = History(100_000, torch.device("meta"))
    with pytest.raises(InvalidValue, match=r"at most 4 GiB, got 100,000 examples of 20,000 classes"):
        history._allocate(20_000)


def test_wrong_labels_are_found_and_corrected_during_the_run():
    setup = NoisySetup()
    method, seen = LabelCorrection(), {}

    class Watching(ChainLoop):
        def _step(self, batch):
            x, y = batch
            loss = self.chain.loss(self.forward(x), y)
            seen[self.chain.context.epoch] = method._doubts
            loss.backward()
            self.chain.step()

    loop = Watching(setup, [method])
    with loop.attached():
        loop.train()
        p, said = method._p[:-1], method._said[:-1]
        assert seen[0] is seen[1] is False and seen[5] is True, "two epochs tell nothing"
        assert float(p[setup.wrong].mean()) < 0.05 and float(p[~setup.wrong].mean()) > 0.98
        assert float((said == setup.true_labels).float().mean()) > 0.95
        told = method.findings()
        assert told["examples"] == 480 and abs(told["doubted"] - 120) < 10
        assert told["wrong_share"] == pytest.approx(0.25, abs=0.03)
    plain = HandLoop(setup).run()
    x, _ = setup.data()
    wrong = setup.wrong
    own, other = (m.eval()(x).softmax(1)[wrong].detach() for m in (loop.model, plain.model))
    rows = torch.arange(int(wrong.sum()))
    assert (
        float(own[rows, setup.true_labels[wrong]].mean()) > float(other[rows, setup.true_labels[wrong]].mean()) + 0.05
    )


def test_clean_data_are_left_alone_bit_for_bit():
    setup = NoisySetup(wrong_share=0.0)
    found = ChainLoop(setup, [LabelCorrection()]).run().result()
    assert differences(found, HandLoop(setup).run().result()) == []


def test_a_resumed_own_history_is_exact():
    setup = NoisySetup()
    whole = ChainLoop(setup, [LabelCorrection(start=0.2)]).run().result()
    assert distance(whole["model"], HandLoop(setup).run().result()["model"]) > 1e-3
    for stop in (30, 75, 80):
        first, second = (ChainLoop(setup, [LabelCorrection(start=0.2)]) for _ in range(2))
        with first.attached():
            written = first.train(until=stop).save()
        with second.attached():
            second.load(written)
            second.train()
        assert differences(second.result(), whole) == [], f"stopped after step {stop}"


def test_two_processes_share_one_history():
    setup = NoisySetup(batch_norm=False)
    arguments = {"start": 0.2, "noise": 0.25}
    one = ChainLoop(setup, [LabelCorrection(**arguments)], nodes=2).run().result()
    assert distance(one["model"], HandLoop(setup).run().result()["model"]) > 1e-3
    for found in run_pair([(LabelCorrection, arguments)], setup)[0]:
        assert distance(found, one) <= 1e-4  # probabilities magnify the rounding of 120 steps


def test_parts_and_second_evaluations_are_seen_once():
    setup = NoisySetup(batch_norm=False, epochs=3)
    arguments = {"start": 0.3, "noise": 0.25}
    whole = ChainLoop(setup, [LabelCorrection(**arguments)]).run().result()
    assert distance(ChainLoop(setup, [LabelCorrection(**arguments)], parts=3).run().result(), whole) <= 1e-4
    method = LabelCorrection(**arguments)
    loop = ChainLoop(setup, [method, SAM()])
    with loop.attached():
        loop.train()
        assert int(method._history.shown[:-1].max()) == 2, "the third epoch is not closed yet"


def test_a_known_share_is_corrected_at_once():
    setup = NoisySetup(epochs=3)
    method = LabelCorrection(noise=0.25)
    loop = ChainLoop(setup, [method])
    with loop.attached():
        loop.train()
        assert float(1 - method._p[:-1].mean()) == pytest.approx(0.25, abs=0.02)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_probabilities_are_probabilities():
    for bad in ([1.5], [-0.1, None], "all", [True]):
        with pytest.raises(InvalidValue, match=r"p_clean .*, got "):
            LabelCorrection(p_clean=bad)
    assert LabelCorrection(p_clean=[0, None, 1]).given == (0.0, None, 1.0)


def test_what_it_cannot_correct_is_refused():
    with pytest.raises(InvalidValue, match=r"how many there are; wrap the data set"):
        taught([LabelCorrection()], Batches(X, Y, examples=None))
    with pytest.raises(MissingIds):
        chain, model = Methods(LabelCorrection()), nn.Linear(2, 3)
        with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1st", data=[(X, Y)], seed=0):
            pass
    dense = Batches(torch.randn(8, 3, 2), torch.zeros(8, 2, dtype=torch.long))
    for method in (LabelCorrection(), LabelCorrection(p_clean=[0.5] * 8, start=0.0)):
        chain, model = Methods(method), nn.Linear(1, 1)
        with (
            pytest.raises(InvalidValue, match="one class an example"),
            chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=dense, seed=0),
        ):
            for _, y in chain.batches(dense):
                chain.loss(torch.zeros(4, 3, 2, requires_grad=True), y).backward()
                chain.step()


def test_the_base_is_no_method_of_the_catalogue():
    assert Cleaned.__name__ not in names.catalogue("method")
