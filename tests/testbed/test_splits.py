"""Splits: fixed, disjoint, keyed by the task's name."""

from __future__ import annotations

import pytest
import torch

from reinvest.core.errors import DataError, InvalidValue
from reinvest.testbed.tasks.splits import by_class, by_fraction, checked, hold_out, subset


def all_ids(splits):
    return torch.cat([splits[k] for k in ("train", "validation", "test")]).sort().values


@pytest.mark.parametrize("rows", [5, 7, 10, 1797])
def test_by_fraction_cuts_60_20_20(rows):
    splits = by_fraction("t", rows)
    assert len(splits["train"]) == rows * 3 // 5 and len(splits["test"]) == rows // 5
    assert torch.equal(all_ids(splits), torch.arange(rows))


def test_splits_hang_on_the_name_alone():
    assert torch.equal(by_fraction("a", 50)["train"], by_fraction("a", 50)["train"])
    assert not torch.equal(by_fraction("a", 50)["train"], by_fraction("b", 50)["train"])


def test_hold_out_keeps_the_published_test_rows():
    splits = hold_out("t", 50, validation=5, test=10)
    assert [len(splits[k]) for k in ("train", "validation", "test")] == [45, 5, 10]
    assert splits["test"].tolist() == list(range(50, 60))
    assert torch.equal(all_ids(splits), torch.arange(60))


def test_smaller_subsets_lie_inside_larger_ones():
    splits = by_fraction("t", 100)
    small, large = subset(splits, 10), subset(splits, 30)
    assert set(small["train"].tolist()) < set(large["train"].tolist())
    assert torch.equal(small["test"], splits["test"])
    assert len(subset(splits, None)["train"]) == 60


def test_by_class_takes_the_same_number_of_each_and_mixes_them():
    labels = torch.arange(60) % 4
    splits = by_class("t", labels, "abcd", train=6, validation=2)
    assert torch.equal(all_ids(splits), torch.arange(60))
    assert labels[splits["train"]].bincount().tolist() == [6] * 4
    assert labels[splits["validation"]].bincount().tolist() == [2] * 4
    assert len(labels[splits["train"]].unique_consecutive()) > 1 and splits["test"].diff().min() > 0


def test_a_class_is_split_by_its_name_whatever_its_number():
    labels = torch.arange(60) % 4
    one, two = (by_class("t", labels, names, train=6, validation=2) for names in ("abcd", "cbad"))

    def places(splits, label):
        return sorted(int(i) // 4 for i in splits["train"] if labels[i] == label)

    assert places(one, 1) == places(two, 1) and places(one, 0) == places(two, 2)
    assert places(one, 0) != places(two, 0)


def test_a_class_keeps_an_example_to_test_on():
    labels = torch.tensor([0] * 9 + [1] * 8)
    with pytest.raises(DataError, match=r"more than 8 examples .* got 8 of 'b'"):
        by_class("t", labels, "ab", train=6, validation=2)


@pytest.mark.parametrize("wrong", [0, 61, 2.5, True])
def test_subset_refuses_other_sizes(wrong):
    with pytest.raises(InvalidValue, match="from 1 to 60"):
        subset(by_fraction("t", 100), wrong)


def test_too_little_data_is_refused():
    with pytest.raises(DataError, match="at least 5 rows"):
        by_fraction("t", 4)
    with pytest.raises(InvalidValue, match="got 50"):
        hold_out("t", 50, validation=50, test=1)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0], "test": [1]}, "train, validation and test"),
        ({"train": [0], "validation": [], "test": [1]}, "got none in 'validation'"),
        ({"train": [0], "validation": [3], "test": [1]}, "got 0..3"),
        ({"train": [0], "validation": [-1], "test": [1]}, "got -1..1"),
        ({"train": [0, 2], "validation": [2], "test": [1]}, "got id 2 more than once"),
    ],
)
def test_wrong_splits_are_refused(splits, message):
    with pytest.raises(InvalidValue, match=message):
        checked(splits, 3)
