"""CutMix."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.streams import stream
from reinvest.methods.augment.cutmix import CutMix, box_around, draw_box, own_share, paste_box
from reinvest.methods.augment.mixup import Mixup, draw_coefficient
from reinvest.methods.targets.label_smoothing import LabelSmoothing

X = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 2, 6, 10).clone()
"""Every pixel tells the row that it comes from."""
Y = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def first_batch(*methods, x=X, y=Y, seed=5, nodes=None, classes=4):
    """What the loop gets, the chain's own view of it, and the targets that the loss would use."""
    model = torch.nn.Linear(1, 1)
    chain = Methods(*methods, virtual_nodes=nodes)
    chain.reports = False  # nothing is trained
    loader = [(x, y)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with chain.attach(model, optimizer, duration="9st", data=loader, seed=seed):
        given = next(iter(chain.batches(loader)))
        inside, target = chain._now.batch, given[1]
        for method in methods:
            target = method.targets(target, torch.zeros(len(y), classes, *y.shape[1:]), inside, chain.context)
    return given, inside, target


def test_the_coefficient_is_the_exact_share_of_own_pixels():
    shares = set()
    for seed in range(200):
        (x, y), batch, _ = first_batch(CutMix(1.0), seed=seed)
        partners = stream(seed, "CutMix", 0, 0).permutation(8)
        own = x == X
        # A row that is its own partner shows nothing of the box.
        moved = (partners != torch.arange(8)).nonzero().flatten()
        counted = own[moved].float().mean((1, 2, 3))
        assert torch.allclose(counted.double(), batch.mix.coefficients[moved], atol=1e-6)
        assert torch.equal(x[~own], X[partners][~own]), "what is not a picture's own is its partner's, at its place"
        assert torch.equal(y, Y) and torch.equal(batch.mix.partners, Y[partners])
        shares.add(float(batch.mix.coefficients[0]))
    assert len(shares) > 20


def test_public_codes_uncorrected_coefficient_would_be_wrong():
    """The drawn area is that of the box before it is rounded and clipped; blending by it is off by up to a quarter."""
    errors = []
    for seed in range(300):
        drawn = draw_coefficient(1.0, stream(seed, "c", 0))
        box = draw_box((6, 10), 1.0, stream(seed, "c", 0))
        errors.append(own_share(box, (6, 10)) - drawn)
    assert max(errors) > 0.2 and min(errors) > -0.1


def test_a_box_is_centred_and_clipped():
    size = (9, 12)
    for share in (0.0, 0.04, 0.25, 0.5, 1.0):
        tall, wide = (math.floor(s * math.sqrt(share) + 0.5) for s in size)
        for row in range(9):
            for column in range(12):
                top, bottom, left, right = box_around((row, column), share, size)
                rows = [r for r in range(9) if row - tall // 2 <= r < row - tall // 2 + tall]
                columns = [c for c in range(12) if column - wide // 2 <= c < column - wide // 2 + wide]
                assert list(range(top, bottom)) == rows and list(range(left, right)) == columns
    assert box_around((4, 6), 1.0, size) == (0, 9, 0, 12) and own_share((0, 9, 0, 12), size) == 0.0
    assert own_share(box_around((4, 6), 0.0, size), size) == 1.0
    # Odd sides keep all their pixels, and lie evenly about the centre.
    assert box_around((4, 4), 1 / 9, (9, 9)) == (3, 6, 3, 6)


def test_areas_follow_the_beta_distribution_and_centres_are_uniform():
    for alpha in (0.3, 1.0, 4.0):
        drawn = [draw_coefficient(alpha, stream(1, "CutMix", 0, step)) for step in range(2000)]
        assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    # Towards alpha = infinity the area is one half: 8 of 12 pixels a side, not clipped for 5 x 5 of 12 x 12 centres.
    counts = torch.zeros(12, 12)
    for step in range(4000):
        top, bottom, left, right = draw_box((12, 12), 1e6, stream(2, "CutMix", 0, step))
        if bottom - top == right - left == 8:
            counts[top, left] += 1
    assert int((counts > 0).sum()) == 25 and bool((counts[:5, :5] > 0).all())
    expected = 4000 / 144
    assert float(((counts[:5, :5] - expected) ** 2 / expected).sum()) < stats.chi2(25).ppf(0.999)


def test_targets_are_blended_by_pixels():
    _, batch, target = first_batch(CutMix(1.0))
    c = batch.mix.coefficients[:, None]
    wanted = c * F.one_hot(Y, 4) + (1 - c) * F.one_hot(batch.mix.partners, 4)
    assert torch.allclose(target.double(), wanted, atol=1e-6)
    _, _, smooth = first_batch(CutMix(1.0), LabelSmoothing(0.2))
    assert torch.allclose(smooth, target * 0.8 + 0.05, atol=1e-6)
    with pytest.raises(Conflict, match=r"list CutMix first: Methods\(CutMix\(\)"):
        first_batch(LabelSmoothing(0.2), CutMix(1.0))


def test_label_maps_are_cut_and_pasted_and_not_blended():
    maps = torch.arange(8).view(8, 1, 1).expand(8, 6, 10).clone()
    maps[:, 0] = -100
    (x, y), batch, target = first_batch(CutMix(1.0), y=maps, classes=8)
    assert y.dtype == torch.int64 and torch.equal(target, y)
    assert torch.equal(y[:, 1:].float(), x[:, 0, 1:]), "each pixel's label comes with the pixel"
    assert bool((y[:, 0] == -100).all())
    assert not torch.equal(y, maps)
    assert batch.mix is not None and batch.mix.ids is None, "a pasted map is no record of one example"


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_of_pasted_maps_the_labelled_pixels_count(reduction):
    maps = torch.arange(8).view(8, 1, 1).expand(8, 6, 10).clone()
    maps[:3] = -100
    maps[:, 0] = 255  # the loop calls these unlabelled, after the pasting
    model, chain, loader = torch.nn.Conv2d(2, 8, 1), Methods(CutMix(1.0), reduction=reduction), [(X, maps)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with chain.attach(model, optimizer, duration="1ep", data=loader, seed=5):
        for x, y in chain.batches(loader):
            own = torch.where(y == 255, -100, y)
            loss, losses = chain.loss(model(x), own), F.cross_entropy(model(x), own, reduction="none").flatten(1).sum(1)
            chain.step()
    counts = (own != -100).flatten(1).sum(1)
    wanted = losses.sum() / counts.sum() if reduction == "token" else (losses / counts.clamp(min=1)).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_partner_comes_from_the_same_virtual_node():
    (x, _), batch, _ = first_batch(CutMix(1.0), nodes=2)
    assert set(x[:4].unique().tolist()) <= {0, 1, 2, 3} and set(x[4:].unique().tolist()) <= {4, 5, 6, 7}
    assert batch.mix.coefficients[0] != batch.mix.coefficients[-1]


def test_nothing_of_the_loaders_is_changed_in_place():
    x, y = X.clone(), Y.clone()
    first_batch(CutMix(1.0), x=x, y=y)
    assert torch.equal(x, X) and torch.equal(y, Y)


def test_what_cannot_be_pasted_is_refused():
    with pytest.raises(InvalidValue, match="floating images"):
        first_batch(CutMix(), x=torch.zeros(8, 12))
    with pytest.raises(InvalidValue, match="size of the pictures"):
        first_batch(CutMix(), y=torch.zeros(8, 3, 5, dtype=torch.long))
    with pytest.raises(InvalidValue, match="inside the picture"):
        paste_box(X, torch.arange(8), (0, 7, 0, 2))
    with pytest.raises(InvalidValue, match="alpha is above 0"):
        draw_box((4, 4), 0.0, stream(0, "CutMix", 0))
    with pytest.raises(Conflict, match="CutMix excludes Mixup"):
        Methods(Mixup(), CutMix())
    with pytest.raises(Conflict, match="blended once"):
        first_batch(CutMix(1.0), CutMix(0.5))
