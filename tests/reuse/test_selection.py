"""Scores out of earlier runs, and what is chosen by them."""

from __future__ import annotations

import math
import types

import pytest
import torch
from torch import nan

from reinvest.core import names
from reinvest.core.batch import Indexed
from reinvest.core.chain import Methods
from reinvest.core.errors import DataError, InvalidValue, StoreError, UnknownName
from reinvest.core.view import TaskView
from reinvest.loop.train import train
from reinvest.methods.select.subset import Subset
from reinvest.reuse.selection import (
    average_scores,
    capped,
    choose_subset,
    high_loss_subset,
    keep,
    read_scores,
    scores_of,
    window,
    within_classes,
)
from reinvest.testbed.tasks.digits import digits
from teaching import QUIET, epoch, small, still

LOSS = [[4.0, nan, nan, 1.0], [2.0, 3.0, nan, math.inf], [nan, 5.0, nan, 3.0]]


def past(loss, *, namespace="toy", name="past", **more):
    """A run that recorded these losses [E, N]."""
    about = {"namespace": namespace, "fingerprint": "", "hashes": None, "roles": None, "labels": None} | more
    records = types.SimpleNamespace(history=lambda table: torch.tensor(loss).T, places=None, **about)
    return types.SimpleNamespace(id=name, status="finished", records=lambda: records)


