"""What probes tell: shares of a kind by simulation, kinds told apart or left alone, spoiled inputs found."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sklearn.metrics import roc_auc_score
from suspect_runs import drawn

from reinvest.core.errors import InvalidValue
from reinvest.core.probes import Probes, choose_probes
from reinvest.dynamics._evidence import _auc_low, check_probes, precision_of, proportion, told_apart
from reinvest.dynamics.suspects import find_suspects
from reinvest.dynamics.trajectories import Trajectories


def mixed(share, apart, count=10_000, probes=200, seed=0):
    """(scores of ordinary examples, which of them are of the kind, scores of probes), normals `apart` deviations apart."""
    g = torch.Generator().manual_seed(seed)
    own = torch.rand(count, generator=g) < share
    return torch.randn(count, generator=g) + apart * own, own, torch.randn(probes, generator=g) + apart


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_the_share_of_a_kind_that_stands_apart(share):
    found = []
    for seed in range(30):
        ordinary, _, probes = mixed(share, 5.0, seed=seed)
        found.append(proportion(ordinary.sort().values, probes))
    assert sum(found) / 30 == pytest.approx(share, rel=0.06)


def test_a_kind_that_is_not_there_is_hardly_seen():
    ordinary, _, _ = mixed(0.0, 5.0)
    assert proportion(ordinary.sort().values, torch.randn(200) + 5) < 0.001


def test_a_kind_that_overlaps_is_thought_more_frequent_never_less():
    found = [proportion(mixed(0.1, 1.8, seed=s)[0].sort().values, mixed(0.1, 1.8, seed=s)[2]) for s in range(30)]
    assert 0.1 < sum(found) / 30 < 0.15


def test_intervals_of_the_precision_hold_the_truth():
    inside = 0
    for seed in range(40):
        ordinary, own, probes = mixed(0.1, 4.0, count=2000, probes=60, seed=seed)
        listed = ordinary > 2.5
        found = precision_of(ordinary, probes, listed, probes > 2.5)
        true = float(own[listed].float().mean())
        inside += found.low <= true <= found.high + 1e-9
        assert found.found == pytest.approx(0.93, abs=0.12) and found.probes == 60
    assert inside >= 34  # the 1 % quantile of a binomial of 40 and 0.95


def test_the_interval_of_an_auc():
    g = torch.Generator().manual_seed(0)
    low, high = torch.randn(60, generator=g), torch.randn(40, generator=g) + 1.5
    auc = roc_auc_score(torch.cat([torch.zeros(60), torch.ones(40)]), torch.cat([low, high]))
    assert 0.03 < auc - _auc_low(low, high) < 0.12
    assert _auc_low(low, low) < 0.5 < _auc_low(low, low + 2)
    assert _auc_low(torch.zeros(50), torch.ones(50)) == 1.0


def test_probes_that_were_not_trained_on_are_refused():
    ids = torch.arange(3)
    probes = Probes(("noise",), ids, torch.zeros_like(ids), ids > 0, ids)
    check_probes(probes, torch.ones(3, dtype=torch.bool))
    with pytest.raises(InvalidValue, match="got 1 of 3"):
        check_probes(probes, torch.tensor([True, False, True]))


def with_noise(run, spoiled, seed=0):
    """The run with examples `spoiled` learned slowly and never quite: a course unlike those of right and wrong labels."""
    g = torch.Generator().manual_seed(seed)
    loss = run.loss.clone()
    course = torch.linspace(1.8, 0.7, run.epochs)
    loss[spoiled] = course * (1 + 0.1 * torch.randn(len(spoiled), run.epochs, generator=g))
    return dataclasses.replace(run, loss=loss)


def test_spoiled_inputs_are_found_by_probes_of_their_kind():
    run, _, true = drawn(count=2000, wrong=0.05)
    spoiled = torch.arange(1000, 1100)
    ids = torch.arange(200)
    kinds = (ids >= 100).long()
    labels = torch.where(kinds == 0, (true[ids] + 1) % 5, true[ids])
    probes = Probes(("random label", "noise"), ids, kinds, ids % 2 == 0, labels)
    wrong = run.loss[(run.labels != true).nonzero()[:, 0]]
    loss = run.loss.clone()
    loss[:100] = wrong[torch.arange(100) % len(wrong)]
    all_labels = run.labels.clone()
    all_labels[:200] = labels
    run = with_noise(dataclasses.replace(run, loss=loss, labels=all_labels), torch.cat([ids[100:], spoiled]))
    found = find_suspects(dataclasses.replace(run, probes=probes), most=2000)
    corrupted = found.of("corrupted")
    inside = torch.isin(corrupted, spoiled)
    assert float(inside.float().mean()) > 0.8 and int(inside.sum()) > 70
    assert "noise" in str(found.assessment)


def test_a_kind_like_the_ordinary_gets_no_probability():
    run, _, true = drawn(count=2000, wrong=0.05)
    ids = torch.arange(200)
    probes = Probes(("noise", "blur"), ids, (ids >= 100).long(), ids % 2 == 0, run.labels[ids])
    found = find_suspects(dataclasses.replace(run, probes=probes), most=2000)
    assert found.found.get("corrupted", 0) == 0
    assert len(true) == 2000


def test_probes_left_as_they_are_make_no_kind_of_their_own() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    probes = choose_probes(labels, ["as it is", "random label", "noise"], 20, seed=1)
    loss = torch.rand(600, 8, generator=draw)
    loss[probes.of("random label")] += 2.0
    loss[probes.of("noise")] += 1.0
    run = Trajectories(loss, labels=labels, probes=probes, classes=3)
    told = told_apart(run, torch.arange(8), torch.ones(600, dtype=torch.bool))
    assert told is not None and told.names == ("ordinary", "random label", "noise") and not told.vague
    assert told.assessment.balanced > 0.95
    alone = choose_probes(labels, ["as it is"], 20, seed=1)
    run = Trajectories(loss, labels=labels, probes=alone, classes=3)
    assert told_apart(run, torch.arange(8), torch.ones(600, dtype=torch.bool)) is None
