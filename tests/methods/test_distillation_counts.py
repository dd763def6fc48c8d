"""Distillation's duty: exact counts of teacher calls, nothing at all off duty, and a teacher that stays as it was."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop, Setup
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.methods.losses.distillation import Distill
from teaching import DOUBLE, Counted, columns, losses_of, other, plain_loss, still
from toy_loops import OPTIMIZERS, batches, net, own_loop, plain_loop, same_bits, state
from toy_loops import loader as toy_loader


def forward(teacher, **more):
    return Distill(teacher, source="forward", **more)


def pattern(teacher, total, *, seed=0, **more):
    """Steps at which the teacher was called, after checking that exactly those steps' losses were distilled."""
    values, on = [], []
    counted = Counted(teacher)
    chain, model, item = Methods(forward(counted, **({"weight": [0.5, 0.5]} | more))), net(), columns(3)
    data = [item] * total
    plain = F.cross_entropy(model(item[0]), item[1], reduction="none").mean().item()
    with chain.attach(model, still(model), duration=f"{total}st", data=data, seed=seed):
        for step, (x, y) in enumerate(chain.batches(data)):
            before = counted.calls
            values.append(chain.loss(model(x), y).item())
            chain.step()
            on += [step] * (counted.calls - before)
    assert [s for s, value in enumerate(values) if value != plain] == on
    return on


# ---- nothing off duty --------------------------------------------------------------------------------------------

