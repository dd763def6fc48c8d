"""What a chain does around the update: scalers, autocast and compiled models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reinvest.core.batch import Indexed
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, LoopError
from reinvest.core.method import Context, Method
from toy_loops import averaged_last, batches, examples, net, own_loop, plain_loop, same_bits, sgd, state
from toys import Climb, Decay, Jitter, Keep, Shift, Shrink, Surgery, Weigh, card

# --- gradient scaler -------------------------------------------------------------------------------------------------


def scaled_loop(methods: Methods, model: nn.Module, data: Any, scaler: Any, **more: Any) -> list[bool]:
    acted = []
    optimizer = more.pop("optimizer", None) or sgd(model)
    with methods.attach(model, optimizer, duration="1ep", data=data, seed=0, scaler=scaler, **more):
        for x, y in methods.batches(data):
            scaler.scale(methods.loss(model(x), y)).backward()
            acted.append(methods.step())
        methods.counted = methods.context.step  # type: ignore[attr-defined]
    return acted


def test_a_scaler_gives_the_loop_with_a_scaler() -> None:
    ours, theirs, data = net(), net(), batches(bad=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    other = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    scaled_loop(Methods(), ours, data, scaler)
    optimizer = sgd(theirs)
    for x, y in data:
        other.scale(averaged_last(theirs(x), y)).backward()
        other.step(optimizer)
        other.update()
        optimizer.zero_grad()
    assert same_bits(state(ours), state(theirs))
    assert scaler.get_scale() == other.get_scale() and scaler.state_dict() == other.state_dict()


def test_a_step_that_the_scaler_skips_is_not_counted_and_nothing_after_it_runs() -> None:
    class Count(Method):
        card = card("weights")

        def start(self, context: Context) -> None:
            self.steps: list[int] = []

        def weights(self, context: Context) -> None:
            self.steps.append(context.step)

    model, data, counting = net(), batches(bad=2), Count()
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    chain = Methods(counting)
    acted = scaled_loop(chain, model, data, scaler, optimizer=optimizer, scheduler=scheduler)
    assert acted == [True, True, False, True, True, True]
    assert counting.steps == [1, 2, 3, 4, 5] and chain.counted == 5  # type: ignore[attr-defined]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**5)
    assert scaler.get_scale() == 512.0
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_methods_see_unscaled_gradients() -> None:
    ours, theirs, data = net(), net(), batches()
    with_scaler, without = Shrink(), Shrink()
    scaled_loop(Methods(with_scaler), ours, data, torch.amp.GradScaler("cpu", init_scale=1024.0))
    own_loop(Methods(without), theirs, data, epochs=1)
    assert same_bits(with_scaler.seen, without.seen)
    assert same_bits(state(ours), state(theirs))


def test_an_overflow_that_a_method_would_hide_still_skips() -> None:
    class Clean(Method):
        card = card("gradients")

        def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
            for p in context.model.parameters():
                p.grad = None if p.grad is None else p.grad.nan_to_num(0, 0, 0)
            return True

    model, data = net(), batches(1, bad=0)
    before = state(model)
    assert scaled_loop(Methods(Clean()), model, data, torch.amp.GradScaler("cpu")) == [False]
    assert same_bits(before, state(model))


@pytest.mark.parametrize("method", [None, Shrink, Climb])
def test_forgetting_to_scale_is_refused_with_the_remedy(method: Any) -> None:
    chain, model, data = Methods(*([method()] if method else [])), net(), batches()
    scaler = torch.amp.GradScaler("cpu")
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0, scaler=scaler):
        x, y = next(iter(chain.batches(data)))

        def evaluate() -> None:
            chain.loss(model(x), y).backward()

        with pytest.raises(LoopError, match=r"scaler\.scale\(methods\.loss\("):
            if method is Climb:
                chain.step(evaluate)
            else:
                evaluate()
                chain.step()


def test_a_disabled_scaler_needs_no_scaling() -> None:
    ours, theirs, data = net(), net(), batches()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    own_loop(Methods(), ours, data, epochs=1, scaler=scaler)
    plain_loop(theirs, data, epochs=1)
    assert same_bits(state(ours), state(theirs))
    again = net()
    scaled_loop(Methods(), again, data, torch.amp.GradScaler("cpu", enabled=False))
    assert same_bits(state(again), state(theirs))


def test_parts_with_a_scaler_equal_the_whole() -> None:
    whole, pieces, data = net(), net(), batches(bad=1)
    scaled_loop(Methods(), whole, data, torch.amp.GradScaler("cpu", init_scale=64.0))
    scaler, chain, acted = torch.amp.GradScaler("cpu", init_scale=64.0), Methods(), []
    with chain.attach(pieces, sgd(pieces), duration="1ep", data=data, seed=0, scaler=scaler):
        for x, y in chain.batches(data, parts=2):
            scaler.scale(chain.loss(pieces(x), y)).backward()
            acted.append(chain.step())
    assert acted == [False, True, False, False] + [False, True] * 4
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


# --- autocast --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["loss inside", "loss outside"])
def test_autocast_is_the_plain_loop_under_autocast(inside: bool) -> None:
    ours, theirs, data = net(), net(), batches()
    chain = Methods()
    with chain.attach(ours, sgd(ours), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            with torch.autocast("cpu", torch.bfloat16):
                output = ours(x)
                assert output.dtype == torch.bfloat16
                loss = chain.loss(output, y) if inside else None
            loss = chain.loss(output, y) if loss is None else loss
            loss.backward()
            chain.step()
    optimizer = sgd(theirs)
    for x, y in data:
        with torch.autocast("cpu", torch.bfloat16):
            output = theirs(x)
            loss = averaged_last(output, y) if inside else None
        loss = averaged_last(output, y) if loss is None else loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert same_bits(state(ours), state(theirs))


def test_all_phases_under_autocast_stay_finite() -> None:
    model = net()
    data = DataLoader(Indexed(examples()), batch_size=9)
    chain = Methods(Keep(), Shift(), Jitter(), Weigh(), Shrink(), Climb(0.01))
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):

            def evaluate(x: Tensor = x, y: Tensor = y) -> None:
                with torch.autocast("cpu", torch.bfloat16):
                    loss = chain.loss(model(x), y)
                loss.backward()

            assert chain.step(evaluate)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


# --- compiled models -------------------------------------------------------------------------------------------------


def compiled(kind: str) -> tuple[nn.Module, nn.Module]:
    """(what the user calls, the module inside)."""
    torch.compiler.reset()
    inside = net()
    if kind == "wrapper":
        return torch.compile(inside, backend="aot_eager"), inside  # type: ignore[return-value]
    inside.compile(backend="aot_eager")
    return inside, inside


@pytest.mark.parametrize("kind", ["wrapper", "in place"])
def test_a_chain_works_on_the_module_inside_a_compiled_model(kind: str) -> None:
    class Inspect(Decay):
        def start(self, context: Context) -> None:
            super().start(context)
            self.model = context.model

    (ours, inside), theirs = compiled(kind), net()
    method = Inspect()
    data = batches(4)
    own_loop(Methods(method, Shrink()), ours, data, optimizer=sgd(inside))
    own_loop(Methods(Decay(), Shrink()), theirs, data)
    assert method.model is inside
    for a, b in zip(inside.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["wrapper", "in place"])
def test_surgery_on_a_compiled_model_is_refused(kind: str) -> None:
    model, inside = compiled(kind)
    attachment = Methods(Surgery()).attach(model, sgd(inside), duration="1ep", data=batches(), seed=0)
    with pytest.raises(Conflict, match=r"Surgery.*compiled"), attachment:
        pass
    assert any(isinstance(m, nn.ReLU) for m in inside.modules())


def test_surgery_then_compile() -> None:
    torch.compiler.reset()
    model, data, chain = net(), batches(2), Methods(Surgery())
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        fast = torch.compile(model, backend="aot_eager")
        for x, y in chain.batches(data):
            chain.loss(fast(x), y).backward()
            assert chain.step()
    assert any(isinstance(m, nn.Tanh) for m in model.modules())
