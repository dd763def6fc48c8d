"""N:M sparsity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.func import functional_call

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.methods.gradients.nm_sparsity import NMSparsity, nm_counts, nm_mask
from reinvest.methods.weights.ema import EMA
from reinvest.testing import HandLoop, MethodContract, Setup

MASKED = "body.4.weight"


# ---- training ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decayed(Setup):
    """The setup with an optimizer that decays weights."""

    adam: bool = False

    def optimizer(self, model):
        if self.adam:
            return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)


class ByAutograd(HandLoop):
    """The same training with the mask inside the graph, on dense weights that never leave the model."""

    arguments: ClassVar = {}

    def run(self):
        method = NMSparsity(**self.arguments)
        self.setup.seed_dropout()
        for epoch in range(self.setup.epochs):
            for _, x, y in self.setup.loader(epoch):
                weight = dict(self.model.named_parameters())[MASKED]
                stage = method.stage(self.step, self.setup.total_steps)
                used = weight
                if stage.phase != "dense":
                    mask = nm_mask(weight, stage.n, stage.m).double()
                    used = weight * (mask + (1 - mask) * stage.factor)
                    if method.gradient != "scaled":
                        used = weight + (used - weight).detach()
                nn.functional.cross_entropy(functional_call(self.model, {MASKED: used}, (x,)), y).backward()
                if method.gradient == "sr-ste" and stage.phase != "dense":
                    weight.grad += method.strength * (1 - mask) * weight.detach()
                self.optimizer.step()
                self.step += 1
                self.optimizer.zero_grad()
        with torch.no_grad():
            weight = dict(self.model.named_parameters())[MASKED]
            weight.mul_(nm_mask(weight, method.n, method.m))
        return self


MODES = [
    {"n": 1, "m": 2, "dense": 0.2, "until": 0.7},
    {"n": 1, "m": 2, "dense": 0.2, "until": 0.7, "decay": "linear", "gradient": "scaled"},
    {"n": 1, "m": 2, "dense": 0.0, "until": 0.0, "decay": "none", "gradient": "sr-ste", "strength": 0.05},
    {"n": 1, "m": 2, "dense": 0.0, "until": 0.9, "gradient": "scaled"},
    {"n": 1, "m": 3, "dense": 0.3, "until": 1.0},
]


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("arguments", MODES, ids=range(len(MODES)))
def test_it_is_the_mask_inside_the_graph(arguments, adam):
    """Each of the three rules is what autograd gives for its formula; the optimizer's momentum and decay act on dense weights."""
    # In double precision, and without batch norm, so that Adam does not blow rounding up.
    setup = Decayed(dropout=0.0, batch_norm=False, dtype=torch.float64, adam=adam)
    found = ChainLoop(setup, [NMSparsity(**arguments)]).run().result()
    by_graph = type("Graph", (ByAutograd,), {"arguments": arguments})(setup).run().result()
    assert distance(found["model"], by_graph["model"]) < 1e-10
    assert distance(found["optimizer"], by_graph["optimizer"]) < 1e-10
    assert set(nm_counts(found["model"][MASKED], arguments["m"]).tolist()) == {1}


def test_the_three_rules_are_three_methods():
    setup = Setup(dropout=0.0)
    base = {"n": 1, "m": 2, "dense": 0.0, "until": 0.9}
    plain, scaled = (ChainLoop(setup, [NMSparsity(**base, gradient=g)]).run().result() for g in ("ste", "scaled"))
    assert distance(plain["model"], scaled["model"]) > 1e-3
    base["decay"] = "none"
    ste = ChainLoop(setup, [NMSparsity(**base)]).run().result()
    weak, strong = (
        ChainLoop(setup, [NMSparsity(**base, gradient="sr-ste", strength=s)]).run().result() for s in (2e-4, 0.5)
    )
    off = ChainLoop(setup, [NMSparsity(**base, gradient="sr-ste", strength=0.0)]).run().result()
    assert differences(off, ste) == [], "a strength of 0 is the straight-through rule"
    assert 0 < distance(weak["optimizer"], ste["optimizer"]) < distance(strong["optimizer"], ste["optimizer"])


def test_until_sparsity_begins_it_is_the_plain_loop_and_only_the_named_layers_are_masked():
    setup = Setup(dropout=0.0)
    plain, loop = ChainLoop(setup, []), ChainLoop(setup, [NMSparsity(1, 2, dense=5 / 9, until=0.8)])
    with plain.attached(), loop.attached():
        plain.train(until=4)
        loop.train(until=4)
        assert differences(loop.result(), plain.result()) == []
        plain.train(until=5)
        loop.train(until=5)
        assert differences(loop.result(), plain.result()) == [], "a factor of 1 changes nothing"
        plain.train(until=6)
        loop.train(until=6)
        assert differences(loop.result()["model"], plain.result()["model"]) == [f"/{MASKED}"]
        loop.train()
        plain.train()
    zeros = {n for n, p in loop.model.named_parameters() if bool((p == 0).any())}
    assert zeros == {MASKED}, "no bias, no norm, not the first layer and not the head"