NOTHING = {
    "weight 0": {"weight": 0.0},
    "weights 0 to 0": {"weight": [0.0, 0.0]},
    "weight 0 in a window of one step": {"weight": [0.0, 1.0], "until": "1st"},
    "weight 0 at the only step": {"weight": [0.0, 1.0], "every": 1000},
    "weight 0 and reweighed": {"weight": 0.0, "every": 3, "reweigh": True},
    "next to no probability": {"probability": 1e-12},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", NOTHING)
def test_without_weight_or_duty_training_is_plain_bit_for_bit(case, optimizer):
    results = []
    for members in ([forward(other(norm=True), **NOTHING[case])], None):
        model = net(norm=True, dropout=0.3)
        made = OPTIMIZERS[optimizer](model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            if members is None:
                plain_loop(model, toy_loader(), optimizer=made)
            else:
                own_loop(Methods(*members), model, toy_loader(), optimizer=made)
        results.append((state(model), made.state_dict()))
    assert same_bits(*results)


def test_weight_zero_calls_no_teacher():
    # open: a teacher whose word has no weight need not be asked
    teacher = Counted(other())
    own_loop(Methods(forward(teacher, weight=0.0)), net(), toy_loader())
    assert teacher.calls == 0


def twin(model, optimizer):
    """Copies that belong together."""
    return copy.deepcopy((model, optimizer))


def test_after_until_training_goes_on_as_plain_bit_for_bit():
    data, model = batches(20), net()
    optimizer = OPTIMIZERS["sgd"](model)
    chain, teacher = Methods(forward(other(), until=0.25, weight=[0.9, 0.9])), None
    with chain.attach(model, optimizer, duration="20st", data=data, seed=0):
        for step, (x, y) in enumerate(chain.batches(data)):
            if step == 5:
                teacher = twin(model, optimizer)
            chain.loss(model(x), y).backward()
            chain.step()
    copied, its_optimizer = teacher
    plain_loop(copied, data[5:], epochs=1, optimizer=its_optimizer)
    assert same_bits((state(copied), its_optimizer.state_dict()), (state(model), optimizer.state_dict()))
    alone = net()
    plain_loop(alone, data, epochs=1)
    assert not same_bits(state(alone), state(model)), "the first quarter was distilled"


def test_between_two_duties_a_step_is_plain_bit_for_bit():
    data, model = batches(12), net()
    optimizer = OPTIMIZERS["adamw"](model)
    chain, equal = Methods(forward(other(), every=3, weight=[0.9, 0.9])), []
    with chain.attach(model, optimizer, duration="12st", data=data, seed=0):
        for x, y in chain.batches(data):
            copied, its_optimizer = twin(model, optimizer)
            plain_loop(copied, [(x, y)], epochs=1, optimizer=its_optimizer)
            chain.loss(model(x), y).backward()
            chain.step()
            equal.append(same_bits((state(copied), its_optimizer.state_dict()), (state(model), optimizer.state_dict())))
    assert equal == [False, True, True] * 4


# ---- counts ------------------------------------------------------------------------------------------------------


def calls(total, **more):
    return len(pattern(other(), total, **more))


def test_the_first_fifth_of_a_hundred_steps_is_twenty_calls():
    assert pattern(other(), 100, until=0.2) == list(range(20))
    assert calls(100, until="20st") == 20


@pytest.mark.parametrize("until", [0.07, 0.14, 0.28, 0.29, 0.55, 0.56, 0.57])
def test_shares_are_exact_although_their_products_are_not(until):
    """0.07 x 100 is 7.000000000000001 in floating point."""
    assert until * 100 != round(until * 100)
    assert calls(100, until=until) == round(until * 100)


@pytest.mark.parametrize(("until", "total", "wanted"), [(0.205, 100, 21), (0.01, 7, 1), (1.0, 9, 9), (1 / 3, 10, 4)])
def test_a_step_that_begins_inside_the_window_counts(until, total, wanted):
    assert calls(total, until=until) == wanted == math.ceil(until * total)


@pytest.mark.parametrize("total", [1, 4, 5, 6, 23])
def test_every_fifth_step_begins_with_the_first(total):
    assert pattern(other(), total, every=5) == list(range(0, total, 5))
    assert calls(total, every=5) == -(-total // 5)


@pytest.mark.parametrize(("until", "every", "wanted"), [(0.2, 5, 4), (0.21, 5, 5), (0.5, 7, 8), (0.03, 2, 2)])
def test_window_and_every_together(until, every, wanted):
    assert calls(100, until=until, every=every) == wanted == math.ceil(math.ceil(round(until * 100, 6)) / every)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_random_duty_has_its_frequency_and_belongs_to_the_seed(p):
    on = pattern(other(), 300, probability=p)
    # The seed is fixed; the bound is that of an exact 99 % test.
    assert stats.binomtest(len(on), 300, p).pvalue > 0.01
    assert pattern(other(), 80, probability=p) == [step for step in on if step < 80]
    assert pattern(other(), 80, probability=p, seed=1) != [step for step in on if step < 80]


def test_random_duty_keeps_to_window_and_every():
    on = pattern(other(), 400, probability=0.5, until=0.5, every=2)
    assert set(on) <= set(range(0, 200, 2))
    assert stats.binomtest(len(on), 100, 0.5).pvalue > 0.01


def test_random_duty_is_not_periodic():
    on = set(pattern(other(), 300, probability=0.5))
    both = sum(s in on and s + 1 in on for s in range(0, 300, 2))
    assert stats.binomtest(both, 150, 0.25).pvalue > 0.01


# ---- pools -------------------------------------------------------------------------------------------------------


def pooled(count, total, *, seed=0, **more):
    """Which of the teachers was called at each step."""
    teachers = [Counted(other(k)) for k in range(count)]
    chain, model, item, found = Methods(forward(teachers, **more)), net(), columns(2), []
    data = [item] * total
    with chain.attach(model, still(model), duration=f"{total}st", data=data, seed=seed):
        for x, y in chain.batches(data):
            before = [t.calls for t in teachers]
            chain.loss(model(x), y)
            chain.step()
            found.append(tuple(k for k, t in enumerate(teachers) for _ in range(t.calls - before[k])))
    return found


def test_a_random_pool_calls_one_teacher_a_step_and_each_equally_often():
    found = pooled(4, 400)
    assert all(len(step) == 1 for step in found)
    for k in range(4):
        assert stats.binomtest(found.count((k,)), 400, 1 / 4).pvalue > 0.01
    assert found[:60] == pooled(4, 60) != pooled(4, 60, seed=1)


def test_which_teacher_does_not_depend_on_whether_the_step_is_on_duty():
    """The draws of duty and of teacher are separate: all teachers are used on the rare days of duty as well."""
    found = [step for step in pooled(3, 400, probability=0.5, weight=[0.5, 0.5]) if step]
    for k in range(3):
        assert stats.binomtest(found.count((k,)), len(found), 1 / 3).pvalue > 0.01


def test_an_averaged_pool_calls_all_teachers():
    assert pooled(3, 10, pool="average", every=5, weight=[0.5, 0.5]) == [(0, 1, 2), *[()] * 4] * 2


def test_a_pool_of_one_is_that_teacher():
    for pool in ("random", "average"):
        one = losses_of(forward([other(3, dtype=DOUBLE)], pool=pool), total=4)
        assert one == losses_of(forward(other(3, dtype=DOUBLE)), total=4)


def test_the_loss_of_a_random_pool_is_that_of_the_drawn_teacher():
    teachers = [other(k, dtype=DOUBLE) for k in range(3)]
    single = [losses_of(forward(t, weight=[0.5, 0.5]), total=1)[0] for t in teachers]
    found = losses_of(forward(teachers, weight=[0.5, 0.5]), total=40)
    assert set(found) == set(single)


def test_parts_of_a_batch_share_duty_and_teacher():
    whole, parts = (
        losses_and_weights(forward([other(k) for k in range(3)], probability=0.5), parts) for parts in (1, 3)
    )
    assert all((whole[n] - parts[n]).abs().max() < 1e-5 for n in whole)


def losses_and_weights(method, parts):
    model = net()
    own_loop(Methods(method), model, toy_loader(9), epochs=3, parts=parts)
    return state(model)


def test_resumed_in_mid_epoch_is_uninterrupted():
    setup = Setup()

    def loop():
        teachers = [copy.deepcopy(setup.model()) for _ in range(2)]
        with torch.no_grad():
            for k, t in enumerate(teachers):
                t.head.weight.add_(torch.full_like(t.head.weight, 0.3 * (k + 1)).cumsum(0))
        return ChainLoop(setup, [forward(teachers, probability=0.6, until=0.8)])

    whole = loop().run().result()
    assert differences(whole, ChainLoop(setup, []).run().result()) != []
    for stop in range(1, setup.total_steps):
        first, second = loop(), loop()
        with first.attached():
            written = first.train(until=stop).save()
        with second.attached():
            torch.manual_seed(99)
            second.load(written)
            second.train()
        assert differences(second.result(), whole) == [], f"stopped after step {stop}"


# ---- the teacher stays as it was ---------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Batch norm, dropout, a frozen weight and a part that is in eval mode already."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = other(norm=True, dropout=0.5)
        self.frozen = nn.BatchNorm1d(4)
        self.frozen.eval()
        self.inner[0].weight.requires_grad_(False)

    def forward(self, x):
        return self.frozen(self.inner(x))


def marks(model):
    return (
        {n: m.training for n, m in model.named_modules()},
        {n: p.requires_grad for n, p in model.named_parameters()},
        [p.grad is None for p in model.parameters()],
    )


@pytest.mark.parametrize("more", [{}, {"every": 2}, {"pool": "average"}, {"loss": "mse"}])
def test_the_teacher_is_unchanged_and_was_asked_in_eval_mode_without_gradients(more):
    teacher = Counted(Mixed())
    before, values = marks(teacher), state(teacher)
    model = net(norm=True)
    own_loop(Methods(forward(teacher, **more)), model, toy_loader())
    assert teacher.calls > 0 and set(teacher.modes) == {(False, False)}
    assert marks(teacher) == before and same_bits(state(teacher), values)
    assert model.training and all(m.training for m in model.modules())


def test_a_teacher_in_eval_mode_stays_in_it():
    teacher = Mixed().eval()
    own_loop(Methods(forward(teacher)), net(), toy_loader())
    assert not any(m.training for m in teacher.modules())


def test_teachers_that_share_a_part_are_restored():
    shared = Mixed()
    pool = [nn.Sequential(shared, nn.Linear(4, 4)), nn.Sequential(shared, nn.ReLU()), shared]
    before = [marks(t) for t in pool]
    own_loop(Methods(forward(pool, pool="average")), net(), toy_loader())
    assert [marks(t) for t in pool] == before


def test_a_teacher_that_a_loop_puts_into_training_mode_is_still_asked_in_eval_mode():
    # open: a loop that calls train() on everything it has at each epoch is a usual one
    teacher, model, data = Counted(Mixed()), net(), toy_loader()
    chain, values = Methods(forward(teacher)), state(teacher)
    with chain.attach(model, still(model), duration="2ep", data=data, seed=0):
        for _ in range(2):
            teacher.train()
            for x, y in chain.batches(data):
                chain.loss(model(x), y)
                chain.step()
    assert set(teacher.modes) == {(False, False)} and same_bits(state(teacher), values)


def test_a_loop_that_fails_leaves_the_teacher_as_it_was():
    teacher, model = Counted(Mixed()), net()
    before, data, chain = marks(teacher), toy_loader(), Methods(forward(teacher))
    with (
        pytest.raises(KeyError),
        chain.attach(model, still(model), duration="2ep", data=data, seed=0),
    ):
        for x, y in chain.batches(data):
            chain.loss(model(x), y)
            raise KeyError("stop")
    assert teacher.calls == 1 and marks(teacher) == before


def test_a_teacher_that_raises_is_left_as_it_was():
    class Broken(Mixed):
        def forward(self, x):
            raise RuntimeError("broken teacher")

    teacher = Broken()
    before = marks(teacher)
    with pytest.raises(RuntimeError, match="broken teacher"):
        own_loop(Methods(forward(teacher)), net(), toy_loader())
    assert marks(teacher) == before and torch.is_grad_enabled()


def test_the_global_generator_is_neither_moved_nor_read():
    class Drawing(nn.Module):
        """Draws in any mode."""

        def forward(self, x):
            return x[:, :4] + 0 * torch.rand(1)

    x, y = columns(7)
    model, data = net(), [(x, y)] * 4
    chain = Methods(forward([Drawing(), Mixed()], probability=0.7, pool="average"))
    with torch.random.fork_rng(devices=[]), chain.attach(model, still(model), duration="4st", data=data, seed=0):
        torch.manual_seed(4)
        before = torch.get_rng_state()
        for a, b in chain.batches(data):
            chain.loss(model(a), b).backward()
            chain.step()
            assert torch.equal(torch.get_rng_state(), before)


def test_the_teacher_may_share_nothing_with_the_graph():
    """Backward through the loss leaves no gradient on a teacher whose weights want one."""
    teacher, model = other(), net()
    x, y = columns(7)
    chain = Methods(forward(teacher))
    with chain.attach(model, still(model), duration="1st", data=[(x, y)], seed=0):
        for a, b in chain.batches([(x, y)]):
            chain.loss(model(a), b).backward()
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_the_losses_off_duty_are_those_of_the_plain_loop():
    found = losses_of(forward(other(dtype=DOUBLE), every=2, weight=[0.5, 0.5]), total=8)
    assert found[1::2] == [plain_loss()] * 4 and plain_loss() not in found[::2]


@pytest.mark.parametrize(("every", "calls"), [("1ep", 24), ("2ep", 12), ("4ep", 8), ("5st", 5), (5, 5)])
def test_whole_epochs_are_on_duty_from_the_first_on(every, calls):
    teacher = Counted(Mixed())
    chain, model = Methods(forward(teacher, every=every)), net()
    x, y = columns(8)
    data = [(x[:4], y[:4]), (x[4:], y[4:]), (x[:4], y[:4]), (x[4:], y[4:])]
    with chain.attach(model, still(model), duration="6ep", data=data, seed=0):
        for _ in range(6):
            for a, b in chain.batches(data):
                chain.loss(model(a), b)
                chain.step()
    assert len(teacher.modes) == calls


@pytest.mark.parametrize("every", ["0ep", "2.5ep", "0.5", "3min"])
def test_other_texts_for_every_are_refused(every):
    with pytest.raises(InvalidValue, match="every is a whole number"):
        Distill(Mixed(), every=every)
