"""What the three calls refuse, with which sentence; records; virtual nodes."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import Conflict, InvalidValue, LoopError, MissingIds, ReinvestError
from reinvest.core.method import Context, Method
from toy_loops import examples, loader, net, own_loop, plain_loop, same_bits, sgd, state
from toys import Climb, Decay, Jitter, Keep, Notebook, Refuse, Rotate, Shift, Shrink, Smooth, Spy, Weigh, card

# --- refusals of loss ------------------------------------------------------------------------------------------------


def test_loss_refuses_an_output_of_another_length() -> None:
    chain, model, data = Methods(), net(), loader(indexed=True)
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        x, y = next(iter(chain.batches(data)))
        with pytest.raises(ReinvestError, match=r"\b6\b.*\b7\b|\b7\b.*\b6\b"):
            chain.loss(model(x[:6]), y[:6])


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), F.cross_entropy, lambda o, t: F.cross_entropy(o, t)])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_criterion_that_averages_is_refused_with_the_remedy(criterion: Any, batch_size: int) -> None:
    chain, model, data = Methods(), net(), loader(batch_size)
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0, criterion=criterion):
        x, y = next(iter(chain.batches(data)))
        with pytest.raises(ReinvestError, match="reduction"):
            chain.loss(model(x), y)


def test_a_criterion_of_ones_own() -> None:
    ours, theirs = net(), net()
    data = [(x, F.one_hot(y, 4).float()) for x, y in loader()]
    own_loop(Methods(), ours, data, criterion=lambda o, t: (o - t).square().mean(1))
    plain_loop(theirs, data, loss=lambda o, t: (o - t).square().mean(1).mean())
    assert same_bits(state(ours), state(theirs))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("method", [Keep, Shift, Shrink, Decay])
def test_a_model_that_returns_its_loss_runs_methods_of_the_other_phases(method: Any, parts: int) -> None:
    ours, theirs = net(dtype=torch.float64), net(dtype=torch.float64)
    data = loader(indexed=True, dtype=torch.float64)
    chain = Methods(method())
    optimizer = sgd(ours)
    with chain.attach(ours, optimizer, duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data, parts):
            chain.loss(F.cross_entropy(ours(x), y), y).backward()  # the mean over what the model was given
            chain.step()
    own_loop(Methods(method()), theirs, data, epochs=1)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [Smooth, Weigh])
def test_a_model_that_returns_its_loss_cannot_have_methods_of_the_loss_side(method: Any) -> None:
    chain, model, data = Methods(method()), net(), loader(indexed=True)
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        x, y = next(iter(chain.batches(data)))
        with pytest.raises(ReinvestError, match=f"{method.__name__}.*logits|logits.*{method.__name__}"):
            chain.loss(F.cross_entropy(model(x), y), y)


# --- refusals of attach, batches and step ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        ([Keep()], "batches() was never called, so Keep had no effect"),
        ([Jitter()], "batches() was never called, so Jitter had no effect"),
        ([Smooth()], "loss() was never called, so Smooth had no effect"),
        ([Spy([])], "loss() was never called, so Spy"),
        ([Shrink()], "step() was never called, so Shrink had no effect"),
        ([Decay()], "step() was never called, so Decay had no effect"),
    ],
)
def test_a_method_whose_phase_was_never_called_is_reported(methods: list[Method], sentence: str) -> None:
    chain, model = Methods(*methods), net()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with chain.attach(model, sgd(model), duration="1ep", data=loader(), seed=0):
            pass
    assert any(sentence in str(w.message) and w.category is NoEffectWarning for w in told)


def test_only_the_call_that_was_left_out_is_reported() -> None:
    chain, model, data = Methods(Keep(), Smooth(), Weigh(), Shrink()), net(), loader(indexed=True)
    optimizer = sgd(model)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with chain.attach(model, optimizer, duration="1ep", data=data, seed=0):
            for x, y in chain.batches(data):
                F.cross_entropy(model(x), y).backward()
                chain.step()
    message = " ".join(str(w.message) for w in told)
    assert "loss() was never called" in message and "Smooth" in message and "Weigh" in message
    assert "Keep" not in message and "Shrink" not in message


def test_an_empty_chain_and_a_complete_loop_report_nothing() -> None:
    model = net()
    with Methods().attach(model, sgd(model), duration="1ep", data=loader(), seed=0):
        pass
    own_loop(Methods(Spy([])), net(), loader())  # warnings are errors in this suite


def test_attaching_twice_is_refused() -> None:
    chain, model = Methods(), net()
    with chain.attach(model, sgd(model), duration="1ep", data=loader(), seed=0):
        second = chain.attach(model, sgd(model), duration="1ep", data=loader(), seed=0)
        with pytest.raises(LoopError, match="second attach"), second:
            pass
        for x, y in chain.batches(loader()):  # the first attachment is unharmed
            chain.loss(model(x), y).backward()
            chain.step()


def test_calls_outside_attach_are_refused_with_the_loop() -> None:
    chain, model = Methods(), net()
    x, y = torch.zeros(2, 6), torch.zeros(2, dtype=torch.long)
    calls: list[Any] = [
        lambda: next(iter(chain.batches(loader()))),
        lambda: chain.loss(model(x), y),
        lambda: chain.step(),
        lambda: chain.state_dict(),
        lambda: chain.context,
    ]
    for call in calls:
        with pytest.raises(LoopError, match="attach"):
            call()
    own_loop(chain, model, loader(), epochs=1)
    for call in calls[:3]:
        with pytest.raises(LoopError, match="attach"):
            call()


def test_loss_and_step_without_a_batch_are_refused() -> None:
    chain, model = Methods(), net()
    with chain.attach(model, sgd(model), duration="1ep", data=loader(), seed=0):
        with pytest.raises(LoopError, match="batches"):
            chain.loss(model(torch.zeros(2, 6)), torch.zeros(2, dtype=torch.long))
        epoch = chain.batches(loader())
        with pytest.raises(LoopError, match="batch"):
            chain.step()
        next(iter(epoch))


def test_a_loop_with_its_own_batches_may_still_step() -> None:
    ours, theirs, data, chain = net(), net(), list(loader()), Methods(Shrink())
    optimizer = sgd(ours)
    with chain.attach(ours, optimizer, duration="1ep", data=data, seed=0):
        for x, y in data:
            F.cross_entropy(ours(x), y).backward()
            chain.step()
        assert chain.context.step == len(data)
    own_loop(Methods(Shrink()), theirs, data, epochs=1)
    assert same_bits(state(ours), state(theirs))


def test_stepping_twice_for_one_batch_is_refused() -> None:
    chain, model, data = Methods(), net(), loader()
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        x, y = next(iter(chain.batches(data)))
        chain.loss(model(x), y).backward()
        chain.step()
        with pytest.raises(LoopError):
            chain.step()


def test_batches_after_the_duration_are_refused() -> None:
    chain, model, data = Methods(), net(), loader()
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            chain.step()
        with pytest.raises(LoopError, match="duration"):
            next(iter(chain.batches(data)))


def test_a_duration_in_steps_ends_in_mid_epoch() -> None:
    chain, model, data = Methods(), net(), loader()
    sizes = []
    with chain.attach(model, sgd(model), duration="10st", data=data, seed=0):
        for _ in range(2):
            sizes.append(0)
            for x, y in chain.batches(data):
                chain.loss(model(x), y).backward()
                chain.step()
                sizes[-1] += 1
        assert chain.context.progress == 1.0
    assert sizes == [7, 3]


@pytest.mark.parametrize("duration", ["10", "0.5", "3min", "-1ep", "ten epochs", None])
def test_durations_that_say_no_number_of_steps_are_refused(duration: Any) -> None:
    model = net()
    with pytest.raises(InvalidValue), Methods().attach(model, sgd(model), duration=duration, data=loader(), seed=0):
        pass


@pytest.mark.parametrize("seed", [1.5, "0", None])
def test_a_seed_that_is_no_integer_is_refused(seed: Any) -> None:
    model = net()
    with (
        pytest.raises(InvalidValue, match="seed"),
        Methods().attach(model, sgd(model), duration="1ep", data=loader(), seed=seed),
    ):
        pass


def test_work_that_needs_ids_refuses_without_them_and_names_the_remedy() -> None:
    with pytest.raises(MissingIds, match="Indexed"):
        own_loop(Methods(Shift()), net(), loader())


def test_things_that_are_no_methods_are_refused() -> None:
    for wrong in ("LabelSmoothing", Shift, None):
        with pytest.raises(InvalidValue):
            Methods(wrong)  # type: ignore[arg-type]


def test_methods_that_exclude_each_other_are_refused() -> None:
    class Other(Keep):
        card = card("select", conflicts=("Keep",))

    for order in ([Other(), Keep()], [Keep(), Other()]):
        with pytest.raises(Conflict, match="Keep"):
            own_loop(Methods(*order), net(), loader())


def test_a_losses_method_that_averages_is_named() -> None:
    class Averages(Weigh):
        def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
            return losses.mean()

    with pytest.raises(ReinvestError, match="Averages"):
        own_loop(Methods(Averages()), net(), loader(indexed=True))


# --- records ---------------------------------------------------------------------------------------------------------


def test_the_recorder_sees_raw_losses_against_the_original_labels() -> None:
    model = net()
    initial = state(model)
    data = loader(indexed=True)
    with Notebook() as notebook:
        own_loop(Methods(Weigh(), Smooth(), Keep(5)), model, data, epochs=1, seed=3)
    (about,) = notebook.begun
    assert about["total_steps"] == about["steps_per_epoch"] == 7 and about["examples"] == 45 and about["seed"] == 3
    assert about["duration"] == "1ep" and len(about["methods"]) == 3
    assert len(notebook.rows) == 7
    epoch, ids, losses, _, targets, valid = notebook.rows[0]
    assert epoch == 0 and ids.tolist() == [0, 1, 2, 3, 4] and (valid is None or bool(valid.all()))
    model.load_state_dict(initial)
    labels = torch.stack([y for _, y in examples()[:5]])
    assert torch.equal(targets, labels)
    expected = F.cross_entropy(model(torch.stack([x for x, _ in examples()[:5]])), labels, reduction="none")
    torch.testing.assert_close(losses, expected.detach())
    (end,) = notebook.ended
    assert end["steps"] == 7 and {"seconds", "warmup_seconds", "wall_seconds", "strata"} <= set(end["clock"])


@pytest.mark.parametrize("methods", [[], [Smooth()]])
def test_recording_changes_not_a_bit(methods: list[Method]) -> None:
    for batch_size in (1, 3, 7, 9):
        ours, theirs = net(), net()
        with Notebook():
            own_loop(Methods(*methods), ours, loader(batch_size, indexed=True))
        own_loop(Methods(*methods), theirs, loader(batch_size, indexed=True))
        assert same_bits(state(ours), state(theirs))


def test_recording_changes_nothing_and_parts_are_recorded_once() -> None:
    ours, theirs = net(), net()
    data = loader(indexed=True)
    with Notebook() as notebook:
        own_loop(Methods(), ours, data, parts=3, epochs=1)
    own_loop(Methods(), theirs, data, parts=3, epochs=1)
    assert same_bits(state(ours), state(theirs))
    assert sorted(torch.cat([row[1] for row in notebook.rows]).tolist()) == list(range(45))


def test_no_method_touches_the_global_generator() -> None:
    rows = list(loader())  # a DataLoader draws a seed for its workers whenever it is iterated
    before = torch.get_rng_state()
    own_loop(Methods(Jitter(), Rotate(), Smooth(), Shrink(), Decay()), net(), rows)
    own_loop(Methods(Climb()), net(), rows, closure=True)
    assert torch.equal(before, torch.get_rng_state())


# --- virtual nodes ---------------------------------------------------------------------------------------------------


def test_virtual_nodes_bound_what_examples_may_share() -> None:
    x = torch.arange(8.0).view(8, 1)
    seen: list[Tensor] = []
    for nodes in (1, 2, 4):
        chain, model = Methods(Rotate(), virtual_nodes=nodes), nn.Linear(1, 2)
        data = [(x, torch.zeros(8, dtype=torch.long))]
        with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
            for a, b in chain.batches(data):
                seen.append(a.flatten())
                chain.loss(model(a), b).backward()
                chain.step()
    for nodes, got in zip((1, 2, 4), seen, strict=True):
        expected = torch.cat([(part + part.roll(1)) / 2 for part in x.flatten().chunk(nodes)])
        assert torch.equal(got, expected)


def test_a_skipped_step_is_not_counted() -> None:
    chain, model, data = Methods(Refuse(), Decay()), net(), loader()
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    acted = []
    with chain.attach(model, optimizer, duration="1ep", data=data, seed=0, scheduler=scheduler):
        for x, y in chain.batches(data):
            before = state(model)
            chain.loss(model(x), y).backward()
            acted.append(chain.step())
            assert same_bits(before, state(model)) is not acted[-1]
            assert all(p.grad is None or not p.grad.any() for p in model.parameters())
        assert chain.context.step == sum(acted) == 4
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**4)
    assert acted == [True, False] * 3 + [True]
