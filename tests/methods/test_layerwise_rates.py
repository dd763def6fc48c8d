"""Layer-wise learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import NoEffectWarning
from reinvest.core.errors import InvalidValue
from reinvest.core.names import resolve
from reinvest.loop.session import Schedule
from reinvest.methods.gradients.weight_decay import DecoupledWeightDecay
from reinvest.methods.schedules import cosine
from reinvest.methods.surgery.layerwise_rates import LayerwiseRates, depths, layer_factors, split_groups
from reinvest.testing import HandLoop, Setup

KINDS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    "plain": (torch.optim.SGD, {"lr": 0.1}),
    "adam": (torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.05}),
    "adamw": (torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.05, "amsgrad": True}),
    "asgd": (torch.optim.ASGD, {"lr": 0.1, "t0": 4}),
}


@dataclass(frozen=True)
class With(Setup):
    """The setup with another optimizer, whose groups may have rates of their own."""

    kind: str = "sgd"
    rates: tuple[float, ...] = ()

    def optimizer(self, model):
        made, settings = KINDS[self.kind]
        if not self.rates:
            return made(model.parameters(), **settings)
        factors = dict(zip(("body.0", "body.1", "body.4", "head"), self.rates, strict=True))
        groups = [
            {"params": [p for n, p in model.named_parameters() if n.startswith(name)], "lr": settings["lr"] * factor}
            for name, factor in factors.items()
        ]
        return made(groups, **settings)


# ---- which layers --------------------------------------------------------------------------------------------------


def firsts(model, layers=None):
    return [names[0] for names in depths(model, layers)]


def test_numbered_blocks_are_depths_and_what_lies_between_is_one():
    gpt = resolve("model", "gpt")(input_shape=(8,), classes=11, layers=3)
    found = depths(gpt)
    assert [names[0].split(".norm1")[0] for names in found] == [
        "trunk.positions",
        *(f"trunk.layers.{k}" for k in range(3)),
    ]
    assert found[-1][-1] == "trunk.norm.bias", "its head is tied to the embedding, so the last norm stands alone"
    assert {n for names in found for n in names} == {n for n, _ in gpt.named_parameters()}
    resnet = resolve("model", "resnet8")(input_shape=(3, 8, 8), classes=4)
    assert firsts(resnet) == [
        "conv.weight",
        "blocks.0.conv1.weight",
        "blocks.1.conv1.weight",
        "blocks.2.conv1.weight",
        "head.weight",
    ]


def test_a_norm_alone_is_no_depth_of_its_own():
    assert depths(Setup().model()) == [
        ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"],
        ["body.4.weight", "body.4.bias"],
        ["head.weight", "head.bias"],
    ]
    first = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 3))
    assert depths(first) == [["0.weight", "0.bias", "1.weight", "1.bias"], ["2.weight", "2.bias"]]


def test_patterns_name_depths_from_the_bottom_and_the_rest_is_the_top():
    model = Setup().model()
    assert firsts(model, ["body.0.*", "body.*"]) == ["body.0.weight", "body.1.weight", "head.weight"]
    for layers in (["body.*", "body.0.*"], ["encoder.*"]):
        with pytest.raises(InvalidValue, match=r"fits none that is left of 8"):
            depths(model, layers)


def test_factors_are_powers_that_end_at_one():
    assert layer_factors([["a", "b"], ["c"], ["d"]], 0.5) == {"a": 0.25, "b": 0.25, "c": 0.5, "d": 1.0}
    assert layer_factors([["a"]], 0.1) == {"a": 1.0}


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_an_optimizer_built_with_those_rates_bit_for_bit(kind):
    """Scaling gradients would do nothing to Adam, and scaling weights' changes would round twice."""
    found = ChainLoop(With(kind=kind), [LayerwiseRates(0.5)]).run().result()["model"]
    wanted = HandLoop(With(kind=kind, rates=(0.25, 0.25, 0.5, 1.0))).run().result()["model"]
    assert differences(found, wanted) == []
    assert distance(found, HandLoop(With(kind=kind)).run().result()["model"]) > 1e-3


def test_it_multiplies_whatever_the_schedule_says_and_whatever_the_groups_had():
    setup = With(kind="adamw", rates=(1.0, 1.0, 3.0, 2.0))

    def run(setup, methods):
        loop = ChainLoop(setup, methods)
        schedule = Schedule(loop.optimizer, cosine, setup.total_steps)
        loop.setup.seed_dropout()
        chain, rates = loop.chain, []
        with chain.attach(loop.model, loop.optimizer, duration="3ep", data=setup.loader(0), seed=3, scheduler=schedule):
            while chain.context.step < 9:
                for x, y in chain.batches(setup.loader(chain.next_batch[0])):
                    rates.append([g["lr"] for g in loop.optimizer.param_groups])
                    chain.loss(loop.model(x), y).backward()
                    chain.step()
        return loop.result()["model"], rates

    found, seen = run(setup, [LayerwiseRates(0.5)])
    wanted, _ = run(With(kind="adamw", rates=(0.25, 0.25, 1.5, 2.0)), [])
    assert differences(found, wanted) == []
    assert seen == run(setup, [])[1], "between steps groups and rates are those of the schedule"


