"""Probes: disjoint, halved, wrong where they should be and nowhere else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from reinvest.core.batch import Indexed
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.dynamics.probes import KINDS, Probed, choose_probes

N = 400
LABELS = torch.arange(N) % 5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sets(st.sampled_from(sorted(KINDS)), min_size=1))
def test_kinds_are_disjoint_halved_and_of_the_stated_number(seed: int, count: int, kinds: set[str]) -> None:
    scores = torch.rand(N, generator=torch.Generator().manual_seed(seed))
    probes = choose_probes(LABELS, sorted(kinds), count, scores=scores, seed=seed)
    assert len(probes) == len(probes.ids.unique()) == 2 * count * len(kinds)
    for number, name in enumerate(probes.names):
        own = probes.kinds == number
        assert int(own.sum()) == 2 * count and int((own & probes.reference).sum()) == count
        changed = probes.labels[own] != LABELS[probes.ids[own]]
        assert bool(changed.all()) if name == "random label" else not bool(changed.any())
    assert bool(((probes.labels >= 0) & (probes.labels < 5)).all())


def test_typical_and_atypical_are_the_ends_of_the_scores() -> None:
    scores = torch.rand(N, generator=torch.Generator().manual_seed(0))
    scores[:10] = torch.nan
    probes = choose_probes(LABELS, ["typical", "atypical", "noise"], 15, scores=scores)
    order = scores.argsort()[: N - 10]
    assert set(probes.of("typical").tolist()) == set(order[:30].tolist())
    assert set(probes.of("atypical").tolist()) == set(order[-30:].tolist())


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    labels = torch.zeros(40_000, dtype=torch.int64)
    probes = choose_probes(labels, ["random label"], 20_000, classes=5)
    share = torch.bincount(probes.labels, minlength=5) / 40_000
    assert share[0] == 0.0 and bool(((share[1:] - 0.25).abs() < 0.011).all())  # 5 standard errors


def test_the_same_seed_draws_the_same_and_another_seed_others() -> None:
    one, same, other = (choose_probes(LABELS, count=20, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.ids, same.ids) and torch.equal(one.labels, same.labels)
    assert not torch.equal(one.ids, other.ids)


def test_only_candidates_are_chosen() -> None:
    mask = torch.arange(N) < 100
    assert int(choose_probes(LABELS, count=20, among=mask).ids.max()) < 100
    assert int(choose_probes(LABELS, count=20, among=torch.arange(50, 150)).ids.min()) >= 50


# ---- the data set with probes --------------------------------------------------------------------------------------------


def pictures() -> TensorDataset:
    return TensorDataset(torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(0)), LABELS)


def test_probes_are_changed_as_their_kind_says_and_all_others_are_not() -> None:
    plain, probes = pictures(), choose_probes(LABELS, ["random label", "noise", "blur"], 10)
    data = Probed(plain, probes, noise=0.3)
    assert len(data) == N
    kind = dict(zip(probes.ids.tolist(), (probes.names[int(k)] for k in probes.kinds), strict=True))
    for i in range(N):
        (x, y), (was, label) = data[i], plain[i]
        assert torch.equal(x, was) is (kind.get(i) not in ("noise", "blur"))
        assert (int(y) == int(label)) is (kind.get(i) != "random label")
        assert float(x.min()) >= 0.0 and float(x.max()) <= 1.0 and x.dtype == was.dtype and y.dtype == label.dtype
        assert torch.equal(data[i][0], x)  # the same at every sighting


def test_noise_has_the_stated_spread_and_a_blur_keeps_flat_pictures() -> None:
    flat = TensorDataset(torch.full((N, 3, 8, 8), 0.5), LABELS)
    probes = choose_probes(LABELS, ["noise", "blur"], 40)
    data = Probed(flat, probes, noise=0.2, bounds=None)
    noisy = torch.stack([data[int(i)][0] for i in probes.of("noise")]) - 0.5
    assert float(noisy.std()) == pytest.approx(0.2, rel=0.05) and abs(float(noisy.mean())) < 0.01
    torch.testing.assert_close(data[int(probes.of("blur")[0])][0], flat[0][0])


def test_ids_survive_and_dicts_and_plain_labels_work() -> None:
    probes = choose_probes(LABELS, ["random label"], 5)
    loader = DataLoader(Indexed(Probed(pictures(), probes)), batch_size=N)
    (ids, _, y) = next(iter(loader))
    assert torch.equal(ids, torch.arange(N)) and torch.equal(y[probes.ids], probes.labels)
    dicts = [{"x": i, "labels": int(LABELS[i])} for i in range(N)]
    changed = Probed(dicts, probes)[int(probes.ids[0])]
    assert changed["labels"] == int(probes.labels[0]) and type(changed["labels"]) is int


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"count": 101}, "need 404 examples, got 400"),
        ({"count": 0}, "from 1 up, got 0"),
        ({"kinds": ["typical"], "count": 2}, "chosen by scores of an earlier run"),
        ({"kinds": ["noise", "noise"]}, "named once each"),
        ({"kinds": ["random label"], "classes": 3, "count": 2}, "at least as many as the labels name, got 3"),
        ({"among": torch.tensor([1, 500])}, "ids from 0 to 399"),
        ({"among": torch.tensor([1, 1])}, "named once each, got 1 twice"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        choose_probes(LABELS, **arguments)  # type: ignore[arg-type]


def test_unknown_kinds_and_data_that_are_too_short_are_refused() -> None:
    with pytest.raises(UnknownName, match="random label"):
        choose_probes(LABELS, ["rotated"])
    with pytest.raises(InvalidValue, match="from this data set's labels"):
        Probed(TensorDataset(torch.zeros(3, 2), LABELS[:3]), choose_probes(LABELS, count=20))
    with pytest.raises(InvalidValue, match="one class an example"):
        choose_probes(torch.eye(3))
