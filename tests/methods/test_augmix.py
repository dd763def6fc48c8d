"""AugMix."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.streams import example_uniform
from reinvest.methods.augment._operations import GEOMETRIC, OPERATIONS
from reinvest.methods.augment.augmix import AugMix, aug_mix, draws_needed, mixed_names
from reinvest.testing import Setup

LOW, HIGH = torch.zeros(1), torch.ones(1)
X = example_uniform(1, "x", 0, torch.arange(16), 3 * 16 * 16).view(16, 3, 16, 16)


def augmented(method, x=X, ids=None, targets=None, *, epoch=0, seed=0):
    setup = Setup()
    model = setup.model()
    chain = Methods(method)
    chain.reports = False
    with chain.attach(model, setup.optimizer(model), duration="1ep", data=[0], seed=seed):
        chain.context.epoch = epoch
        return method.augment(Batch(x, targets, ids, (x, targets)), chain.context)


def by_hand(x, drawn, *, severity, depth, geometry=True):
    """The paper's procedure, one picture and one chain at a time."""
    names = mixed_names(geometry)[:-1]
    found = []
    for picture, numbers in zip(x, drawn.tolist(), strict=True):
        chains, parts = [], []
        for chain in range((len(numbers) - 1) // 8):
            part, length, *rest = numbers[1 + 8 * chain : 9 + 8 * chain]
            u = picture[None]
            for k in range(depth or 1 + int(length * 3)):
                kind = int(rest[2 * k] * 2 * len(names))
                strength = (0.01 + (severity / 10 - 0.01) * rest[2 * k + 1]) * (-1) ** kind
                u = OPERATIONS[names[kind // 2]](u, torch.tensor([strength]))
            chains.append(u[0])
            parts.append(-torch.log1p(-torch.tensor(part)))
        mixed = sum(u * p for u, p in zip(chains, parts, strict=True)) / sum(parts)
        found.append((1 - numbers[0]) * picture + numbers[0] * mixed)
    return torch.stack(found)


@pytest.mark.parametrize(("severity", "depth", "geometry"), [(3.0, 0, True), (10.0, 3, True), (5.0, 1, False)])
def test_the_papers_procedure_picture_by_picture(severity, depth, geometry):
    drawn = example_uniform(2, "drawn", 0, torch.arange(16), draws_needed(3))
    found = aug_mix(X, drawn, LOW, HIGH, severity=severity, depth=depth, geometry=geometry)
    wanted = by_hand(X, drawn, severity=severity, depth=depth, geometry=geometry)
    # A strength that differs in its last bit may move a value over an edge, or a pixel.
    gap = (found - wanted).abs()
    assert float((gap > 1e-5).float().mean()) < 0.005


def test_the_papers_nine_operations():
    assert len(mixed_names()) == 10 and mixed_names()[-1] == "identity"
    assert not {"color", "contrast", "brightness", "sharpness"} & set(mixed_names())
    assert not set(GEOMETRIC) & set(mixed_names(geometry=False)) and len(mixed_names(geometry=False)) == 5


def test_weight_of_the_own_picture():
    drawn = example_uniform(2, "drawn", 0, torch.arange(16), draws_needed(1))
    for m in (0.0, 0.25, 1.0):
        drawn[:, 0] = m
        found = aug_mix(X, drawn, LOW, HIGH)
        if m == 0.0:
            assert torch.equal(found, X)
            continue
        drawn[:, 0] = 1.0
        assert torch.allclose(found, (1 - m) * X + m * aug_mix(X, drawn, LOW, HIGH), atol=1e-6)


def test_weights_of_the_chains_are_a_flat_dirichlet():
    """Each of three flat shares is Beta(1, 2); a chain that alone changes a picture shows its own share."""
    count = 4000
    drawn = example_uniform(3, "drawn", 0, torch.arange(count), draws_needed(3))
    parts = -torch.log1p(-drawn[:, [1, 9, 17]])
    weights = parts / parts.sum(1, keepdim=True)
    for column in weights.T:
        assert stats.kstest(column.numpy(), stats.beta(1, 2).cdf).pvalue > 0.01
    # auto_contrast in the first chain against weak solarization of a picture without light values, which is itself.
    drawn = drawn[:, : draws_needed(3)].clone()
    drawn[:, 0] = 1.0
    names = mixed_names()[:-1]
    for chain, name in enumerate(("auto_contrast", "solarize", "solarize")):
        drawn[:, 3 + 8 * chain] = (names.index(name) + 0.1) / len(names)
        drawn[:, 4 + 8 * chain] = 0.0
    x = torch.tensor([0.0, 0.5]).expand(count, 1, 1, 2)
    found = aug_mix(x, drawn, LOW, HIGH, depth=1)
    assert torch.allclose(found[:, 0, 0, 1], 0.5 + 0.5 * weights[:, 0], atol=1e-6)


def test_chain_lengths_are_one_to_three_equally_often():
    """Shifts by the whole severity tell how many operations a chain had."""
    count = 3000
    drawn = example_uniform(5, "drawn", 0, torch.arange(count), draws_needed(1))
    names = mixed_names()[:-1]
    drawn[:, 0] = 1.0
    for k in range(3):
        drawn[:, 3 + 2 * k] = (names.index("translate_x") + 0.1) / len(names)
        drawn[:, 4 + 2 * k] = 1.0
    x = (torch.arange(100.0) / 100).expand(count, 1, 1, 100)
    # A strength of 0.2 moves by 9 pixels.
    found = (aug_mix(x, drawn, LOW, HIGH, severity=2.0)[:, 0, 0, 0] * 100).round().long()
    counts = torch.bincount(found // 9, minlength=4)[1:].float()
    assert int(counts.sum()) == count and bool((found % 9 == 0).all())
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 13.9  # chi-square, 2 degrees of freedom, 99.9 %


def test_draws_belong_to_the_example():
    few = torch.tensor([3, 90, 7, 1000, 12, 5])
    method = AugMix(value_range=[0, 1])
    whole = augmented(method, X[:6], few).inputs
    alone = torch.cat([augmented(method, X[k : k + 1], few[k : k + 1]).inputs for k in range(6)])
    assert torch.equal(whole, alone)
    assert not torch.equal(whole, augmented(method, X[:6], few, epoch=1).inputs)
    assert not torch.equal(whole, augmented(method, X[:6], few, seed=1).inputs)
    assert not torch.equal(augmented(method, X[:6]).inputs, X[:6]), "without ids they belong to the place"


def test_what_does_not_fit_is_refused():
    maps = torch.zeros(16, 16, 16, dtype=torch.long)
    with pytest.raises(InvalidValue, match="AugMix moves pixels"):
        augmented(AugMix(value_range=[0, 1]), targets=maps)
    assert augmented(AugMix(value_range=[0, 1], geometry=False), targets=maps).targets is maps
    with pytest.raises(InvalidValue, match="range of the input values"):
        augmented(AugMix())
    with pytest.raises(InvalidValue, match="floating images"):
        augmented(AugMix(value_range=[0, 1]), torch.zeros(4, 8))


def test_a_chain_holds_it_once():
    """A second one would draw the very same again."""
    with pytest.raises(Conflict, match="a chain holds one AugMix"):
        Methods(AugMix(), AugMix())
