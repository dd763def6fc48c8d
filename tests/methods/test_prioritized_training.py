"""Prioritised training: exact priorities and counts, one quiet scoring pass, an own history."""

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
from reinvest.core.errors import InvalidValue
from reinvest.core.view import TaskView
from reinvest.methods.select.prioritized_training import PrioritizedTraining, highest_rows, priorities


def kept(method, setup, *, epochs=1):
    """(the model before, [[(ids, kind) of each step] of each epoch]) of a model that does not move."""
    model = setup.model()
    chain, found = Methods(method), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with chain.attach(model, optimizer, duration=f"{epochs}ep", data=setup.loader(0), seed=0):
        for epoch in range(epochs):
            found.append([])
            for x, y in chain.batches(setup.loader(epoch)):
                found[-1].append((chain._now.batch.ids.tolist(), method.kind(chain.context), len(x)))
                chain.loss(model(x), y).backward()
                chain.step()
    return model, found


# ---- functions -------------------------------------------------------------------------------------------------------


def test_priorities_by_hand():
    p, q = torch.tensor([1.0, 1.0, 0.0, 0.5]), torch.tensor([0.0, 1.0, 0.0, 0.25])
    assert priorities(p, q).tolist() == [1.0, 0.5, 0.5, 0.625]
    with pytest.raises(InvalidValue, match="one number an example"):
        priorities(p, q[:2])


@pytest.mark.parametrize("keep", [0.1, 0.29, 0.5, 1.0])
@pytest.mark.parametrize("size", [10, 64, 100])
def test_counts_are_exact_and_the_highest_are_kept(keep, size):
    scores = torch.randperm(size, generator=torch.Generator().manual_seed(size)).float()
    rows = highest_rows(scores, keep)
    count = math.floor(keep * size + 1e-9)
    assert rows.dtype == torch.int64 and len(rows) == count and rows.tolist() == sorted(set(rows.tolist()))
    assert sorted(scores[rows].tolist()) == list(range(size - count, size))


def test_equal_scores_and_scores_that_are_no_numbers():
    assert highest_rows(torch.zeros(6), 0.5).tolist() == [0, 1, 2]
    assert highest_rows(torch.tensor([math.nan, 1.0, -math.inf, 2.0]), 0.5).tolist() == [1, 3]
    assert highest_rows(torch.tensor([1.0, 3.0]), 0.1, least=1).tolist() == [1]
    for bad in ((torch.zeros(2, 2), 0.5), (torch.zeros(4), 0.0), (torch.zeros(4), 1.5), (torch.zeros(4), 0.1)):
        with pytest.raises(InvalidValue):
            highest_rows(*bad)


# ---- the choice ------------------------------------------------------------------------------------------------------


def test_the_kept_are_those_of_highest_priority():
    setup = Setup()
    p = [(29 * i) % 48 / 48 for i in range(48)]
    model, (steps,) = kept(PrioritizedTraining(p_clean=p, keep=0.25), setup)
    x, y = setup.data()
    model.eval()
    with torch.no_grad():
        score = priorities(torch.tensor(p), F.cross_entropy(model(x), y, reduction="none").neg().exp())
    for (ids, kind, size), (whole, _, _) in zip(steps, setup.loader(0), strict=True):
        wanted = set(whole[score[whole].argsort(descending=True)[:4]].tolist())
        assert set(ids) == wanted and kind == "selecting" and size == 4


def test_without_probabilities_it_is_the_choice_of_the_highest_losses():
    """The complaint about selective backprop: nothing but p keeps wrong labels out."""
    setup = Setup()
    model, (steps,) = kept(PrioritizedTraining(p_clean=[None] * 48, keep=0.25), setup)
    x, y = setup.data()
    losses = F.cross_entropy(model.eval()(x), y, reduction="none").detach()
    for (ids, _, _), (whole, _, _) in zip(steps, setup.loader(0), strict=True):
        assert set(ids) == set(whole[losses[whole].argsort(descending=True)[:4]].tolist())


def test_certain_probabilities_decide_alone():
    """p of 0 and 1 differ by more than any q: wrong labels are kept only where there are not enough others."""
    p = [float(i % 2) for i in range(48)]
    _, (steps,) = kept(PrioritizedTraining(p_clean=p, keep=0.25), Setup())
    for (ids, _, _), (whole, _, _) in zip(steps, Setup().loader(0), strict=True):
        assert sum(i % 2 for i in ids) == min(4, int((whole % 2).sum()))


def test_only_the_window_selects_and_periods_are_plain():
    _, (steps, later) = kept(PrioritizedTraining(p_clean=[1.0] * 48, keep=0.5, end=0.5, period=3), Setup(), epochs=2)
    assert [k for _, k, _ in steps] == ["selecting", "selecting", "plain"]
    assert [k for _, k, _ in later] == ["plain"] * 3
    assert [n for _, _, n in steps + later] == [8, 8, 16, 16, 16, 16]


def test_keeping_all_scores_nothing_and_asks_no_store():
    class Never(nn.Module):
        def forward(self, x):
            assert self.training
            return x.flatten(1)[:, :4] * self.weight

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

    setup, model = Setup(), Never()
    chain = Methods(PrioritizedTraining("0123456789abcdef", keep=1.0))
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=setup.loader(0), seed=0):
        for x, y in chain.batches(setup.loader(0)):
            assert len(x) == 16
            chain.loss(model(x), y).backward()
            chain.step()


