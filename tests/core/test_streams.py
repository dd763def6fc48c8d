"""Own random streams: pure functions of (seed, name, epoch, step or id), equal whatever the batch, random enough."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from reinvest.core.errors import InvalidValue, ReinvestError
from reinvest.core.streams import Stream, example_integers, example_normal, example_uniform, key, stream

N = 1 << 15
SEEDS = st.integers(0, 2**31 - 1)
NAMES = st.text(min_size=1, max_size=12)


def uniforms(*, seed: int = 0, name: str = "test", epoch: int = 0, ids: Tensor | None = None) -> Tensor:
    return example_uniform(seed, name, epoch, torch.arange(N) if ids is None else ids)[:, 0]


def uncorrelated(a: Tensor, b: Tensor) -> bool:
    """|r| below 4.5 standard errors (the seeds are fixed, so this is no gamble)."""
    return abs(float(torch.corrcoef(torch.stack([a, b]).double())[0, 1])) < 4.5 / math.sqrt(len(a))


# --- reproducible ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, "order", 0), 13639791781730530476),
        ((1, "order", 0), 13609832003135883828),
        ((0, "order", 1), 9979713411734349805),
        ((0, "crop", 0), 7347753828383504151),
        ((2**40 + 7, "a longer name, with ümläuts", 3, 12345), 8508977080671797199),
    ],
)
def test_keys_never_change(arguments: tuple[int, ...], expected: int) -> None:
    assert key(*arguments) == expected  # type: ignore[arg-type]


def test_draws_never_change() -> None:
    ids = torch.tensor([0, 1, 2, 44_999, 2**40])
    assert example_integers(7, "pinned", 3, ids, 1000, 2).tolist() == [
        [682, 304],
        [926, 589],
        [853, 290],
        [22, 144],
        [733, 113],
    ]
    assert stream(7, "pinned", 3, 5).integers(1000, 6).tolist() == [0, 970, 885, 220, 756, 459]
    assert stream(7, "pinned", 3, 5).permutation(8).tolist() == [0, 7, 3, 5, 4, 2, 6, 1]
    assert [round(v * 2**24) for v in example_uniform(7, "pinned", 3, ids)[:, 0].tolist()] == [
        11452001,
        15544889,
        14323041,
        372403,
        12304233,
    ]


@given(SEEDS, NAMES, st.integers(0, 10**6))
def test_keys_are_64_bit_and_repeatable(seed: int, name: str, counter: int) -> None:
    one = key(seed, name, counter)
    assert 0 <= one < 2**64 and one == key(seed, name, counter)
    assert len({one, key(seed + 1, name, counter), key(seed, name + "x", counter), key(seed, name, counter + 1)}) == 4
    assert key(seed, name) != one != key(seed, name, counter, 0)


def test_counters_do_not_trade_places() -> None:
    assert len({key(a, "n", b, c) for a in range(8) for b in range(8) for c in range(8)}) == 512


# --- about examples --------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(SEEDS, NAMES, st.integers(0, 1000), st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(1, 5))
def test_an_examples_draw_does_not_depend_on_its_batch(
    seed: int, name: str, epoch: int, ids: list[int], k: int
) -> None:
    whole = example_uniform(seed, name, epoch, torch.tensor(ids), k)
    assert whole.dtype == torch.float32 and whole.shape == (len(ids), k)
    assert bool(((whole >= 0) & (whole < 1)).all())
    for row, i in enumerate(ids):
        assert torch.equal(example_uniform(seed, name, epoch, torch.tensor([i]), k)[0], whole[row])
    back = example_uniform(seed, name, epoch, torch.tensor(ids[::-1]), k)
    assert torch.equal(back.flip(0), whole)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 2**31), st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(1, 3))
def test_integers_about_examples_are_in_range(seed: int, high: int, ids: list[int], k: int) -> None:
    drawn = example_integers(seed, "n", 0, torch.tensor(ids), high, k)
    assert drawn.dtype == torch.int64 and drawn.shape == (len(ids), k)
    assert int(drawn.min()) >= 0 and int(drawn.max()) < high
    assert torch.equal(example_integers(seed, "n", 0, torch.tensor(ids[-1:]), high, k)[0], drawn[-1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_the_type_of_ids_does_not_matter(dtype: torch.dtype) -> None:
    ids = torch.tensor([0, 3, 100])
    assert torch.equal(uniforms(ids=ids), uniforms(ids=ids.to(dtype)))
    assert torch.equal(example_integers(0, "n", 0, ids, 50), example_integers(0, "n", 0, ids.to(dtype), 50))


def test_more_draws_an_example_begin_with_the_same_ones_and_differ_among_themselves() -> None:
    three = example_uniform(0, "n", 0, torch.arange(N), 3)
    assert uncorrelated(three[:, 0], three[:, 1]) and uncorrelated(three[:, 1], three[:, 2])


def test_an_empty_batch_draws_nothing() -> None:
    assert example_uniform(0, "n", 0, torch.zeros(0, dtype=torch.int64), 2).shape == (0, 2)


# --- the global generator --------------------------------------------------------------------------------------------


def everything() -> list[Tensor]:
    ids, batch = torch.arange(50), stream(1, "n", 2, 3)
    return [
        example_uniform(1, "n", 2, ids),
        example_integers(1, "n", 2, ids, 9),
        example_normal(1, "n", 2, ids),
        batch.uniform(5),
        batch.integers(9, 5),
        batch.normal(5),
        batch.permutation(9),
        torch.tensor(batch.number()),
    ]


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = everything()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, everything(), strict=True))


# --- about batches ---------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(SEEDS, NAMES, st.integers(0, 99), st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 2**31))
def test_streams_about_batches(seed: int, name: str, epoch: int, step: int, n: int, high: int) -> None:
    one, two = stream(seed, name, epoch, step), stream(seed, name, epoch, step)
    assert isinstance(one, Stream)
    for draw in ("uniform", "normal"):
        a = getattr(one, draw)(n)
        assert a.dtype == torch.float32 and a.shape == (n,) and bool(a.isfinite().all())
        assert torch.equal(a, getattr(two, draw)(n))
    integers = one.integers(high, n)
    assert integers.dtype == torch.int64 and int(integers.min()) >= 0 and int(integers.max()) < high
    assert torch.equal(integers, two.integers(high, n))
    assert sorted(one.permutation(n).tolist()) == list(range(n))
    assert 0 <= one.number() < 1


def test_calls_move_on_and_a_new_stream_starts_again() -> None:
    one = stream(0, "n", 0)
    a, b = one.uniform(1000), one.uniform(1000)
    assert not torch.equal(a, b) and uncorrelated(a, b)
    assert torch.equal(stream(0, "n", 0).uniform(1000), a)
    assert not torch.equal(stream(0, "n", 0, 1).uniform(1000), a)
    assert not torch.equal(stream(0, "n", 0, node=1).uniform(1000), a)
    assert torch.equal(stream(0, "n", 0, node=0).uniform(1000), a)


# --- random enough ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [2, 3, 10, 256, 1000])
@pytest.mark.parametrize("about", ["examples", "batch"])
def test_integers_are_uniform(high: int, about: str) -> None:
    drawn = (
        example_integers(5, "chi", 1, torch.arange(N), high)[:, 0]
        if about == "examples"
        else stream(5, "chi", 1).integers(high, N)
    )
    assert stats.chisquare(torch.bincount(drawn, minlength=high).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("byte", range(3))
def test_every_byte_of_a_uniform_is_uniform(byte: int) -> None:
    bits = (uniforms(seed=3) * 2**24).to(torch.int64) >> (8 * byte) & 255
    assert stats.chisquare(torch.bincount(bits, minlength=256).numpy()).pvalue > 1e-4


def test_uniforms_and_normals_have_their_distributions() -> None:
    for drawn in (uniforms(), stream(0, "ks", 0).uniform(N)):
        assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3
    for drawn in (example_normal(0, "ks", 0, torch.arange(N))[:, 0], stream(0, "ks", 0).normal(N)):
        assert stats.kstest(drawn.double().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("lag", [1, 2, 7, 128])
def test_neighbouring_ids_are_unrelated(lag: int) -> None:
    drawn = uniforms()
    assert uncorrelated(drawn[:-lag], drawn[lag:])


def test_neighbouring_epochs_seeds_and_names_are_unrelated() -> None:
    base = uniforms()
    for other in (uniforms(epoch=1), uniforms(seed=1), uniforms(name="test1"), uniforms(name="tesu")):
        assert uncorrelated(base, other)
    assert uncorrelated(uniforms(epoch=1), uniforms(seed=1))


def test_ids_of_one_batch_are_not_shifted_copies_over_epochs() -> None:
    """With keys that add up, example i at epoch e would equal example i + 1 at epoch e - 1."""
    base, later = uniforms(), uniforms(epoch=1)
    for shift in (1, 2, 3):
        assert uncorrelated(base[shift:], later[:-shift]) and uncorrelated(base[:-shift], later[shift:])


def test_first_draws_over_steps_are_uniform() -> None:
    drawn = torch.tensor([stream(0, "steps", 0, step).number() for step in range(4096)])
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3 and uncorrelated(drawn[:-1], drawn[1:])


def test_permutations_are_fair() -> None:
    counts = torch.zeros(6, 6)
    for step in range(3000):
        counts[torch.arange(6), stream(0, "fair", 0, step).permutation(6)] += 1
    assert stats.chisquare(counts.flatten().numpy(), ddof=10).pvalue > 1e-4


def test_large_permutations_have_no_gaps() -> None:
    assert torch.equal(stream(0, "n", 0).permutation(50_000).sort().values, torch.arange(50_000))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [0, -1, 2**31 + 1])
def test_an_empty_or_too_large_range_is_refused(high: int) -> None:
    with pytest.raises(InvalidValue):
        stream(0, "n", 0).integers(high, 3)
    with pytest.raises(InvalidValue):
        example_integers(0, "n", 0, torch.arange(3), high)


def test_ids_that_are_no_integers_are_refused() -> None:
    with pytest.raises(ReinvestError):
        example_uniform(0, "n", 0, torch.rand(3))
