"""The three calls: an empty chain changes nothing, parts equal the whole, and misuse is refused with the remedy."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.core.method import Context, Method
from toy_loops import (
    OPTIMIZERS,
    averaged_last,
    loader,
    net,
    own_loop,
    plain_loop,
    same_bits,
    sgd,
    state,
)
from toys import Decay, Jitter, Keep, Rotate, Shift, Shrink, Smooth, Spy, Weigh, card

# --- an empty chain is the plain loop --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 3, 7, 13, 45])
@pytest.mark.parametrize("loss", [averaged_last, F.cross_entropy], ids=["averaged last", "mean loss"])
def test_an_empty_chain_is_bit_identical_to_the_plain_loop(name: str, batch_size: int, loss: Any) -> None:
    ours, theirs = net(), net()
    data = loader(batch_size)
    mine = own_loop(Methods(), ours, data, optimizer=OPTIMIZERS[name](ours))
    plain = plain_loop(theirs, data, optimizer=OPTIMIZERS[name](theirs), loss=loss)
    assert same_bits(state(ours), state(theirs))
    assert same_bits(mine.state_dict()["state"], plain.state_dict()["state"])
    assert not same_bits(state(ours), state(net()))


def test_an_empty_chain_leaves_dropout_and_batch_norm_as_they_were() -> None:
    ours, theirs = net(dropout=0.5, norm=True), net(dropout=0.5, norm=True)
    data = loader(9)
    torch.manual_seed(11)
    own_loop(Methods(), ours, data)
    after = torch.get_rng_state()
    torch.manual_seed(11)
    plain_loop(theirs, data)
    assert same_bits(state(ours), state(theirs))
    assert torch.equal(after, torch.get_rng_state())


def test_ids_change_nothing_in_an_empty_chain() -> None:
    ours, theirs = net(), net()
    own_loop(Methods(), ours, loader(indexed=True))
    plain_loop(theirs, loader())
    assert same_bits(state(ours), state(theirs))


def test_methods_that_change_nothing_give_the_plain_loop() -> None:
    ours, theirs = net(), net()
    own_loop(Methods(Spy([]), Spy([])), ours, loader())
    plain_loop(theirs, loader())
    assert same_bits(state(ours), state(theirs))


def test_the_scheduler_runs_once_a_step() -> None:
    ours, theirs = net(), net()
    data = loader()
    mine, plain = sgd(ours), sgd(theirs)
    rates: list[float] = []
    scheduler = torch.optim.lr_scheduler.StepLR(mine, 3, 0.5)
    chain = Methods()
    with chain.attach(ours, mine, duration="2ep", data=data, seed=0, scheduler=scheduler):
        for _ in range(2):
            for x, y in chain.batches(data):
                chain.loss(ours(x), y).backward()
                assert chain.step() is True
                rates.append(mine.param_groups[0]["lr"])
    reference = torch.optim.lr_scheduler.StepLR(plain, 3, 0.5)
    expected: list[float] = []
    for _ in range(2):
        for x, y in data:
            F.cross_entropy(theirs(x), y).backward()
            plain.step()
            reference.step()
            plain.zero_grad()
            expected.append(plain.param_groups[0]["lr"])
    assert rates == expected
    assert same_bits(state(ours), state(theirs))


def test_step_clears_the_gradients() -> None:
    model, chain = net(), Methods()
    own_loop(chain, model, loader(), epochs=1)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# --- the order of calls ----------------------------------------------------------------------------------------------


def test_the_order_of_the_list_matters_only_within_a_phase() -> None:
    kinds = [Keep, Shift, Smooth, Weigh, Shrink, Decay]
    reference: dict[str, Tensor] | None = None
    for order in [*itertools.islice(itertools.permutations(kinds), 0, 720, 97), tuple(reversed(kinds))]:
        model = net()
        own_loop(Methods(*(kind() for kind in order)), model, loader(indexed=True))
        reference = reference or state(model)
        assert same_bits(reference, state(model))
    assert reference is not None
    for left_out in kinds:  # each of them matters, so the agreement above says something
        model = net()
        own_loop(Methods(*(kind() for kind in kinds if kind is not left_out)), model, loader(indexed=True))
        assert not same_bits(reference, state(model))


def test_phases_come_in_their_order_and_finish_in_reverse() -> None:
    log: list[str] = []
    own_loop(Methods(Spy(log, "a"), Spy(log, "b")), net(), loader(45), epochs=1)
    pairs = ["start", "select", "augment", "targets", "losses", "gradients", "weights 1"]
    assert log == [f"{who}.{what}" for what in pairs for who in "ab"] + ["b.finish", "a.finish"]


def test_finish_runs_after_an_exception_and_the_exception_arrives() -> None:
    log: list[str] = []
    chain = Methods(Spy(log, "a"), Spy(log, "b"))
    with pytest.raises(ZeroDivisionError), chain.attach(net(), sgd(net()), duration="1ep", data=loader(), seed=0):
        raise ZeroDivisionError  # nothing was called: no report either, the exception matters more
    assert log[-2:] == ["b.finish", "a.finish"]
    own_loop(chain, net(), loader(), epochs=1)  # and the chain can be attached again


def test_methods_that_started_are_finished_where_a_later_start_fails() -> None:
    class Broken(Spy):
        def start(self, context: Context) -> None:
            raise ZeroDivisionError

    log: list[str] = []
    chain = Methods(Spy(log, "a"), Broken(log, "b"))
    with pytest.raises(ZeroDivisionError), chain.attach(net(), sgd(net()), duration="1ep", data=loader(), seed=0):
        pass
    assert log == ["a.start", "a.finish"]


def test_finish_of_the_others_runs_where_one_finish_fails() -> None:
    class Broken(Spy):
        def finish(self, context: Context) -> None:
            raise ZeroDivisionError

    log: list[str] = []
    with pytest.raises(ZeroDivisionError):
        own_loop(Methods(Spy(log, "a"), Broken(log, "b")), net(), loader(), epochs=1)
    assert log[-1] == "a.finish"


def test_context_tells_where_training_stands() -> None:
    seen: list[tuple[int, int, float]] = []

    class Watch(Method):
        card = card("weights")

        def weights(self, context: Context) -> None:
            seen.append((context.epoch, context.step, context.progress))
            assert (context.total_steps, context.steps_per_epoch, context.seed) == (14, 7, 5)
            assert context.device.type == "cpu" and context.world == (0, 1)

    own_loop(Methods(Watch()), net(), loader(), seed=5)
    assert seen == [(i // 7, i + 1, (i + 1) / 14) for i in range(14)]
    assert len(Context.__dataclass_fields__) < 10


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 4, 7, 50])
@pytest.mark.parametrize("who", ["none", "all", "couples"])
def test_parts_equal_the_whole_batch(parts: int, who: str) -> None:
    methods = {
        "none": [],
        "all": [Keep(5), Shift(), Smooth(), Weigh(), Shrink(), Decay()],
        "couples": [Rotate(), Jitter()],
    }[who]
    whole, pieces = net(dtype=torch.float64), net(dtype=torch.float64)
    data = loader(indexed=True, dtype=torch.float64)
    own_loop(Methods(*methods), whole, data)
    own_loop(Methods(*methods), pieces, data, parts=parts)
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_step_acts_only_after_the_last_part_and_loss_divides_by_the_whole_count() -> None:
    model, chain, data = net(dtype=torch.float64), Methods(), loader(dtype=torch.float64)
    optimizer = sgd(model)
    x, y = next(iter(data))
    whole = F.cross_entropy(net(dtype=torch.float64)(x), y).item()
    with chain.attach(model, optimizer, duration="1ep", data=data, seed=0):
        sizes, acted, total = [], [], 0.0
        for x, y in itertools.islice(chain.batches(data, parts=3), 3):
            before = state(model)
            loss = chain.loss(model(x), y)
            loss.backward()
            total += loss.item()
            sizes.append(len(x))
            acted.append(chain.step())
            assert same_bits(before, state(model)) is not acted[-1]
        assert sizes == [3, 2, 2] and acted == [False, False, True]
        assert total == pytest.approx(whole, abs=1e-12)
        assert chain.context.step == 1


def test_selection_and_augmentation_see_the_whole_batch_once() -> None:
    log: list[str] = []
    own_loop(Methods(Spy(log)), net(), loader(45), epochs=1, parts=4)
    counts = {what: log.count(f"spy.{what}") for what in ("select", "augment", "targets", "losses", "gradients")}
    assert counts == {"select": 1, "augment": 1, "targets": 4, "losses": 4, "gradients": 1}


@pytest.mark.parametrize("parts", [0, -1, 1.5, "2"])
def test_parts_that_are_no_count_are_refused(parts: Any) -> None:
    chain, model = Methods(), net()
    with (
        chain.attach(model, sgd(model), duration="1ep", data=loader(), seed=0),
        pytest.raises(InvalidValue, match="parts"),
    ):
        next(iter(chain.batches(loader(), parts=parts)))
