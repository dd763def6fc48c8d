"""Planted wrong labels, spoiled pictures and probes: as many as asked for, nowhere else, the same every time."""

from __future__ import annotations

import json
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_bases import (
    CLASSES,
    OWN,
    ROWS,
    data,
    floats,
    here,
    ids_of,
    of,
    own,
    per_class,
    read_one_by_one,
    same_batches,
)
from scipy.stats import chisquare
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset
from written_texts import write_questions

import reinvest as ri
from reinvest._testing.task import TaskContract
from reinvest.core.errors import InvalidValue
from reinvest.core.names import resolve
from reinvest.core.probes import spoiled
from reinvest.core.protocols import Task as TaskProtocol
from reinvest.dynamics.probes import Probed
from reinvest.loop.session import build_task
from reinvest.testbed.tasks.caltech import PerClassTask
from reinvest.testbed.tasks.planted import planted
from reinvest.testbed.tasks.task import Task

# ---- the contract of tasks -------------------------------------------------------------------------------------------


class TestPlantedDigits(TaskContract):
    def make_task(self):
        return planted(
            base="digits",
            label_noise=0.2,
            corrupted=0.1,
            noise_std=0.01,
            probes={"kinds": ["random label", "blur"], "count": 20},
        )

    def make_altered(self, change):
        digits = load_digits()
        if change == "pixel":
            digits.images[1796, 3, 3] += 1 - 2 * (digits.images[1796, 3, 3] > 0)
        else:
            digits.target[1796] = (digits.target[1796] + 1) % 10
        with mock.patch("sklearn.datasets.load_digits", return_value=digits):
            return self.make_task()


class TestPlantedItems(TaskContract):
    def make_task(self):
        return planted(base=here("read_one_by_one"), label_noise=0.3)


# ---- wrong labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["symmetric", "class dependent"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.4, 0.999])
def test_the_share_of_changed_labels_is_exact_and_none_is_the_true_one(noise, share):
    base, task = own(), planted(base=OWN, label_noise=share, noise=noise)
    truth, train = task.planted, base.splits["train"]
    wrong = truth.relabelled.nonzero()[:, 0]
    assert len(wrong) == round(share * len(train)) and ids_of(truth.relabelled) <= set(train.tolist())
    assert torch.equal(truth.clean_labels, data()[1]) and truth.clean_labels.dtype == torch.int64
    assert torch.equal(truth.labels != truth.clean_labels, truth.relabelled)
    assert int(truth.labels.min()) >= 0 and int(truth.labels.max()) < CLASSES
    assert truth.probes is None and not truth.corrupted.any()
    for split, ids in base.splits.items():
        x, y = of(task, ids)
        assert torch.equal(x, of(base, ids)[0]) and torch.equal(y, truth.labels[ids])
        assert split == "train" or torch.equal(y, of(base, ids)[1])


def test_symmetric_noise_is_uniform_over_the_other_classes_and_over_the_examples():
    truth = planted(base=here("own", rows=20_000), label_noise=0.5).planted
    wrong = truth.relabelled.nonzero()[:, 0]
    steps = (truth.labels[wrong] - truth.clean_labels[wrong]) % CLASSES
    assert chisquare(torch.bincount(steps, minlength=CLASSES)[1:].numpy()).pvalue > 0.01
    table = torch.bincount(truth.clean_labels[wrong] * CLASSES + truth.labels[wrong], minlength=CLASSES**2)
    off = table.reshape(CLASSES, CLASSES)[~torch.eye(CLASSES, dtype=torch.bool)]
    assert int(off.sum()) == len(wrong) and chisquare(off.numpy()).pvalue > 0.01
    assert chisquare(torch.histc(wrong.float(), 20, 0, 20_000).numpy()).pvalue > 0.01


