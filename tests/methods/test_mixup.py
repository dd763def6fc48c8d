"""Mixup."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.streams import stream
from reinvest.methods.augment.mixup import Mixup, mix_examples, mix_targets
from reinvest.methods.targets.label_smoothing import LabelSmoothing

X = torch.linspace(0, 1, 8 * 12).view(8, 3, 2, 2)
Y = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def first_batch(*methods, x=X, y=Y, nodes=None, batches=1):
    """The batch and the chain's own view of it; then the targets it would use."""
    model = torch.nn.Linear(1, 1)
    chain = Methods(*methods, virtual_nodes=nodes)
    classes = 4 if y.is_floating_point() else int(y.max()) + 1
    loader = [(x, y)] * batches
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with chain.attach(
        model, optimizer, duration="9st", data=loader, seed=5, criterion=lambda output, target: output.sum(1)
    ):
        for given in chain.batches(loader):
            inside, output = chain._now.batch, torch.zeros(len(y), classes)
            target = given[1]
            for method in methods:
                target = method.targets(target, output, inside, chain.context)
            chain.loss(output, given[1])
            break
    return given, inside, target


def test_inputs_and_targets_are_blended_in_the_same_proportion():
    (x, y), batch, target = first_batch(Mixup(1.0))
    c = batch.mix.coefficients[0].item()
    assert 0 < c < 1 and (batch.mix.coefficients == c).all()
    draws = stream(5, "Mixup", 0, 0)
    partners = draws.permutation(8)
    assert torch.equal(x, X * c + X[partners] * (1 - c))
    wanted = c * F.one_hot(Y, 4).double() + (1 - c) * F.one_hot(Y[partners], 4).double()
    assert torch.allclose(target.double(), wanted, atol=1e-6)
    assert torch.equal(y, Y), "the loop and the records still see the original labels"


def test_nothing_of_the_loaders_is_changed_in_place():
    x, y = X.clone(), Y.clone()
    first_batch(Mixup(1.0), x=x, y=y)
    assert torch.equal(x, X) and torch.equal(y, Y)


def test_coefficients_follow_the_beta_distribution():
    for alpha in (0.2, 1.0, 3.0):
        drawn = [mix_examples(X, alpha, stream(1, "Mixup", 0, step))[2] for step in range(2000)]
        # The seed is fixed; the bound is that of a 99 % test.
        assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_partners_are_a_permutation_within_the_virtual_node():
    _, batch, _ = first_batch(Mixup(1.0), y=torch.arange(8), nodes=2)
    assert sorted(batch.mix.partners[:4].tolist()) == [0, 1, 2, 3]
    assert sorted(batch.mix.partners[4:].tolist()) == [4, 5, 6, 7]
    assert batch.mix.coefficients[0] != batch.mix.coefficients[-1]


def test_floating_targets_are_blended_as_they_are():
    values = torch.linspace(-1, 1, 8)
    _, batch, target = first_batch(Mixup(1.0), y=values)
    c = batch.mix.coefficients.float()
    assert torch.allclose(target, values * c + batch.mix.partners * (1 - c), atol=1e-6)


def test_an_ignored_label_adds_nothing():
    y, partners = torch.tensor([1, -100]), torch.tensor([-100, 2])
    target = mix_targets(y, partners, torch.tensor([0.75, 0.75]), torch.zeros(2, 4))
    assert torch.equal(target, torch.tensor([[0, 0.75, 0, 0], [0, 0, 0.25, 0]]))


def partly_labelled():
    """Maps of four pictures: the first has no label at all, the others lack some, each its own."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 2, 6, 5, generator=generator)
    y = torch.randint(3, (4, 6, 5), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.3] = -100
    y[0] = -100
    return x, y


@pytest.mark.parametrize("reduction", ["example", "token"])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_position_counts_that_either_side_of_the_blend_labels(reduction, parts):
    x, y = partly_labelled()
    model = torch.nn.Conv2d(2, 3, 1)
    chain, loader, found, wanted = Methods(Mixup(1.0), reduction=reduction), [(x, y)] * 5, [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with chain.attach(model, optimizer, duration="1ep", data=loader, seed=5):
        for k, (mixed, own) in enumerate(chain.batches(loader, parts)):
            loss = chain.loss(model(mixed), own)
            loss.backward()
            found += [0.0] * (k % parts == 0)
            found[-1] += loss.item()
            chain.step()
    for step in range(5):
        mixed, partners, c = mix_examples(x, 1.0, stream(5, "Mixup", 0, step))
        both = [F.cross_entropy(model(mixed), t, reduction="none") for t in (y, y[partners])]  # 0 at -100
        losses = (c * both[0] + (1 - c) * both[1]).flatten(1).sum(1)
        counts = ((y != -100) | (y[partners] != -100)).flatten(1).sum(1)
        means = losses / counts.clamp(min=1)
        wanted.append((losses.sum() / counts.sum() if reduction == "token" else means.mean()).item())
    assert found == pytest.approx(wanted, rel=1e-5)


def test_smoothing_comes_after_blending():
    _, _, target = first_batch(Mixup(1.0), LabelSmoothing(0.2))
    _, _, sharp = first_batch(Mixup(1.0))
    assert torch.allclose(target, sharp * 0.8 + 0.05, atol=1e-6)
    with pytest.raises(Conflict, match="list Mixup first"):
        first_batch(LabelSmoothing(0.2), Mixup(1.0))


def test_examples_are_blended_once():
    with pytest.raises(Conflict, match="blended once"):
        first_batch(Mixup(1.0), Mixup(0.5))


def test_what_cannot_be_blended_is_refused():
    with pytest.raises(InvalidValue, match="floating inputs"):
        first_batch(Mixup(1.0), x=torch.zeros(8, 4, dtype=torch.long))
    with pytest.raises(InvalidValue, match="alpha"):
        mix_examples(X, 0.0, stream(0, "Mixup", 0))
    with pytest.raises(InvalidValue, match="own target"):
        mix_targets(torch.zeros(4), torch.zeros(3), torch.ones(4), torch.zeros(4, 2))


def test_extreme_alphas_stay_in_range():
    for alpha in (1e-3, 1e3):
        for step in range(50):
            mixed, _, c = mix_examples(X, alpha, stream(1, "Mixup", 0, step))
            assert 0.0 <= c <= 1.0 and bool(torch.isfinite(mixed).all())
