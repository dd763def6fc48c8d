"""Row hashes and fingerprints."""

from __future__ import annotations

import pytest
import torch

from reinvest.core.errors import InvalidValue
from reinvest.testbed.tasks import content
from reinvest.testbed.tasks.splits import by_fraction


def test_the_hash_of_a_batch_is_the_hash_of_its_rows():
    for x in (torch.arange(48, dtype=torch.uint8).reshape(4, 3, 2, 2), torch.randn(4, 7)):
        y = torch.tensor([3, 1, 0, 3])
        rows = [content.row_hash(a, b) for a, b in zip(x, y, strict=True)]
        assert content.row_hashes(x, y).tolist() == rows and len(set(rows)) == 4


def test_maps_of_labels_are_hashed_whole():
    x, y = torch.zeros(3, 1, 2, 2), torch.zeros(3, 2, 2, dtype=torch.int16)
    y[2, 1, 1] = -100
    found = content.row_hashes(x, y).tolist()
    assert found == [content.row_hash(a, b) for a, b in zip(x, y, strict=True)] and len(set(found)) == 2


def test_only_hashes_of_all_rows_stand_for_the_rows():
    hashes = torch.arange(5)
    assert content.of_all(hashes, 5) is hashes
    assert content.of_all(hashes, 6) is None and content.of_all("v1", 5) is None


def test_hashes_are_pinned():
    x = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    assert content.row_hashes(x, torch.tensor([1])).tolist() == [3692161089016287288]
    assert content.fingerprint(10, 2, [torch.arange(10)], by_fraction("t", 10)) == "f4940fa3a90bf196"


def test_label_type_shape_and_values_all_count():
    x = torch.zeros(1, 4, dtype=torch.uint8)
    one, two = torch.tensor([1]), torch.tensor([2])
    hashes = [
        content.row_hashes(x, one),
        content.row_hashes(x, two),
        content.row_hashes(x.view(1, 2, 2), one),
        content.row_hashes(x.to(torch.float32), one),
        content.row_hashes(x + 1, one),
    ]
    assert len({int(h) for h in hashes}) == 5


def test_every_row_is_hashed_up_to_a_million_and_a_spread_sample_beyond():
    assert torch.equal(content.hashed_rows(1_000_000), torch.arange(1_000_000))
    sample = content.hashed_rows(3_000_000)
    assert len(sample) == 100_000 and int(sample[0]) == 0 and torch.equal(sample.diff(), torch.full((99_999,), 30))


def test_a_fingerprint_covers_counts_content_and_splits():
    splits, other = by_fraction("t", 10), by_fraction("u", 10)
    marks = [
        content.fingerprint(10, 2, [torch.arange(10)], splits),
        content.fingerprint(10, 3, [torch.arange(10)], splits),
        content.fingerprint(11, 2, [torch.arange(10)], splits),
        content.fingerprint(10, 2, [torch.arange(1, 11)], splits),
        content.fingerprint(10, 2, [torch.arange(10)], other),
        content.fingerprint(10, 2, "v1", splits),
        content.fingerprint(10, 2, "v2", splits),
    ]
    assert len(set(marks)) == len(marks)
    assert content.fingerprint(10, 2, [torch.arange(4), torch.arange(4, 10)], splits) == marks[0]


@pytest.mark.parametrize("wrong", ["", "  ", 7])
def test_an_empty_word_is_no_fingerprint(wrong):
    with pytest.raises(InvalidValue, match="fingerprint is text"):
        content.stated(wrong)
