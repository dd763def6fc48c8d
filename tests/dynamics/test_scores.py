"""Scores of examples: closed forms, both ends, counts made by hand, agreement with scipy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from reinvest.core.errors import InvalidValue
from reinvest.dynamics import scores

NAN = math.nan


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def same(found: Tensor, *expected: float) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), equal_nan=True)


# ---- means over epochs -------------------------------------------------------------------------------------------------


def test_mean_loss_is_over_the_epochs_that_saw_the_example() -> None:
    loss = torch.tensor([[1.0, NAN, NAN, 2.0], [3.0, 5.0, NAN, math.inf]])
    same(scores.mean_loss(loss), 2.0, 5.0, NAN, 2.0)
    same(scores.last_loss(loss), 3.0, 5.0, NAN, 2.0)


def test_mean_loss_adds_in_double_precision() -> None:
    loss = torch.full((4096, 1), 1e-4)
    loss[0] = 1e4
    assert float(scores.mean_loss(loss)) == pytest.approx((1e4 + 4095e-4) / 4096, rel=1e-6)


def test_area_under_the_margin_keeps_its_sign() -> None:
    same(scores.area_under_margin(torch.tensor([[-1.0, 2.0], [-3.0, NAN]])), -2.0, 2.0)


# ---- forgetting and learning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "events", "first", "for_good"),
    [
        ((1, 1, 1), 0, 0, 0),
        ((0, 1, 0), 1, 1, math.inf),
        ((1, 0, 1, 0, 1), 2, 0, 4),
        ((0, 0, 0), math.inf, math.inf, math.inf),
        ((1, NAN, 0, 1), 1, 0, 3),
        ((NAN, 1, NAN), 0, 1, 1),
        ((NAN, NAN), NAN, NAN, NAN),
        ((0.4, 0.6), 0, 1, 1),
    ],
)
def test_counts_by_hand(seen: tuple[float, ...], events: float, first: float, for_good: float) -> None:
    table = column(*seen)
    same(scores.forgetting_events(table), events)
    same(scores.first_learned(table), first)
    same(scores.first_learned(table, for_good=True), for_good)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=1, max_size=12))
def test_forgetting_is_a_count_of_steps_down_between_sightings(history: list[float]) -> None:
    met = [v for v in history if not math.isnan(v)]
    expected = sum(a == 1 and b == 0 for a, b in itertools.pairwise(met))
    found = float(scores.forgetting_events(column(*history)))
    if not met:
        assert math.isnan(found)
    elif 1.0 not in met:
        assert found == math.inf
    else:
        assert found == expected


def test_values_that_are_no_correctness_are_refused() -> None:
    with pytest.raises(InvalidValue, match="from 0 to 1 and NaN where not seen, got 0 to 3"):
        scores.forgetting_events(torch.tensor([[0.0, 3.0]]))


# ---- EL2N --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_closed_forms_of_el2n(classes: int) -> None:
    right, wrong = torch.eye(classes)[:1], torch.eye(classes)[1:2]
    label = torch.tensor([0])
    same(scores.el2n(right, label), 0.0)
    same(scores.el2n(wrong, label), math.sqrt(2.0))
    same(scores.el2n(torch.full((1, classes), 1.0 / classes), label), math.sqrt((classes - 1) / classes))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_el2n_is_between_its_ends_and_the_mean_over_runs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = (4 * torch.randn(3, 7, 5, generator=generator)).softmax(-1)
    y = torch.randint(0, 5, (7,), generator=generator)
    found = scores.el2n(p, y)
    assert bool(((found >= 0) & (found <= math.sqrt(2) + 1e-6)).all())
    torch.testing.assert_close(found, torch.stack([scores.el2n(q, y) for q in p]).mean(0))
    onehot = torch.nn.functional.one_hot(y, 5)
    torch.testing.assert_close(found, (p - onehot).norm(dim=-1).mean(0))


def test_el2n_refuses_what_is_no_probability() -> None:
    y = torch.tensor([0, 1])
    with pytest.raises(InvalidValue, match="sums to 1"):
        scores.el2n(torch.ones(2, 3), y)
    with pytest.raises(InvalidValue, match=r"labels are from 0 to 2, got 0 to 3"):
        scores.el2n(torch.full((2, 3), 1 / 3), torch.tensor([0, 3]))
    with pytest.raises(InvalidValue, match=r"labels are int64 \[2\]"):
        scores.el2n(torch.full((2, 3), 1 / 3), torch.tensor([0]))


# ---- two models --------------------------------------------------------------------------------------------------------


def test_reducible_loss_is_what_the_other_model_does_not_have() -> None:
    same(scores.reducible_loss(torch.tensor([3.0, 3.0, 0.1]), torch.tensor([0.5, 3.0, 0.1])), 2.5, 0.0, 0.0)
    with pytest.raises(InvalidValue, match="the same examples"):
        scores.reducible_loss(torch.ones(2), torch.ones(3))


def test_memorization_by_hand() -> None:
    correct = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 1]])
    included = torch.tensor([[1, 1, 1], [1, 1, 1], [0, 0, 1], [0, 0, 1]])
    same(scores.memorization(correct, included), 0.0, 1.0, NAN)


# ---- agreement ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_agreement_is_spearmans(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(0, 6, (40,), generator=generator).float(), torch.randn(40, generator=generator)
    assert float(scores.agreement([a, b])[0, 1]) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_the_ends_of_agreement() -> None:
    up = torch.arange(5.0)
    table = scores.agreement([up, up.exp(), -up, torch.full((5,), 2.0)])
    assert table[0, 1] == pytest.approx(1.0) and table[0, 2] == pytest.approx(-1.0)
    assert math.isnan(table[0, 3])


def test_agreement_is_over_what_both_know() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0, NAN]), torch.tensor([1.0, 2.0, 3.0, -9.0])
    assert scores.agreement([a, b])[0, 1] == pytest.approx(1.0)


def test_averages_of_numbers_and_of_ranks() -> None:
    a, b = torch.tensor([1.0, 3.0, NAN]), torch.tensor([100.0, 300.0, 200.0])
    same(scores.average([a, b]), 50.5, 151.5, 200.0)
    same(scores.average([a, b], ranks=True), (0.25 + 1 / 6) / 2, (0.75 + 5 / 6) / 2, 0.5)
    with pytest.raises(InvalidValue, match="all of the same N"):
        scores.average([])


@pytest.mark.parametrize("bad", [torch.ones(3), torch.ones(0, 3), [1.0], None])
def test_tables_of_another_shape_are_refused(bad: object) -> None:
    with pytest.raises(InvalidValue, match=r"a table \[E, N\], an epoch a row, got"):
        scores.mean_loss(bad)  # type: ignore[arg-type]