def ramp(count, seed=0):
    """Scores 0 .. count-1 in a random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).float()


def top(scores, count):
    return set(scores.argsort()[len(scores) - count :].tolist())


# ---- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "epochs", "wanted"),
    [
        ("mean", None, [3.0, 4.0, nan, 2.0]),
        ("last", None, [2.0, 5.0, nan, 3.0]),
        ("first", None, [4.0, 3.0, nan, 1.0]),
        ("mean", 1, [4.0, nan, nan, 1.0]),
        ("last", 2, [2.0, 3.0, nan, 1.0]),
        ("first", 9, [4.0, 3.0, nan, 1.0]),
    ],
)
def test_scores_are_losses_of_the_epochs_that_saw_the_example(kind, epochs, wanted):
    found = scores_of(past(LOSS), kind, epochs)
    assert found.dtype == torch.float32
    assert torch.equal(found.nan_to_num(-1), torch.tensor(wanted).nan_to_num(-1))


def test_scores_lie_at_the_ids_of_the_training_split():
    run = past([[4.0, 2.0], [2.0, nan]])
    run.records().places = torch.tensor([1, -1, 0, -1], dtype=torch.int32)
    assert scores_of(run).nan_to_num(-1).tolist() == [2.0, -1.0, 3.0, -1.0]


def test_scores_that_make_no_sense_are_refused():
    with pytest.raises(UnknownName, match="mean"):
        scores_of(past(LOSS), "median")
    with pytest.raises(InvalidValue, match="epochs is a whole number"):
        scores_of(past(LOSS), epochs=0)
    with pytest.raises(InvalidValue, match="at least one example has a score, got 2"):
        scores_of(past([[nan, math.inf]]))
    with pytest.raises(InvalidValue, match="no store"):
        scores_of("0123456789abcdef")


def test_averages_cover_grown_data():
    first, second = past([[1.0, 2.0, nan]]), past([[3.0, nan, nan, 7.0]])
    assert average_scores([first, second]).nan_to_num(-1).tolist() == [2.0, 2.0, -1.0, 7.0]
    assert torch.equal(average_scores([first]).nan_to_num(-1), scores_of(first).nan_to_num(-1))
    with pytest.raises(InvalidValue, match="'town' and 'toy'"):
        average_scores([first, past([[1.0]], namespace="town")])
    with pytest.raises(InvalidValue, match="at least one run"):
        average_scores([])


# ---- subsets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.001, 0.1, 0.25, 0.505, 0.9, 1.0])
@pytest.mark.parametrize("replay", [0.0, 0.25, 0.5, 1.0])
def test_counts_are_exact(share, replay):
    scores = ramp(101)
    count = max(1, math.floor(share * 101 + 0.5))
    at_random = math.floor(replay * count + 0.5)
    ids = high_loss_subset(scores, share, replay=replay, seed=5)
    assert ids.dtype == torch.int64 and ids.tolist() == sorted(set(ids.tolist())) and len(ids) == count
    by_score = top(scores, count - at_random)
    assert by_score <= set(ids.tolist())
    assert len(set(ids.tolist()) - by_score) == at_random


def test_the_parts_of_the_ranking():
    scores = torch.tensor([5.0, 1.0, 3.0, 2.0, 4.0])
    found = {w: choose_subset(scores, 0.6, which=w, replay=0.0).tolist() for w in ("lowest", "middle", "highest")}
    assert found == {"lowest": [1, 2, 3], "middle": [2, 3, 4], "highest": [0, 2, 4]}


def test_ids_may_be_numbered_in_another_way():
    """Renumbering the examples renumbers what is chosen by score, and nothing else happens."""
    scores, order = torch.randn(60, generator=torch.Generator().manual_seed(1)), ramp(60, 2).long()
    for which in ("lowest", "middle", "highest"):
        chosen = choose_subset(scores, 0.3, which=which, replay=0.0)
        renumbered = choose_subset(scores[order], 0.3, which=which, replay=0.0)
        assert set(order[renumbered].tolist()) == set(chosen.tolist())


def test_replay_is_a_uniform_draw_of_all_the_rest():
    scores, trials = torch.arange(40.0), 1200
    counts = torch.zeros(40)
    for seed in range(trials):
        counts[high_loss_subset(scores, 0.5, replay=0.5, seed=seed)] += 1
    assert counts[30:].tolist() == [trials] * 10, "chosen by score"
    expected, deviation = trials / 3, math.sqrt(trials * (1 / 3) * (2 / 3))
    assert float((counts[:30] - expected).abs().max()) < 4 * deviation
    assert int(counts[:30].sum()) == 10 * trials


def test_a_draw_belongs_to_seed_and_epoch():
    scores = ramp(200)
    one, again = (choose_subset(scores, 0.4, seed=3, epoch=1) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, choose_subset(scores, 0.4, seed=4, epoch=1))
    other = choose_subset(scores, 0.4, seed=3, epoch=2)
    assert not torch.equal(one, other) and top(scores, 60) <= set(one.tolist()) & set(other.tolist())


def test_replay_goes_round_all_the_rest_before_anything_comes_twice():
    scores, counts = torch.arange(40.0), torch.zeros(40)
    for turn in range(9):
        counts[choose_subset(scores, 0.5, replay=0.5, seed=1, epoch=turn)] += 1
        assert float(counts[:30].max() - counts[:30].min()) <= 1.0
    assert counts.tolist() == [3.0] * 30 + [9.0] * 10


def test_equal_scores_are_in_random_order_and_not_that_of_their_ids():
    counts = torch.zeros(20)
    for seed in range(800):
        counts[choose_subset(torch.ones(20), 0.5, replay=0.0, seed=seed)] += 1
    assert float((counts - 400).abs().max()) < 4 * math.sqrt(800 / 4)


def test_a_cap_keeps_the_worst_out_and_the_count_the_same():
    scores = torch.arange(100.0)
    cap = capped(scores, lowest=0.95)
    assert cap.tolist() == [True] * 95 + [False] * 5
    assert choose_subset(scores, 0.2, replay=0.0, cap=cap).tolist() == list(range(75, 95))
    # A cap that leaves too few: all of them, and a draw for the rest.
    few = torch.zeros(100, dtype=torch.bool).index_fill_(0, torch.tensor([1, 2, 3]), True)
    ids = set(choose_subset(scores, 0.2, replay=0.0, cap=few).tolist())
    assert len(ids) == 20 and {1, 2, 3} <= ids


def test_caps():
    values = torch.tensor([0.1, 0.5, nan, 0.9, 0.5])
    assert capped(values, at_least=0.5).tolist() == [False, True, False, True, True]
    assert capped(values, at_most=0.5).tolist() == [True, True, False, False, True]
    assert capped(values, at_least=0.2, at_most=0.6).tolist() == [False, True, False, False, True]
    assert capped(values, lowest=0.5).tolist() == [True, True, False, False, True], "equal values stand together"
    assert capped(values, lowest=1.0).tolist() == [True, True, False, True, True]
    for bad in ({}, {"lowest": 0.0}, {"lowest": 1.1}):
        with pytest.raises(InvalidValue):
            capped(values, **bad)


def test_examples_never_seen_are_drawn_and_never_chosen_by_score():
    scores = torch.tensor([nan, 1.0, nan, 2.0, nan, 3.0])
    for seed in range(20):
        assert set(choose_subset(scores, 1.0, seed=seed).tolist()) == {1, 3, 5}, "without `among` they stay out"
    everyone = torch.arange(6)
    assert choose_subset(scores, 0.5, replay=0.0, among=everyone).tolist() == [1, 3, 5]
    assert choose_subset(scores, 1.0, replay=0.0, among=everyone).tolist() == list(range(6))
    drawn = {
        i for seed in range(60) for i in choose_subset(scores, 0.2, replay=1.0, among=everyone, seed=seed).tolist()
    }
    assert drawn == set(range(6))
    mask = torch.tensor([True, False, True, True, False, False])
    ids = mask.nonzero()[:, 0]
    assert torch.equal(choose_subset(scores, 0.7, among=mask), choose_subset(scores, 0.7, among=ids))
    assert set(choose_subset(scores, 1.0, among=mask).tolist()) == {0, 2, 3}


def test_what_makes_no_subset_is_refused():
    scores = torch.arange(10.0)
    for bad, rule in (
        ({"share": 0.0}, "share is a part"),
        ({"share": 1.1}, "share is a part"),
        ({"replay": -0.1}, "replay is the part"),
        ({"replay": 1.1}, "replay is the part"),
        ({"cap": torch.ones(9, dtype=torch.bool)}, r"cap is a mask bool \[10\]"),
        ({"cap": scores}, r"cap is a mask bool \[10\]"),
        ({"among": torch.tensor([3, 10])}, r"0 \.\. 9, .*, got 3 to 10"),
        ({"among": torch.tensor([-1, 3])}, r"0 \.\. 9"),
        ({"among": torch.ones(9, dtype=torch.bool)}, "a set of examples"),
        ({"among": scores}, "a set of examples"),
        ({"among": torch.tensor([], dtype=torch.int64)}, "candidates"),
        ({"scores": torch.zeros(3, 2)}, "one number an id"),
        ({"scores": [1.0]}, "one number an id"),
        ({"scores": torch.full((3,), nan)}, "at least one example has a score"),
    ):
        with pytest.raises(InvalidValue, match=rule):
            high_loss_subset(**({"scores": scores, "share": 0.5} | bad))
    with pytest.raises(UnknownName, match="highest"):
        choose_subset(scores, 0.5, which="hardest")


# ---- keeping -------------------------------------------------------------------------------------------------------


def test_keeping_is_exact_and_balanced_in_classes():
    scores = torch.cat([torch.arange(40.0), 100 + torch.arange(20.0), 1000 + torch.arange(10.0)])
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate((40, 20, 10))])
    assert keep(scores, 0.5).tolist() == list(range(35))
    for which, wanted in (
        ("lowest", [*range(20), *range(40, 50), *range(60, 65)]),
        ("highest", [*range(20, 40), *range(50, 60), *range(65, 70)]),
        ("middle", [*range(10, 30), *range(45, 55), *range(62, 67)]),
    ):
        assert keep(scores, 0.5, which, labels=labels).tolist() == wanted
    assert keep(scores, 1.0, labels=labels).tolist() == list(range(70))


def test_keeping_never_drops_what_was_never_seen():
    scores = torch.tensor([1.0, nan, 3.0, 2.0, nan, 4.0])
    assert keep(scores, 0.5).tolist() == [0, 3]
    assert keep(scores, 0.5, among=torch.arange(5)).tolist() == [0, 1, 3, 4]
    labels = torch.tensor([0, -1, 1, 0, -1, 1])
    assert keep(scores, 0.5, labels=labels, among=torch.arange(6)).tolist() == [0, 1, 2, 4]


def test_a_window_of_the_ranking_is_exact_and_balanced_in_classes():
    """The data diet's offset: the hardest of all are left out, the next hardest are kept."""
    scores = ramp(100)
    kept = window(scores, 0.5, 0.9)
    assert sorted(scores[kept].tolist()) == list(range(50, 90)) and kept.tolist() == sorted(kept.tolist())
    assert window(scores, 0.0, 1.0).tolist() == list(range(100))
    parts = [window(torch.ones(37), low, low + 0.25, seed=3) for low in (0.0, 0.25, 0.5, 0.75)]
    assert torch.cat(parts).sort().values.tolist() == list(range(37)), "side by side, equal scores among them"
    labels = torch.arange(100) % 4
    own = window(scores + 1000.0 * labels, 0.2, 0.6, labels=labels)
    assert labels[own].bincount().tolist() == [10] * 4
    assert torch.equal(own, window(scores, 0.2, 0.6, labels=labels))


