"""Layer freezing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.methods.weights.layer_freezing import LayerFreezing, frozen_layers, layers_in_order
from reinvest.testing import HandLoop, Setup

LAYERS = [["body.0.weight", "body.0.bias"], ["body.1.weight", "body.1.bias"], ["body.4.weight", "body.4.bias"]]
HEAD = ["head.weight", "head.bias"]


def needing(model):
    return [n for n, p in model.named_parameters() if p.requires_grad]


# ---- how many, and which -------------------------------------------------------------------------------------------


def test_slices_are_equal_and_the_number_grows_evenly():
    counts = [frozen_layers((k + 0.5) / 100, 20, start=0.5, share=1.0, stages=5) for k in range(100)]
    assert counts == [0] * 50 + [4] * 10 + [8] * 10 + [12] * 10 + [16] * 10 + [19] * 10
    assert frozen_layers(0.5, 20, start=0.5, share=0.5, stages=5) == 2
    assert frozen_layers(1.0, 20, start=0.5, share=0.5, stages=5) == 10
    assert frozen_layers(1.0, 20, start=1.0, share=0.5, stages=2) == 10


def test_the_last_layer_is_never_frozen_and_no_share_freezes_nothing():
    for layers in (1, 2, 7):
        assert frozen_layers(1.0, layers, start=0.0, share=1.0, stages=1) == layers - 1
        assert frozen_layers(1.0, layers, start=0.0, share=0.0) == 0


def test_layers_are_modules_with_parameters_of_their_own_and_shared_ones_belong_to_the_last():
    model = nn.Sequential(nn.Embedding(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 5))
    assert [len(layer) for layer in layers_in_order(model)] == [1, 2, 2]
    model[3].weight = model[0].weight
    assert [len(layer) for layer in layers_in_order(model)] == [2, 2], "a tied embedding is not frozen with the first"
    assert layers_in_order(model)[1][0] is model[0].weight


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1, foreach=False),
    ],
)
def test_neither_momentum_nor_decay_moves_what_is_frozen(build):
    """A frozen parameter has no gradient at all: with a gradient of zeros these optimizers would go on moving it."""
    loop = ChainLoop(Setup(), [LayerFreezing(1 / 3, share=0.8, stages=2)])
    loop.optimizer = build(loop.model.parameters())
    own = dict(loop.model.named_parameters())
    frozen = {3: LAYERS[:1], 6: LAYERS[:3]}
    with loop.attached():
        loop.train(until=3)
        assert any(k for state in loop.optimizer.state.values() for k in state), "there is momentum to move them"
        for step in range(3, 9):
            still = [n for layer in frozen[3 if step < 6 else 6] for n in layer]
            assert needing(loop.model) == [n for n in own if n not in still]
            before = {n: own[n].detach().clone() for n in own}
            loop.train(until=step + 1)
            assert all(torch.equal(own[n], before[n]) and own[n].grad is None for n in still), step
            # A bias before batch norm has no gradient to speak of.
            assert not any(torch.equal(own[n], before[n]) for n in own if n not in still and n != "body.0.bias")
    assert needing(loop.model) == list(own)


def test_a_gradient_of_zeros_would_move_them():
    """What the test above guards against."""
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.1)
    parameter.grad = torch.ones(3)
    optimizer.step()
    before = parameter.detach().clone()
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert not torch.equal(parameter, before)


def test_the_backward_pass_ends_before_the_frozen_layers():
    """The input of the first layer that learns needs no gradient, so nothing is computed further down."""
    loop = ChainLoop(Setup(), [LayerFreezing(0.0, share=0.8, stages=1)])
    seen = []
    with loop.attached():
        hook = loop.model.body[4].register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
        loop.train(until=1)
        hook.remove()
        assert needing(loop.model) == HEAD
    assert not seen[0][0].requires_grad and not seen[0][1].requires_grad


def test_what_was_frozen_before_stays_so_and_is_not_counted():
    loop = ChainLoop(Setup(), [LayerFreezing(0.0, share=0.5, stages=1)])
    loop.model.body[0].requires_grad_(False)
    left = [n for n in needing(loop.model) if n not in LAYERS[1]]
    with loop.attached():
        assert needing(loop.model) == left, "one of three layers that learn"
        loop.train()
    assert needing(loop.model) == [*LAYERS[1], *left]


def test_the_optimizer_keeps_its_groups_and_states():
    """Composition with schedules, and resuming: the layout of the optimizer's state is the plain one."""
    loop = ChainLoop(Setup(), [LayerFreezing(0.5, share=1.0)])
    plain = HandLoop(Setup()).run().optimizer.state_dict()
    with loop.attached():
        loop.train()
        state = loop.optimizer.state_dict()
    assert state["param_groups"] == plain["param_groups"] and state["state"].keys() == plain["state"].keys()


def test_norms_in_frozen_layers_go_on_collecting_statistics():
    loop = ChainLoop(Setup(), [LayerFreezing(0.0, share=1.0, stages=1)])
    with loop.attached():
        loop.train(until=1)
        before = loop.model.body[1].running_mean.clone()
        loop.train(until=2)
        assert not torch.equal(loop.model.body[1].running_mean, before)


def test_kinds_tell_steps_of_different_cost_apart():
    loop = ChainLoop(Setup(), [LayerFreezing(1 / 3, share=1.0, stages=3)])
    kinds = []
    with loop.attached():
        for step in range(9):
            kinds.append(loop.chain.members[0].kind(loop.chain.context))
            loop.train(until=step + 1)
        strata = {row["kind"] for row in loop.chain.clock["strata"]}
    assert kinds == [None] * 3 + ["1 frozen"] * 2 + ["2 frozen"] * 2 + ["3 frozen"] * 2
    assert len(strata) >= 3


def test_a_resumed_run_freezes_before_its_first_step():
    first, second = (ChainLoop(Setup(), [LayerFreezing(1 / 3, share=0.8, stages=2)]) for _ in range(2))
    with first.attached():
        written = first.train(until=7).save()
        wanted = needing(first.model)
    assert wanted == HEAD
    with second.attached():
        assert needing(second.model) != wanted
        second.load(written)
        assert needing(second.model) == wanted
        second.train()
    small = nn.Linear(2, 2)
    chain = Methods(LayerFreezing())
    chain.reports = False
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with chain.attach(small, optimizer, duration="4st", data=[0] * 4, seed=0):
        with pytest.raises(InvalidValue, match="got 3;"):
            chain.members[0].load_state_dict({"frozen": 3})
        assert needing(small) == ["weight", "bias"]


def test_a_loop_that_breaks_leaves_everything_learning():
    loop = ChainLoop(Setup(), [LayerFreezing(0.0, share=1.0)])
    everything = needing(loop.model)
    with pytest.raises(KeyboardInterrupt), loop.attached():
        loop.train(until=2)
        raise KeyboardInterrupt
    assert needing(loop.model) == everything
    assert differences([p.grad is None for p in loop.model.parameters()], [True] * 8) == []
