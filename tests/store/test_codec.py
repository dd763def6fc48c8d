from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reinvest.core.errors import InvalidValue
from reinvest.store.codec import (
    KEPT_MASS,
    bytes_of_row,
    checked_ids,
    choose_top,
    decode,
    decode_rows,
    encode,
    index_type,
    spread,
    squeeze,
)

STEP = 12 / 255


def random_logits(rows: int, classes: int, scale: float, seed: int = 0) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * scale


def kept_by(logits: Tensor, top: int) -> np.ndarray:
    """Mass of the largest `top` classes of each row, in float64."""
    p = logits.double().softmax(1).numpy()
    return np.sort(p, 1)[:, ::-1][:, :top].sum(1)


def test_codes_cover_minus_twelve_to_zero() -> None:
    values = torch.tensor([0.0, -6.0, -12.0, -50.0, -math.inf])
    assert encode(values).tolist() == [0, 128, 255, 255, 255]
    assert torch.allclose(decode(encode(values)), values.clamp(min=-12), atol=12 / 510 + 1e-6)


def test_full_rows_come_back_to_half_a_code_and_sum_to_one() -> None:
    rows = random_logits(500, 40, 1.5).log_softmax(1)
    assert rows.min() > -12
    assert (decode(encode(rows)) - rows).abs().max() <= STEP / 2 + 1e-5
    again = decode_rows(encode(rows))
    # Normalising moves a whole row by the log of its decoded sum, itself at most half a code.
    assert (again - rows).abs().max() <= STEP + 1e-5
    moved = decode(encode(rows)).logsumexp(1, keepdim=True)
    assert moved.abs().max() <= STEP / 2 + 1e-5
    assert torch.allclose(again, decode(encode(rows)) - moved, atol=1e-5)
    assert torch.allclose(again.exp().sum(1), torch.ones(500), atol=1e-5)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99])
def test_equal_rows_keep_the_smallest_number_of_classes(ratio: float) -> None:
    logits = (torch.arange(3000) * math.log(ratio)).repeat(7, 1)
    top = choose_top(logits)
    # A geometric row: the first k classes hold 1 - ratio^k of the mass.
    assert top == math.ceil(math.log(1 - KEPT_MASS) / math.log(ratio))


def test_the_number_of_classes_is_the_smallest_that_surely_keeps_the_mass() -> None:
    logits = random_logits(400, 2000, 4.0)
    top = choose_top(logits)
    assert top is not None

    def surely(k: int) -> float:
        kept = kept_by(logits, k)
        return float(kept.mean() - 2 * kept.std(ddof=1) / math.sqrt(len(kept)))

    assert surely(top) >= KEPT_MASS > surely(top - 1)
    assert kept_by(logits, top).mean() >= KEPT_MASS


def test_rows_that_are_not_finite_have_no_say_and_classes_ruled_out_are_allowed() -> None:
    logits = (torch.arange(3000) * math.log(0.5)).repeat(7, 1)
    wanted = choose_top(logits)
    broken = torch.cat([logits, torch.full((1, 3000), math.nan), torch.full((1, 3000), math.inf)])
    assert choose_top(broken) == wanted
    logits[:, 2000:] = -math.inf
    assert choose_top(logits) == wanted


def test_full_rows_are_kept_where_sparse_ones_are_not_smaller() -> None:
    assert choose_top(torch.zeros(5, 2000)) is None  # flat: 98 % of the classes
    assert choose_top(torch.tensor([[9.0, 0.0, 0.0]])) is None  # 1 class costs 4 bytes, all three cost 3
    assert choose_top(torch.tensor([[9.0, 0.0, 0.0, 0.0, 0.0]])) == 1
    assert choose_top(torch.full((2, 9), math.nan)) is None
    for classes in (200, 2000, 70_000):
        # The largest sparse row is smaller than a full one, and one more class would not be.
        index = {200: 1, 2000: 2, 70_000: 4}[classes]
        most = (classes - 3) // (1 + index)
        assert bytes_of_row(classes, most) < classes <= bytes_of_row(classes, most + 1)


def test_sparse_rows_sum_to_one_and_spread_the_rest_evenly() -> None:
    logits = random_logits(300, 1500, 3.0)
    exact = logits.double().log_softmax(1)
    index, codes, rest = squeeze(logits, 60)
    rows = spread(index, codes, rest, 1500)
    assert rows.dtype == torch.float32 and rows.shape == (300, 1500)
    assert torch.allclose(rows.double().exp().sum(1), torch.ones(300, dtype=torch.float64), atol=1e-5)
    mask = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, index.long(), True)
    assert torch.equal(index.long(), logits.topk(60).indices)
    # The mass of all others is right to half precision, and every one of them has the same share of it.
    left = exact.exp().masked_fill(mask, 0).sum(1)
    others = rows.masked_fill(mask, -math.inf)
    for row in range(300):
        assert len(rows[row][~mask[row]].unique()) == 1
    assert torch.allclose(others.double().exp().sum(1), left, rtol=2**-10)
    # What is kept is right to half a code, and to the shift that makes it sum to 1 - rest.
    assert (rows - exact)[mask].abs().max() <= STEP + 2e-3


def test_rows_at_both_ends_stay_finite() -> None:
    sure, flat = torch.zeros(1, 2000), torch.zeros(1, 2000)
    sure[0, 7] = 100.0
    for logits in (sure, flat):
        index, codes, rest = squeeze(logits, 3)
        rows = spread(index, codes, rest, 2000)
        assert rows.isfinite().all()
        assert abs(float(rows.double().exp().sum()) - 1) < 1e-5
    assert spread(*squeeze(sure, 3), 2000)[0, 7] > -1e-4
    assert abs(float(spread(*squeeze(flat, 3), 2000)[0, 1999]) + math.log(2000)) < 1e-2


def test_rows_that_are_not_finite_are_marked() -> None:
    logits = torch.zeros(4, 2000)
    logits[0, 3], logits[1, 3], logits[2, 3], logits[3] = math.nan, math.inf, -math.inf, -math.inf
    assert squeeze(logits, 5)[2].isnan().tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("classes", "kind"),
    [(256, torch.uint8), (257, torch.uint16), (65_536, torch.uint16), (65_537, torch.int32)],
)
def test_class_numbers_take_the_smallest_type(classes: int, kind: torch.dtype) -> None:
    assert index_type(classes) == kind
    logits = torch.zeros(2, classes)
    logits[0, classes - 1], logits[1, 0] = 20.0, 20.0
    index, codes, rest = squeeze(logits, 1)
    assert index.dtype == kind and index.long().tolist() == [[classes - 1], [0]]
    assert spread(index, codes, rest, classes).argmax(1).tolist() == [classes - 1, 0]


@pytest.mark.parametrize("ids", [[0.5], [True], [[0]], [4], [-1], torch.tensor([1.0])])
def test_ids_that_are_no_ids_are_refused(ids: object) -> None:
    with pytest.raises(InvalidValue, match="example ids"):
        checked_ids(ids, 4)


def test_ids_may_come_in_any_form() -> None:
    for ids in ([3, 0, 3], np.array([3, 0, 3], dtype=np.uint8), torch.tensor([3, 0, 3], dtype=torch.int32)):
        assert checked_ids(ids, 4).tolist() == [3, 0, 3]
    assert checked_ids([], 4).shape == (0,)
