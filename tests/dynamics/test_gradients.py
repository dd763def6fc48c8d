"""GraNd: the closed form of a linear model, the gradient taken one example at a time, and a model left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest.core.errors import InvalidValue
from reinvest.dynamics.gradients import grand
from reinvest.dynamics.scores import el2n


def examples(count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 6, generator=generator), torch.randint(0, 4, (count,), generator=generator)


def test_of_a_linear_softmax_layer_it_is_el2n_times_the_length_of_the_input() -> None:
    x, y = examples()
    model = nn.Linear(6, 4, bias=False)
    expected = el2n(model(x).softmax(-1).detach(), y) * x.norm(dim=1)
    torch.testing.assert_close(grand(model, x, y), expected, rtol=1e-5, atol=1e-6)


def test_it_is_the_gradient_of_one_example_at_a_time() -> None:
    x, y = examples()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4))
    found = grand(model, x, y, chunk=4)
    model.eval()
    for i in range(len(x)):
        model.zero_grad()
        nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        length = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        torch.testing.assert_close(found[i], length, rtol=1e-4, atol=1e-6)


def test_chunks_change_nothing_and_the_model_stays() -> None:
    x, y = examples()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
    model[1].eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    torch.testing.assert_close(grand(model, x, y, chunk=1), grand(model, x, y, chunk=100))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert [m.training for m in model] == [True, False, True]
    assert all(p.grad is None for p in model.parameters())


def test_frozen_weights_do_not_count() -> None:
    x, y = examples()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4, bias=False))
    whole = grand(model, x, y)
    model[0].requires_grad_(False)
    features = model[0](x).detach()
    head = el2n(model(x).softmax(-1).detach(), y) * features.norm(dim=1)
    torch.testing.assert_close(grand(model, x, y), head, rtol=1e-4, atol=1e-6)
    assert bool((whole > head).all())


def test_no_examples_have_no_scores() -> None:
    x, y = examples()
    assert grand(nn.Linear(6, 4), x[:0], y[:0]).shape == (0,)


def test_bad_input_is_refused() -> None:
    x, y = examples()
    model = nn.Linear(6, 4)
    with pytest.raises(InvalidValue, match="one class an example"):
        grand(model, x, torch.eye(4)[y])
    with pytest.raises(InvalidValue, match="from 1 up, got 0"):
        grand(model, x, y, chunk=0)
    with pytest.raises(InvalidValue, match="unfreeze"):
        grand(model.requires_grad_(False), x, y)
