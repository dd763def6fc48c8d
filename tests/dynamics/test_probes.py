"""Probes: disjoint, halved, wrong where they should be and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from reinvest.core.batch import Indexed
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.probes import spoiled
from reinvest.core.streams import example_normal
from reinvest.dynamics.probes import KINDS, Probed, choose_probes

N = 400
LABELS = torch.arange(N) % 5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 28), st.sets(st.sampled_from(sorted(KINDS)), min_size=1))
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


def test_labels_that_are_not_to_be_chosen_may_be_anything() -> None:
    labels = LABELS.clone()
    labels[300:] = 99
    probes = choose_probes(labels.int(), ["random label"], 15, classes=5, among=torch.arange(300))
    assert probes.labels.dtype == torch.int64 and int(probes.labels.max()) < 5


def test_only_candidates_are_chosen() -> None:
    mask = torch.arange(N) < 100
    assert int(choose_probes(LABELS, count=15, among=mask).ids.max()) < 100
    assert int(choose_probes(LABELS, count=15, among=torch.arange(50, 150)).ids.min()) >= 50


# ---- the data set with probes --------------------------------------------------------------------------------------------


def pictures() -> TensorDataset:
    return TensorDataset(torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(0)), LABELS)


def test_probes_are_changed_as_their_kind_says_and_all_others_are_not() -> None:
    plain, probes = pictures(), choose_probes(LABELS, ["random label", "noise", "blur", "out of distribution"], 10)
    data = Probed(plain, probes, noise=0.3)
    assert len(data) == N
    kind = dict(zip(probes.ids.tolist(), (probes.names[int(k)] for k in probes.kinds), strict=True))
    for i in range(N):
        (x, y), (was, label) = data[i], plain[i]
        assert torch.equal(x, was) is (kind.get(i) not in ("noise", "blur", "out of distribution"))
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


def test_noise_is_that_of_the_project_s_own_streams() -> None:
    x, ids = torch.zeros(3, 2, 4), torch.tensor([7, 0, 399])
    drawn = example_normal(5, "probe noise", 0, ids, 8).reshape(3, 2, 4)
    torch.testing.assert_close(spoiled(x, "noise", ids, noise=0.5, bounds=None, seed=5), 0.5 * drawn)
    exact = spoiled(x.double(), "noise", ids, noise=0.5, bounds=None, seed=5)
    assert exact.dtype == torch.float64 and torch.equal(
        exact.float(), spoiled(x, "noise", ids, noise=0.5, bounds=None, seed=5)
    )
    alone = spoiled(x[2:], "noise", ids[2:], noise=0.5, bounds=None, seed=5)
    assert torch.equal(alone[0], spoiled(x, "noise", ids, noise=0.5, bounds=None, seed=5)[2])


def test_a_sketch_is_white_where_a_picture_is_flat_and_dark_along_the_dark_side_of_an_edge() -> None:
    x = torch.full((1, 3, 8, 8), 0.8)
    x[..., 4:] = 0.2
    ids = torch.zeros(1, dtype=torch.int64)
    lines = spoiled(x, "out of distribution", ids)
    assert lines.shape == x.shape and torch.equal(lines[:, 0], lines[:, 2])
    torch.testing.assert_close(lines[..., [0, 1, 2, 6, 7]], torch.ones(1, 3, 8, 5))
    # Two averages over 3: the column right of the edge sees 2/3 of its own side, 1/3 of the other.
    inside = 0.2 * 6 / 9 + 0.8 * 3 / 9
    torch.testing.assert_close(lines[..., 4], torch.full((1, 3, 8), (0.2 + 1 / 255) / (inside + 1 / 255)))
    assert bool((lines[..., 3] == 1).all()) and bool((lines[..., 5] < 1).all())
    for flat in (0.0, 1.0):
        assert torch.equal(spoiled(torch.full_like(x, flat), "out of distribution", ids), torch.ones_like(x))
    scaled = spoiled(x * 10 - 3, "out of distribution", ids, bounds=(-3.0, 7.0))
    torch.testing.assert_close(scaled, lines * 10 - 3)
    own = spoiled(x, "out of distribution", ids, bounds=None)
    assert float(own.min()) == pytest.approx(0.2, abs=0.01) and float(own.max()) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("x", "kind", "rule"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "noise", "floating point, got torch.uint8"),
        (torch.zeros(1, 7), "blur", r"pictures \[C, H, W\], got inputs of shape \[7\]"),
        (torch.zeros(1, 4, 4), "out of distribution", r"got inputs of shape \[4, 4\]"),
        (torch.tensor([[-2.0, 1.0]]), "noise", r"lie within bounds, got -2\.\.1 for \(0, 1\); pass their own bounds="),
    ],
)
def test_inputs_that_cannot_be_spoiled_are_refused(x: torch.Tensor, kind: str, rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        spoiled(x, kind, torch.tensor([0]))


def test_draws_belong_to_ids_whatever_else_there_is_to_choose_from() -> None:
    labels = torch.arange(4000) % 5
    whole = choose_probes(labels, ["random label"], 100)
    part = choose_probes(labels, ["random label"], 100, among=whole.ids.flip(0))
    assert torch.equal(part.ids, whole.ids) and torch.equal(part.labels, whole.labels)
    assert torch.equal(part.reference, whole.reference)
    # Adding a kind takes no example from one drawn before it.
    both = choose_probes(labels, ["random label", "noise"], 100)
    assert torch.equal(both.of("random label"), whole.ids)


def test_labels_keep_their_form() -> None:
    probes = choose_probes(LABELS, ["random label"], 5)
    first = int(probes.ids[0])
    for form in (int, np.int32, lambda n: np.array(n, np.int16), lambda n: torch.tensor([n], dtype=torch.int32)):
        rows = [(torch.zeros(2), form(int(label))) for label in LABELS]
        old, new = rows[first][1], Probed(rows, probes)[first][1]
        assert type(new) is type(old) and new == form(int(probes.labels[0]))
        assert getattr(new, "dtype", None) == getattr(old, "dtype", None)


def test_dicts_whose_input_is_to_be_spoiled_are_refused() -> None:
    probes = choose_probes(LABELS, ["noise"], 5)
    dicts = [{"x": i, "labels": int(LABELS[i])} for i in range(N)]
    with pytest.raises(InvalidValue, match="got a dict for a 'noise' probe; leave that kind out"):
        Probed(dicts, probes)[int(probes.ids[0])]


def test_ids_survive_and_dicts_and_plain_labels_work() -> None:
    probes = choose_probes(LABELS, ["random label"], 5)
    loader = DataLoader(Indexed(Probed(pictures(), probes)), batch_size=N)
    (ids, _, y) = next(iter(loader))
    assert torch.equal(ids, torch.arange(N)) and torch.equal(y[probes.ids], probes.labels)
    dicts = [{"x": i, "labels": int(LABELS[i])} for i in range(N)]
    changed = Probed(dicts, probes)[int(probes.ids[0])]
    assert changed["labels"] == int(probes.labels[0]) and type(changed["labels"]) is int


def test_ids_go_around_probes_and_not_inside() -> None:
    probes = choose_probes(LABELS, ["random label"], 5)
    with pytest.raises(InvalidValue, match=r"Indexed with ids in front; write ri.Indexed\(Probed\(dataset, probes\)\)"):
        Probed(Indexed(pictures()), probes)
    last = choose_probes(LABELS, ["random label"], 1, among=torch.tensor([N - 2, N - 1]))
    data = Probed(pictures(), last)
    assert int(data[-1][1]) == int(data[N - 1][1]) != int(LABELS[-1])


def test_probes_of_a_held_out_split_are_refused() -> None:
    roles = torch.ones(N, dtype=torch.uint8)
    roles[300:] = 3
    with pytest.raises(InvalidValue, match=r"probes are training examples, got \d+ of the validation or test split"):
        Indexed(Probed(pictures(), choose_probes(LABELS, count=20)), roles=roles)
    inside = choose_probes(LABELS, count=20, among=roles == 1)
    assert Indexed(Probed(pictures(), inside), roles=roles).view.probes is inside


def test_labels_of_several_numbers_are_not_exchanged() -> None:
    probes = choose_probes(LABELS, ["random label"], 5)
    data = Probed(TensorDataset(torch.zeros(N, 2), torch.eye(5)[LABELS]), probes)
    with pytest.raises(InvalidValue, match="one class number, got 5 numbers"):
        data[int(probes.ids[0])]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"count": 101}, "need 606 examples, got 400"),
        ({"count": 0}, "from 1 up, got 0"),
        ({"kinds": ["typical"], "count": 2}, "chosen by scores of an earlier run"),
        ({"kinds": ["noise", "noise"]}, "named once each"),
        ({"kinds": ["random label"], "classes": 3, "count": 2}, "at least as many as the labels name, got 3"),
        ({"among": torch.tensor([1, 500])}, "ids from 0 to 399"),
        ({"among": torch.tensor([1, 1])}, "named once each, got 1 twice"),
        ({"among": torch.ones(300, dtype=torch.bool)}, r"a mask bool \[400\], got torch.bool \[300\]; pass"),
        ({"among": [1, 2]}, r"a mask bool \[400\], got list; pass"),
        ({"kinds": ["typical"], "count": 2, "scores": torch.rand(500)}, r"a tensor \[400\], got \[500\]; give"),
        ({"kinds": ["typical"], "count": 2, "scores": torch.rand(300)}, r"a tensor \[400\], got \[300\]; give"),
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
