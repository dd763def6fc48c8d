"""Piecewise means, words and groups of series: identities, bounds and reference cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinvest.core.errors import InvalidValue
from reinvest.dynamics import series as module
from reinvest.dynamics.neighbours import euclidean
from reinvest.dynamics.series import clusters, piecewise, words


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 13), st.integers(1, 13))
def test_pieces_keep_the_mean_and_bound_the_distance(seed: int, length: int, pieces: int) -> None:
    pieces = min(pieces, length)
    series = draw(seed, 6, length)
    short = piecewise(series, pieces)
    torch.testing.assert_close(short.mean(1), series.mean(1), rtol=1e-4, atol=1e-5)
    bound = math.sqrt(length / pieces) * euclidean(short, short)
    assert bool((bound <= euclidean(series, series) + 1e-4).all())
    if length % pieces == 0:
        torch.testing.assert_close(short, series.view(6, pieces, -1).mean(2), rtol=1e-5, atol=1e-5)


def test_the_ends_of_pieces() -> None:
    series = draw(0, 3, 7)
    torch.testing.assert_close(piecewise(series, 7), series)
    torch.testing.assert_close(piecewise(series, 1)[:, 0], series.mean(1))


def test_a_place_on_a_border_counts_by_its_share() -> None:
    found = piecewise(torch.tensor([[1.0, 2.0, 6.0]]), 2)
    torch.testing.assert_close(found, torch.tensor([[(1 + 1.0) / 1.5, (1.0 + 6.0) / 1.5]]))


def test_words_go_from_low_to_high_and_ignore_level_and_scale() -> None:
    falling = torch.linspace(4.0, 0.0, 8)
    assert words(falling.unsqueeze(0), 4, 4) == ["dcba"]
    assert words((10 + 3 * falling).unsqueeze(0), 4, 4) == ["dcba"]
    assert words(torch.full((1, 8), 2.5), 4, 4) == ["cccc"]  # zeros lie on the middle cut, which opens the upper half


def test_levels_count_where_nothing_is_standardised() -> None:
    series = torch.stack([torch.full((6,), v) for v in (0.0, 1.0, 2.0, 3.0)])
    assert words(series, 2, 4, standard=False) == ["aa", "bb", "cc", "dd"]


@pytest.mark.parametrize("letters", [3, 4, 7])
def test_letters_are_equally_frequent_in_noise(letters: int) -> None:
    found = "".join(words(draw(0, 400, 64), 64, letters))
    for letter in set(found):
        assert found.count(letter) / len(found) == pytest.approx(1 / letters, abs=0.02)
    assert len(set(found)) == letters


def test_groups_are_found_and_ordered_by_their_mean() -> None:
    low, high = 0.1 * draw(0, 20, 5), 5 + 0.1 * draw(1, 30, 5)
    group, centres = clusters(torch.cat([high, low]), 2)
    assert group.tolist() == [1] * 30 + [0] * 20
    torch.testing.assert_close(centres[1], high.mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("standard", [True, False])
def test_blocks_change_nothing(standard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    series = draw(0, 23, 9).half()
    whole = piecewise(series, 4), words(series, 4, 5, standard=standard)
    monkeypatch.setattr(module, "BLOCK", 5)
    assert torch.equal(piecewise(series, 4), whole[0])
    assert words(series, 4, 5, standard=standard) == whole[1]
    assert words(series[:0], 4, 5, standard=standard) == [] and piecewise(series[:0], 4).shape == (0, 4)


def test_groups_of_a_sample_are_those_of_all_where_they_lie_apart() -> None:
    low, high = 0.1 * draw(0, 300, 5), 5 + 0.1 * draw(1, 100, 5)
    series = torch.cat([high, low])
    group, centres = clusters(series, 2, sample=60)
    assert group.tolist() == [1] * 100 + [0] * 300
    assert not torch.equal(centres, clusters(series, 2)[1])
    again, same = clusters(series, 2, sample=60)
    assert torch.equal(again, group) and torch.equal(same, centres)
    assert not torch.equal(centres, clusters(series, 2, 1, sample=60)[1])
    with pytest.raises(InvalidValue, match=r"from 3 \(count\) up, got 2"):
        clusters(series, 3, sample=2)


def test_what_cannot_be_shortened_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"pieces is a whole number from 1 to 3 \(epochs\), got 4"):
        piecewise(torch.zeros(2, 3), 4)
    with pytest.raises(InvalidValue, match="got 1 of 2 without"):
        words(torch.tensor([[1.0, 2.0], [1.0, math.nan]]), 1)
    with pytest.raises(InvalidValue, match="letters is a whole number from 2 to 26"):
        words(torch.zeros(2, 3), 2, 27)
    with pytest.raises(InvalidValue, match="from 1 to 2"):
        clusters(torch.zeros(2, 3), 3)