@pytest.mark.parametrize("order", [1, -1])
def test_decoupled_decay_is_scaled_with_the_rate_in_any_order(order):
    methods = [LayerwiseRates(0.5), DecoupledWeightDecay(0.5, matrices_only=False)]
    found = ChainLoop(With(kind="plain"), methods[::order]).run().result()["model"]
    wanted = ChainLoop(With(kind="plain", rates=(0.25, 0.25, 0.5, 1.0)), methods[1:]).run().result()["model"]
    assert differences(found, wanted) == []


def test_groups_are_whole_between_steps_and_keep_their_identity():
    loop = ChainLoop(Setup(), [LayerwiseRates(0.5)])
    groups = loop.optimizer.param_groups
    before, layout = groups[0], loop.optimizer.state_dict()["param_groups"]
    inside: list[Any] = []
    with loop.attached():
        hook = loop.optimizer.register_step_pre_hook(
            lambda o, *_: inside.append([(g["lr"], len(g["params"])) for g in o.param_groups])
        )
        loop.train(until=2)
        hook.remove()
        assert groups[0] is before and loop.optimizer.param_groups is groups
        assert loop.optimizer.state_dict()["param_groups"] == layout
    assert inside == [[(0.025, 4), (0.05, 2), (0.1, 2)]] * 2


def test_what_an_optimizer_counts_in_a_group_survives():
    class Counting(torch.optim.SGD):
        """Counts its steps in each group."""

        def step(self, closure=None):
            for group in self.param_groups:
                group["count"] = group.get("count", 0) + 1
            return super().step(closure)

    loop = ChainLoop(Setup(), [LayerwiseRates(0.5)])
    body, head = list(loop.model.body.parameters()), list(loop.model.head.parameters())
    loop.optimizer = Counting([{"params": body}, {"params": head}], lr=0.1)
    loop.run()
    assert [g["count"] for g in loop.optimizer.param_groups] == [9, 9]
    assert [len(g["params"]) for g in loop.optimizer.param_groups] == [6, 2]


def test_a_step_that_breaks_leaves_the_groups_whole():
    loop = ChainLoop(Setup(), [LayerwiseRates(0.5)])

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), loop.attached():
        hook = loop.optimizer.register_step_pre_hook(fail)
        loop.train(until=1)
    hook.remove()
    assert [len(g["params"]) for g in loop.optimizer.param_groups] == [8] and loop.optimizer.param_groups[0][
        "lr"
    ] == 0.1
    assert not loop.optimizer._optimizer_step_post_hooks


def test_a_scaler_that_skips_a_step_leaves_the_groups_whole():
    for fused in (False, True):
        loop = ChainLoop(Setup(), [LayerwiseRates(0.5)], scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
        loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.1, fused=fused)
        with loop.attached():
            for x, y in loop.chain.batches(loop.setup.loader(0)):
                loop.scaler.scale(loop.chain.loss(loop.model(x) * float("inf"), y)).backward()
                assert loop.chain.step() is False
                break
            assert len(loop.optimizer.param_groups) == 1
            loop.train(until=1)


def test_the_report_names_every_parameters_factor():
    method = LayerwiseRates(0.5)
    assert method.report() == {}
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        rates = method.report()["rates"]
        loop.train()
    assert rates == layer_factors(depths(loop.model), 0.5) and set(rates.values()) == {0.25, 0.5, 1.0}
    assert method.report() == {}


def test_one_depth_is_warned_of():
    model = nn.Linear(2, 2)
    chain = ChainLoop(Setup(), [LayerwiseRates(0.5)]).chain
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(NoEffectWarning, match="no second layer, so LayerwiseRates had no effect"),
        chain.attach(model, optimizer, duration="4st", data=[0] * 4, seed=0),
    ):
        assert not optimizer._optimizer_step_pre_hooks


def test_parameters_outside_the_model_learn_at_the_full_rate():
    own, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    (one, two) = split_groups([{"params": [own, other], "lr": 0.5, "momentum": 0.9}], {own: 0.5})
    assert one == {"params": [own], "lr": 0.25, "momentum": 0.9} and two["lr"] == 0.5
