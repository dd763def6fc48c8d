"""LAWA."""

from __future__ import annotations

import pytest
import torch

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop
from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue
from reinvest.methods.weights.ema import EMA
from reinvest.methods.weights.lawa import LAWA, mean_tensors
from reinvest.testing import Setup


class Watched(LAWA):
    """LAWA whose snapshots are noted."""

    def __init__(self, last=5, every="1ep", *, start=0.0):
        super().__init__(last, every, start=start)
        self.seen = []

    def weights(self, context):
        """Note the step and the weights."""
        before = self._snapshots
        super().weights(context)
        if self._snapshots is not before:
            self.seen.append((context.step, [p.detach().double().clone() for p in context.model.parameters()]))


def run(method):
    loop = ChainLoop(Setup(), [method])
    loop.run()
    return loop


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"every": "1ep"}, [3, 6, 9]),
        ({"every": "2st"}, [1, 3, 5, 7, 9]),
        ({"every": "4st"}, [1, 5, 9]),
        ({"every": 0.5}, [1, 5, 9]),
        ({"every": "2st", "start": 0.5}, [5, 7, 9]),
        ({"every": "1st", "start": 1.0}, [9]),
        ({"every": "5ep"}, [9]),
    ],
)
def test_snapshots_are_counted_back_from_the_end(arguments, steps):
    method = Watched(last=2, **arguments)
    loop = run(method)
    assert [step for step, _ in method.seen] == steps
    latest = [weights for _, weights in method.seen[-2:]]
    for k, parameter in enumerate(loop.model.parameters()):
        assert torch.allclose(parameter.double(), sum(w[k] for w in latest) / len(latest), atol=1e-7)


def test_the_mean_of_equal_tensors_is_itself_bit_for_bit():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        values = [torch.randn(1000).to(dtype), torch.tensor([1e-30, -3e30, 0.1]).to(dtype)]
        for k in (1, 2, 3, 5, 7, 11):
            found = mean_tensors([values] * k)
            assert all(torch.equal(m.to(dtype), v) for m, v in zip(found, values, strict=True))
    assert torch.equal(
        mean_tensors([[torch.tensor([1.0])], [torch.tensor([2.0])], [torch.tensor([6.0])]])[0], torch.tensor([3.0])
    )


def test_16_bit_means_are_kept_in_32():
    values = [[torch.tensor([1.0]).bfloat16()], [torch.tensor([1.0078125]).bfloat16()]]
    (mean,) = mean_tensors(values)
    assert mean.dtype == torch.float32 and mean.item() == 1.00390625


def test_evaluation_sees_the_model_before_the_first_snapshot_and_the_mean_after():
    loop = ChainLoop(Setup(), [LAWA(last=3, every="1st", start=0.5)])
    with loop.attached():
        loop.train(until=4)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
        with loop.chain.averaged():
            assert differences(dict(loop.model.state_dict()), own) == []
        loop.train(until=7)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
        with loop.chain.averaged():
            changed = set(differences(dict(loop.model.state_dict()), own))
        # A bias before batch norm has no gradient, so its mean may be itself; counts are not averaged.
        assert changed | {"/body.0.bias"} == {f"/{n}" for n in own if "num_batches" not in n}
        assert differences(dict(loop.model.state_dict()), own) == []
        loop.train()
        with loop.chain.averaged():
            evaluated = {n: t.clone() for n, t in loop.model.state_dict().items()}
    assert differences(dict(loop.model.state_dict()), evaluated) == [], "what is kept is what was evaluated"


def test_a_run_that_ends_before_its_first_snapshot_keeps_its_weights():
    loop = ChainLoop(Setup(), [LAWA(start=0.9)])
    with loop.attached():
        loop.train(until=2)
        own = {n: t.clone() for n, t in loop.model.state_dict().items()}
    assert differences(dict(loop.model.state_dict()), own) == []


def test_snapshots_are_a_kind_of_step():
    loop = ChainLoop(Setup(), [LAWA(every="1ep")])
    kinds = []
    with loop.attached():
        for step in range(9):
            kinds.append(loop.chain.members[0].kind(loop.chain.context))
            loop.train(until=step + 1)
    assert kinds == [None, None, "snapshot"] * 3


def test_snapshots_of_another_model_and_a_second_average_are_refused():
    first, second = ChainLoop(Setup(), [LAWA(every="1st")]), ChainLoop(Setup(batch_norm=False), [LAWA(every="1st")])
    with first.attached():
        first.train(until=1)
        state = first.chain.members[0].state_dict()
    with second.attached():
        with pytest.raises(InvalidValue, match="same model"):
            second.chain.members[0].load_state_dict(state)
        second.train()
    with pytest.raises(Conflict, match="EMA"):
        Methods(EMA(), LAWA())


def test_a_snapshot_does_not_follow_the_model():
    loop = ChainLoop(Setup(), [LAWA(last=1, every="1st")])
    with loop.attached():
        loop.train(until=2)
        kept = {n: t.clone() for n, t in loop.model.state_dict().items()}
        with torch.no_grad():
            for tensor in (*loop.model.parameters(), *loop.model.buffers()):
                if tensor.is_floating_point():
                    tensor.add_(1)
        with loop.chain.averaged():
            assert differences(dict(loop.model.state_dict()), kept) == []