def test_a_window_never_drops_what_was_never_seen():
    scores = torch.tensor([1.0, nan, 3.0, 2.0, nan, 4.0])
    assert window(scores, 0.5, 1.0).tolist() == [2, 5]
    assert window(scores, 0.5, 1.0, among=torch.arange(5)).tolist() == [1, 2, 4]
    for bad in ((0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.0, 1.5), (True, 1.0)):
        with pytest.raises(InvalidValue, match=", got "):
            window(scores, *bad)


def test_labels_must_be_there():
    scores = torch.tensor([1.0, 2.0])
    for labels in (torch.tensor([0]), torch.tensor([0.0, 1.0]), [0, 1]):
        with pytest.raises(InvalidValue, match="labels are one class an id"):
            keep(scores, 0.5, labels=labels)
    with pytest.raises(InvalidValue, match="got 1 without"):
        keep(scores, 0.5, labels=torch.tensor([0, -1]))
    with pytest.raises(InvalidValue, match="share"):
        keep(scores, 0.0)


def test_ranks_within_classes_balance_any_choice():
    labels = torch.arange(90) % 3
    scores = torch.randn(90, generator=torch.Generator().manual_seed(2)) + 10.0 * labels
    ranks = within_classes(scores, labels)
    for c in range(3):
        own = ranks[labels == c]
        assert torch.allclose(own.sort().values, (torch.arange(30) + 0.5) / 30)
        assert torch.equal(own.argsort(), scores[labels == c].argsort())
    chosen = labels[choose_subset(ranks, 0.4, replay=0.0)]
    assert chosen.bincount().tolist() == [12, 12, 12]
    assert within_classes(torch.tensor([nan, 1.0]), torch.tensor([-1, 0]))[0].isnan()


