"""Wrong labels out of loss levels: a valley is asked for, probabilities are calibrated, and clean data raise no alarm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nan

from reinvest.core.errors import InvalidValue
from reinvest.core.labels import (
    DOUBT,
    HIGHEST,
    SURE,
    WIDE,
    WIDTHS,
    align_classes,
    clean_mixture,
    find_valley,
    levels_of,
    soften_labels,
)


def right_and_wrong(count: int, share: float, seed: int, *, spread: float = 0.8) -> tuple[Tensor, Tensor]:
    """Levels [N] of a log-normal bulk and of wrong labels around 1.3, and which are wrong."""
    draws = np.random.default_rng(seed)
    wrong = np.zeros(count, dtype=bool)
    wrong[: round(share * count)] = True
    levels = np.where(wrong, draws.normal(1.3, 0.2, count), 0.1 * np.exp(draws.normal(0, spread, count)))
    return torch.tensor(np.abs(levels)).float(), torch.tensor(wrong)


def unevenness(p: Tensor, wrong: Tensor) -> float:
    """Expected calibration error of ten equal bins: the mean distance of what is said from what is."""
    bins = (p.double() * 10).long().clamp(max=9)
    gaps = [abs(float((p[bins == k].double() - (~wrong)[bins == k].double()).sum())) for k in range(10)]
    return sum(gaps) / len(p)


# ---- levels and valleys ----------------------------------------------------------------------------------------------


def test_levels_are_logs_of_one_plus_the_loss():
    assert levels_of(torch.tensor([0.0, math.e - 1.0])).tolist() == pytest.approx([0.0, 1.0])
    assert levels_of(torch.tensor([math.inf, nan])).isnan().all()
    assert levels_of(torch.tensor([-1e-7], dtype=torch.float16)).tolist() == [0.0]
    assert pytest.approx(math.log(1 + math.log(2))) == DOUBT


def test_a_valley_lies_between_two_modes():
    levels, _ = right_and_wrong(2000, 0.1, 0)
    valley = find_valley(levels)
    assert valley is not None and 0.3 < valley.place < 1.2 and valley.strength > 6
    assert find_valley(torch.cat([levels, torch.full((50,), nan)])) == valley, "NaN does not count"
    assert find_valley(levels[torch.randperm(2000)]) == valley
    assert find_valley(levels[levels < 0.6]) is None


def test_strength_is_the_number_of_standard_deviations_of_a_fair_coin():
    """30 in a window, 10 in the next, 90 in the one after it: (30 - 10) / sqrt(40) is the lower of both."""
    places = {0.65: 130, 0.95: 10, 1.25: 90}
    levels = torch.cat([torch.full((n,), at) for at, n in places.items()])
    valley = find_valley(levels)
    assert valley is not None and valley.strength == pytest.approx((90 - 10) / math.sqrt(100))


def test_a_second_mode_of_believed_labels_is_no_group_of_wrong_ones():
    """Two kinds of right examples, easy and less easy: below a loss of log 2 nothing is wrong."""
    draws = np.random.default_rng(1)
    levels = torch.tensor(np.concatenate([draws.normal(0.05, 0.01, 3000), draws.normal(0.3, 0.05, 3000)])).float()
    assert find_valley(levels) is None
    assert clean_mixture(levels).tolist() == [1.0] * 6000


ONE_MODE = {
    "uniform": lambda d, n: d.uniform(0, 3, n),
    "normal": lambda d, n: np.abs(d.normal(1.0, 0.35, n)),
    "exponential": lambda d, n: d.exponential(0.4, n),
    "log-normal": lambda d, n: 0.3 * np.exp(d.normal(0, 1.2, n)),
    "falling": lambda d, n: 2.5 * d.beta(0.3, 1.2, n),
    "rising": lambda d, n: 2.5 * d.beta(3.0, 1.0, n),
}


@pytest.mark.parametrize("kind", sorted(ONE_MODE))
def test_data_with_one_mode_raise_no_alarm(kind):
    """The stated rate is 0.2 % for the worst of all distributions: of 200 draws at most 3, with probability 0.9992."""
    alarms = 0
    for seed in range(200):
        draws = np.random.default_rng(seed)
        alarms += find_valley(torch.tensor(ONE_MODE[kind](draws, (200, 1000, 5000)[seed % 3]))) is not None
    assert alarms <= 3


def test_the_stated_rate_of_false_alarms():
    windows = sum(math.ceil((HIGHEST - DOUBT) / (w / 4)) for w in (*WIDTHS, *WIDE))
    assert windows == 439
    assert windows * 0.5 * math.erfc(SURE / math.sqrt(2)) < 0.002


def test_a_clean_data_set_is_not_declared_half_wrong():
    """Any mixture of two fits a skewed bulk as two: here none is wrong, and none is said to be."""
    levels, _ = right_and_wrong(5000, 0.0, 3, spread=1.3)
    assert clean_mixture(levels).tolist() == [1.0] * 5000


# ---- classes ---------------------------------------------------------------------------------------------------------


def test_classes_are_moved_to_the_level_of_all_by_their_middle_halves():
    """Two classes of 20: middle halves of 5 .. 14 and 25 .. 34 tenths, of all of them 10 .. 29."""
    levels, labels = torch.arange(40) / 10.0 + 1.0, (torch.arange(40) >= 20).long()
    moved = align_classes(levels, labels)
    shift = torch.where(labels == 0, 0.95 - 1.95, 2.95 - 1.95)
    assert torch.allclose(moved, levels - shift)
    turn = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(align_classes(levels[turn], labels[turn]), moved[turn])
    assert torch.equal(align_classes(levels, torch.zeros_like(labels)), levels), "a single class stays"
    few = torch.where(torch.arange(40) < 19, 1, 0)
    assert torch.equal(align_classes(levels, few)[:19], levels[:19]), "fewer than 20 stay where they are"


def test_what_has_no_level_or_label_stays():
    levels, labels = torch.arange(60) / 10.0, torch.arange(60) % 2
    levels[0], labels[1] = nan, -1
    moved = align_classes(levels, labels)
    assert moved[0].isnan() and moved[1] == levels[1] and float(moved.nan_to_num(0).min()) >= 0.0
    assert align_classes(torch.full((3,), nan), torch.zeros(3, dtype=torch.long)).isnan().all()
    for bad in (torch.zeros(3), torch.zeros(2, dtype=torch.long)):
        with pytest.raises(InvalidValue, match="labels are one class an example"):
            align_classes(torch.zeros(3), bad)


def test_a_class_that_is_not_learned_yet_is_no_group_of_wrong_labels():
    levels, wrong = right_and_wrong(6000, 0.1, 2, spread=0.5)
    labels = torch.arange(6000) % 5
    late = levels + 1.2 * (labels == 4)
    assert float(clean_mixture(late)[labels == 4].mean()) < 0.2, "taken for wrong labels"
    p = clean_mixture(late, labels=labels)
    assert roc_auc_score(~wrong, p) > 0.99 and unevenness(p, wrong) < 0.02
    assert bool((clean_mixture(late[~wrong], labels=labels[~wrong]) == 1).all())


# ---- the mixture -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2, 0.4, 0.6])
@pytest.mark.parametrize("noise", [None, "known"])
def test_probabilities_tell_wrong_from_right_and_are_calibrated(share, noise):
    levels, wrong = right_and_wrong(8000, share, 5, spread=0.5)
    p = clean_mixture(levels, share if noise else None)
    assert p.dtype == torch.float32 and roc_auc_score(~wrong, p) > 0.99
    assert abs(float(1 - p.mean()) - share) < 0.01
    assert unevenness(p, wrong) < 0.01


def test_wrong_labels_rarer_than_a_twentieth_are_found():
    """A public implementation cuts losses at their 95th percentile before it fits: rarer wrong labels are lost."""
    levels, wrong = right_and_wrong(20_000, 0.01, 6, spread=0.5)
    p = clean_mixture(levels)
    assert float(p[wrong].mean()) < 0.1 and float(p[~wrong].mean()) > 0.999


@pytest.mark.parametrize("noise", [None, 0.2])
def test_probabilities_never_rise_with_the_level(noise):
    """A wide component is the likelier one far out on both sides: the surest examples would be called wrong."""
    levels, _ = right_and_wrong(4000, 0.2, 7)
    levels = torch.cat([levels, torch.tensor([0.0, 1e-6, 3.0, 6.0, 12.0])])
    p = clean_mixture(levels, noise)
    ordered = p[levels.argsort()]
    assert bool((ordered.diff() <= 1e-7).all())
    assert float(p[-5]) > 0.99 and float(p[-1]) < 0.01


def test_an_outlier_changes_little():
    """Levels divided by their largest one would be squeezed together by a single exploded loss."""
    levels, wrong = right_and_wrong(4000, 0.2, 8)
    p = clean_mixture(torch.cat([levels, torch.tensor([40.0])]))[:-1]
    assert float((p - clean_mixture(levels)).abs().mean()) < 0.003 and unevenness(p, wrong) < 0.01


def test_without_a_valley_a_known_share_is_kept():
    draws = np.random.default_rng(9)
    wrong = torch.arange(6000) < 1200
    levels = torch.tensor(np.where(wrong.numpy(), draws.normal(1.2, 0.15, 6000), draws.normal(0.9, 0.25, 6000))).float()
    assert find_valley(levels) is None and bool((clean_mixture(levels) == 1).all())
    p = clean_mixture(levels, 0.2)
    assert float(1 - p.mean()) == pytest.approx(0.2, abs=1e-3) and roc_auc_score(~wrong, p) > 0.8
    assert unevenness(p, wrong) < 0.05


def test_large_data_are_fitted_by_quantiles():
    levels, wrong = right_and_wrong(100_000, 0.1, 10)
    p, few = clean_mixture(levels), clean_mixture(levels[::5])
    assert float((p[::5] - few).abs().max()) < 0.05 and unevenness(p, wrong) < 0.01


def test_what_is_unknown_stays_unknown():
    levels, _ = right_and_wrong(1000, 0.2, 11)
    holes = torch.arange(1000) % 7 == 0
    p = clean_mixture(levels.masked_fill(holes, nan))
    assert torch.equal(p.isnan(), holes)
    assert clean_mixture(torch.full((3,), nan)).isnan().all()
    assert clean_mixture(torch.zeros(0)).shape == (0,)
    assert clean_mixture(torch.full((3,), nan), 0.5).isnan().all()
    assert clean_mixture(torch.tensor([0.7]), 0.5).shape == (1,)


def test_noise_0_trusts_every_label():
    levels, _ = right_and_wrong(1000, 0.2, 12)
    assert bool((clean_mixture(levels, 0.0) == 1.0).all())


@pytest.mark.parametrize("noise", [-0.1, 1.0, True, "some", nan])
def test_other_shares_are_refused(noise):
    with pytest.raises(InvalidValue, match=r"share of wrong labels .*, got "):
        clean_mixture(torch.zeros(3), noise)


def test_other_shapes_are_refused():
    for bad in (torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), [1.0]):
        with pytest.raises(InvalidValue, match=r"float \[N\], got"):
            clean_mixture(bad)


# ---- softened labels -------------------------------------------------------------------------------------------------


def test_softened_labels_are_the_closed_form():
    labels, predicted = torch.tensor([0, 1, 2, 1]), torch.tensor([1, 1, 0, -1])
    p = torch.tensor([0.75, 0.5, 0.0, 0.2])
    wanted = [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert soften_labels(labels, predicted, p, 3).tolist() == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_1_leaves_labels_and_0_gives_the_argmax(dtype):
    labels, predicted = torch.arange(50) % 7, (torch.arange(50) * 3) % 7
    sure = soften_labels(labels, predicted, torch.ones(50, dtype=dtype), 7)
    assert sure.dtype == dtype and torch.equal(sure, torch.nn.functional.one_hot(labels, 7).to(dtype))
    none = soften_labels(labels, predicted, torch.zeros(50, dtype=dtype), 7)
    assert torch.equal(none, torch.nn.functional.one_hot(predicted, 7).to(dtype))
    rows = soften_labels(labels, predicted, torch.linspace(0, 1, 50, dtype=dtype), 7)
    assert torch.allclose(rows.sum(1), torch.ones(50, dtype=dtype), atol=1e-6)


def test_an_ignored_label_has_no_target():
    found = soften_labels(torch.tensor([-100, 1]), torch.tensor([1, 0]), torch.tensor([0.5, 0.5]), 2)
    assert found.tolist() == [[0.0, 0.0], [0.5, 0.5]]


def test_targets_that_make_no_sense_are_refused():
    two = torch.tensor([0, 1])
    for bad in (
        (two, two, torch.tensor([0.5])),
        (two, torch.tensor([0]), torch.ones(2)),
        (two.unsqueeze(1), two.unsqueeze(1), torch.ones(2, 1)),
        (torch.tensor([0, 2]), two, torch.ones(2)),
        (two, torch.tensor([0, 2]), torch.ones(2)),
        (two, two, torch.tensor([0.5, 1.5])),
        (two, two, torch.tensor([-0.5, 1.0])),
        (two, two, torch.tensor([nan, 1.0])),
    ):
        with pytest.raises(InvalidValue, match=r", got .*; "):
            soften_labels(*bad, 2)


@pytest.mark.parametrize("apart", [1.0, 1.5, 1.9, 2.5, 3.5, 4.5])
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
def test_two_groups_are_found_however_far_apart_they_lie(apart: float, spread: float) -> None:
    g = torch.Generator().manual_seed(0)
    low, high = 0.15 + spread * torch.rand(900, generator=g), 0.15 + apart + spread * torch.rand(100, generator=g)
    levels = torch.cat([low, high])
    valley = find_valley(levels)
    assert valley is not None and float(low.max()) <= valley.place <= float(high.min())
    p = clean_mixture(levels)
    assert float(p[:900].mean()) > 0.99 and float(p[900:].mean()) < 0.01
