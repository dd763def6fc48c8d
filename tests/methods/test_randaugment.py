"""RandAugment."""

from __future__ import annotations

import pytest
import torch

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.streams import example_integers, example_uniform
from reinvest.methods.augment._operations import GEOMETRIC, OPERATIONS
from reinvest.methods.augment.randaugment import RandAugment, operation_names, rand_augment
from reinvest.testbed.tasks.task import Task
from reinvest.testing import Setup

LOW, HIGH = torch.zeros(1), torch.ones(1)
X = example_uniform(1, "x", 0, torch.arange(16), 3 * 16 * 16).view(16, 3, 16, 16)


def augmented(method, x=X, ids=None, targets=None, *, epoch=0, data=None, seed=0):
    setup = Setup()
    model = setup.model()
    chain = Methods(method)
    chain.reports = False
    with chain.attach(model, setup.optimizer(model), duration="1ep", data=data or [0], seed=seed):
        chain.context.epoch = epoch
        return method.augment(Batch(x, targets, ids, (x, targets)), chain.context)


def test_the_papers_fourteen_operations():
    assert len(operation_names()) == 14 and operation_names()[0] == "identity"
    assert set(operation_names()) - set(operation_names(geometry=False)) == set(GEOMETRIC)


def test_operations_follow_one_another():
    names = operation_names()
    drawn = torch.tensor([[2 * names.index("brightness") + 1, 2 * names.index("translate_x")]]).expand(16, 2)
    strength = torch.full((16,), 0.5)
    wanted = OPERATIONS["translate_x"](OPERATIONS["brightness"](X, -strength), strength)
    assert torch.allclose(rand_augment(X, drawn, 5.0, LOW, HIGH), wanted, atol=1e-6)


def test_operations_and_signs_are_uniform_and_of_the_example():
    ids = torch.arange(28_000)
    drawn = example_integers(0, "RandAugment", 0, ids, 28, 2)
    for column in drawn.T:
        counts = torch.bincount(column, minlength=28).float()
        assert float(((counts - 1000) ** 2 / 1000).sum()) < 55.5  # chi-square, 27 degrees of freedom, 99.9 %
    few = torch.tensor([3, 90, 7, 1000, 12, 5])
    method = RandAugment(2, 9.0, value_range=[0, 1])
    whole = augmented(method, X[:6], few).inputs
    alone = torch.cat([augmented(method, X[k : k + 1], few[k : k + 1]).inputs for k in range(6)])
    assert torch.equal(whole, alone)
    assert not torch.equal(whole, augmented(method, X[:6], few, epoch=1).inputs)
    assert not torch.equal(whole, augmented(method, X[:6], few, seed=1).inputs)


def test_without_ids_pictures_are_changed_by_their_place():
    found = augmented(RandAugment(2, 9.0, value_range=[0, 1])).inputs
    assert found.shape == X.shape and int((found != X).flatten(1).any(1).sum()) > 0


def test_normalised_inputs_are_changed_as_the_pictures_would_be():
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    ids = torch.arange(16)
    plain = augmented(RandAugment(3, 7.0, value_range=[0, 1]), ids=ids).inputs
    low, high = ((edge - mean).div(std).flatten().tolist() for edge in (0.0, 1.0))
    normal = augmented(RandAugment(3, 7.0, value_range=[low, high]), (X - mean) / std, ids).inputs
    # Rounding may take a value over an edge of 1/255 where bits are cut off.
    gap = (normal * std + mean - plain).abs()
    assert float((gap > 1e-5).float().mean()) < 0.01 and float(gap.mean()) < 1e-4


def test_the_range_is_that_of_the_first_training_examples():
    data = torch.randint(0, 256, (200, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    task = Task.from_tensors("bytes", data, torch.arange(200) % 2, mean=mean, std=std)
    loader = task.loader("train", 20)
    ids, x, _ = next(iter(loader))
    method = RandAugment(2, 9.0)
    found = augmented(method, x, ids, data=loader).inputs
    low, high = ([(edge - m) / s for m, s in zip(mean, std, strict=True)] for edge in (0.0, 1.0))
    wanted = augmented(RandAugment(2, 9.0, value_range=[low, high]), x, ids, data=loader).inputs
    assert torch.allclose(found, wanted, atol=1e-5)
    method.start(chain_context(loader))
    assert method.one_off() > 0.0
    method.finish(chain_context(loader))
    with pytest.raises(InvalidValue, match="value_range"):
        augmented(RandAugment())


def chain_context(loader):
    setup = Setup()
    model = setup.model()
    chain = Methods()
    with chain.attach(model, setup.optimizer(model), duration="1ep", data=loader, seed=0):
        return chain.context


def test_label_maps_need_operations_that_move_no_pixel():
    maps = torch.zeros(16, 16, 16, dtype=torch.long)
    with pytest.raises(InvalidValue, match="geometry=False"):
        augmented(RandAugment(value_range=[0, 1]), targets=maps)
    found = augmented(RandAugment(value_range=[0, 1], geometry=False), targets=maps)
    assert found.targets is maps and not torch.equal(found.inputs, X)


def test_only_floating_pictures():
    for x in (torch.zeros(4, 8), torch.zeros(4, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(InvalidValue, match="floating images"):
            augmented(RandAugment(value_range=[0, 1]), x)


def test_a_chain_holds_it_once():
    """A second one would draw the very same again."""
    with pytest.raises(Conflict, match="a chain holds one RandAugment"):
        Methods(RandAugment(), RandAugment())