# ---- earlier runs --------------------------------------------------------------------------------------------------


def context_of(view):
    return types.SimpleNamespace(task=view)


def test_scores_are_read_by_name_from_a_real_run(shelf):
    store, one, two = shelf
    task = digits(train_examples=200)
    view = task.loader("train", 50).view
    assert names.resolve("scores", "records") is read_scores
    found = read_scores([one, two], context_of(view))
    assert torch.equal(found.nan_to_num(-1), average_scores([one, two]).nan_to_num(-1))
    train_ids = task.splits["train"]
    assert len(found) == 1797 and set((~found.isnan()).nonzero()[:, 0].tolist()) == set(train_ids.tolist())
    with store.lending():
        assert torch.equal(scores_of(one.id).nan_to_num(-1), scores_of(one).nan_to_num(-1))
    balanced = read_scores([one], context_of(view), balance=True)
    labels = one.records().labels
    assert torch.equal(balanced.nan_to_num(-1), within_classes(scores_of(one), labels).nan_to_num(-1))


def test_records_of_other_data_are_refused():
    context = context_of(TaskView(namespace="toy"))
    with pytest.raises(InvalidValue, match=r"'town'.*'toy'"):
        read_scores([past([[1.0]], namespace="town")], context)
    assert read_scores([past([[1.0]], namespace="")], context).tolist() == [1.0], "unknown is not other"
    assert read_scores([past([[1.0]], namespace="town")], context_of(TaskView())).tolist() == [1.0]
    hashes = torch.tensor([11, 12, 13])
    changed = context_of(TaskView(namespace="toy", hashes=lambda: torch.tensor([11, 99, 13, 14])))
    with pytest.raises(DataError, match="got 1 ids"):
        read_scores([past([[1.0, 2.0, 3.0]], hashes=hashes)], changed)
    grown = context_of(TaskView(namespace="toy", hashes=lambda: torch.tensor([11, 12, 13, 14])))
    assert read_scores([past([[1.0, 2.0, 3.0]], hashes=hashes)], grown).tolist() == [1.0, 2.0, 3.0]
    leaking = TaskView(namespace="toy", roles=lambda: torch.tensor([1, 3, 1], dtype=torch.uint8))
    roles = torch.tensor([1, 1, 1], dtype=torch.uint8)
    with pytest.raises(InvalidValue, match="test examples, got 1"):
        read_scores([past([[1.0, 2.0, 3.0]], roles=roles)], context_of(leaking))
    with pytest.raises(InvalidValue, match="balance needs the labels"):
        read_scores([past([[1.0]])], context, balance=True)


