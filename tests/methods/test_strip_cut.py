"""StripCut."""

from __future__ import annotations

import itertools

import pytest
import torch

from reinvest.core.batch import Batch, Mix
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue, UnknownName
from reinvest.methods.augment.cutout import Cutout
from reinvest.methods.augment.strip_cut import SHARES, StripCut, strip_cut, strip_pixels, strip_share
from reinvest.testing import Setup

PICTURE = torch.arange(32.0 * 48).view(1, 1, 32, 48)
"""Every pixel tells its place."""


def context_at(step, total=1000, seed=0):
    setup = Setup()
    model = setup.model()
    chain = Methods()
    with chain.attach(model, setup.optimizer(model), duration=f"{total}st", data=[0], seed=seed):
        context = chain.context
    context.step, context.epoch = step, 0
    return context


CONTEXT = context_at(0)


def at(method, step, x=PICTURE, targets=None, mix=None, ids=None):
    CONTEXT.step = step
    return method.augment(Batch(x, targets, ids, (x, targets), mix), CONTEXT)


def test_what_is_left_is_the_original_in_order():
    for axis, dim in (("rows", 2), ("columns", 3)):
        side = PICTURE.shape[dim]
        for pixels, first in ((1, 0), (8, 3), (8, side - 8), (side - 1, 1)):
            found = strip_cut(PICTURE, first, pixels, axis)
            kept = [k for k in range(side) if not first <= k < first + pixels]
            assert torch.equal(found, PICTURE.index_select(dim, torch.tensor(kept)))
    assert strip_cut(PICTURE, 5, 0, "rows") is PICTURE
    assert strip_cut(PICTURE[0, 0], 4, 8, "rows").shape == (24, 48)


def test_a_removed_pixel_has_no_gradient():
    x = PICTURE.clone().requires_grad_()
    strip_cut(x, 8, 16, "columns").sum().backward()
    wanted = torch.ones_like(PICTURE)
    wanted[..., 8:24] = 0
    assert torch.equal(x.grad, wanted)


def test_strips_are_multiples_and_leave_something():
    assert [strip_pixels(32, p, 8) for p in (0.0, 0.1, 0.125, 0.25, 0.5, 0.99)] == [0, 0, 8, 8, 16, 24]
    assert [strip_pixels(30, p, 8) for p in (0.25, 0.99)] == [8, 24]
    assert strip_pixels(8, 0.99, 8) == 0 and strip_pixels(8, 0.99, 1) == 7
    assert strip_pixels(1, 0.9, 1) == 0


@pytest.mark.parametrize("shares", sorted(set(SHARES.values())))
def test_shares_fall_in_steps_with_half_the_first_as_mean(shares):
    found = [strip_share(k / 6000, 0.4, 0.6, shares) for k in range(6001)]
    assert found == sorted(found, reverse=True) and found[0] == 0.4
    assert all(share == 0 for share in found[3600:])
    assert sorted(set(found)) == pytest.approx([0.4 * k / shares for k in range(shares + 1)])
    assert sum(found[:3600]) / 3600 == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("axis", ["random", "rows", "columns"])
def test_a_run_shrinks_pictures_then_makes_holes_then_leaves_them_alone(axis):
    method = StripCut(0.5, 0.6, finetune=0.1, hole=0.5, axis=axis)
    shapes = set()
    for step in range(0, 1000, 7):
        found = at(method, step, torch.ones(4, 1, 32, 48)).inputs
        shapes.add(tuple(found.shape[2:]))
        holes = float((found == 0).sum())
        strip = method.share(step / 1000)
        lost = 32 * 48 - found[0, 0].numel()
        if step < 600:
            rows, columns = strip_pixels(32, strip, 8) * 48, strip_pixels(48, strip, 8) * 32
            assert holes == 0 and lost in {"rows": [rows], "columns": [columns], "random": [rows, columns]}[axis]
        else:
            assert lost == 0 and (holes > 0) == (step < 900)
    assert len(shapes) <= 6 and (32, 48) in shapes


@pytest.mark.parametrize("ids", [None, torch.arange(400)])
def test_the_hole_is_cutouts_square_at_a_place_of_its_own(ids):
    """It once drew the very places of Cutout, so that in a chain of both the second hole lay on the first."""
    x = torch.ones(400, 3, 8, 8)
    own, other = (at(method, 700, x, ids=ids).inputs == 0 for method in (StripCut(hole=0.5), Cutout(0.5)))
    for holes in (own, other):
        sides = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
        assert torch.equal(holes[:, 0].flatten(1).sum(1), sides[0] * sides[1])
        assert {int(s) for side in sides for s in side} == {2, 3, 4}, "a side of 4, clipped at the border"
    same = (own == other).flatten(1).all(1).float().mean()
    assert float(same) < 0.1, "64 places, of which a few make the same hole"