def test_class_dependent_noise_turns_each_class_into_its_pair():
    truth = planted(base=OWN, label_noise=0.4, noise="class dependent").planted
    wrong = truth.relabelled
    assert torch.equal(truth.labels[wrong], (truth.clean_labels[wrong] + 1) % CLASSES)
    pairs = [2, 1, 0, 0, 4]
    truth = planted(base=OWN, label_noise=0.3, noise="class dependent", pairs=pairs).planted
    wrong = truth.relabelled
    assert int(wrong.sum()) == 360 and torch.equal(truth.labels[wrong], torch.tensor(pairs)[truth.clean_labels[wrong]])
    assert set(truth.clean_labels[wrong].tolist()) == {0, 2, 3}  # 1 and 4 are their own pairs: spared


def test_two_classes_are_exchanged():
    truth = planted(base={"name": "digits", "first_classes": 2}, label_noise=0.25).planted
    wrong = truth.relabelled
    assert int(wrong.sum()) > 20 and torch.equal(truth.labels[wrong], 1 - truth.clean_labels[wrong])


def test_the_seed_alone_decides():
    one, same, other = (planted(base=OWN, label_noise=0.2, planted_seed=s).planted for s in (1, 1, 2))
    assert torch.equal(one.labels, same.labels) and not torch.equal(one.relabelled, other.relabelled)
    task = planted(base=OWN, label_noise=0.2, planted_seed=1)
    for size, seed, epoch in ((7, 0, 0), (64, 5, 3)):
        for ids, _, y in task.loader("train", size, seed=seed, epoch=epoch):
            assert torch.equal(y, one.labels[ids])


def test_a_portion_changes_the_same_ids_in_the_same_way():
    base = {"name": "digits"}
    whole = planted(base=base, label_noise=0.2, corrupted=0.1, noise_std=0.01)
    part = planted(base={**base, "train_examples": 500}, label_noise=0.2, corrupted=0.1, noise_std=0.01)
    here = torch.zeros(1797, dtype=torch.bool)
    here[part.splits["train"]] = True
    ours, theirs = part.planted.relabelled, whole.planted.relabelled & here
    # Both are the lowest numbers of the portion, so one holds the other; how many the whole has there is chance.
    assert int(ours.sum()) == 100 and int((ours ^ theirs).sum()) == abs(100 - int(theirs.sum())) <= 25
    ours, theirs = part.planted.corrupted, whole.planted.corrupted & here
    assert int(ours.sum()) == 50 and int((ours ^ theirs).sum()) <= 20
    both = part.planted.relabelled & whole.planted.relabelled
    assert torch.equal(part.planted.labels[both], whole.planted.labels[both])
    ids = (part.planted.corrupted & whole.planted.corrupted).nonzero()[:, 0]
    assert len(ids) > 30 and torch.equal(of(part, ids)[0], of(whole, ids)[0])
    assert part.name == whole.name and part.fingerprint != whole.fingerprint


# ---- spoiled pictures ------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 0.4), st.floats(0.01, 0.4), st.integers(1, 20))
def test_what_is_planted_stays_in_the_training_split_and_its_kinds_apart(seed, wrong, noisy, count):
    kinds = ["random label", "noise", "blur", "out of distribution"]
    task = planted(
        base=OWN, label_noise=wrong, corrupted=noisy, probes={"kinds": kinds, "count": count}, planted_seed=seed
    )
    truth, train = task.planted, set(task.splits["train"].tolist())
    parts = [ids_of(truth.relabelled), ids_of(truth.corrupted), *(set(truth.probes.of(k).tolist()) for k in kinds)]
    assert [len(p) for p in parts] == [round(wrong * 1200), round(noisy * 1200)] + [2 * count] * 4
    assert not parts[0] & parts[1] and set().union(*parts) <= train
    assert len(set().union(*parts[2:])) == sum(map(len, parts[2:]))


