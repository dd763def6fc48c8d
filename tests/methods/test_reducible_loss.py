"""Reducible loss selection: the highest loss less irreducible loss is kept, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.loops import Setup
from reinvest.core import names
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.dynamics.scores import reducible_loss
from reinvest.methods.select.reducible_loss import ReducibleLossSelection, select_reducible

IRREDUCIBLE = [2.0 * ((29 * i) % 48) / 48 for i in range(48)]


def kept(method, setup):
    """(the model, ids of each step) of one epoch of a model that does not move."""
    model, chain, found = setup.model(), Methods(method), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with chain.attach(model, optimizer, duration="1ep", data=setup.loader(0), seed=0):
        for x, y in chain.batches(setup.loader(0)):
            found.append(chain._now.batch.ids.tolist())
            assert len(found[-1]) == len(x)
            chain.loss(model(x), y).backward()
            chain.step()
    return model, found


def wanted(model, setup, irreducible, count):
    """Ids of each step, chosen by hand."""
    x, y = setup.data()
    with torch.no_grad():
        losses = F.cross_entropy(model.eval()(x), y, reduction="none")
    score = reducible_loss(losses, torch.tensor(irreducible))
    return [set(ids[score[ids].argsort(descending=True)[:count]].tolist()) for ids, _, _ in setup.loader(0)]


@pytest.mark.parametrize("keep", [0.1, 0.25, 0.5])
def test_the_kept_have_the_highest_reducible_loss(keep):
    setup = Setup()
    model, found = kept(ReducibleLossSelection(scores=IRREDUCIBLE, keep=keep), setup)
    assert [set(ids) for ids in found] == wanted(model, setup, IRREDUCIBLE, int(keep * 16))


def test_rows_by_hand():
    losses, irreducible = torch.tensor([3.0, 3.0, 0.1, 2.0]), torch.tensor([2.9, 0.5, 0.0, 0.1])
    assert select_reducible(losses, irreducible, 0.5).tolist() == [1, 3], "high and irreducible: noise; low: learned"
    assert select_reducible(losses, irreducible, 0.25).tolist() == [1]
    assert select_reducible(losses[:2], irreducible[:2], 0.1, least=1).tolist() == [1]
    with pytest.raises(InvalidValue, match="one number an example"):
        select_reducible(losses, irreducible[:3], 0.5)
    with pytest.raises(InvalidValue, match="at least one example"):
        select_reducible(losses, irreducible, 0.1)


def test_unknown_irreducible_losses_count_as_the_mean():
    setup = Setup()
    some = [None if i % 3 == 0 else v for i, v in enumerate(IRREDUCIBLE)]
    mean = sum(v for v in some if v is not None) / 32
    filled = [mean if v is None else v for v in some]
    model, found = kept(ReducibleLossSelection(scores=some, keep=0.25), setup)
    assert [set(ids) for ids in found] == wanted(model, setup, filled, 4)
    # Data that have grown: ids 40 to 47 are not in the list.
    mean = sum(IRREDUCIBLE[:40]) / 40
    model, found = kept(ReducibleLossSelection(scores=IRREDUCIBLE[:40], keep=0.25), setup)
    assert [set(ids) for ids in found] == wanted(model, setup, IRREDUCIBLE[:40] + [mean] * 8, 4)


def test_equal_irreducible_losses_choose_by_loss():
    setup = Setup()
    model, found = kept(ReducibleLossSelection(scores=[1.0] * 48, keep=0.25), setup)
    assert [set(ids) for ids in found] == wanted(model, setup, [0.0] * 48, 4)


@pytest.mark.parametrize("source", ["holdout", "records"])
def test_runs_are_read_as_the_source_says(monkeypatch, source):
    asked = []

    def read(runs, context, *, loss, balance):
        asked.append((runs, loss, balance))
        return torch.tensor(IRREDUCIBLE)

    monkeypatch.setattr(names, "resolve", lambda kind, name: {("scores", source): read}[kind, name])
    setup, method = Setup(), ReducibleLossSelection(["a" * 16, "b" * 16], keep=0.25, source=source, loss="mean")
    model, found = kept(method, setup)
    assert asked == [(["a" * 16, "b" * 16], "mean", False)]
    assert [set(ids) for ids in found] == wanted(model, setup, IRREDUCIBLE, 4)
    assert method.reuses() == [("a" * 16, "data"), ("b" * 16, "data")]


def test_keeping_all_reads_nothing():
    method = ReducibleLossSelection("0123456789abcdef", keep=1.0)
    _, found = kept(method, Setup())
    assert [len(ids) for ids in found] == [16, 16, 16] and method.one_off() < 0.1


def test_other_sources_and_losses_are_refused():
    with pytest.raises(UnknownName, match="holdout"):
        ReducibleLossSelection("0123456789abcdef", source="both")
    with pytest.raises(UnknownName, match="last"):
        ReducibleLossSelection("0123456789abcdef", loss="worst")
    with pytest.raises(InvalidValue, match=r"scores .*, got "):
        ReducibleLossSelection(scores=[math.inf])


def test_scoring_leaves_no_trace():
    """A well-known selection scored in train mode, which moved the statistics of batch norm."""
    setup, seen = Setup(), []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = setup.model()

        def forward(self, pixel_values):
            seen.append((self.training, torch.is_grad_enabled(), int(self.inner.body[1].num_batches_tracked)))
            return self.inner(pixel_values)

    model, chain = Watched(), Methods(ReducibleLossSelection(scores=IRREDUCIBLE, keep=0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with chain.attach(model, optimizer, duration="1ep", data=setup.loader(0), seed=0):
        for x, y in chain.batches(setup.loader(0)):
            chain.loss(model(x), y).backward()
            chain.step()
    assert seen == [(mode, mode, k) for k in range(3) for mode in (False, True)]