@pytest.mark.parametrize("stop", [1, 3, 5, 9])
def test_evaluation_and_result_use_the_hard_mask_whatever_the_stage(stop):
    method = NMSparsity(1, 2, dense=0.3, until=0.9)
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        loop.train(until=stop)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
        dense = method._dense[0].clone()
        with loop.chain.averaged():
            seen = loop.model.state_dict()[MASKED].clone()
            assert torch.equal(seen, dense * nm_mask(dense, 1, 2)) and set(nm_counts(seen, 2).tolist()) == {1}
        assert differences(dict(loop.model.state_dict()), own) == []
    assert torch.equal(loop.model.state_dict()[MASKED], seen), "what is kept is what was evaluated"


def test_masked_weights_come_back_and_are_not_lost_while_they_are_masked():
    """The dense weights live on: the mask of a run with the hard mask changes."""
    method = NMSparsity(1, 2, dense=0.0, until=0.0)
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        first = method._masks[0].clone()
        assert bool((nm_counts(loop.model.state_dict()[MASKED], 2) == 1).all()), "from the first forward pass on"
        loop.train()
        assert not torch.equal(method._masks[0], first)
        assert bool(method._dense[0].ne(0).all())


class Watched(NMSparsity):
    """The masks after every step are noted."""

    seen: ClassVar = []

    def weights(self, context):
        """Note the mask."""
        super().weights(context)
        self.seen.append(self._masks[0].clone())


def test_masks_are_taken_anew_only_when_due_and_are_part_of_the_checkpoint():
    """A mask that the checkpoint lacked would be taken anew from other weights."""

    def method(kind=NMSparsity):
        return kind(1, 2, dense=0.0, until=0.0, refresh_every=4)

    Watched.seen.clear()
    whole, masks = ChainLoop(Setup(), [method(Watched)]).run(), Watched.seen
    assert [k for k in range(2, 10) if not torch.equal(masks[k - 1], masks[k - 2])] == [4, 8]
    first, second = ChainLoop(Setup(), [method()]), ChainLoop(Setup(), [method()])
    with first.attached():
        written = first.train(until=6).save()
        fresh = nm_mask(first.chain.members[0]._dense[0], 1, 2)
        assert not torch.equal(fresh, masks[5]), "a fresh mask would be another one"
    with second.attached():
        second.load(written)
        assert torch.equal(second.chain.members[0]._masks[0], masks[5])
        second.train()
    assert differences(second.result(), whole.result()) == []


class Mode(MethodContract):
    """The contract in another mode."""

    method = NMSparsity


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 1, "m": 2, "decay": "structure", "layers": ["head", "body.4"], "dense": 0.1, "until": 0.9},
        {"n": 1, "m": 4, "decay": "structure", "layers": ["head"], "dense": 0.0, "until": 0.9, "refresh_every": 3},
        {"n": 1, "m": 1 + 1, "decay": "geometric", "layers": ["he*"], "dense": 0.0},
        {"n": 1, "m": 2, "decay": "none", "gradient": "sr-ste", "strength": 0.1},
        {"n": 1, "m": 2, "decay": "linear", "gradient": "scaled", "dense": 0.1, "until": 0.9},
    ],
    ids=range(5),
)
def test_other_modes_keep_the_contract(arguments):
    if arguments["decay"] == "geometric":
        with pytest.raises(InvalidValue, match=r"groups of 16, got 8 of them in 'head';"):
            ChainLoop(Setup(), [NMSparsity(**arguments)]).run()
        return
    contract = type("Now", (Mode,), {"example": arguments})()
    contract.test_04_resumed_in_mid_epoch_is_uninterrupted()
    contract.test_05_parts_are_the_whole_batch()
    contract.test_10_finish_leaves_nothing_behind()
    contract.test_a_specification_builds_the_same_method()