def test_probes_are_drawn_as_a_user_would_who_does_not_know_the_truth():
    """Otherwise probes would be cleaner than the data, and whoever learns from them better than anybody can be."""
    wanted = {"kinds": ["as it is", "random label", "noise"], "count": 100}
    task = planted(base=OWN, label_noise=0.4, corrupted=0.2, probes=wanted)
    truth, probes = task.planted, task.planted.probes
    for kind in wanted["kinds"]:
        ids = probes.of(kind)
        assert int(truth.relabelled[ids].sum()) == pytest.approx(0.4 * 200, abs=30)
        assert int(truth.corrupted[ids].sum()) == pytest.approx(0.2 * 200, abs=25)
    plain = planted(base=OWN, label_noise=0.4, corrupted=0.2)
    kept, other = probes.of("as it is"), probes.of("random label")
    for a, b in zip(of(task, kept), of(plain, kept), strict=True):
        assert torch.equal(a, b)
    # Another label than the one that the user has; now and then that is the right one.
    assert (truth.labels[other] != plain.planted.labels[other]).all()
    assert 0 < int((truth.labels[other] == truth.clean_labels[other]).sum()) < 40
    noisy = probes.of("noise")
    alone = planted(base=OWN, probes=wanted)
    assert torch.equal(noisy, alone.planted.probes.of("noise"))
    assert torch.equal(of(task, noisy)[0], of(alone, noisy)[0])  # spoiled once, where it is both


@pytest.mark.parametrize("augment", [None, "crop-flip"])
def test_corrupted_pictures_are_those_of_a_task_whose_pixels_were_changed_by_hand(augment):
    x, y = data()
    base, task = own(augment), planted(base=here("own", augment=augment), corrupted=0.15, noise_std=0.2)
    ids = task.planted.corrupted.nonzero()[:, 0]
    noisy = spoiled(x[ids].double() / 255, "noise", ids, noise=0.2)
    assert float(noisy.min()) == 0.0 and float(noisy.max()) == 1.0  # clipped
    changed = x.clone()
    changed[ids] = (noisy * 255).round().to(torch.uint8)
    assert 0.9 < float((changed[ids] != x[ids]).float().mean()) < 1.0
    by_hand = Task.from_tensors("own", changed, y, augment=augment, pad=1, mean=0.5, classes=CLASSES)
    assert same_batches(task, by_hand) and same_batches(task, by_hand, seed=3, epoch=2)
    assert torch.equal(task.view.hashes(), by_hand.view.hashes())
    others = (~task.planted.corrupted).nonzero()[:, 0]
    assert torch.equal(of(task, others)[0], of(base, others)[0]) and torch.equal(task.planted.labels, y)
    assert torch.equal(of(base, ids)[0], of(own(augment), ids)[0])  # the base's own pictures were left alone


def test_noise_has_the_stated_spread_in_units_of_a_full_byte():
    task = planted(base=here("grey"), corrupted=0.5)
    x, _ = of(task, task.planted.corrupted.nonzero()[:, 0])
    assert len(x) == 180 and float(x.mean()) == pytest.approx(128 / 255, abs=0.003)
    assert float(x.std()) == pytest.approx(0.1, rel=0.02)


def test_pictures_of_floats_are_spoiled_as_floats_and_refused_outside_0_to_1():
    task = planted(base=here("floats"), corrupted=0.2)
    ids = task.planted.corrupted.nonzero()[:, 0]
    x = data(200)[0][ids].float() / 255
    assert torch.equal(of(task, ids)[0], spoiled(x, "noise", ids))
    with pytest.raises(InvalidValue, match=r"in units of 0\.\.1, got 0\.\.2 in 'floats'; leave scaling"):
        planted(base=here("floats", scale=2.0), corrupted=0.2)


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_probes_are_what_the_view_says_and_what_a_probed_data_set_shows():
    kinds = ["random label", "noise", "blur", "out of distribution"]
    task = planted(base=here("floats"), probes={"kinds": kinds, "count": 5}, noise_std=0.3, planted_seed=4)
    base, probes = floats(), task.planted.probes
    assert task.view.probes is probes and probes.names == tuple(kinds) and int(probes.reference.sum()) == 20
    assert torch.equal(task.planted.labels[probes.ids], probes.labels)
    x, y = data(200)
    by_hand = Probed(TensorDataset(x.float() / 255, y), probes, noise=0.3, seed=4)
    every = torch.arange(200)
    seen, labels = of(task, every)
    assert torch.equal(seen, torch.stack([by_hand[i][0] for i in range(200)]))
    assert labels.tolist() == [int(by_hand[i][1]) for i in range(200)]
    differ = (seen != of(base, every)[0]).flatten(1).any(1)
    assert ids_of(differ) == set(torch.cat([probes.of(kind) for kind in kinds[1:]]).tolist())
    assert ids_of(labels != y) == set(probes.of("random label").tolist())