def test_one_strip_for_the_whole_batch_with_uniform_axis_and_place():
    method = StripCut(0.25, 1.0, finetune=0.0, multiple=8)
    first_seen, axes = {"rows": [], "columns": []}, []
    x = torch.arange(32.0)[:, None] * 100 + torch.arange(32.0)
    x = torch.stack([x, x]).unsqueeze(1)
    CONTEXT.total_steps, kept = 10**9, CONTEXT.total_steps  # the first step's share throughout
    for step in range(2000):
        found = at(method, step, x).inputs
        assert torch.equal(found[0], found[1])
        axis = "rows" if found.shape[2] == 24 else "columns"
        line = found[0, 0, :, 0] // 100 if axis == "rows" else found[0, 0, 0] % 100
        gap = [k for k in range(32) if k not in line.int().tolist()]
        assert gap == list(range(gap[0], gap[0] + 8))
        first_seen[axis].append(gap[0])
        axes.append(axis)
    CONTEXT.total_steps = kept
    assert 1000 - 116 < axes.count("rows") < 1000 + 116, "99 % of fair coins are nearer to one half than 2.6 deviations"
    for places in first_seen.values():
        counts = torch.bincount(torch.tensor(places), minlength=25).float()
        assert len(counts) == 25, "every place from 0 to 24, the last one included"
        expected = len(places) / 25
        assert float(((counts - expected) ** 2 / expected).sum()) < 51.2  # chi-square, 24 degrees of freedom, 99.9 %


def test_label_maps_lose_the_same_strip():
    x = PICTURE.expand(3, 2, 32, 48).clone()
    maps = torch.arange(32 * 48).view(1, 32, 48).expand(3, 32, 48).clone()
    for step in range(40):
        batch = at(StripCut(0.5), step, x, maps, mix=Mix(maps + 1, torch.ones(3)))
        assert batch.targets.dtype == torch.int64
        assert torch.equal(batch.inputs[:, 0].long(), batch.targets)
        assert torch.equal(batch.mix.partners, batch.targets + 1), "partners' maps still lie on the picture"
    # The hole leaves label maps as they are.
    assert at(StripCut(0.5), 700, x, maps).targets is maps


def test_kinds_tell_steps_of_different_cost_apart_before_the_first_batch():
    method = StripCut(0.5, 0.6, finetune=0.1, hole=0.25)
    kinds = []
    for step in range(1000):
        CONTEXT.step = step
        kinds.append(method.kind(CONTEXT))
        if step % 50 == 0:
            shape = at(method, step, torch.ones(1, 1, 32, 32)).inputs.shape
            lost = {0.5: 16, 0.25: 8, 0.0: 0}[method.share(step / 1000)]
            assert tuple(shape[2:]) == ((32 - lost, 32) if "rows" in str(kinds[-1]) else (32, 32 - lost))
    assert set(kinds[:150]) == {"0.5 of the rows", "0.5 of the columns"}
    assert set(kinds[151:449]) == {"0.25 of the rows", "0.25 of the columns"}
    assert [k for k, _ in itertools.groupby(kinds[452:])] == [None, "hole", None]
    assert kinds[599] is None and kinds[600] == kinds[899] == "hole" and kinds[900] is None


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(InvalidValue, match="multiple of 8 pixels"):
        at(StripCut(0.25), 0, torch.ones(2, 1, 8, 8))
    with pytest.raises(InvalidValue, match="floating images"):
        at(StripCut(0.25), 0, torch.ones(2, 8))
    with pytest.raises(InvalidValue, match="size of the pictures"):
        at(StripCut(0.5), 0, torch.ones(2, 1, 32, 32), torch.zeros(2, 16, 16))
    for first, pixels in ((-1, 4), (29, 4), (0, 32), (0, -1)):
        with pytest.raises(InvalidValue, match="inside the picture"):
            strip_cut(PICTURE, first, pixels, "rows")
    with pytest.raises(UnknownName, match="columns, rows"):
        strip_cut(PICTURE, 0, 4, "random")


def test_a_chain_holds_it_once():
    """A second one would draw the very same again."""
    with pytest.raises(Conflict, match="a chain holds one StripCut"):
        Methods(StripCut(), StripCut())
