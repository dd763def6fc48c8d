"""Masks and stages of N:M sparsity."""

from __future__ import annotations

import math

import pytest
import torch

from reinvest.core.errors import InvalidValue
from reinvest.methods.gradients.nm_sparsity import nm_counts, nm_mask, nm_stage, nm_stages


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 16), (5, 8), (4, 4), (1, 1)])
def test_exactly_n_of_every_m_are_kept_and_they_are_the_largest(n, m):
    torch.manual_seed(0)
    for shape in ((6, 2 * m), (6, 16 * m), (4, m, 3, 3), (2, 2 * m, 5)):
        weight = torch.randn(shape)
        mask = nm_mask(weight, n, m)
        assert mask.shape == weight.shape and bool((nm_counts(weight * mask, m) == n).all())
        # The groups lie along the inputs: at one output and one place of the filter.
        lines = weight.abs().flatten(2) if weight.ndim > 2 else weight.abs()[..., None]
        marks = mask.flatten(2) if weight.ndim > 2 else mask[..., None]
        for o in range(shape[0]):
            for i in range(0, shape[1], m):
                for place in range(lines.shape[2]):
                    size, kept = lines[o, i : i + m, place], marks[o, i : i + m, place]
                    assert n == m or size[kept].min() >= size[~kept].max()


def test_ties_keep_the_earlier_input_and_never_more_or_fewer_than_n():
    ones = torch.ones(3, 8)
    assert nm_mask(ones, 2, 4).tolist() == [[True, True, False, False] * 2] * 3
    assert nm_mask(torch.zeros(1, 4), 1, 4).tolist() == [[True, False, False, False]]
    assert nm_mask(torch.tensor([[1.0, -2.0, 2.0, -1.0]]), 3, 4).tolist() == [[True, True, True, False]]
    assert nm_mask(torch.tensor([[0.1, math.inf, 0.2, -math.inf]]), 2, 4).tolist() == [[False, True, False, True]]


def test_groups_that_do_not_fit_are_refused():
    for shape, n, m in (((4, 6), 2, 4), ((4,), 1, 2), ((4, 8), 0, 4), ((4, 8), 5, 4)):
        with pytest.raises(InvalidValue, match=r", got .*;"):
            nm_mask(torch.ones(shape), n, m)


def test_patterns_of_a_decaying_structure():
    assert nm_stages(1, 16, "structure") == [(15, 16), (8, 16), (4, 16), (2, 16), (1, 16)]
    assert nm_stages(2, 4, "structure") == [(3, 4), (2, 4)]
    assert nm_stages(1, 2, "structure") == [(1, 2)]
    assert nm_stages(2, 4, "geometric") == [(16, 32), (8, 16), (4, 8), (2, 4)]
    assert nm_stages(2, 4, "linear") == [(2, 4)]
    with pytest.raises(InvalidValue, match="power of two"):
        nm_stages(3, 8, "structure")


def test_the_decay_begins_at_one_when_sparsity_begins_and_is_zero_with_the_hard_mask():
    """The clock of the decay is that of the sparse share, not of the run."""
    for decay in ("exponential", "linear"):
        stage = {p: nm_stage(p / 100, 2, 4, decay=decay, dense=0.2, until=0.6) for p in range(101)}
        assert {stage[p].phase for p in range(20)} == {"dense"} and stage[19].factor == 1.0
        assert stage[20] == ("decay", 1.0, 2, 4)
        assert {stage[p] for p in range(60, 101)} == {("hard", 0.0, 2, 4)}
        factors = [stage[p].factor for p in range(20, 61)]
        assert factors == sorted(factors, reverse=True)
        assert stage[40].factor == pytest.approx(0.5 if decay == "linear" else math.sqrt(1e-3))
        assert stage[59].factor == pytest.approx(0.025 if decay == "linear" else 1e-3 ** (39 / 40))


def test_a_decaying_structure_has_equal_slices_that_progress_alone_decides():
    stages = [nm_stage((k + 0.5) / 100, 1, 16, decay="structure", dense=0.25, until=0.75) for k in range(100)]
    assert [sum(s.n == n and s.phase == "decay" for s in stages) for n in (15, 8, 4, 2, 1)] == [10] * 5
    assert all(s.factor == 0.0 for s in stages if s.phase != "dense")
    assert [s.phase for s in stages].count("hard") == 25
    assert nm_stage(0.1, 2, 4, decay="none", dense=0.1, until=0.9).phase == "hard"
    assert nm_stage(0.5, 2, 4, dense=0.5, until=0.5).phase == "hard", "nothing between the two"
