"""Learning-rate schedules."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from reinvest.core import names
from reinvest.core.errors import InvalidValue
from reinvest.loop.session import Schedule
from reinvest.methods.schedules import catalog, constant, cooldown, cosine, cycle_ends, cyclic, linear, one_cycle

PLACES = [k / 1000 for k in range(1001)]


def test_closed_forms():
    assert [cosine(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert cosine(0.25) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert cosine(0.55, warmup=0.1, final=0.2) == pytest.approx(0.6)
    assert [linear(p, warmup=0.2, final=0.1) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx(
        [0, 0.5, 1, 0.55, 0.1]
    )
    assert [constant(p, warmup=0.1) for p in (0.0, 0.05, 0.1, 1.0)] == pytest.approx([0, 0.5, 1, 1])
    assert constant(0.0) == linear(0.0) == 1.0
    assert [one_cycle(p) for p in (0.0, 0.15, 0.3, 0.65, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [one_cycle(p, warmup=0.5, final=0.2) for p in (0, 0.5, 1)] == pytest.approx([0.2, 1, 0.2])


@pytest.mark.parametrize("schedule", [s for n, s in catalog.items() if n != "cyclic"], ids=lambda s: s.__name__)
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 0.9])
def test_continuous_between_zero_and_one_with_one_peak(schedule, warmup):
    others = {"share": min(0.2, 1.0 - warmup)} if schedule is cooldown else {}
    values = [schedule(p, warmup=warmup, **others) for p in PLACES]
    assert all(0.0 <= v <= 1.0 for v in values)
    steepest = math.pi / 2 / min(warmup or 1.0, 1.0 - warmup) / 1000
    if others:  # a root is steepest where it begins
        steepest = max(steepest, math.sqrt(1 / 1000 / others["share"]))
    assert max(abs(a - b) for a, b in zip(values[1:], values[:-1], strict=True)) <= steepest * 1.01
    assert schedule(warmup, warmup=warmup, **others) == pytest.approx(1.0)
    before = [v for v, p in zip(values, PLACES, strict=True) if p <= warmup]
    after = [v for v, p in zip(values, PLACES, strict=True) if p > warmup]
    assert before == sorted(before) and after == sorted(after, reverse=True)


@pytest.mark.parametrize("schedule", catalog.values(), ids=catalog)
def test_values_out_of_range_are_refused(schedule):
    bad = [((-0.1,), {}), ((1.1,), {}), ((math.nan,), {}), ((0.5,), {"warmup": 1.0}), ((0.5,), {"warmup": -0.1})]
    if "final" in inspect.signature(schedule).parameters:
        bad += [((0.5,), {"final": -0.1}), ((0.5,), {"final": 1.5})]
    for args, kwargs in bad:
        with pytest.raises(InvalidValue, match="got"):
            schedule(*args, **kwargs)


def test_they_are_found_by_name():
    assert set(catalog) == {"constant", "cooldown", "cosine", "cyclic", "linear", "one_cycle"}
    assert names.resolve("schedule", "Cosine") is cosine


# ---- cool-down -----------------------------------------------------------------------------------------------------


def test_the_cooldown_is_one_less_the_root_of_its_share_done():
    assert {cooldown(k / 100) for k in range(80)} == {1.0}
    assert [cooldown(p, share=0.4) for p in (0.6, 0.7, 0.9, 1.0)] == pytest.approx(
        [1.0, 1 - math.sqrt(0.25), 1 - math.sqrt(0.75), 0.0], abs=1e-7
    )
    assert [cooldown(p, warmup=0.1, share=0.2, final=0.5) for p in (0.05, 0.1, 0.85, 1.0)] == pytest.approx(
        [0.5, 1.0, 0.75, 0.5]
    )
    assert cooldown(0.25, share=1.0) == 0.5 and cooldown(1.0) == 0.0
    assert cooldown(0.95, warmup=0.9, share=0.1) == pytest.approx(1 - math.sqrt(0.5)), "nothing in between"


def test_runs_of_different_lengths_share_a_trunk_up_to_the_cooldown():
    """The rate does not depend on the length of the run before the cool-down begins, which is what branches need."""
    short = [cooldown((k + 0.5) / 100) for k in range(80)]
    long = [cooldown((k + 0.5) / 400) for k in range(80)]
    assert short == long


@pytest.mark.parametrize("arguments", [{"share": 0.0}, {"share": 1.1}, {"share": math.nan}, {"warmup": 0.9}])
def test_cooldowns_out_of_range_are_refused(arguments):
    with pytest.raises(InvalidValue, match=r", got .*;"):
        cooldown(0.5, **arguments)


# ---- cycles --------------------------------------------------------------------------------------------------------


def test_cycles_end_where_the_closed_form_says():
    assert cycle_ends(3) == pytest.approx([1 / 7, 3 / 7, 1.0])
    assert cycle_ends(4, growth=1.0) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert cycle_ends(2, growth=3.0, warmup=0.2) == pytest.approx([0.4, 1.0])
    assert cycle_ends(1) == [1.0]
    # W + T (2 ** (i + 1) - 1) with W = T, in a run of 64 T: 2, 4, 8, 16, 32, 64.
    assert cycle_ends(6, warmup=1 / 64) == pytest.approx([2**k / 64 for k in range(1, 7)])


@pytest.mark.parametrize(
    ("cycles", "growth", "warmup"), [(3, 2.0, 0.125), (5, 2.0, 0.0), (4, 1.0, 0.2), (4, 1.7, 0.05)]
)
def test_the_factor_is_lowest_at_every_end_exactly_and_begins_anew_after_it(cycles, growth, warmup):
    given = {"cycles": cycles, "growth": growth, "warmup": warmup, "final": 0.1}
    ends = cycle_ends(cycles, growth=growth, warmup=warmup)
    begins = [warmup, *ends[:-1]]
    for begin, end in zip(begins, ends, strict=True):
        assert cyclic(end, **given) == pytest.approx(0.1, abs=1e-12)
        assert cyclic((begin + end) / 2, **given) == pytest.approx(0.55)
        assert cyclic(min(1.0, begin + 1e-6), **given) == pytest.approx(1.0, abs=1e-4)
    # The area under a cycle is in proportion to its length.
    for begin, end in zip(begins, ends, strict=True):
        mean = sum(cyclic(begin + (end - begin) * (k + 0.5) / 500, **given) for k in range(500)) / 500
        assert mean == pytest.approx(0.55, abs=1e-6)
    assert [cyclic(warmup * k / 4, **given) for k in range(4)] == pytest.approx(
        [k / 4 for k in range(4)] if warmup else [1] * 4
    )


def test_after_the_warmup_it_is_torchs_cosine_with_warm_restarts():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=8, T_mult=2)
    for step in range(8 + 16 + 32):
        # Torch's restarts are at the exact ends, ours after them.
        if step not in (8, 24):
            found = cyclic((8 + step) / 64, cycles=3, warmup=8 / 64)
            assert found == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        theirs.step()


def test_one_cycle_is_the_cosine():
    for warmup in (0.0, 0.3):
        assert all(
            cyclic(p, cycles=1, warmup=warmup, final=0.2) == pytest.approx(cosine(p, warmup=warmup, final=0.2))
            for p in PLACES
        )


def test_troughs_are_the_last_steps_of_whole_cycles_in_a_loop():
    """The library's loop asks for the middle of each step: 8, 8, 16 and 32 steps, whose last ones have the lowest rates."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, rates = Schedule(optimizer, lambda p: cyclic(p, cycles=3, warmup=8 / 64), 64), []
    for _ in range(64):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    lowest = [k for k in range(1, 63) if rates[k - 1] > rates[k] < rates[k + 1]]
    assert lowest == [15, 31] and rates[63] < 0.01 and rates[32] > 1.99


@pytest.mark.parametrize(
    "arguments",
    [
        {"cycles": 0},
        {"cycles": 2.0},
        {"cycles": True},
        {"growth": 0.5},
        {"growth": math.nan},
        {"growth": math.inf},
        {"warmup": 0.3},
        {"cycles": 6, "warmup": 0.1},
    ],
)
def test_cycles_out_of_range_are_refused(arguments):
    with pytest.raises(InvalidValue, match=r", got .*;"):
        cyclic(0.5, **arguments)