def test_under_autocast_the_forward_pass_uses_the_masked_weights():
    method = NMSparsity(1, 2, dense=0.0, until=0.0)
    loop = ChainLoop(Setup(dropout=0.0), [method])
    loop.chain.reports = False
    with loop.attached():
        for x, y in loop.chain.batches(loop.setup.loader(0)):
            with torch.autocast("cpu", torch.bfloat16):
                output = loop.model(x)
                own = {n: p.detach() for n, p in loop.model.named_parameters()}
                masked = own | {MASKED: method._dense[0] * nm_mask(method._dense[0], 1, 2)}
                assert torch.equal(functional_call(loop.model, masked, (x,)), output)
                loss = loop.chain.loss(output, y)
            loss.backward()
            loop.chain.step()
    assert set(nm_counts(loop.model.state_dict()[MASKED], 2).tolist()) == {1}


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_scaler_skips_leaves_the_masked_weights_in_the_model(fused):
    """A fused optimizer is called even for a step that it skips."""
    method = NMSparsity(1, 2, dense=0.0, until=0.0)
    loop = ChainLoop(Setup(), [method], scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
    loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.1, momentum=0.9, fused=fused)
    with loop.attached():
        loop.train(until=2)
        before, dense = loop.model.state_dict()[MASKED].clone(), method._dense[0].clone()
        for x, y in loop.chain.batches(loop.setup.loader(1)):
            loop.scaler.scale(loop.chain.loss(loop.model(x) * math.inf, y)).backward()
            assert loop.chain.step() is False
            break
        assert torch.equal(loop.model.state_dict()[MASKED], before) and torch.equal(method._dense[0], dense)
        loop.train(until=4)
        assert loop.chain.context.step == 4 and not torch.equal(method._dense[0], dense)
        assert set(nm_counts(loop.model.state_dict()[MASKED], 2).tolist()) == {1}


class Nested(torch.optim.SGD):
    """An optimizer whose step shrinks the weights and then calls that of its base class: hooks run twice."""

    def step(self, closure=None):
        with torch.no_grad():
            for parameter in (p for group in self.param_groups for p in group["params"]):
                parameter.mul_(0.9)
        return super().step(closure)


def test_an_optimizer_that_calls_its_base_class_works_on_dense_weights_all_along():
    method = NMSparsity(1, 2, dense=0.0, until=0.0)
    loop = ChainLoop(Setup(), [method])
    loop.optimizer = Nested(loop.model.parameters(), lr=0.0)
    with loop.attached():
        before = method._dense[0].clone()
        loop.train(until=1)
        assert torch.equal(method._dense[0], before * 0.9)


# ---- layers --------------------------------------------------------------------------------------------------------


class Transformer(nn.Module):
    """Embedding, two layers, a head that is tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.fc1, self.fc2, self.middle = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.norm(self.middle(self.fc2(self.fc1(self.embed(x)).relu()))))


def chosen(model, **arguments):
    method = NMSparsity(**arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = {id(p): n for n, p in model.named_parameters()}
    chain = Methods(method)
    chain.reports = False
    with chain.attach(model, optimizer, duration="4st", data=[0] * 4, seed=0):
        return [names[id(w)] for w in method._weights]


def test_layers_are_all_but_the_first_and_the_last_or_those_that_are_named():
    assert chosen(Transformer()) == ["fc2.weight", "middle.weight"]
    assert chosen(Transformer(), layers=["fc*"]) == ["fc1.weight", "fc2.weight"]
    shared = Transformer()
    shared.middle = nn.Linear(16, 8)
    shared.middle.weight = shared.fc2.weight
    assert chosen(shared, layers=["fc2", "middle"]) == ["fc2.weight"], "shared weights are masked once"


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (Transformer, {"layers": ["fc1", "attention.*"]}, "'attention.\\*', which matches none of 'fc1'"),
        (Transformer, {"layers": ["head"]}, "'head', whose weight is an embedding's too"),
        (Transformer, {"m": 3, "n": 1}, "groups of 3, got 16 of them in 'fc2'"),
        (Transformer, {"decay": "geometric"}, "groups of 32, got 16 of them in 'fc2'"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), {}, "between its first and its last, got"),
        (lambda: nn.Sequential(nn.BatchNorm1d(4)), {}, "got a model with none"),
        (lambda: nn.Sequential(*[nn.Conv2d(8, 8, 3, groups=8) for _ in range(3)]), {}, "groups of 4, got 1 of them"),
    ],
)
def test_layers_that_do_not_fit_are_refused(model, arguments, message):
    with pytest.raises(InvalidValue, match=message):
        chosen(model(), **arguments)


def test_dense_weights_of_other_layers_and_averages_of_weights_are_refused():
    first, second = ChainLoop(Setup(), [NMSparsity(1, 2)]), ChainLoop(Setup(), [NMSparsity(1, 2, layers=["head"])])
    with first.attached():
        state = first.chain.members[0].state_dict()
        first.train()
    with second.attached():
        with pytest.raises(InvalidValue, match="same model"):
            second.chain.members[0].load_state_dict(state)
        second.train()
    with pytest.raises(Conflict, match="pattern"):
        Methods(NMSparsity(), EMA())


def test_kinds_tell_dense_from_masked_steps():
    loop = ChainLoop(Setup(), [NMSparsity(1, 2, dense=1 / 3, until=0.7, refresh_every=2)])
    kinds = []
    with loop.attached():
        for step in range(9):
            kinds.append(loop.chain.members[0].kind(loop.chain.context))
            loop.train(until=step + 1)
    decay, hard = ["decay, refreshed", "decay"], ["hard, refreshed", "hard"]
    assert kinds == ["dense", "dense", *decay, *decay, *hard, hard[0]]
