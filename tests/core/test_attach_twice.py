"""A second evaluation of a batch, averaged weights, and going on in mid-epoch."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from reinvest.core.batch import Batch, Indexed
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue, LoopError
from reinvest.core.method import Context, Method
from toy_loops import averaged_last, batches, examples, net, own_loop, plain_loop, same_bits, sgd, state
from toys import Climb, Decay, Jitter, Keep, Notebook, Refuse, Shift, Shrink, Weigh, card

# --- the second pass -------------------------------------------------------------------------------------------------


def test_a_closure_is_the_same_as_loss_before_step() -> None:
    ours, theirs, data = net(dropout=0.5), net(dropout=0.5), batches()
    torch.manual_seed(0)
    own_loop(Methods(Shrink()), ours, data, closure=True)
    torch.manual_seed(0)
    own_loop(Methods(Shrink()), theirs, data)
    assert same_bits(state(ours), state(theirs))


def test_a_second_pass_without_a_radius_is_the_plain_loop() -> None:
    ours, theirs, data = net(dropout=0.5, norm=True), net(dropout=0.5, norm=True), batches()
    torch.manual_seed(0)
    climb = Climb(0.0)
    own_loop(Methods(climb), ours, data, closure=True)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    plain_loop(theirs, data)
    assert climb.repeats == 12
    assert same_bits(state(ours), state(theirs))  # buffers too: running statistics moved once a step
    assert torch.equal(after, torch.get_rng_state())


def test_the_second_pass_is_at_the_moved_weights() -> None:
    model, data = net(), batches(1)
    reference, (x, y) = net(), data[0]
    averaged_last(reference(x), y).backward()
    kept = [p.detach().clone() for p in reference.parameters()]
    with torch.no_grad():
        for p in reference.parameters():
            p += 0.3 * p.grad  # type: ignore[operator]
    reference.zero_grad()
    averaged_last(reference(x), y).backward()
    with torch.no_grad():
        for p, old in zip(reference.parameters(), kept, strict=True):
            p.copy_(old)
    sgd(reference).step()
    own_loop(Methods(Climb(0.3)), model, data, epochs=1, closure=True)
    assert same_bits(state(model), state(reference))


def test_the_second_pass_reuses_streams_and_is_not_recorded() -> None:
    seen: list[tuple[int, Tensor]] = []

    class Noise(Method):
        card = card("losses")

        def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
            from reinvest.core.streams import stream

            draws = stream(context.seed, "noise", context.epoch, context.step).uniform(len(losses))
            seen.append((context.step, draws))
            return losses * draws

    model = net()
    data = DataLoader(Indexed(examples()), batch_size=9)
    with Notebook() as notebook:
        own_loop(Methods(Climb(), Noise()), model, data, epochs=1, closure=True)
    assert len(notebook.rows) == 5 and len(seen) == 10
    for (step, first), (other, second) in zip(seen[::2], seen[1::2], strict=True):
        assert step == other and torch.equal(first, second)


def test_without_a_closure_the_three_lines_are_shown() -> None:
    chain, model, data = Methods(Climb()), net(), batches()
    assert chain.needs_closure
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        x, y = next(iter(chain.batches(data)))
        chain.loss(model(x), y).backward()
        with pytest.raises(LoopError) as refused:
            chain.step()
    message = str(refused.value)
    assert "Climb" in message
    assert "def closure():\n    methods.loss(model(x), y).backward()\nmethods.step(closure)" in message


@pytest.mark.parametrize("scaled", [False, True])
def test_first_gradients_that_are_not_finite_skip_both_halves(scaled: bool) -> None:
    climb, model, data = Climb(), net(), batches(3, bad=1)
    chain = Methods(climb)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0) if scaled else None
    acted = []
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0, scaler=scaler):
        for x, y in chain.batches(data):

            def evaluate(x: Tensor = x, y: Tensor = y) -> None:
                loss = chain.loss(model(x), y)
                (scaler.scale(loss) if scaler else loss).backward()

            before = state(model)
            acted.append(chain.step(evaluate))
            assert same_bits(before, state(model)) is not acted[-1]
        assert chain.context.step == 2
    assert acted == [True, False, True] and climb.repeats == 2
    assert scaler is None or scaler.get_scale() == 32.0
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_the_second_pass_under_a_scaler_is_unscaled_too() -> None:
    ours, theirs, data = net(), net(), batches()
    chain, scaler = Methods(Climb(0.2)), torch.amp.GradScaler("cpu", init_scale=256.0)
    with chain.attach(ours, sgd(ours), duration="1ep", data=data, seed=0, scaler=scaler):
        for x, y in chain.batches(data):

            def evaluate(x: Tensor = x, y: Tensor = y) -> None:
                scaler.scale(chain.loss(ours(x), y)).backward()

            assert chain.step(evaluate)
    own_loop(Methods(Climb(0.2)), theirs, data, epochs=1, closure=True)
    assert same_bits(state(ours), state(theirs))


def test_a_second_pass_that_overflows_skips_the_step() -> None:
    class Leap(Climb):
        def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
            parameters = list(context.model.parameters())
            kept = [p.detach().clone() for p in parameters]
            with torch.no_grad():
                for p in parameters:
                    p.mul_(float("inf"))
            assert again is not None
            again()
            with torch.no_grad():
                for p, old in zip(parameters, kept, strict=True):
                    p.copy_(old)
            return True

    model, data, chain = net(), batches(1), Methods(Leap())
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    before = state(model)
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0, scaler=scaler):
        for x, y in chain.batches(data):
            assert chain.step(lambda x=x, y=y: scaler.scale(chain.loss(model(x), y)).backward()) is False
    assert same_bits(before, state(model))


@pytest.mark.parametrize("parts", [2, 3])
def test_a_second_pass_in_parts_is_refused(parts: int) -> None:
    # The closure of an earlier part would read the loop variables of the last one, so nothing can be repeated safely.
    with pytest.raises(Conflict, match=f"Climb.*parts={parts}"):
        own_loop(Methods(Climb(0.2)), net(), batches(3), closure=True, parts=parts)


def test_a_closure_in_parts_without_a_second_pass_equals_the_whole_batch() -> None:
    whole, pieces = net(dtype=torch.float64), net(dtype=torch.float64)
    data = [(x.double(), y) for x, y in batches(3)]
    own_loop(Methods(Shrink()), whole, data)
    own_loop(Methods(Shrink()), pieces, data, closure=True, parts=3)
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


# --- averaged weights ------------------------------------------------------------------------------------------------


def test_averages_swap_values_in_place_and_back() -> None:
    class Mean(Method):
        card = card("weights")

        def start(self, context: Context) -> None:
            self.pairs = [(p, torch.zeros_like(p)) for p in context.model.parameters()]

        def averages(self) -> list[tuple[Tensor, Tensor]]:
            return self.pairs

        def weights(self, context: Context) -> None:
            pass

    model, chain, data = net(), Methods(Mean()), batches()
    before, places = state(model), [p.data_ptr() for p in model.parameters()]
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        with chain.averaged():
            assert all(not p.any() for p in model.parameters())
            assert [p.data_ptr() for p in model.parameters()] == places
        assert same_bits(before, state(model))
        with pytest.raises(ZeroDivisionError), chain.averaged():
            raise ZeroDivisionError
        assert same_bits(before, state(model))
        for x, y in chain.batches(data):
            chain.loss(model(x), y).backward()
            chain.step()


def test_averaged_without_averages_changes_nothing() -> None:
    model, chain = net(), Methods()
    before = state(model)
    with chain.attach(model, sgd(model), duration="1ep", data=batches(), seed=0), chain.averaged():
        assert same_bits(before, state(model))


# --- going on in mid-epoch -------------------------------------------------------------------------------------------


class Rows:
    """A loader without a place to begin; unlike a DataLoader it draws nothing from the global generator."""

    indexed, examples = True, 45

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class Restartable:
    """A loader that can begin in mid-epoch."""

    def __init__(self, data: list[Any], start: int = 0) -> None:
        self.data, self.start = data, start

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data[self.start :])


def through_file(value: Any) -> Any:
    """As a checkpoint on disk, which must load without executing anything."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Loop:
    """A user's loop that can be stopped after some steps and continued from what it saved."""

    def __init__(self, scaled: bool = False) -> None:
        self.model = net(dropout=0.3, norm=True)
        self.optimizer = sgd(self.model)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 15)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3) if scaled else None
        self.chain = Methods(Keep(), Shift(), Jitter(), Weigh(), Shrink(), Refuse(), Decay())
        self.seen: list[Tensor] = []

    def parts(self) -> dict[str, Any]:
        named = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "chain": self.chain}
        return named | ({"scaler": self.scaler} if self.scaler else {})

    def run(self, loader: Any, *, stop: int | None = None, saved: Any = None) -> Any:
        """Three epochs; with `stop` the state after so many steps is returned."""
        indexed: Any = loader(0)
        done = 0
        with self.chain.attach(
            self.model,
            self.optimizer,
            duration="3ep",
            data=indexed,
            seed=4,
            scheduler=self.scheduler,
            scaler=self.scaler,
        ):
            if saved is not None:
                for name, part in self.parts().items():
                    part.load_state_dict(saved[name])
                torch.set_rng_state(saved["generator"])
            first, at = self.chain.next_batch
            for epoch in range(first, 3):
                for x, y in self.chain.batches(loader(at if epoch == first else 0)):
                    self.seen.append(x.clone())
                    loss = self.chain.loss(self.model(x), y)
                    (self.scaler.scale(loss) if self.scaler else loss).backward()
                    self.chain.step()
                    done += 1
                    if done == stop:
                        whole = {name: part.state_dict() for name, part in self.parts().items()}
                        return through_file(whole | {"generator": torch.get_rng_state()})
        return None


