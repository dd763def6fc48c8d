"""Windows and their targets: exactly so many hidden tokens, the same ones in any batch."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binom

from reinvest.core.criterion import IGNORE
from reinvest.testbed.tasks.tokens import BYTES, MASK, SPECIALS
from reinvest.testbed.tasks.windows import WindowSource, mask_tokens, masked_count

ROWS, LENGTH = 3_000, 40
TOKENS = torch.randint(SPECIALS, BYTES, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
IDS = torch.arange(ROWS) * 7


def masked(rows=slice(None), *, seed=3, epoch=1):
    return mask_tokens(TOKENS[rows], IDS[rows], seed=seed, epoch=epoch, size=BYTES)


@pytest.mark.parametrize(("length", "count"), [(2, 1), (7, 1), (10, 2), (20, 3), (64, 10), (128, 19), (512, 77)])
def test_fifteen_per_cent_are_chosen(length, count):
    assert masked_count(length) == count
    x, y = mask_tokens(torch.full((5, length), 9), torch.arange(5), seed=0, epoch=0, size=BYTES)
    assert (y != IGNORE).sum(1).tolist() == [count] * 5
    assert x.dtype == y.dtype == torch.int64 and x.shape == y.shape == (5, length)


def test_targets_are_the_tokens_that_were_there_and_the_rest_is_as_it_was():
    x, y = masked()
    chosen = y != IGNORE
    assert torch.equal(y[chosen], TOKENS[chosen])
    assert torch.equal(x[~chosen], TOKENS[~chosen])


def within(count, total, share):
    """Whether a binomial count lies in its interval of probability 1 - 10^-6."""
    low, high = binom.interval(1 - 1e-6, total, share)
    return low <= count <= high


def test_of_ten_chosen_tokens_eight_are_hidden_one_is_replaced_and_one_stays():
    x, y = masked()
    chosen = y != IGNORE
    shown, hidden = x[chosen], y[chosen]
    total = len(shown)
    assert total == 6 * ROWS
    assert within(int((shown == MASK).sum()), total, 0.8)
    # A replacement may be the token itself, one time in 256.
    assert within(int((shown == hidden).sum()), total, 0.1 + 0.1 / 256)
    other = shown[(shown != MASK) & (shown != hidden)]
    assert int(other.min()) == SPECIALS and int(other.max()) == BYTES - 1


def test_every_place_is_chosen_equally_often():
    _, y = masked()
    counts = (y != IGNORE).sum(0)
    assert all(within(int(c), ROWS, 6 / LENGTH) for c in counts)


def test_a_row_looks_the_same_in_any_batch():
    x, y = masked()
    for rows in (slice(10, 11), slice(0, 33), torch.tensor([2_999, 5, 77])):
        part = masked(rows)
        assert torch.equal(part[0], x[rows]) and torch.equal(part[1], y[rows])


def test_other_seeds_epochs_and_ids_choose_other_places():
    _, y = masked()
    places = y != IGNORE
    for other in (masked(seed=4), masked(epoch=2)):
        same = ((other[1] != IGNORE) == places).all(1).sum()
        # 3.8 million ways to choose 6 of 40 places: two of 3,000 pairs alike would be chance one in a million.
        assert int(same) <= 1
    assert len(places.unique(dim=0)) >= ROWS - 5


def source(masked, rows=5, length=8):
    tokens = torch.arange(SPECIALS, SPECIALS + rows * length + 1, dtype=torch.int16)
    return WindowSource(tokens, torch.arange(rows) * length, length=length, masked=masked, size=100)


def test_causal_targets_are_the_next_tokens():
    batches = [torch.tensor([3, 0]), torch.tensor([4])]
    read = list(source(False).read(batches, seed=5, epoch=2, training=True))
    for ids, (x, y) in zip(batches, read, strict=True):
        assert torch.equal(x, SPECIALS + ids[:, None] * 8 + torch.arange(8)) and torch.equal(y, x + 1)
        assert x.dtype == y.dtype == torch.int64


def test_masks_are_drawn_anew_in_training_and_fixed_outside():
    own, ids = source(True), [torch.arange(5)]

    def of(**options):
        return next(own.read(ids, **options))[0]

    first = of(seed=1, epoch=0, training=True)
    assert not torch.equal(first, of(seed=1, epoch=1, training=True))
    assert torch.equal(of(seed=1, epoch=3, training=False), of(seed=0, epoch=0, training=True))


def test_hashes_and_moves_are_of_the_text_alone():
    ids = torch.tensor([4, 1])
    assert torch.equal(source(True).hashes(ids), source(False).hashes(ids))
    assert len(source(True).hashes(torch.arange(5)).unique()) == 5
    moved = source(True).to(torch.device("cpu"))
    for a, b in zip(*(s.read([ids], seed=2, epoch=3, training=True) for s in (moved, source(True))), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
