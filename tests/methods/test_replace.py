"""Surgery's tools: what is replaced, what is shared, and an optimizer that keeps up with the model."""

import pytest
import torch
from torch import nn

from reinvest.core.chain import NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.methods.surgery._replace import mend_optimizer, replace_modules, warn_of_nothing


class Wide(nn.Linear):
    pass


def widen(name, module):
    return Wide(module.in_features, module.out_features) if type(module) is nn.Linear else None


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), nn.Linear(3, 1))


def test_every_match_is_replaced_and_reported_in_order():
    model = net()
    assert replace_modules(model, widen) == {
        "0": "Linear -> Wide",
        "2.0": "Linear -> Wide",
        "3": "Linear -> Wide",
    }
    assert [type(m).__name__ for m in (model[0], model[2][0], model[3])] == ["Wide"] * 3
    assert replace_modules(model, widen) == {}


def test_what_was_put_in_is_not_looked_into():
    calls = []

    def wrap(name, module):
        calls.append(name)
        return nn.Sequential(nn.Linear(2, 3)) if type(module) is nn.Linear else None

    model = nn.Sequential(nn.Linear(2, 3))
    replace_modules(model, wrap)
    assert calls == ["", "0"]


def test_a_shared_module_is_shared_again():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert list(replace_modules(model, widen)) == ["0", "2"]
    assert model[0] is model[2]


def test_the_new_module_has_the_old_mode_device_and_dtype():
    model = nn.Sequential(nn.Linear(2, 3, dtype=torch.float64)).eval()
    replace_modules(model, widen)
    assert not model[0].training
    assert model[0].weight.dtype == torch.float64


def test_the_model_itself_is_refused():
    with pytest.raises(InvalidValue, match="got a model that is itself a Linear; wrap it"):
        replace_modules(nn.Linear(2, 2), widen)


def test_hooks_are_refused_not_lost():
    model = net()
    model[3].register_forward_hook(lambda *a: None)
    with pytest.raises(InvalidValue, match="got hooks on '3'"):
        replace_modules(model, widen)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_optimizer_holds_exactly_the_parameters_of_the_model(groups):
    model = net()
    rest = [p for n, p in model.named_parameters() if not n.startswith("3")]
    head = list(model[3].parameters())
    optimizer = torch.optim.SGD(
        [{"params": rest}, {"params": head, "lr": 0.5}] if groups == 2 else rest + head, lr=0.1, momentum=0.9
    )
    model(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    before = dict(model.named_parameters())
    kept = model[2][1].weight
    replace_modules(model, widen)
    mend_optimizer(optimizer, before, model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert len(held) == len(set(map(id, held)))
    assert all(any(p is q for q in held) for p in optimizer.state)
    assert kept in optimizer.state
    if groups == 2:
        assert {id(p) for p in optimizer.param_groups[1]["params"]} == {id(p) for p in model[3].parameters()}
    optimizer.zero_grad()
    was = model[0].weight.detach().clone()
    model(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(was, model[0].weight)


def test_parameters_that_the_optimizer_did_not_hold_stay_out_of_it():
    model = net()
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.1)
    before = dict(model.named_parameters())
    mend_optimizer(optimizer, before, model)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model[3].parameters()]


def test_what_replaces_a_parameter_that_was_not_held_stays_out_too():
    model = net()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    before = dict(model.named_parameters())
    replace_modules(model, lambda name, m: widen(name, m) if name == "3" else None)
    mend_optimizer(optimizer, before, model)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model[0].parameters()]


def test_a_new_parameter_beside_old_ones_joins_the_group_of_its_neighbours():
    model = net()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": [*model[2].parameters(), *model[3].parameters()]}], lr=0.1
    )
    before = dict(model.named_parameters())
    model[0].register_parameter("gain", nn.Parameter(torch.ones(1)))
    mend_optimizer(optimizer, before, model)
    assert any(p is model[0].gain for p in optimizer.param_groups[0]["params"])


def test_a_new_module_joins_the_last_group_where_nothing_is_near():
    model = net()
    optimizer = torch.optim.SGD([{"params": model[0].parameters()}, {"params": model[3].parameters()}], lr=0.1)
    before = dict(model.named_parameters())
    model.add_module("extra", nn.Linear(1, 1))
    mend_optimizer(optimizer, before, model)
    assert sum(p is q for p in model.extra.parameters() for q in optimizer.param_groups[1]["params"]) == 2


def test_nothing_found_is_said():
    with pytest.warns(NoEffectWarning, match="the model has no widget, so Widgets had no effect"):
        warn_of_nothing("Widgets", "widget")