def test_an_earlier_run_says_which_labels_are_right(monkeypatch):
    p = [float(i % 2) for i in range(48)]
    read = lambda runs, context, noise=None: (torch.tensor(p), torch.full((48,), -1))  # noqa: E731
    monkeypatch.setattr(names, "resolve", lambda kind, name: {("clean", "records"): read}[kind, name])
    method = PrioritizedTraining("0123456789abcdef", keep=0.25)
    assert method.reuses() == [("0123456789abcdef", "data")]
    _, (steps,) = kept(method, Setup())
    # A label that is probably wrong counts as such, whether or not another class is suggested.
    assert all(
        sum(i % 2 for i in ids) == min(4, sum(int(w) % 2 for w in whole))
        for (ids, _, _), (whole, _, _) in zip(steps, Setup().loader(0), strict=True)
    )


def test_an_earlier_run_that_doubts_no_label_is_told_of(monkeypatch):
    """The highest losses would be chosen, wrong labels first: four times slower than a random half (docs/data_diet.md)."""
    read = lambda runs, context, noise=None: (torch.ones(48), torch.full((48,), -1))  # noqa: E731
    monkeypatch.setattr(names, "resolve", lambda kind, name: {("clean", "records"): read}[kind, name])
    with pytest.warns(
        NoEffectWarning, match=r"no group of wrong labels, so PrioritizedTraining chooses the highest losses"
    ):
        kept(PrioritizedTraining("0123456789abcdef", keep=0.25), Setup())


# ---- an own history --------------------------------------------------------------------------------------------------


def test_an_own_history_turns_away_from_wrong_labels():
    """Chance would keep a quarter of wrong labels; the highest losses are mostly wrong ones; p keeps them out."""
    setup = NoisySetup(epochs=8)
    assert PrioritizedTraining().begin == 0.3 and PrioritizedTraining(p_clean=[1.0]).begin == 0.0
    shares = {}
    for name, method in {
        "own": PrioritizedTraining(keep=0.5),
        "losses": PrioritizedTraining(p_clean=[None] * setup.examples, keep=0.5),
    }.items():
        loop, found = ChainLoop(setup, [method]), []
        with loop.attached():
            for epoch in range(setup.epochs):
                for x, y in loop.chain.batches(setup.loader(epoch)):
                    found.append(setup.wrong[loop.chain._now.batch.ids])
                    loop.chain.loss(loop.model(x), y).backward()
                    loop.chain.step()
        last = torch.cat(found[-len(found) // setup.epochs :])
        shares[name] = float(last.float().mean())
    assert shares["losses"] > 0.35 and shares["own"] < 0.1


def test_a_resumed_own_history_is_exact():
    setup = NoisySetup(epochs=5)
    make = lambda: PrioritizedTraining(keep=0.5, noise=0.25)  # noqa: E731
    whole = ChainLoop(setup, [make()]).run().result()
    assert distance(whole["model"], HandLoop(setup).run().result()["model"]) > 1e-3
    for stop in (30, 60, 75):
        first, second = (ChainLoop(setup, [make()]) for _ in range(2))
        with first.attached():
            written = first.train(until=stop).save()
        with second.attached():
            second.load(written)
            second.train()
        assert differences(second.result(), whole) == [], f"stopped after step {stop}"


def test_two_processes_share_one_history():
    setup = NoisySetup(batch_norm=False, epochs=4)
    arguments = {"keep": 0.5, "noise": 0.25}
    one = ChainLoop(setup, [PrioritizedTraining(**arguments)], nodes=2).run().result()
    for found in run_pair([(PrioritizedTraining, arguments)], setup)[0]:
        assert distance(found, one) <= 1e-4


def test_an_own_history_needs_the_number_of_examples():
    setup = Setup()  # its loader does not tell
    with pytest.raises(InvalidValue, match="how many there are; wrap the data set"):
        ChainLoop(setup, [PrioritizedTraining(keep=0.5)]).run()


def test_dense_targets_have_a_history_without_classes():
    x, y = torch.randn(12, 3, 4, 4), torch.zeros(12, 4, 4, dtype=torch.long)

    class Maps(list):
        indexed, examples = True, 12
        view = TaskView(examples=12)

    loader = Maps([(torch.arange(12), x, y)])
    model, method = nn.Conv2d(3, 2, 1), PrioritizedTraining(keep=0.5, start=0.0)
    chain = Methods(method)
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="3ep", data=loader, seed=0):
        for _ in range(3):
            for inputs, targets in chain.batches(loader):
                assert len(inputs) == 6
                chain.loss(model(inputs), targets).backward()
                chain.step()
        assert method._history.labels.tolist() == [-1] * 13


def test_messages_name_the_method():
    setup = Setup()
    with pytest.raises(InvalidValue, match="PrioritizedTraining scores small copies"):
        model = nn.Linear(4, 3)
        chain = Methods(PrioritizedTraining(p_clean=[1.0] * 48, scale=0.5))

        class Flat(list):
            indexed, examples = True, 16

        loader = Flat([(torch.arange(16), torch.zeros(16, 4), torch.zeros(16, dtype=torch.long))])
        with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=loader, seed=0):
            next(iter(chain.batches(loader)))
    assert setup.examples == 48
