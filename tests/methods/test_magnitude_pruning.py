"""Gradual magnitude pruning."""

from __future__ import annotations

import io
import itertools

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.methods.gradients.clipping import GradientClipping
from reinvest.methods.gradients.magnitude_pruning import MagnitudePruning, cubic_sparsity, prune_smallest
from reinvest.methods.gradients.sam import SAM
from reinvest.methods.weights.ema import EMA
from reinvest.testing import MethodContract, Setup

LAYERS = ("body.0.weight", "body.4.weight", "head.weight")


def zeros(model):
    return {n: int((p == 0).sum()) for n, p in model.named_parameters()}


def sizes(model):
    return {n: p.numel() for n, p in model.named_parameters() if n in LAYERS}


# ---- which weights -------------------------------------------------------------------------------------------------


def test_the_cubic():
    assert [cubic_sparsity(d, 0.8) for d in (-1.0, 0.0, 0.5, 1.0, 2.0)] == pytest.approx([0, 0, 0.7, 0.8, 0.8])
    # s_f + (s_i - s_f) (1 - t)^3 with s_i = 0
    assert all(cubic_sparsity(k / 50, 0.9) == pytest.approx(0.9 - 0.9 * (1 - k / 50) ** 3) for k in range(51))
    assert cubic_sparsity(1.0, 0.37) == 0.37


def test_exactly_so_many_are_pruned_and_they_are_the_smallest():
    """Not one more: asked for 2 of 10 it is 2."""
    torch.manual_seed(0)
    weights = [torch.randn(3, 4), torch.randn(7)]
    for count in range(20):
        masks = prune_smallest(weights, count)
        assert sum(int(m.sum()) for m in masks) == count
        flat, mask = torch.cat([w.flatten() for w in weights]).abs(), torch.cat([m.flatten() for m in masks])
        assert count in (0, 19) or flat[mask].max() <= flat[~mask].min()
    ten = torch.arange(10.0)
    assert prune_smallest([ten], 2)[0].nonzero().flatten().tolist() == [0, 1]
    assert bool(prune_smallest([ten], 10)[0].all()), "a share of one is no index out of range"


def test_ties_do_not_prune_more():
    masks = prune_smallest([torch.ones(4), -torch.ones(4)], 3)
    assert [m.tolist() for m in masks] == [[True, True, True, False], [False] * 4]


def test_what_is_pruned_stays_pruned_even_beside_live_zeros():
    weight, before = torch.tensor([0.0, 5.0, 0.0, 1.0]), torch.tensor([False, True, False, False])
    assert prune_smallest([weight], 1, [before])[0].tolist() == before.tolist()
    assert prune_smallest([weight], 2, [before])[0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("count", [-1, 5])
def test_counts_out_of_range_are_refused(count):
    with pytest.raises(InvalidValue, match=f"got count={count};"):
        prune_smallest([torch.ones(4)], count)


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_exact_count_at_each_time(scope):
    """9 steps, pruned from step 2 to step 7 at every other one, and at the end though it is off the grid."""
    method = MagnitudePruning(0.6, start=0.2, end=7 / 9, every="2st", scope=scope)
    loop, size = ChainLoop(Setup(), [method]), sizes(Setup().model())
    counts, kinds, masks = [], [], []
    with loop.attached():
        for step in range(1, 10):
            kinds.append(method.kind(loop.chain.context))
            loop.train(until=step)
            counts.append({n: k for n, k in zeros(loop.model).items() if n in LAYERS})
            masks.append([m.clone() for m in method._pruned])
    shares = [0, *(0.6 * (1 - (1 - t / 5) ** 3) for t in (0, 0, 2, 2, 4, 5, 5, 5))]
    for share, count in zip(shares, counts, strict=True):
        if scope == "layer":
            assert count == {n: round(share * size[n]) for n in LAYERS}
        else:
            assert sum(count.values()) == round(share * sum(size.values()))
    assert [k for k, kind in enumerate(kinds, start=1) if kind == "pruning"] == [2, 4, 6, 7]
    for one, two in itertools.pairwise(masks):
        assert all(bool((b | ~a).all()) for a, b in zip(one, two, strict=True)), "masks are nested"
    if scope == "global":
        assert len({round(counts[-1][n] / size[n], 2) for n in LAYERS}) > 1


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, amsgrad=True),
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    ],
)
def test_momentum_and_decay_revive_nothing(build):
    """What a step left in the momentum before a weight was pruned moves it after; so every step ends with zeros."""
    method = MagnitudePruning(0.5, start=3 / 9, end=3 / 9)
    loop = ChainLoop(Setup(), [method])
    loop.optimizer = build(loop.model.parameters())
    with loop.attached():
        loop.train(until=3)
        pruned = [m.clone() for m in method._pruned]
        for step in range(4, 10):
            loop.train(until=step)
            for name, mask in zip(LAYERS, pruned, strict=True):
                found = dict(loop.model.named_parameters())[name]
                assert torch.equal(found == 0, mask)
    assert sum(zeros(loop.model)[n] for n in LAYERS) == round(0.5 * sum(sizes(loop.model).values()))


def test_pruned_weights_count_in_no_norm():
    """The gradient that clipping sees has zeros where weights are pruned."""
    seen = []

    class Watching(GradientClipping):
        """Clipping that is watched."""

        def gradients(self, context, again):
            """Look at the gradients."""
            seen.append([dict(context.model.named_parameters())[n].grad.clone() for n in LAYERS])
            return super().gradients(context, again)

    method = MagnitudePruning(0.5, start=0.0, end=0.0)
    loop = ChainLoop(Setup(), [method, Watching(norm=0.1)])
    with loop.attached():
        masks = [m.clone() for m in method._pruned]
        loop.train()
    for gradients in seen:
        assert all(bool((g[m] == 0).all()) and bool(g[~m].any()) for g, m in zip(gradients, masks, strict=True))


