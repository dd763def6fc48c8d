"""Cutout."""

from __future__ import annotations

import pytest
import torch

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.methods.augment.cutout import Cutout, cut_out, hole_pixels
from reinvest.testing import Setup


def test_exactly_the_clipped_square_is_filled():
    x = torch.ones(7 * 9, 2, 7, 9)
    centres = torch.cartesian_prod(torch.arange(7), torch.arange(9))
    for pixels in (1, 2, 3, 4, 20):
        found = cut_out(x, pixels, centres, value=-3.0)
        assert found.shape == x.shape
        for picture, (row, column) in zip(found, centres.tolist(), strict=True):
            wanted = torch.ones(2, 7, 9)
            top, left = row - pixels // 2, column - pixels // 2
            wanted[:, max(0, top) : max(0, top + pixels), max(0, left) : max(0, left + pixels)] = -3.0
            assert torch.equal(picture, wanted)


def test_length_is_a_share_of_the_shorter_side_or_pixels():
    assert [hole_pixels(v, 32, 48) for v in (0.25, 0.5, 1.0, 8, 1, 0)] == [8, 16, 32, 8, 1, 0]
    assert Cutout(1).length == 1 and isinstance(Cutout(1).length, int)
    assert hole_pixels(Cutout(1.0).length, 32, 32) == 32


def test_the_input_is_left_as_it_was():
    x = torch.ones(4, 1, 8, 8)
    cut_out(x, 4, torch.full((4, 2), 3))
    assert bool((x == 1).all())


def holes(ids, *, seed=0, epoch=0):
    """Where the holes of these examples are, in one batch."""
    setup = Setup()
    model = setup.model()
    batch = Batch(torch.ones(len(ids), 1, 8, 8), None, ids, (torch.ones(len(ids), 1, 8, 8),))
    chain = Methods()
    with chain.attach(model, setup.optimizer(model), duration="1ep", data=[0], seed=seed):
        chain.context.epoch = epoch
        return Cutout(4).augment(batch, chain.context).inputs


def test_a_hole_belongs_to_epoch_and_id_and_not_to_the_batch():
    ids = torch.tensor([5, 17, 3, 900])
    alone = torch.cat([holes(ids[k : k + 1]) for k in range(4)])
    assert torch.equal(holes(ids), alone)
    assert not torch.equal(holes(ids, epoch=1), alone) and not torch.equal(holes(ids, seed=1), alone)


def test_centres_are_uniform_over_all_pixels():
    setup = Setup()
    model = setup.model()
    chain = Methods()
    x = torch.ones(6400, 1, 8, 8)
    with chain.attach(model, setup.optimizer(model), duration="1ep", data=[0], seed=0):
        cut = Cutout(1).augment(Batch(x, None, torch.arange(6400), (x,)), chain.context).inputs
    counts = (cut == 0).sum((0, 1)).float()
    # 64 pixels, 100 each: chi-square with 63 degrees of freedom stays below its 99.9 % point.
    assert float(((counts - 100) ** 2 / 100).sum()) < 103.4


def test_without_ids_holes_are_drawn_for_the_place_in_the_batch():
    x = torch.ones(8, 1, 8, 8)
    loader = [(x, torch.zeros(8, dtype=torch.long))]
    model = torch.nn.Linear(1, 1)
    chain = Methods(Cutout(4))
    found = []
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=loader, seed=0):
        found = [given.clone() for given, _ in chain.batches(loader)]
        chain.step()
    assert float((found[0] == 0).sum()) > 0 and len({tuple(p.flatten().tolist()) for p in found[0]}) > 1


@pytest.mark.parametrize("x", [torch.ones(4, 8), torch.ones(4, 3, 8, 8, dtype=torch.uint8)])
def test_only_floating_pictures(x):
    loader = [(x, torch.zeros(4, dtype=torch.long))]
    model = torch.nn.Linear(1, 1)
    chain = Methods(Cutout())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(InvalidValue, match="floating images"),
        chain.attach(model, optimizer, duration="1ep", data=loader, seed=0),
    ):
        next(iter(chain.batches(loader)))
    with pytest.raises(InvalidValue, match="centres"):
        cut_out(x, 2, torch.zeros(4, 3, dtype=torch.long))


def test_a_chain_holds_it_once():
    """A second one would draw the very same again."""
    with pytest.raises(Conflict, match="a chain holds one Cutout"):
        Methods(Cutout(), Cutout())
