"""The operations of RandAugment and AugMix, against Pillow's on bytes and against their definitions."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from torch import Tensor

from reinvest.core.errors import InvalidValue
from reinvest.core.streams import stream
from reinvest.methods.augment._operations import GEOMETRIC, OPERATIONS, check_range, move_pixels, operate

STRENGTHS = (-1.0, -0.6, -0.3, 0.3, 0.5, 0.9, 1.0)


def pictures(count=4, channels=3, side=32):
    """Random bytes with some structure, as floats in 0..1."""
    noise = stream(3, "pictures", 0).integers(256, count * channels * side * side).view(count, channels, side, side)
    ramp = torch.arange(side).view(1, 1, 1, side) * 255 // (side - 1)
    found = (noise // 3 + ramp // 2 + 20 * torch.arange(count).view(-1, 1, 1, 1)).clamp(0, 255)
    return found.float() / 255.0


def all_of(count, value):
    return torch.full((count,), float(value))


def through_pillow(u: Tensor, change) -> Tensor:
    image = pytest.importorskip("PIL.Image")
    found = []
    for picture in u:
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        found.append(torch.from_numpy(numpy.array(change(image.fromarray(pixels)))).permute(2, 0, 1))
    return torch.stack(found).float() / 255.0


def test_equalize_posterize_and_solarize_are_pillows():
    ops = pytest.importorskip("PIL.ImageOps")
    u = pictures()
    found = OPERATIONS["equalize"](u, all_of(4, 0))
    assert torch.equal((found * 255).round(), (through_pillow(u, ops.equalize) * 255).round())
    for bits in (4, 5, 6, 7):
        found = OPERATIONS["posterize"](u, all_of(4, -(8 - bits) / 4))
        assert torch.equal(
            (found * 255).round(), (through_pillow(u, lambda p, b=bits: ops.posterize(p, b)) * 255).round()
        )
    for threshold in (0, 64, 128, 200):
        found = OPERATIONS["solarize"](u, all_of(4, 1 - (threshold - 0.5) / 255))
        wanted = through_pillow(u, lambda p, t=threshold: ops.solarize(p, t))
        assert torch.equal((found * 255).round(), (wanted * 255).round())


@pytest.mark.parametrize("strength", [-1.0, 1.0])
def test_full_strength_inverts_everything_black_too(strength):
    u = torch.tensor([0.0, 1 / 255, 0.5, 1.0]).view(1, 1, 2, 2)
    assert torch.equal(OPERATIONS["solarize"](u, all_of(1, strength)), 1.0 - u)
    low, high = torch.tensor([-0.5]), torch.tensor([1.5])
    x = u * (high - low) + low
    found = operate(x, ("solarize",), torch.zeros(1), all_of(1, strength), low, high)
    assert torch.allclose(found, low + high - x, atol=1e-6)


def test_auto_contrast_and_enhancements_are_pillows_up_to_its_rounding():
    ops, enhance = pytest.importorskip("PIL.ImageOps"), pytest.importorskip("PIL.ImageEnhance")
    u = pictures()
    gap = (OPERATIONS["auto_contrast"](u, all_of(4, 0)) - through_pillow(u, ops.autocontrast)).abs().max()
    assert float(gap) < 1.01 / 255
    for name in ("color", "contrast", "brightness", "sharpness"):
        for strength in STRENGTHS:
            factor = 1 + 0.9 * strength
            wanted = through_pillow(u, lambda p, n=name, f=factor: getattr(enhance, n.capitalize())(p).enhance(f))
            gap = (OPERATIONS[name](u, all_of(4, strength)) - wanted).abs().max()
            assert float(gap) < 2.0 / 255, (name, strength)


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("auto_contrast", "equalize")])
def test_strength_zero_changes_nothing(name):
    """In public code a magnitude of 0 keeps no bit, inverts everything and takes a factor of 0.1."""
    u = pictures()
    u[0, :, 0, 0] = 1.0
    assert torch.allclose(OPERATIONS[name](u, all_of(4, 0)), u, atol=1e-7)


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("identity", "auto_contrast", "equalize")])
def test_a_larger_strength_changes_more(name):
    smooth = (torch.arange(40.0)[:, None] + 0.5 * torch.arange(40.0)).expand(1, 3, 40, 40) / 78.0
    smooth = smooth * torch.tensor([1.0, 0.8, 0.6]).view(1, 3, 1, 1)
    if name == "sharpness":
        smooth = pictures(1, side=40)
    for sign in (1, -1):
        changes = [
            float((OPERATIONS[name](smooth, all_of(1, sign * s)) - smooth).abs().mean()) for s in (0.13, 0.3, 0.6, 1.0)
        ]
        assert changes == sorted(changes) and changes[1] > 0, (name, changes)


def test_values_stay_in_range_and_rows_do_not_meet():
    u = pictures(6)
    for name, operation in OPERATIONS.items():
        for strength in STRENGTHS:
            found = operation(u, all_of(6, strength))
            assert found.shape == u.shape and float(found.min()) >= 0 and float(found.max()) <= 1.0
            alone = torch.cat([operation(u[k : k + 1], all_of(1, strength)) for k in range(6)])
            assert torch.equal(found, alone), name


def test_constant_pictures_and_single_pixels_survive():
    for u in (torch.full((2, 3, 8, 8), 0.25), torch.full((2, 1, 1, 1), 0.5), torch.zeros(1, 4, 2, 5)):
        for name, operation in OPERATIONS.items():
            found = operation(u, all_of(len(u), 0.5))
            assert bool(found.isfinite().all()), name
            if name in ("auto_contrast", "equalize", "color", "contrast", "sharpness"):
                assert torch.allclose(found, u), name


def test_quarter_turns_and_whole_shifts_are_exact():
    u, zero, one = pictures(2, side=9), torch.zeros(2), torch.ones(2)
    assert torch.equal(move_pixels(u, (one, zero, zero, one), (zero, zero)), u)
    angle = torch.full((2,), math.pi / 2)
    turn = (torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle))
    assert torch.equal(move_pixels(u, turn, (zero, zero)), torch.rot90(u, 1, (2, 3)))
    moved = move_pixels(u, (one, zero, zero, one), (2 * one, -3 * one))
    assert torch.equal(moved[:, :, 3:, :-2], u[:, :, :-3, 2:])
    assert bool((moved[:, :, :3] == 0.5).all()) and bool((moved[..., -2:] == 0.5).all())


def test_geometric_ranges():
    u = torch.zeros(1, 1, 41, 41)
    u[..., 20] = 1.0  # a line through the middle
    line = OPERATIONS["rotate"](u, all_of(1, 1.0))[0, 0]
    rows, columns = (line == 1).nonzero().T - 20
    slope = float((rows * columns).sum() / (rows * rows).sum())
    assert abs(abs(math.degrees(math.atan(slope))) - 30) < 1
    line = OPERATIONS["shear_x"](u, all_of(1, 1.0))[0, 0]
    rows, columns = (line == 1).nonzero().T - 20
    assert abs(float((rows * columns).sum() / (rows * rows).sum())) == pytest.approx(0.3, abs=0.01)
    wide = torch.arange(100.0).view(1, 1, 1, 100).expand(1, 1, 20, 100) / 100
    assert torch.equal(OPERATIONS["translate_x"](wide, all_of(1, -1.0))[..., 45:], wide[..., :55])
    assert torch.equal(OPERATIONS["translate_y"](wide.mT, all_of(1, 1.0))[..., :55, :], wide.mT[..., 45:, :])


def test_grouped_and_masked_agree_and_identity_rows_keep_their_bits():
    x = pictures(28) * 3 - 1
    names = tuple(OPERATIONS)
    choices = torch.arange(28) % 14
    strengths = torch.linspace(-1, 1, 28)
    low, high = torch.tensor([-1.0, -1.1, -1.2]), torch.tensor([2.0, 2.1, 2.2])
    kept = x.clone()
    grouped = operate(x, names, choices, strengths, low, high)
    assert torch.equal(grouped, operate(x, names, choices, strengths, low, high, grouped=False))
    assert torch.equal(grouped[choices == 0], x[choices == 0]) and torch.equal(x, kept)
    for number, name in enumerate(names):
        rows = choices == number
        edges, span = low.view(1, 3, 1, 1), (high - low).view(1, 3, 1, 1)
        unit = ((x[rows] - edges) / span).clamp(0, 1)
        wanted = OPERATIONS[name](unit, strengths[rows]) * span + edges
        assert torch.allclose(grouped[rows], wanted, atol=1e-6), name


def test_half_precision_stays_half():
    x = pictures(14).half()
    found = operate(x, tuple(OPERATIONS), torch.arange(14), torch.ones(14), torch.zeros(1), torch.ones(1))
    assert found.dtype == torch.float16 and bool(found.isfinite().all())


def test_ranges_are_numbers_or_one_a_channel():
    assert check_range(None) is None
    assert check_range([0, 1]) == ((0.0,), (1.0,))
    assert check_range([[-1, -2, -3], [1, 2, 3]]) == ((-1.0, -2.0, -3.0), (1.0, 2.0, 3.0))
    assert check_range((0, [1, 2])) == ((0.0, 0.0), (1.0, 2.0))
    for wrong in ([0, math.inf], [math.nan, 1], [[], []], "01", [0, 0], [0, 1, 2], [[0, 1, 2], [3, 4]]):
        with pytest.raises(InvalidValue, match="value_range is"):
            check_range(wrong)
    with pytest.raises(InvalidValue, match="one a channel"):
        operate(pictures(), tuple(OPERATIONS), torch.zeros(4), torch.zeros(4), torch.zeros(2), torch.ones(2))


def test_the_geometric_ones_are_those_that_move_pixels():
    spots = torch.zeros(1, 1, 12, 12)
    spots[..., 2, 3] = 1.0
    moving = {
        name for name, operation in OPERATIONS.items() if float(operation(spots, all_of(1, 0.8))[0, 0, 2, 3]) == 0.0
    }
    assert set(GEOMETRIC) <= moving and moving - set(GEOMETRIC) <= {"solarize"}
