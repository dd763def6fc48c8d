"""Gyro dropout: fixed masks, each trained in one round, equal shares of a batch; plain dropout again at the end."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy import stats
from torch import nn

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.methods.surgery.gyro_dropout import (
    GyroDropout,
    SubnetworkDropout,
    Subnetworks,
    round_of,
    subnetwork_masks,
)
from reinvest.testing import Setup


def attach(method, model, steps=1):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    chain = Methods(method)
    chain.reports = False  # nothing is trained here
    return chain.attach(model, optimizer, duration=f"{steps}st", data=[0], seed=0)


def used(layer, rows=16, width=40):
    """The masks [rows, width] that a layer puts on a batch."""
    return layer(torch.ones(rows, width)) != 0


def test_masks_belong_to_seed_layer_and_number():
    numbers = torch.arange(6)
    masks = subnetwork_masks(1, "a", numbers, (30,), 0.5)
    assert masks.shape == (6, 30) and masks.dtype == torch.bool
    assert torch.equal(subnetwork_masks(1, "a", numbers[2:4], (30,), 0.5), masks[2:4])
    assert torch.equal(subnetwork_masks(1, "a", numbers, (50,), 0.5)[:, :30], masks), "places keep their draws"
    assert torch.equal(subnetwork_masks(1, "a", numbers, (3, 10), 0.5), masks.view(6, 3, 10))
    assert not torch.equal(subnetwork_masks(2, "a", numbers, (30,), 0.5), masks)
    assert not torch.equal(subnetwork_masks(1, "b", numbers, (30,), 0.5), masks)
    assert len({tuple(m.tolist()) for m in masks}) == 6


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_units_are_missing_at_the_rate(rate):
    missing = int((~subnetwork_masks(0, "layer", torch.arange(64), (500,), rate)).sum())
    interval = stats.binomtest(missing, 64 * 500).proportion_ci(0.99)
    assert interval.low <= rate <= interval.high


def test_rounds_fill_the_run_and_each_subnetwork_is_trained_in_one():
    for total, rounds in ((100, 16), (16, 16), (7, 3), (1000, 1), (5, 8)):
        found = [round_of(step, total, rounds) for step in range(total)]
        assert found == sorted(found) and found[0] == 0
        lengths = Counter(found)
        assert max(lengths.values()) - min(lengths.values()) <= 1
        # In a run shorter than its rounds some are left out; nothing is divided by zero.
        assert len(lengths) == min(total, rounds) and found[-1] < rounds
    assert round_of(0, 0, 4) == 0 and round_of(10, 10, 4) == 3


def test_a_run_trains_every_subnetwork_equally():
    model = nn.Sequential(nn.Dropout(0.5))
    subnetworks = Subnetworks(model, 0, 30, subnetworks=12, together=4)
    masks = subnetwork_masks(0, "0", torch.arange(12), (40,), 0.5)
    counts = Counter()
    for step in range(30):
        for row in used(model[0]):
            (number,) = (masks == row).all(1).nonzero().flatten().tolist()
            counts[step // 10, number] += 1
        subnetworks.advance(step + 1)
    # Three rounds of ten steps, four subnetworks in each, four of sixteen examples a step.
    assert counts == {(number // 4, number): 40 for number in range(12)}


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 16, 18])
def test_examples_are_shared_out_in_order_whatever_their_number(rows):
    model = nn.Sequential(nn.Dropout(0.5))
    Subnetworks(model, 0, 10, subnetworks=4, together=4)
    masks = subnetwork_masks(0, "0", torch.arange(4), (40,), 0.5)
    wanted = [row * 4 // rows for row in range(rows)]
    assert torch.equal(used(model[0], rows), masks[wanted])
    if rows >= 4:
        shares = Counter(wanted)
        assert len(shares) == 4 and max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize("shape", [(8,), (5, 8), (3, 4, 4), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_activations_of_any_shape_are_scaled_as_dropout_does(shape, dtype):
    model = nn.Sequential(nn.Dropout(0.1))
    Subnetworks(model, 0, 10, subnetworks=4, together=4)
    x = torch.randn(8, *shape, dtype=dtype, requires_grad=True)
    y = model(x)
    mask = subnetwork_masks(0, "0", torch.arange(4), shape, 0.1).repeat_interleave(2, 0)
    assert y.dtype == dtype and torch.equal(y, torch.where(mask, x * (1 / 0.9), 0.0))
    y.sum().backward()
    assert torch.equal(x.grad != 0, mask)


def test_shapes_may_change_from_call_to_call():
    model = nn.Sequential(nn.Dropout(0.5))
    Subnetworks(model, 0, 10, subnetworks=4, together=4)
    short = used(model[0], 8, 24)
    assert torch.equal(used(model[0], 8, 60)[:, :24], short) and torch.equal(used(model[0], 8, 24), short)


def test_evaluation_changes_nothing_and_rates_of_layers_stay():
    model = nn.Sequential(nn.Dropout(0.0), nn.Dropout(1.0), nn.Dropout(0.9))
    Subnetworks(model, 0, 10, subnetworks=4, together=4)
    x = torch.randn(8, 100)
    assert torch.equal(model[0](x), x) and not model[1](x).any()
    assert 0 < float((model[2](x) != 0).float().mean()) < 0.2
    model.eval()
    assert all(torch.equal(layer(x), x) for layer in model)


def test_layers_draw_apart_and_torchs_generator_rests():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    subnetworks = Subnetworks(model, 0, 10, subnetworks=4, together=4)
    state = torch.get_rng_state()
    assert not torch.equal(used(model[0]), used(model[1][0]))
    assert torch.equal(torch.get_rng_state(), state)
    assert subnetworks.replaced == dict.fromkeys(("0", "1.0"), "Dropout -> GyroDropout")


def test_only_plain_dropout_is_replaced_and_comes_back():
    class Own(nn.Dropout):
        pass

    model = nn.Sequential(nn.Dropout(0.5), Own(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5))
    model[0].register_forward_hook(lambda *_: None)
    kinds, own = [type(m) for m in model], set(vars(model[0]))
    method = GyroDropout(8, together=4)
    with attach(method, model):
        assert method.report() == {"replaced": {"0": "Dropout -> GyroDropout"}}
        assert isinstance(model[0], SubnetworkDropout) and isinstance(model[0], nn.Dropout)
        assert not model.state_dict(), "masks are made again, not saved"
    assert [type(m) for m in model] == kinds and set(vars(model[0])) == own and len(model[0]._forward_hooks) == 1
    assert method.report() == {}


# Torch hides this warning of its own where the first call breaks the graph to draw masks, but not from an error filter.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_it_is_the_same_over_rounds():
    setup, method = Setup(batch_norm=False), {"subnetworks": 36, "together": 4}
    torch._dynamo.reset()
    eager = ChainLoop(setup, [GyroDropout(**method)]).run().result()
    compiled = ChainLoop(setup, [GyroDropout(**method)], backend="aot_eager").run().result()
    torch._dynamo.reset()
    assert distance(compiled, eager) <= 1e-6
    assert differences(eager, ChainLoop(setup, []).run().result()) != []


def test_a_round_does_not_compile_again():
    torch._dynamo.reset()
    model = nn.Sequential(nn.Dropout(0.5))
    subnetworks = Subnetworks(model, 0, 40, subnetworks=160, together=4)
    compilations = []

    def count(graph, inputs):
        compilations.append(graph)
        return graph.forward

    compiled, seen = torch.compile(model, backend=count), []
    for step in range(40):
        seen.append(compiled(torch.ones(8, 30)) != 0)
        subnetworks.advance(step + 1)
        if step == 2:
            settled = len(compilations)
    torch._dynamo.reset()
    assert len(compilations) == settled
    masks = subnetwork_masks(0, "0", torch.arange(160), (30,), 0.5).repeat_interleave(2, 0)
    assert torch.equal(torch.cat(seen), masks)


def test_it_warns_without_dropout_and_refuses_odd_counts():
    with (
        pytest.warns(NoEffectWarning, match=r"no nn\.Dropout, so GyroDropout had no effect"),
        attach(GyroDropout(), nn.Sequential(nn.Linear(2, 2))),
    ):
        pass
    with attach(GyroDropout(None), nn.Sequential(nn.Linear(2, 2))):
        pass
    with pytest.raises(InvalidValue, match="multiple of"):
        Subnetworks(nn.Sequential(nn.Dropout(0.5)), 0, 10, subnetworks=10, together=4)
