"""ChannelsLast: strides of weights and batches, equal values, and everything as before at the end."""

import copy

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop, HandLoop, Setup
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.methods.augment.cutout import Cutout
from reinvest.methods.surgery.channels_last import (
    ChannelsLast,
    lay_out_pictures,
    lay_out_weights,
    restore_layout,
)

LAST = {"memory_format": torch.channels_last}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten())


def strides(model):
    return {name: p.stride() for name, p in model.named_parameters()}


def test_weights_get_the_strides_of_the_layout_and_lose_them_again():
    model = net()
    model.register_buffer("grid", torch.zeros(1, 2, 4, 4))
    before, values, own = strides(model), copy.deepcopy(model.state_dict()), list(model.parameters())
    names = lay_out_weights(model)
    assert names == ["0.weight", "grid"], "a 1 x 1 weight has the layout already"
    assert model[0].weight.stride() == (27, 1, 9, 3) and model.grid.stride() == (32, 1, 8, 2)
    assert differences(model.state_dict(), values) == []
    assert all(a is b for a, b in zip(model.parameters(), own, strict=True))
    assert lay_out_weights(model) == []
    restore_layout(model, names)
    assert strides(model) == before and model.grid.is_contiguous()


def test_pictures_get_the_strides_and_anything_else_is_left_alone():
    x = torch.randn(2, 3, 5, 4)
    laid = lay_out_pictures(x)
    assert laid.stride() == (60, 1, 12, 3) and torch.equal(laid, x)
    assert lay_out_pictures(laid).data_ptr() == laid.data_ptr(), "what has the layout is not copied"
    for other in (torch.zeros(2, 3), torch.zeros(2, 3, 4), "text", None):
        assert lay_out_pictures(other) is other


def test_outputs_are_equal_and_in_the_layout():
    plain, model = net()[:4], net()[:4]
    lay_out_weights(model)
    x = torch.randn(4, 3, 8, 8)
    found, wanted = model(lay_out_pictures(x)), plain(x)
    assert found.is_contiguous(**LAST) and not wanted.is_contiguous(**LAST)
    assert float((found - wanted).detach().abs().max()) < 1e-6
    assert model(x).is_contiguous(**LAST), "a batch that was not converted takes the layout of the weights"


@pytest.mark.parametrize("parts, nodes", [(1, None), (2, None), (1, 2), (4, 2)])
def test_every_batch_that_reaches_the_model_has_the_layout(parts, nodes):
    loop = ChainLoop(Setup(), [ChannelsLast(), Cutout(0.5)], parts=parts, nodes=nodes)
    seen = []
    handle = loop.model.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with loop.attached():
        assert loop.model.body[0].weight.is_contiguous(**LAST)
        loop.train(until=3)
    handle.remove()
    assert len(seen) == 3 * parts
    assert all(x.is_contiguous(**LAST) and not x.is_contiguous() for x in seen)


def test_moments_and_weights_are_as_before_at_the_end():
    loop = ChainLoop(Setup(), [ChannelsLast()]).run()
    plain = HandLoop(Setup()).run()
    assert strides(loop.model) == strides(plain.model)
    moments = [s["momentum_buffer"] for s in loop.optimizer.state.values()]
    assert len(moments) == len(list(loop.model.parameters())) and all(m.is_contiguous() for m in moments)


def test_a_run_is_equal_within_rounding():
    double = Setup(dtype=torch.float64)
    found = ChainLoop(double, [ChannelsLast()]).run().result()
    assert distance(found, HandLoop(double).run().result()) < 1e-12


def test_moments_have_the_layout_while_it_trains():
    loop = ChainLoop(Setup(), [ChannelsLast()])
    with loop.attached():
        loop.train(until=2)
        weight = loop.model.body[0].weight
        assert loop.optimizer.state[weight]["momentum_buffer"].stride() == weight.stride()


def test_the_switches_choose():
    x = torch.randn(2, 3, 8, 8)
    model = net()
    seen = []
    model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous(**LAST)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for weights, inputs in ((True, False), (False, True), (False, False)):
        with Methods(ChannelsLast(weights, inputs)).attach(model, optimizer, duration="1st", data=[0], seed=0):
            assert model[0].weight.is_contiguous(**LAST) == weights
            model(x)
            assert seen.pop() == inputs
    model(x)
    assert seen == [False] and not model._forward_pre_hooks


def test_pictures_given_by_name_and_evaluation_batches_are_laid_out_too():
    loop = ChainLoop(Setup(), [ChannelsLast()], dicts=True)
    seen = []
    loop.model.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous(**LAST)))
    with loop.attached():
        loop.model.eval()(pixel_values=torch.randn(2, 3, 8, 8))
    assert seen == [True]


def test_the_report_names_the_weights_until_the_end():
    method = ChannelsLast()
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        assert method.report() == {
            "replaced": dict.fromkeys(["body.0.weight", "body.4.weight"], "contiguous -> channels_last")
        }
    assert method.report() == {"replaced": {}}


def test_a_model_that_has_the_layout_keeps_it():
    model = net().to(**LAST)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Methods(ChannelsLast(inputs=False)).attach(model, optimizer, duration="1st", data=[0], seed=0):
        pass
    assert model[0].weight.is_contiguous(**LAST)


def test_a_model_without_such_weights_is_named():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(NoEffectWarning, match="no 4-dimensional weight, so ChannelsLast had no effect"),
        Methods(ChannelsLast()).attach(model, optimizer, duration="1st", data=[0], seed=0),
    ):
        pass
    with pytest.raises(InvalidValue, match="inputs is True or False, got 1"):
        ChannelsLast(inputs=1)


def test_half_precision_under_autocast():
    loop = ChainLoop(Setup(), [ChannelsLast()])
    with loop.attached(), torch.autocast("cpu", torch.bfloat16):
        loop.train()
    assert all(bool(torch.isfinite(p).all()) for p in loop.model.parameters())
