"""Kinds of examples by their trajectories: parity with scikit-learn, honest assessment, abstention, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.dynamics import classify
from reinvest.dynamics.classify import KINDS, Classifier, assess, fit

EPOCHS = 12
NAMES = ("clean", "wrong label", "noisy")


def trajectories(kind: int, count: int, seed: int) -> Tensor:
    """Clean ones fall at once, wrong labels stay up and rise, noisy inputs fall late."""
    generator = torch.Generator().manual_seed(1000 * kind + seed)
    e = torch.arange(EPOCHS)
    shape = (2.3 * torch.exp(-e / 2.0), 2.3 + 0.05 * e, 2.3 / (1 + torch.exp(e - 7.0)))[kind]
    return (shape + 0.2 * torch.randn(count, EPOCHS, generator=generator)).abs()


def probes(count: int, seed: int, kinds: int = 3) -> tuple[Tensor, Tensor]:
    table = torch.cat([trajectories(kind, count, seed) for kind in range(kinds)])
    return table, torch.arange(kinds).repeat_interleave(count)


@pytest.mark.parametrize("kind", ["linear", "knn", "dtw"])
def test_kinds_of_different_shape_are_told_apart(kind: str) -> None:
    found = assess(fit(*probes(40, 0), NAMES, kind=kind), *probes(40, 1))
    assert found.assessment is not None
    assert found.assessment.balanced > 0.98 and found.assessment.poor == ()
    table, truth = probes(30, 2)
    assert (found.predict(table) == truth).float().mean() > 0.97


def test_the_mean_alone_cannot_tell_two_shapes_of_the_same_mean() -> None:
    falling = (2.0 - torch.arange(EPOCHS) / 6).clamp(min=0).repeat(60, 1)
    falling = falling + 0.1 * torch.rand(60, EPOCHS, generator=torch.Generator().manual_seed(0))
    table, truth = torch.cat([falling, falling.flip(1)]), torch.arange(2).repeat_interleave(60)
    odd, even = torch.arange(120) % 2 == 1, torch.arange(120) % 2 == 0
    mean = assess(fit(table[odd], truth[odd], ("down", "up"), kind="mean loss"), table[even], truth[even]).assessment
    linear = assess(fit(table[odd], truth[odd], ("down", "up")), table[even], truth[even]).assessment
    assert mean is not None and linear is not None
    assert mean.poor and not linear.poor and linear.balanced == 1.0


@pytest.mark.parametrize("k", [1, 7, 20])
def test_nearest_neighbours_vote_as_scikit_learns_do(k: int) -> None:
    table, truth = probes(40, 0)
    others, _ = probes(25, 3)
    ours = fit(table, truth, NAMES, kind="knn", k=k).probabilities(others)
    theirs = KNeighborsClassifier(k, algorithm="brute").fit(table.numpy(), truth.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(others.numpy()), atol=1e-6)
    assert torch.equal((ours * k).round(), ours * k) or torch.allclose((ours * k).round(), ours * k)


def test_a_band_of_zero_is_euclid() -> None:
    table, truth = probes(20, 0)
    others, _ = probes(10, 3)
    warped = fit(table, truth, NAMES, kind="dtw", k=5, band=0).probabilities(others)
    assert torch.equal(warped, fit(table, truth, NAMES, kind="knn", k=5).probabilities(others))


def test_few_references_are_warped_and_all_of_them_are_all() -> None:
    table, truth = probes(20, 0)
    truth = truth[torch.randperm(60, generator=torch.Generator().manual_seed(0))]  # so that each neighbour counts
    others, _ = probes(10, 3)
    exact, every, few = (
        fit(table, truth, NAMES, kind="dtw", k=5, band=2, among=among).probabilities(others) for among in (None, 60, 5)
    )
    euclid = fit(table, truth, NAMES, kind="knn", k=5).probabilities(others)
    assert torch.equal(every, exact) and torch.equal(few, euclid) and not torch.equal(few, exact)
    with pytest.raises(InvalidValue, match="among is a whole number from 5 to 60"):
        fit(table, truth, NAMES, kind="dtw", k=5, band=2, among=4)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_trajectories_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = fit(*probes(20, 0), NAMES, kind=kind, k=5)
    others, _ = probes(7, 3)
    others[3, 2] = math.nan
    whole = classifier.probabilities(others)
    monkeypatch.setattr(classify, "BLOCK", 4)
    torch.testing.assert_close(classifier.probabilities(others), whole, equal_nan=True, rtol=1e-6, atol=1e-7)
    assert classifier.probabilities(others.half()).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_sum_to_one_and_gaps_are_unknown(kind: str) -> None:
    classifier = fit(*probes(20, 0), NAMES, kind=kind, k=5)
    others, _ = probes(4, 3)
    others[1, 3] = math.nan
    p = classifier.probabilities(others)
    assert bool(p[1].isnan().all()) and int(classifier.predict(others)[1]) == -1
    rest = p[~p.isnan().any(1)]
    assert len(rest) == 11 and torch.allclose(rest.sum(1), torch.ones(11), atol=1e-5)


def test_it_abstains_where_probes_are_not_told_apart_better_than_by_guessing() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, truth = torch.rand(120, EPOCHS, generator=generator), torch.arange(3).repeat(40)
    other = torch.rand(120, EPOCHS, generator=generator)
    found = assess(fit(noise, truth, NAMES), other, truth)
    assert found.assessment is not None and len(found.assessment.poor) >= 2
    answers = found.predict(other)
    assert all(found.names[int(a)] not in found.assessment.poor for a in answers if a >= 0)
    assert "abstains from" in str(found.assessment)


def test_chance_is_rarely_trusted() -> None:
    # The exact lower end of 95 % lies above a third in at most 2.5 % of draws from guessing.
    trusted = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        guess = torch.randint(0, 3, (90,), generator=generator)
        classifier = Classifier("fixed", NAMES, 3, lambda t, g=guess: torch.nn.functional.one_hot(g, 3).float())
        found = assess(classifier, torch.ones(90, 3), torch.arange(3).repeat(30)).assessment
        assert found is not None
        trusted += 3 - len(found.poor)
    assert trusted / 180 <= 0.06


def test_the_confusion_matrix_counts_answers() -> None:
    answers = torch.tensor([0] * 5 + [1] * 2 + [0] * 3)
    truth = torch.tensor([0] * 5 + [1] * 5)
    classifier = Classifier("fixed", ("a", "b"), 3, lambda t: torch.nn.functional.one_hot(answers, 2).float())
    found = assess(classifier, torch.ones(10, 3), truth).assessment
    assert found is not None
    assert found.confusion.tolist() == [[5, 0], [3, 2]]
    assert found.recall == (1.0, 0.4) and found.balanced == pytest.approx(0.7)
    assert found.interval[0][0] == pytest.approx(0.025 ** (1 / 5)) and found.interval[0][1] == 1.0
    assert found.poor == ("a", "b")  # five of five may still be guessing: 0.478 is below a half


def test_ties_are_no_answer() -> None:
    classifier = Classifier("fixed", ("a", "b"), 3, lambda t: torch.full((len(t), 2), 0.5))
    assert classifier.predict(torch.ones(2, 3)).tolist() == [-1, -1]


TABLE, TRUTH = probes(10, 0)


@pytest.mark.parametrize(
    ("losses", "kinds", "names", "rule"),
    [
        (TABLE[:, :2], TRUTH, NAMES, "at least 3 epochs, got 2"),
        (TABLE, TRUTH, ("one",), "at least two kinds"),
        (TABLE, TRUTH[:5], NAMES, r"kinds are int64 \[30\] from 0 to 2"),
        (TABLE, TRUTH + 1, NAMES, "from 0 to 2"),
        (TABLE.clone().fill_(math.nan), TRUTH, NAMES, "got 30 of 30 with gaps"),
        (-TABLE, TRUTH, NAMES, "a loss of 0 or more"),
        (TABLE[:22], TRUTH[:22], NAMES, r"at least 5 probes, got \{'noisy': 2\}"),
        (TABLE[0], TRUTH, NAMES, "an example a row"),
    ],
)
def test_what_cannot_teach_is_refused(losses: Tensor, kinds: Tensor, names: tuple[str, ...], rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        fit(losses, kinds, names)


def test_other_numbers_of_epochs_neighbours_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"have the 12 epochs .* got 5"):
        fit(TABLE, TRUTH, NAMES).probabilities(TABLE[:, :5])
    with pytest.raises(InvalidValue, match=r"k is a whole number from 1 to 30"):
        fit(TABLE, TRUTH, NAMES, kind="knn", k=31)
    with pytest.raises(UnknownName, match="linear"):
        fit(TABLE, TRUTH, NAMES, kind="forest")
