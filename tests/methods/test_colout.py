"""ColOut."""

from __future__ import annotations

import pytest
import torch

from reinvest.core.batch import Batch, Mix
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.streams import stream
from reinvest.methods.augment.colout import ColOut, draw_lines, keep_lines, lines_kept
from reinvest.testing import Setup

PICTURE = (torch.arange(20.0)[:, None] * 100 + torch.arange(30.0)).expand(4, 3, 20, 30).clone()
"""Every pixel tells its row and column."""


def context(step=0, seed=0):
    setup = Setup()
    model = setup.model()
    chain = Methods()
    with chain.attach(model, setup.optimizer(model), duration="100st", data=[0], seed=seed):
        found = chain.context
    found.step, found.epoch = step, 0
    return found


def test_the_number_of_lines_is_rounded_down_and_rounding_errors_do_not_count():
    assert [lines_kept(32, p) for p in (0.0, 0.15, 0.5, 0.97, 0.999)] == [32, 27, 16, 1, 1]
    assert [lines_kept(100, k / 100) for k in range(100)] == list(range(100, 0, -1))
    assert lines_kept(10, 0.9) == 1, "int((1 - 0.9) * 10) would leave nothing"
    assert lines_kept(224, 0.15) == 190


def test_the_defaults_leave_seven_tenths_of_the_pixels():
    kept = lines_kept(1000, ColOut().rows) * lines_kept(1000, ColOut().columns)
    assert kept / 1e6 == pytest.approx(0.85**2)


def test_what_is_kept_is_the_original_in_order_and_the_same_in_the_whole_batch():
    found = ColOut(0.3, 0.5).augment(Batch(PICTURE, None, None, (PICTURE,)), context()).inputs
    assert found.shape == (4, 3, 14, 15)
    rows, columns = (found[0, 0, :, 0] // 100).long(), (found[0, 0, 0] % 100).long()
    assert bool((rows.diff() > 0).all()) and bool((columns.diff() > 0).all())
    assert torch.equal(found, PICTURE[:, :, rows][..., columns])
    other = ColOut(0.3, 0.5).augment(Batch(PICTURE, None, None, (PICTURE,)), context(step=1)).inputs
    assert not torch.equal(found, other)


def test_one_direction_alone():
    for method, shape in ((ColOut(0.5, 0.0), (4, 3, 10, 30)), (ColOut(0.0, 0.5), (4, 3, 20, 15))):
        assert method.augment(Batch(PICTURE, None, None, (PICTURE,)), context()).inputs.shape == shape
    assert keep_lines(PICTURE, torch.arange(20), torch.arange(30)) is PICTURE


def test_every_line_is_kept_equally_often():
    counts = torch.zeros(20)
    for step in range(4000):
        lines = draw_lines(20, 0.25, stream(1, "ColOut", 0, step))
        assert lines.shape == (15,) and len(lines.unique()) == 15
        counts[lines] += 1
    # Each count is binomial (4000, 0.75); lines are drawn without replacement, which only narrows the sum.
    assert float(((counts - 3000) ** 2 / 750).sum()) < 43.8  # chi-square, 19 degrees of freedom, 99.9 %


def test_a_dropped_pixel_has_no_gradient():
    x = PICTURE.clone().requires_grad_()
    keep_lines(x, torch.tensor([0, 3]), torch.tensor([5])).sum().backward()
    assert int(x.grad.count_nonzero()) == 4 * 3 * 2 and bool((x.grad[:, :, [0, 3], 5] == 1).all())


def test_label_maps_lose_the_same_lines():
    maps = PICTURE[:, 0].long()
    batch = Batch(PICTURE, maps, None, (PICTURE, maps), Mix(maps + 1, torch.ones(4)))
    found = ColOut(0.25, 0.4).augment(batch, context())
    assert found.targets.dtype == torch.int64 and found.targets.shape == (4, 15, 18)
    assert torch.equal(found.inputs[:, 0].long(), found.targets)
    assert torch.equal(found.mix.partners, found.targets + 1)
    assert maps.shape == (4, 20, 30), "the loader's own are left as they were"


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(InvalidValue, match="floating images"):
        ColOut().augment(Batch(PICTURE[:, 0], None, None, (PICTURE,)), context())
    with pytest.raises(InvalidValue, match="size of the pictures"):
        ColOut().augment(Batch(PICTURE, torch.zeros(4, 10, 15), None, (PICTURE,)), context())
    with pytest.raises(InvalidValue, match=r"\[B, ..., H, W\]"):
        keep_lines(torch.zeros(4, 4), torch.arange(2), torch.arange(2))


def test_a_chain_holds_it_once():
    """A second one would draw the very same again."""
    with pytest.raises(Conflict, match="a chain holds one ColOut"):
        Methods(ColOut(), ColOut())
