"""SWA."""

from __future__ import annotations

import pytest
import torch

from reinvest._testing.compare import differences, distance
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.core.method import Method
from reinvest.methods.weights.ema import EMA
from reinvest.methods.weights.lawa import LAWA
from reinvest.methods.weights.swa import SWA, add_to_mean
from reinvest.testing import HandLoop, Setup


class Notes(HandLoop):
    """The plain loop, whose state after every step is noted."""

    def start(self):
        self.states = []

    def weights(self):
        self.states.append({n: t.detach().double().clone() for n, t in self.model.state_dict().items()})


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"start": 0.0}, [3, 6, 9]),
        ({"start": 0.0, "every": "1st"}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"start": 0.5, "every": "2st"}, [5, 7, 9]),
        ({"start": 0.75, "every": "1st"}, [7, 8, 9]),
        ({"start": 2 / 3, "every": 1 / 3}, [6, 9]),
        ({}, [9]),
        ({"start": 1.0, "every": "1st"}, [9]),
    ],
)
def test_the_result_is_the_equal_mean_of_the_plain_loops_weights_at_the_stated_times(arguments, steps):
    """Weights at every time count alike, the first as much as the last; training itself is not touched."""
    states = Notes(Setup()).run().states
    loop = ChainLoop(Setup(), [SWA(**arguments)]).run()
    for name, found in loop.model.state_dict().items():
        if "num_batches" in name:
            assert int(found) == 9
            continue
        mean = sum(states[k - 1][name] for k in steps) / len(steps)
        assert torch.allclose(found.double(), mean, rtol=1e-6, atol=1e-7), name


def test_the_means_closed_form():
    torch.manual_seed(0)
    values = [[torch.randn(50), torch.randn(3, 4)] for _ in range(40)]
    mean = [torch.empty_like(t) for t in values[0]]
    for k, value in enumerate(values, start=1):
        add_to_mean(mean, value, k)
        for i, own in enumerate(mean):
            wanted = torch.stack([v[i].double() for v in values[:k]]).mean(0)
            assert torch.allclose(own.double(), wanted, rtol=0, atol=1e-6)
    with pytest.raises(InvalidValue, match="got count=0;"):
        add_to_mean(mean, mean, 0)


def test_the_mean_of_equal_tensors_is_itself_bit_for_bit_and_16_bit_means_are_kept_in_32():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        value = [torch.tensor([1e-30, -3e30, 0.1, 0.3]).to(dtype)]
        mean = [torch.empty(4, dtype=torch.promote_types(dtype, torch.float32))]
        for k in range(1, 30):
            add_to_mean(mean, value, k)
        assert torch.equal(mean[0].to(dtype), value[0])
    mean = [torch.empty(1)]
    add_to_mean(mean, [torch.tensor([1.0]).bfloat16()], 1)
    add_to_mean(mean, [torch.tensor([1.0078125]).bfloat16()], 2)
    assert mean[0].item() == 1.00390625


def test_it_is_lawa_only_where_lawas_window_never_slides():
    """LAWA keeps the newest few, SWA all: with a window as long as the run they are one, with a shorter one not."""
    swa = ChainLoop(Setup(), [SWA(0.0, every="1st")]).run().result()["model"]
    assert distance(ChainLoop(Setup(), [LAWA(last=9, every="1st")]).run().result()["model"], swa) < 1e-6
    assert distance(ChainLoop(Setup(), [LAWA(last=3, every="1st")]).run().result()["model"], swa) > 1e-3


def test_memory_is_one_copy_however_many_times():
    method = SWA(0.0, every="1st")
    loop = ChainLoop(Setup(), [method])
    with loop.attached():
        loop.train(until=1)
        first = [t.data_ptr() for t in method._mean]
        loop.train(until=8)
        assert method._count == 8 and [t.data_ptr() for t in method._mean] == first and method._snapshots == []


def test_evaluation_sees_the_model_before_the_first_time_and_the_mean_after():
    loop = ChainLoop(Setup(), [SWA(0.5, every="1st")])
    with loop.attached():
        loop.train(until=4)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
        with loop.chain.averaged():
            assert differences(dict(loop.model.state_dict()), own) == []
        loop.train(until=7)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
        with loop.chain.averaged():
            changed = set(differences(dict(loop.model.state_dict()), own))
        # Buffers of batch norm are averaged too, counts are not; a bias before batch norm has no gradient.
        assert changed | {"/body.0.bias"} == {f"/{n}" for n in own if "num_batches" not in n}
        assert differences(dict(loop.model.state_dict()), own) == []
        loop.train()
        with loop.chain.averaged():
            evaluated = {n: t.clone() for n, t in loop.model.state_dict().items()}
    assert differences(dict(loop.model.state_dict()), evaluated) == [], "what is kept is what was evaluated"


def test_a_run_that_ends_before_the_first_time_keeps_its_weights():
    loop = ChainLoop(Setup(), [SWA(0.9)])
    with loop.attached():
        loop.train(until=2)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
    assert differences(dict(loop.model.state_dict()), own) == []


def test_the_learning_rate_is_the_loops_alone():
    loop = ChainLoop(Setup(), [SWA(0.0, every="1st")])
    with loop.attached():
        for k in range(1, 10):
            loop.optimizer.param_groups[0]["lr"] = 0.1 / k
            loop.train(until=k)
            assert loop.optimizer.param_groups[0]["lr"] == 0.1 / k
    with pytest.raises(InvalidValue, match="takes the arguments: start, every"):
        SWA(lr=0.05)


def test_a_mean_of_another_model_and_a_second_average_are_refused():
    first, second = ChainLoop(Setup(), [SWA(0.0, every="1st")]), ChainLoop(Setup(batch_norm=False), [SWA()])
    with first.attached():
        first.train(until=1)
        state = first.chain.members[0].state_dict()
    with second.attached():
        with pytest.raises(InvalidValue, match="same model"):
            second.chain.members[0].load_state_dict(state)
        second.train()
    others: tuple[Method, ...] = (EMA(), LAWA())
    for other in others:
        with pytest.raises(Conflict, match="SWA excludes"):
            Methods(other, SWA())