def test_probes_leave_the_planted_noise_where_it_was():
    plain = planted(base=OWN, label_noise=0.2, corrupted=0.1).planted
    probed = planted(base=OWN, label_noise=0.2, corrupted=0.1, probes={"count": 10}).planted
    assert torch.equal(plain.relabelled, probed.relabelled) and torch.equal(plain.corrupted, probed.corrupted)
    others = plain.relabelled.clone()
    others[probed.probes.ids] = False
    assert torch.equal(plain.labels[others], probed.labels[others])
    assert probed.probes.names == ("as it is", "random label", "noise")


def test_typical_and_atypical_examples_are_chosen_by_scores():
    scores = [None if i < 5 else float((i * 37) % ROWS) for i in range(ROWS)]
    probes = {"kinds": ["typical", "atypical"], "count": 10, "scores": scores}
    task = planted(base=OWN, probes=probes)
    train = [i for i in task.splits["train"].tolist() if i >= 5]
    order = sorted(train, key=lambda i: scores[i])
    assert set(task.planted.probes.of("typical").tolist()) == set(order[:20])
    assert set(task.planted.probes.of("atypical").tolist()) == set(order[-20:])
    assert same_batches(task, own())  # nothing is changed, yet records of the base do not know the probes
    assert task.fingerprint != own().fingerprint and torch.equal(task.view.hashes(), own().view.hashes())


# ---- what it is as a task --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base",
    [{"name": "digits"}, here("own", augment="crop-flip"), here("read_one_by_one"), here("per_class")],
    ids=lambda spec: spec["name"],
)
def test_with_nothing_planted_it_is_the_base_bit_for_bit(base):
    plain = resolve("task", base["name"])(**{k: v for k, v in base.items() if k != "name"})
    task = planted(base=base, label_noise=0, noise="class dependent", corrupted=0.0, noise_std=0.3, planted_seed=9)
    assert isinstance(task, type(plain)) and isinstance(task, TaskProtocol)
    assert same_batches(task, plain, seed=2, epoch=1)
    assert (task.name, task.fingerprint, task.metric) == (plain.name, plain.fingerprint, plain.metric)
    assert torch.equal(task.view.hashes(), plain.view.hashes())
    assert not task.planted.relabelled.any() and not task.planted.corrupted.any() and task.view.probes is None
    assert torch.equal(task.planted.labels, task.planted.clean_labels) and plain.planted is None


def test_everything_that_is_planted_makes_another_name_and_fingerprint():
    options = [
        {},
        {"label_noise": 0.2},
        {"label_noise": 0.3},
        {"label_noise": 0.2, "planted_seed": 1},
        {"label_noise": 0.2, "noise": "class dependent"},
        {"label_noise": 0.2, "noise": "class dependent", "pairs": [1, 2, 3, 4, 4]},
        {"corrupted": 0.2},
        {"corrupted": 0.2, "noise_std": 0.2},
        {"probes": {"count": 5}},
        {"probes": {"count": 6}},
        {"probes": {"count": 5, "kinds": ["blur", "noise"]}},
    ]
    tasks = [planted(base=OWN, **o) for o in options]
    assert len({t.fingerprint for t in tasks}) == len({t.name for t in tasks}) == len(options)
    assert all(t.name.startswith("own-planted-") for t in tasks[1:]) and tasks[0].name == "own"
    again = planted(base=OWN, label_noise=0.2, noise_std=0.7)  # spoils nothing, so it decides nothing
    assert (again.name, again.fingerprint) == (tasks[1].name, tasks[1].fingerprint)
    assert tasks[1].view.namespace == tasks[1].name and tasks[1].view.fingerprint == tasks[1].fingerprint