def test_a_run_without_records_says_so(store):
    with store.record("mute", task="digits", facts={}, records=False, seed=0) as writer:
        pass
    with pytest.raises(StoreError):
        scores_of(writer.run)


def test_a_recipe_trains_on_part_of_the_data_and_names_the_run(store):
    run = next(iter(store.runs(task="digits")))
    recipe = small(400, "2ep").with_(Subset(run.id, 0.5, replay=0.2))
    assert recipe.parents == (run.id,)
    made = train(recipe, 0, store, **QUIET)
    assert made.status == "finished" and made.steps == 2 * 8
    assert made.reuse == [{"run": run.id, "how": "data"}] and run.id in made.parents
    loss = made.records().loss
    old, new = digits(train_examples=200).splits["train"], digits(train_examples=400).splits["train"]
    fresh = torch.tensor(sorted(set(new.tolist()) - set(old.tolist())))
    for row in loss:
        assert not row[fresh].isnan().any(), "new data are always trained on"
        assert int((~row[old].isnan()).sum()) == 100, "half of what the earlier run saw"


def test_an_own_loop_finds_the_run_in_the_store_and_pays_for_reading(store):
    run = next(iter(store.runs(task="digits")))
    task, chain = digits(train_examples=200), Methods(Subset(run.id))
    chain.reports = False
    model = torch.nn.Linear(1, 1)
    with (
        pytest.raises(InvalidValue, match="no store"),
        chain.attach(model, still(model), duration="1ep", data=epoch(task), seed=0),
    ):
        pass
    with store.lending(), chain.attach(model, still(model), duration="1ep", data=epoch(task), seed=0):
        assert chain.clock["one_off_seconds"] > 0
    other = Indexed(list(zip(torch.zeros(4, 1), torch.zeros(4).long(), strict=True)), name="town")
    loader = torch.utils.data.DataLoader(other, batch_size=2)
    with (
        pytest.raises(InvalidValue, match=r"'digits'.*'town'"),
        Methods(Subset(run)).attach(model, still(model), duration="1ep", data=loader, seed=0),
    ):
        pass
