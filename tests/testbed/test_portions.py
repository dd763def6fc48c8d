"""Portions of a data set: which ids they hold, what stays as it was, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinvest._testing.task import TaskContract
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.testbed.tasks.digits import digits
from reinvest.testbed.tasks.portions import Portion, check_size, cut_names, explored, reduced
from reinvest.testbed.tasks.splits import by_fraction

LABELS = torch.arange(100) % 5
WHOLE = by_fraction("t", 100)


def ids(split):
    return set(split.tolist())


class TestPortionOfDigits(TaskContract):
    every_row_in_a_split = False

    def make_task(self):
        return digits(train_examples=600, train_start=200, first_classes=6, test_on="validation")


def test_the_defaults_are_the_whole_set():
    splits, classes = Portion().of(WHOLE, LABELS, 5)
    assert classes == 5 and all(torch.equal(splits[k], WHOLE[k]) for k in WHOLE)


def test_positions_are_those_of_the_training_permutation():
    splits, _ = Portion(train_examples=40, train_start=15).of(WHOLE, LABELS, 5)
    assert torch.equal(splits["train"], WHOLE["train"][15:40])
    assert all(torch.equal(splits[k], WHOLE[k]) for k in ("validation", "test"))


def test_fewer_classes_narrow_every_split_and_keep_the_order():
    splits, classes = Portion(first_classes=2).of(WHOLE, LABELS, 5)
    assert classes == 2
    for name, whole in WHOLE.items():
        assert splits[name].tolist() == [i for i in whole.tolist() if LABELS[i] < 2]


@settings(max_examples=50, deadline=None)
@given(st.integers(5, 60), st.integers(0, 3), st.integers(2, 5), st.sampled_from(["test", "validation"]))
def test_each_option_narrows_by_itself(examples, start, classes, test_on):
    one = Portion(train_examples=examples, train_start=start, first_classes=classes, test_on=test_on)
    try:
        small = one.of(WHOLE, LABELS, 5)[0]
    except InvalidValue:
        assert start == 3 or examples - start < 10  # too few examples to have one of the first classes
        return
    more = Portion(train_examples=min(60, examples + 7), train_start=start, first_classes=5, test_on=test_on)
    large = more.of(WHOLE, LABELS, 5)[0]
    assert all(ids(small[k]) <= ids(large[k]) for k in small)
    positions = ids(WHOLE["train"][start:examples])
    assert ids(small["train"]) == {i for i in positions if LABELS[i] < classes}


def test_exploration_never_sees_the_test_split():
    splits = explored(WHOLE, "validation")
    assert torch.equal(torch.cat([splits["validation"], splits["test"]]), WHOLE["validation"])
    assert len(splits["validation"]) == len(splits["test"]) == 10
    odd = explored({**WHOLE, "validation": torch.arange(5)}, "validation")
    assert (odd["validation"].tolist(), odd["test"].tolist()) == ([0, 1, 2], [3, 4])


def test_a_portion_of_digits_keeps_ids_names_and_hashes():
    whole, part = digits(), digits(train_examples=500, train_start=100, first_classes=4)
    assert part.classes == 4 and part.class_names == ("0", "1", "2", "3") and part.name == whole.name
    assert part.view.examples == whole.view.examples == 1797
    assert torch.equal(part.view.hashes(), whole.view.hashes())
    assert ids(part.splits["test"]) < ids(whole.splits["test"])
    assert int(torch.cat([y for _, _, y in part.loader("test", 64)]).max()) == 3
    roles = part.view.roles()
    assert int((roles > 0).sum()) == sum(len(v) for v in part.splits.values())


def test_every_portion_has_a_fingerprint_of_its_own():
    options = [
        {},
        {"train_examples": 500},
        {"train_start": 10},
        {"train_examples": 500, "train_start": 10},
        {"first_classes": 5},
        {"test_on": "validation"},
    ]
    assert len({digits(**o).fingerprint for o in options}) == len(options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train_examples": 0}, InvalidValue, "train_examples is a whole number from 1 to 60, got 0"),
        ({"train_examples": 20, "train_start": 20}, InvalidValue, r"train_start .* to 19, got 20"),
        ({"train_start": -1}, InvalidValue, "to 59, got -1"),
        ({"train_start": True}, InvalidValue, "got True"),
        ({"train_start": 1.0}, InvalidValue, "got 1.0"),
        ({"first_classes": 1}, InvalidValue, r"from 2 to 5 .*got 1"),
        ({"first_classes": 6}, InvalidValue, r"from 2 to 5 .*got 6"),
        ({"first_classes": True}, InvalidValue, "got True"),
        ({"test_on": "valid"}, UnknownName, "did you mean 'validation'"),
        ({"train_examples": 1, "first_classes": 2}, InvalidValue, "got none in 'train' with first_classes=2"),
    ],
)
def test_wrong_portions_are_refused(options, error, message):
    splits = {**WHOLE, "train": WHOLE["train"][(LABELS[WHOLE["train"]] == 4).to(torch.int8).argsort(descending=True)]}
    with pytest.raises(error, match=message):
        Portion(**options).of(splits, LABELS, 5)


def test_one_validation_example_is_not_cut_in_half():
    with pytest.raises(InvalidValue, match="from 2 examples on, got 1"):
        explored({**WHOLE, "validation": torch.tensor([7])}, "validation")


def test_names_are_cut():
    assert cut_names(["a", "b", "c"], 2) == ["a", "b"] and cut_names(None, 2) is None


def test_reduced_pictures_are_rounded_block_means():
    g = torch.Generator().manual_seed(0)
    x = torch.randint(256, (7, 3, 8, 8), generator=g, dtype=torch.uint8)
    for size in (8, 4, 2):
        side = 8 // size
        means = torch.nn.functional.avg_pool2d(x.double(), side)
        assert torch.equal(reduced(x, size), (means + 0.5).floor().to(torch.uint8))
    assert reduced(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8), 1).item() == 255


@pytest.mark.parametrize("wrong", [0, 31, 64, 16.0, True])
def test_other_sizes_are_refused(wrong):
    assert [check_size(size, 32) for size in (32, 16, 8)] == [32, 16, 8]
    with pytest.raises(InvalidValue, match=r"size is 32 \(pictures as published\), 16 or 8, got"):
        check_size(wrong, 32)
