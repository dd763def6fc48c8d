"""The three calls: an empty chain changes nothing, parts equal the whole, and misuse is refused with the remedy."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reinvest.core.batch import Batch, Indexed
from reinvest.core.chain import Methods, NoEffectWarning
from reinvest.core.errors import Conflict, InvalidValue, LoopError, MissingIds, ReinvestError
from reinvest.core.method import Context, Method
from toys import (
    Climb,
    Decay,
    Jitter,
    Keep,
    Notebook,
    Refuse,
    Rotate,
    Shift,
    Shrink,
    Smooth,
    Spy,
    Weigh,
    adamw,
    averaged_last,
    card,
    examples,
    net,
    own_loop,
    plain_loop,
    same_bits,
    sgd,
    state,
)

OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


def loader(batch_size: int = 7, *, indexed: bool = False, dtype: torch.dtype = torch.float32) -> DataLoader[Any]:
    data: Any = examples(dtype=dtype)
    return DataLoader(Indexed(data) if indexed else data, batch_size=batch_size)


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


# --- tokens and pixels -----------------------------------------------------------------------------------------------


def sequences(batch: int = 5, length: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, length, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (batch, length), generator=generator)
    for row in range(batch):
        y[row, row + 1 :] = -100  # example `row` has row + 1 valid tokens
    return x, y


class Tagger(nn.Module):
    """[B, T, 3] -> [B, T, 4], or [B, 4, T]."""

    def __init__(self, channels_first: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4, dtype=torch.float64)
        self.channels_first = channels_first
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 12).view(4, 3))
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        output = self.linear(x)
        return output.transpose(1, 2) if self.channels_first else output


def gradient(chain: Methods, model: nn.Module, x: Tensor, y: Tensor, parts: int = 1) -> tuple[float, Tensor]:
    """The whole batch's loss and the gradient of the first parameter, in one step."""
    data = [(x, y)]
    total = 0.0
    first = next(model.parameters())
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=1.0), duration="1ep", data=data, seed=0):
        before = first.detach().clone()
        for a, b in chain.batches(data, parts):
            loss = chain.loss(model(a), b)
            loss.backward()
            total += loss.item()
            chain.step()
    return total, before - first.detach()


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_token_reduction_is_the_usual_language_model_loss(channels_first: bool, parts: int) -> None:
    x, y = sequences()
    model = Tagger(channels_first)
    usual = F.cross_entropy(model.linear(x).flatten(0, 1), y.flatten())
    (expected,) = torch.autograd.grad(usual, [model.linear.weight])
    loss, got = gradient(Methods(reduction="token"), model, x, y, parts)
    assert loss == pytest.approx(usual.item(), abs=1e-12)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_example_reduction_is_the_mean_of_the_examples_means(channels_first: bool, parts: int) -> None:
    x, y = sequences()
    model = Tagger(channels_first)
    losses = F.cross_entropy(model.linear(x).transpose(1, 2), y, reduction="none")
    usual = (losses.sum(1) / (y != -100).sum(1)).mean()
    (expected,) = torch.autograd.grad(usual, [model.linear.weight])
    loss, got = gradient(Methods(), model, x, y, parts)
    assert loss == pytest.approx(usual.item(), abs=1e-12)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_token_reduction_with_labels_shifted_in_the_loop(parts: int) -> None:
    x, y = sequences()
    y = y.flip(1)  # the first labels are ignored in some rows and count in others
    y[1:3, 0] = 2
    usual = F.cross_entropy(Tagger()(x)[:, :-1].flatten(0, 1), y[:, 1:].flatten())
    model, chain, data, total = Tagger(), Methods(reduction="token"), [(x, y)], 0.0
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for a, b in chain.batches(data, parts):
            loss = chain.loss(model(a)[:, :-1], b[:, 1:])
            loss.backward()
            total += loss.item()
            chain.step()
    assert total == pytest.approx(usual.item(), abs=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("how", ["own mean", "scalar"])
def test_token_reduction_where_the_means_are_taken_elsewhere(parts: int, how: str) -> None:
    x, y = sequences()
    usual = F.cross_entropy(Tagger()(x).flatten(0, 1), y.flatten())

    def means(output: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(output.transpose(1, 2), target, reduction="none")
        return losses.sum(1) / (target != -100).sum(1)

    model, chain, data, total = Tagger(), Methods(reduction="token"), [(x, y)], 0.0
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0, criterion=means):
        for a, b in chain.batches(data, parts):
            output = model(a)
            loss = chain.loss(F.cross_entropy(output.flatten(0, 1), b.flatten()) if how == "scalar" else output, b)
            loss.backward()
            total += loss.item()
            chain.step()
    assert total == pytest.approx(usual.item(), abs=1e-12)


def test_methods_of_the_loss_phase_see_one_loss_an_example_and_tokens_weigh_them_afterwards() -> None:
    seen: list[Tensor] = []

    class Double(Method):
        card = card("losses")

        def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
            seen.append(losses.detach().clone())
            return losses * torch.arange(1.0, 6.0, dtype=losses.dtype)

    x, y = sequences()
    model = Tagger()
    raw = F.cross_entropy(model(x).transpose(1, 2), y, reduction="none").detach()
    counts = (y != -100).sum(1)
    means = raw.sum(1) / counts
    loss, _ = gradient(Methods(Double(), reduction="token"), model, x, y)
    torch.testing.assert_close(seen[0], means, rtol=0, atol=1e-12)
    assert loss == pytest.approx(((means * torch.arange(1.0, 6.0) * counts).sum() / counts.sum()).item(), abs=1e-12)


@pytest.mark.parametrize("reduction", ["example", "token"])
@pytest.mark.parametrize("parts", [1, 2])
def test_an_example_without_a_valid_position_gives_no_gradient_and_no_nan(reduction: str, parts: int) -> None:
    x, y = sequences()
    y[-1] = -100
    loss, got = gradient(Methods(reduction=reduction), Tagger(), x, y, parts)
    less, expected = gradient(Methods(reduction=reduction), Tagger(), x[:-1], y[:-1], 1)
    share = 1 if reduction == "token" else 4 / 5
    assert loss == pytest.approx(less * share, abs=1e-12)
    torch.testing.assert_close(got, expected * share, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_a_batch_without_any_valid_position_is_a_loss_of_zero(reduction: str) -> None:
    x, y = sequences()
    loss, got = gradient(Methods(reduction=reduction), Tagger(), x, torch.full_like(y, -100))
    assert loss == 0 and not got.any()


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_ignored_labels_of_ordinary_classification(reduction: str) -> None:
    x, y = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, -100, 1, 2, -100, 3])
    model = net()
    losses = F.cross_entropy(model(x), y, reduction="none")
    expected = losses.sum() / (4 if reduction == "token" else 6)
    loss, _ = gradient(Methods(reduction=reduction), model, x, y)
    assert loss == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_pixels(reduction: str) -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(3, 2, 4, 5, generator=generator), torch.randint(3, (3, 4, 5), generator=generator)
    y[0, :2] = -100
    model = nn.Conv2d(2, 3, 1)
    losses = F.cross_entropy(model(x), y, reduction="none").flatten(1)
    counts = (y != -100).flatten(1).sum(1)
    expected = losses.sum() / counts.sum() if reduction == "token" else (losses.sum(1) / counts).mean()
    loss, _ = gradient(Methods(reduction=reduction), model, x, y)
    assert loss == pytest.approx(expected.item(), abs=1e-6)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"sum.*example|example.*sum"):
        Methods(reduction="sum")


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