@pytest.mark.parametrize("base", [OWN, here("read_one_by_one")], ids=lambda spec: spec["name"])
def test_hashes_differ_where_a_row_was_changed_and_nowhere_else(base):
    plain, task = planted(base=base), planted(base=base, label_noise=0.2)
    before, after = plain.view.hashes(), task.view.hashes()
    assert torch.equal(before != after, task.planted.relabelled)
    ids = task.splits["train"][:40]
    assert torch.equal(task.hashes(ids), after[ids])


def test_labels_of_items_read_one_by_one_keep_their_views_and_workers_change_nothing():
    task, base = planted(base=here("read_one_by_one"), label_noise=0.3), read_one_by_one()
    for (ids, x, y), (other, x_base, y_base) in zip(task.loader("train", 16), base.loader("train", 16), strict=True):
        assert torch.equal(ids, other) and torch.equal(x, x_base)
        assert torch.equal(y != y_base, task.planted.relabelled[ids]) and y.dtype == torch.int64


def test_classes_metric_and_measure_are_those_of_the_base():
    task = planted(base=here("per_class"), label_noise=0.1)
    assert isinstance(task, PerClassTask) and task.metric == "class_accuracy" and task.evaluation_batch == 32
    assert "class_accuracy" in task.measure().compute() and task.criterion is per_class().criterion
    digits = planted(base="digits", label_noise=0.1)
    assert digits.class_names == tuple("0123456789") and digits.view.class_names == digits.class_names
    assert torch.equal(digits.view.roles(), planted(base="digits").view.roles())


def test_on_another_device_it_stays_what_it_is():
    task = planted(base=here("own", augment="crop-flip"), label_noise=0.1, corrupted=0.1, probes={"count": 5})
    moved = task.to("cpu")
    assert moved.planted is task.planted and moved.view.probes is task.planted.probes and same_batches(task, moved)
    assert moved.name == task.name and torch.equal(moved.view.hashes(), task.view.hashes())


def test_sentences_get_wrong_labels_and_no_spoiled_inputs(tmp_path):
    base = {"name": "trec6", "folder": str(write_questions(tmp_path)), "length": 24}
    plain, task = planted(base=base), planted(base=base, label_noise=0.5)
    (x, y), (x_plain, y_plain) = (of(t, torch.arange(570)) for t in (task, plain))
    assert (
        torch.equal(x, x_plain)
        and torch.equal(y != y_plain, task.planted.relabelled)
        and int((y != y_plain).sum()) == 20
    )
    assert torch.equal(task.view.hashes() != plain.view.hashes(), task.planted.relabelled)
    for wrong in ({"corrupted": 0.5}, {"probes": {"kinds": ["noise"], "count": 2}}):
        with pytest.raises(
            InvalidValue, match=r"pictures in memory \[C, H, W\], got 'trec6.*' with inputs \[24\]; plant"
        ):
            planted(base=base, **wrong)


def test_a_recipe_names_it_with_plain_values(tmp_path):
    text = {"name": "planted", "base": {"name": "digits", "train_examples": 128}, "label_noise": 0.25}
    recipe = ri.Recipe(task=json.loads(json.dumps(text)), model="mlp", duration="1ep", batch_size=32)
    task = build_task(recipe)
    assert int(task.planted.relabelled.sum()) == 32
    run = ri.train(recipe, seed=0, store=ri.Store(tmp_path / "runs"))
    records = run.records()
    assert run.status == "finished" and records.namespace == task.name
    assert torch.equal(records.hashes[task.splits["train"]], task.view.hashes()[task.splits["train"]])