@pytest.mark.parametrize("kind", ["read up to the place", "starts there itself"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("stop", [1, 5, 8])
def test_saved_and_restored_in_mid_epoch_equals_uninterrupted(kind: str, scaled: bool, stop: int) -> None:
    rows = list(DataLoader(Indexed(examples()), batch_size=9))

    def loader(start: int) -> Any:
        if kind == "starts there itself":
            made = Restartable(rows, start)
            made.indexed, made.examples = True, 45  # type: ignore[attr-defined]
            return made
        return Rows(rows)

    torch.manual_seed(2)
    whole = Loop(scaled)
    whole.run(loader)
    torch.manual_seed(2)
    first, second = Loop(scaled), Loop(scaled)
    saved = first.run(loader, stop=stop)
    torch.manual_seed(99)
    second.run(loader, saved=copy.deepcopy(saved))
    assert same_bits(whole.seen, first.seen + second.seen)
    assert same_bits(state(whole.model), state(second.model))
    assert same_bits(whole.optimizer.state_dict()["state"], second.optimizer.state_dict()["state"])


def test_next_batch_tells_where_to_begin() -> None:
    loop = Loop()
    rows = DataLoader(Indexed(examples()), batch_size=9)
    saved = loop.run(lambda start: rows, stop=7)
    other = Loop()
    with other.chain.attach(other.model, other.optimizer, duration="3ep", data=rows, seed=4):
        assert other.chain.next_batch == (0, 0)
        other.chain.load_state_dict(saved["chain"])
        assert other.chain.next_batch == (1, 2)
        for _ in other.chain.batches(rows):
            other.chain.loss(other.model(torch.zeros(5, 6)), torch.zeros(5, dtype=torch.long)).backward()
            other.chain.step()
        assert other.chain.next_batch == (2, 0)
        other.chain.finished = True  # type: ignore[attr-defined]


def test_the_recorder_is_part_of_the_state() -> None:
    rows = DataLoader(Indexed(examples()), batch_size=9)
    with Notebook():
        saved = Loop().run(lambda start: rows, stop=7)
    other = Loop()
    with Notebook() as notebook, other.chain.attach(other.model, other.optimizer, duration="3ep", data=rows, seed=4):
        other.chain.load_state_dict(saved["chain"])
        assert notebook.loaded == {"rows": 7}
        for _ in range(2):
            for x, y in other.chain.batches(rows):
                other.chain.loss(other.model(x), y).backward()
                other.chain.step()


def test_the_state_of_other_methods_is_refused() -> None:
    rows = DataLoader(Indexed(examples()), batch_size=9)
    saved = Loop().run(lambda start: rows, stop=3)
    chain, model = Methods(Keep()), net()
    with chain.attach(model, sgd(model), duration="3ep", data=rows, seed=4):
        with pytest.raises(InvalidValue, match="Shift"):
            chain.load_state_dict(saved["chain"])
        for x, y in chain.batches(rows):
            F.cross_entropy(model(x), y).backward()
            chain.step()