def test_biases_and_norms_are_left_alone_and_layers_can_be_named():
    loop = ChainLoop(Setup(), [MagnitudePruning(0.3, start=0.0, end=0.0)]).run()
    assert {n for n, k in zeros(loop.model).items() if k} == set(LAYERS)
    loop = ChainLoop(Setup(), [MagnitudePruning(0.5, start=0.0, end=0.0, layers=["body.*"])]).run()
    assert {n for n, k in zeros(loop.model).items() if k} == set(LAYERS[:2])
    with pytest.raises(InvalidValue, match="'attention'"):
        ChainLoop(Setup(), [MagnitudePruning(0.5, layers=["attention"])]).run()


def test_a_checkpoint_holds_zeros_and_the_mask():
    """Saved between a step and the next forward pass it is right already; the mask comes back with it."""
    method = MagnitudePruning(0.5, start=0.3, end=0.9, every="1st")
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        written = torch.load(io.BytesIO(loop.train(until=6).save()), weights_only=True)
    (state,) = written["chain"]["methods"]
    for name, mask in zip(LAYERS, state["pruned"], strict=True):
        assert mask.dtype == torch.bool and bool(mask.any()) and torch.equal(written["model"][name] == 0, mask)
    other = ChainLoop(Setup(), [MagnitudePruning(0.5, layers=["head"])])
    with other.attached():
        with pytest.raises(InvalidValue, match="same model"):
            other.chain.members[0].load_state_dict(state)
        other.train()


def test_a_run_that_stops_early_keeps_the_share_it_has():
    loop = ChainLoop(Setup(), [MagnitudePruning(0.8, start=0.0, end=1.0, every="1st")])
    with loop.attached():
        loop.train(until=4)
        before = {n: t.clone() for n, t in loop.model.state_dict().items()}
    assert differences(dict(loop.model.state_dict()), before) == []
    share = cubic_sparsity(4 / 9, 0.8)
    assert sum(zeros(loop.model)[n] for n in LAYERS) == round(share * sum(sizes(loop.model).values()))


def test_it_prunes_before_the_first_step_and_in_16_bit():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    chain = Methods(MagnitudePruning(0.25, start=0.0, end=0.0))
    chain.reports = False
    with chain.attach(model, optimizer, duration="4st", data=[0] * 4, seed=0):
        assert sum(int((p == 0).sum()) for p in model.parameters() if p.ndim > 1) == 24


def test_averages_of_weights_are_refused():
    with pytest.raises(Conflict, match="bring pruned weights back"):
        Methods(EMA(), MagnitudePruning())


class ByLayer(MethodContract):
    """The contract with a share of each layer."""

    method = MagnitudePruning


def test_by_layer_keeps_the_contract():
    contract = type("Now", (ByLayer,), {"example": MagnitudePruning.example | {"scope": "layer", "every": 0.3}})()
    contract.test_04_resumed_in_mid_epoch_is_uninterrupted()
    contract.test_05_parts_are_the_whole_batch()


# ---- beside methods that look at gradients first -------------------------------------------------------------------


def pruned_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))


def test_sam_does_not_climb_on_what_is_pruned():
    model = pruned_net()
    seen = []
    model[2].register_forward_hook(
        lambda m, *_: seen.append([float((p == 0).float().mean()) for p in (model[0].weight, model[2].weight)])
    )
    data = [(torch.randn(8, 6), torch.randint(4, (8,))) for _ in range(3)]
    chain = Methods(SAM(0.5), MagnitudePruning(0.8, start=0.0, end=0.0, scope="layer"))
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):

            def closure(x=x, y=y):
                chain.loss(model(x), y).backward()

            chain.step(closure)
    assert len(seen) == 6
    for shares in seen:
        assert min(shares) > 0.79


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_pruned_counts_in_no_norm_wherever_it_is_listed(order):
    model = pruned_net()
    norms = []

    class Look(torch.optim.SGD):
        def step(self, closure=None):
            norms.append(float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()))
            super().step(closure)

    data = [(torch.randn(8, 6), torch.randint(4, (8,))) for _ in range(3)]
    methods = [GradientClipping(0.05), MagnitudePruning(0.8, start=0.0, end=0.0)][::order]
    chain = Methods(*methods)
    with chain.attach(model, Look(model.parameters(), lr=0.1), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            chain.step()
    assert norms == pytest.approx([0.05] * 3, rel=1e-4)
    assert not model[0].weight._post_accumulate_grad_hooks


def test_a_layer_that_does_not_learn_is_pruned_all_the_same():
    model = pruned_net()
    model[0].requires_grad_(False)
    data = [(torch.randn(8, 6), torch.randint(4, (8,)))]
    chain = Methods(MagnitudePruning(0.5, start=0.0, end=0.0, scope="layer"))
    with chain.attach(model, torch.optim.SGD(model[2].parameters(), lr=0.1), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            chain.step()
    assert int((model[0].weight == 0).sum()) == 96


@pytest.mark.parametrize(("start", "end", "first", "last"), [(0.07, 0.55, 7, 55), (0.29, 0.58, 29, 58)])
def test_times_are_the_steps_that_their_shares_say(start, end, first, last):
    model = pruned_net()
    method = MagnitudePruning(0.5, start=start, end=end, every="1st")
    data = [(torch.randn(8, 6), torch.randint(4, (8,)))] * 100
    chain = Methods(method)
    chain.reports = False  # nothing is trained here
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=data, seed=0):
        times = [step for step in range(101) if method.due(step)]
    assert (times[0], times[-1]) == (first, last)
