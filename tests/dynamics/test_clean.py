"""The probability that a label is right: simulated runs whose wrong labels are known, and what cannot be told."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nan

from reinvest.core.errors import InvalidValue, StoreError, UnknownName
from reinvest.core.labels import find_valley, levels_of
from reinvest.dynamics import clean
from reinvest.dynamics.clean import clean_probability, soften_labels, suggested_labels
from reinvest.dynamics.probes import Probes
from reinvest.dynamics.trajectories import Trajectories

CLASSES = 10


def simulated(
    count: int, share: float, epochs: int = 12, seed: int = 0, *, memorised: float = 30.0, hard: float = 1.5
) -> tuple[Tensor, Tensor]:
    """Losses [N, E] of a run, and which labels are wrong.

    Right examples are learned around epoch `hard` (log-normal), wrong ones around `memorised`; before that an answer's
    loss is around log 10 for right ones, and higher for wrong ones, whose own class the model says.
    """
    draws = np.random.default_rng(seed)
    wrong = np.zeros(count, dtype=bool)
    wrong[draws.permutation(count)[: round(share * count)]] = True
    middle = np.where(wrong, memorised, hard) * np.exp(0.5 * draws.normal(size=count))
    high = np.where(wrong, 4.0, math.log(10)) * np.exp(0.2 * draws.normal(size=count))
    e = np.arange(epochs)
    learned = 1 / (1 + np.exp(-(e[None] - middle[:, None]) / 0.7))
    loss = high[:, None] * (1 - learned) + 0.02
    # In the first epoch an example that is shown late is half learned already.
    loss[:, 0] = np.where(wrong, loss[:, 0], loss[:, 0] * draws.uniform(0.1, 1.0, count))
    loss *= np.exp(0.3 * draws.normal(size=loss.shape))
    return torch.tensor(loss).float(), torch.tensor(wrong)


def planted(
    wrong: Tensor, count: int = 100, names: tuple[str, ...] = ("random label", "as it is"), right: bool = True
) -> Probes:
    """`count` reference and as many validation probes of each of two kinds; the others only among right labels."""
    kinds = []
    for kind in names:
        among = wrong if kind == "random label" else (~wrong if right else torch.ones_like(wrong))
        ids = among.nonzero()[:, 0]
        kinds.append(ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))][: 2 * count])
    numbers = torch.arange(len(names)).repeat_interleave(2 * count)
    ids = torch.cat(kinds)
    return Probes(names, ids, numbers, torch.arange(len(ids)) % 2 == 0, torch.zeros_like(ids))


def unevenness(p: Tensor, wrong: Tensor) -> float:
    bins = (p.double() * 10).long().clamp(max=9)
    gaps = [abs(float((p[bins == k].double() - (~wrong)[bins == k].double()).sum())) for k in range(10)]
    return sum(gaps) / len(p)


# ---- without probes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_wrong_labels_are_told_from_losses_alone(share):
    loss, wrong = simulated(6000, share)
    p = clean_probability(loss)
    assert p.dtype == torch.float32 and p.shape == (6000,)
    assert roc_auc_score(~wrong, p) > 0.98
    assert unevenness(p, wrong) < 0.02 and abs(float(1 - p.mean()) - share) < 0.02


@pytest.mark.parametrize("hard", [0.3, 1.5, 4.0, 10.0])
@pytest.mark.parametrize("epochs", [2, 6, 24])
def test_a_clean_data_set_raises_no_alarm(epochs, hard):
    """Four parts of a run are looked at, each with 0.2 % in the worst case: none of 10 is to be expected."""
    alarms = sum(
        float(clean_probability(simulated(2000, 0.0, epochs, seed, hard=hard)[0]).min()) < 0.99 for seed in range(10)
    )
    assert alarms == 0


def test_the_first_epoch_does_not_count():
    """Its losses are in two groups, of those shown early and late, although all labels are right."""
    loss, _ = simulated(4000, 0.0, 6, hard=0.5)
    loss[:, 0] = torch.where(torch.arange(4000) % 2 == 0, 40.0, 0.1)
    assert bool((clean_probability(loss) == 1).all())
    assert float(clean_probability(torch.cat([loss[:, 1:2], loss], 1)).min()) < 0.5, "in another place it would"


def test_wrong_labels_that_were_memorised_are_still_told():
    """Over a long run the mean loss of a wrong label comes near those of the others; over its first part it does not."""
    loss, wrong = simulated(6000, 0.1, 120, memorised=20.0)
    assert find_valley(levels_of(loss[:, 1:]).nanmean(1)) is None
    p = clean_probability(loss)
    assert roc_auc_score(~wrong, p) > 0.98 and unevenness(p, wrong) < 0.02
    assert torch.equal(p, clean_probability(loss[:, :15]))


def test_a_known_share_is_kept_where_the_groups_overlap():
    loss, wrong = simulated(6000, 0.2, 4, hard=3.0, memorised=5.0)
    p = clean_probability(loss, noise=0.2)
    assert abs(float(1 - p.mean()) - 0.2) < 0.002 and roc_auc_score(~wrong, p) > 0.7


def test_epochs_that_were_never_trained_do_not_count():
    loss, _ = simulated(2000, 0.2)
    planned = torch.cat([loss, torch.full((2000, 20), nan)], 1)
    assert torch.equal(clean_probability(planned), clean_probability(loss))


def test_gaps_are_left_out_and_what_was_never_seen_is_unknown():
    loss, wrong = simulated(4000, 0.2)
    draws = torch.Generator().manual_seed(0)
    loss = loss.masked_fill(torch.rand(loss.shape, generator=draws) < 0.05, nan)
    loss[::10] = nan
    loss[5, :] = math.inf
    p = clean_probability(loss)
    unknown = torch.arange(4000) % 10 == 0
    unknown[5] = True
    assert torch.equal(p.isnan(), unknown)
    assert roc_auc_score(~wrong[~unknown], p[~unknown]) > 0.97


def test_half_precision_and_blocks_change_nothing(monkeypatch):
    loss, _ = simulated(3000, 0.2)
    whole = clean_probability(loss)
    assert float((clean_probability(loss.half()) - whole).abs().max()) < 0.02
    monkeypatch.setattr(clean, "BLOCK", 700)
    assert torch.equal(clean_probability(loss), whole)
    places = torch.randperm(3000, generator=torch.Generator().manual_seed(2)).int()
    moved = Trajectories(loss[places.long().argsort()], places=places)
    assert torch.equal(clean_probability(moved), whole), "rows of a table need not be ids"


def test_labels_keep_a_late_class_from_being_called_wrong():
    loss, wrong = simulated(6000, 0.1)
    labels = torch.arange(6000) % 5
    late = torch.where((labels == 4).unsqueeze(1), simulated(6000, 0.0, hard=8.0)[0], loss)
    wrong = wrong & (labels != 4)
    assert float(clean_probability(late)[labels == 4].mean()) < 0.5
    p = clean_probability(late, labels=labels)
    assert float(p[labels == 4].mean()) > 0.9 and roc_auc_score(~wrong, p) > 0.95
    assert torch.equal(clean_probability(Trajectories(late, labels=labels)), p), "trajectories bring their labels"


# ---- with probes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "knn", "mean loss"])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_probes_tell_wrong_labels_and_how_many_there_are(share, kind):
    """Probes are half and half; of the others 5 % or 30 % are wrong, and the probabilities say so."""
    loss, wrong = simulated(12_000, share + 0.05, 8, hard=3.0, memorised=9.0)
    probes = planted(wrong, 250)
    p = clean_probability(loss, probes, kind=kind)
    rest = torch.ones(len(loss), dtype=torch.bool)
    rest[probes.ids] = False
    assert roc_auc_score(~wrong[rest], p[rest]) > 0.95
    assert unevenness(p[rest], wrong[rest]) < 0.05
    true = float(wrong[rest].float().mean())
    assert abs(float(1 - p[rest].mean()) - true) < 0.02 + 0.1 * true


def test_probes_of_a_clean_data_set_raise_no_alarm():
    """The only wrong labels are those of the probes, which are half of all probes."""
    loss, wrong = simulated(8000, 0.025, 8, hard=3.0, memorised=30.0)
    probes = planted(wrong)
    p = clean_probability(loss, probes)
    assert float(p[~wrong].mean()) > 0.99 and bool((p[probes.of("random label")] == 0).all())


def test_other_probes_may_have_wrong_labels_too():
    """Examples "as they are" are wrong as often as all others: taken for right ones, they would hide the wrong."""
    loss, wrong = simulated(8000, 0.3, 8)
    p = clean_probability(loss, planted(wrong, right=False))
    assert float(p[wrong].mean()) < 0.35 and float(p[~wrong].mean()) > 0.8
    assert abs(float(1 - p.mean()) - 0.3) < 0.05


@pytest.mark.parametrize("others", [1, 2, 5])
def test_the_numbers_of_probes_of_each_kind_do_not_matter(others):
    """Among five times as many others a classifier calls few labels wrong, and tells them apart as well."""
    loss, wrong = simulated(8000, 0.3, 8, hard=4.0, memorised=7.0)
    few = planted(wrong, 40, right=False)
    rest = torch.arange(8000)[~torch.isin(torch.arange(8000), few.ids)][: (others - 1) * 80]
    probes = Probes(
        few.names,
        torch.cat([few.ids, rest]),
        torch.cat([few.kinds, torch.ones_like(rest)]),
        torch.cat([few.reference, torch.arange(len(rest)) % 2 == 0]),
        torch.zeros(len(few) + len(rest), dtype=torch.int64),
    )
    p = clean_probability(loss, probes)
    assert roc_auc_score(~wrong, p) > 0.8 and abs(float(1 - p.mean()) - 0.3) < 0.1


def test_few_validation_probes_are_refused():
    loss, wrong = simulated(2000, 0.3, 8)
    probes = planted(wrong, 20)
    probes.reference[:] = True
    with pytest.raises(InvalidValue, match="at least 5 validation probes, got 0"):
        clean_probability(loss, probes)


def test_probes_are_better_where_losses_overlap():
    """Wrong labels that are memorised as others are learned: no valley, but another shape of trajectory."""
    loss, wrong = simulated(8000, 0.2, 8, hard=5.0, memorised=7.0)
    assert bool((clean_probability(loss) == 1).all())
    p = clean_probability(loss, planted(wrong))
    assert roc_auc_score(~wrong, p) > 0.85


def test_a_known_share_goes_with_probes_too():
    loss, wrong = simulated(8000, 0.2, 8)
    low, high = (float(1 - clean_probability(loss, planted(wrong), noise=n).mean()) for n in (0.05, 0.4))
    assert low < high and float(clean_probability(loss, planted(wrong), noise=0.0).mean()) == pytest.approx(
        1 - 200 / 8000
    )


def test_gaps_are_filled_for_the_classifier():
    loss, wrong = simulated(4000, 0.2, 8)
    probes = planted(wrong)
    holes = torch.rand(loss.shape, generator=torch.Generator().manual_seed(3)) < 0.05
    rare = torch.arange(4000) == int((~torch.isin(torch.arange(4000), probes.ids)).nonzero()[0])
    p = clean_probability(
        loss.masked_fill(holes, nan).masked_fill(rare.unsqueeze(1) & (torch.arange(8) > 2), nan), probes
    )
    assert torch.equal(p.isnan(), rare), "seen in 3 epochs of 8 or fewer: unknown"
    assert roc_auc_score(~wrong[~rare], p[~rare]) > 0.95


def test_probes_that_cannot_be_told_apart_are_refused_and_say_why():
    loss, wrong = simulated(4000, 0.2, 8, hard=3.0, memorised=3.0)
    loss = loss[:, :1].expand(-1, 8) * 0 + torch.rand(4000, 8, generator=torch.Generator().manual_seed(4))
    with pytest.raises(
        InvalidValue,
        match=r"told apart, got wrong labels above others in [45]\d% of all pairs of 100 and 100 .*; train longer",
    ):
        clean_probability(loss, planted(wrong))


def test_probes_of_trajectories_are_used():
    loss, wrong = simulated(3000, 0.2, 8)
    probes = planted(wrong)
    assert torch.equal(clean_probability(Trajectories(loss, probes=probes)), clean_probability(loss, probes))


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_what_tells_nothing_is_refused():
    loss, wrong = simulated(1000, 0.3, 8)
    probes = planted(wrong, 20)
    for bad, rule in (
        ((loss[0],), r"losses \[N, E\], an example a row, got"),
        ((loss.long(),), r"losses \[N, E\]"),
        ((loss.tolist(),), "got list"),
        ((loss[:, :1],), "told after the first epoch, got 1"),
        ((torch.full((5, 4), nan),), "got 5 examples without one"),
        ((torch.zeros(0, 4),), "got 0 examples without one"),
        ((loss[:, :2], probes), "at least 3 epochs"),
        ((loss[:500], probes), "ids 0 to 499, got"),
        ((loss, planted(wrong, 20, ("random label",))), "and of another one, got"),
        ((loss, planted(wrong, 20, ("noise", "as it is"))), "and of another one, got"),
        ((loss.masked_fill((torch.arange(1000) == probes.ids[0]).unsqueeze(1), nan), probes), "never trained on"),
    ):
        with pytest.raises(InvalidValue, match=rule):
            clean_probability(*bad)
    with pytest.raises(InvalidValue, match="share of wrong labels"):
        clean_probability(loss, noise=2.0)
    with pytest.raises(UnknownName, match="linear"):
        clean_probability(loss, probes, kind="forest")


# ---- what it would be otherwise --------------------------------------------------------------------------------------


def told(said: list[list[int]], labels: list[int]) -> Trajectories:
    predicted = torch.tensor(said, dtype=torch.uint8)
    return Trajectories(torch.ones(predicted.shape), predicted=predicted, labels=torch.tensor(labels), classes=4)


def test_the_suggestion_is_what_was_said_before_the_label_was_learned():
    """Memorised labels are said in the end, and more often in all: they are not what the data say."""
    run = told([[2, 2, 1, 1, 1, 1], [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0], [255] * 6], [1, 1, 0, 0])
    assert suggested_labels(run).tolist()[:2] == [2, 3]
    assert suggested_labels(run).tolist()[3] == -1


def test_several_runs_are_taken_together():
    rest = [[0] * 4] * 6
    one, two = (told([said, *rest], [1, *[0] * 6]) for said in ([2, 2, 2, 3], [3, 3, 3, 2]))
    clear = told([[3, 3, 3, 3], *rest], [1, *[0] * 6])
    assert int(suggested_labels([one, two, clear])[0]) == 3
    assert int(suggested_labels([one])[0]) == 2


def test_runs_without_answers_are_refused():
    with pytest.raises(StoreError, match="up to 255 classes"):
        suggested_labels(Trajectories(torch.ones(3, 4), labels=torch.zeros(3, dtype=torch.long)))


def test_softened_labels_are_offered_here_too():
    assert soften_labels(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.25]), 2).tolist() == [[0.25, 0.75]]
