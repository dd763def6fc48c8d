"""A curriculum by an earlier run's losses."""

from __future__ import annotations

import math
import types

import pytest
import torch
from torch import nan, nn

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop, Setup
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.view import TaskView
from reinvest.methods.select.curriculum import Curriculum, open_share, order_from

SIZE = 40
SCORES = [float((17 * i) % SIZE) for i in range(SIZE)]


def steps(method, total=10, *, size=SIZE, **view):
    """Each step sees every id: the ids that are open, and the share, at each of `total` steps."""
    ids = torch.arange(size)
    item = (ids, ids.float().unsqueeze(1), torch.zeros(size, dtype=torch.long))

    class Loader(list):
        indexed, examples = True, size

    loader = Loader([item] * total)
    loader.view = TaskView(**view)
    model, chain, found, kinds = nn.Linear(1, 2), Methods(method), [], []
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), duration="1ep", data=loader, seed=0):
        for x, y in chain.batches(loader):
            found.append(chain._now.batch.ids.tolist())
            kinds.append(method.kind(chain.context))
            chain.loss(model(x), y).backward()
            chain.step()
    return found, kinds


def test_the_share_grows_in_a_straight_line():
    assert [open_share(p / 10, 0.3, 0.5) for p in range(11)] == pytest.approx(
        [0.3, 0.44, 0.58, 0.72, 0.86, 1, 1, 1, 1, 1, 1]
    )
    assert open_share(0.0, 0.3, 0.0) == 1.0 and open_share(0.0, 1.0, 0.5) == 1.0
    assert open_share(0.999, 0.5, 1.0) == pytest.approx(0.9995) and open_share(1.0, 0.5, 1.0) == 1.0


@pytest.mark.parametrize(("start", "until"), [(0.3, 0.5), (0.05, 1.0), (0.5, 0.2), (0.9, 0.0)])
def test_at_each_step_the_formulas_share_is_open(start, until):
    found, _ = steps(Curriculum(scores=SCORES, start=start, until=until), total=20)
    for step, ids in enumerate(found):
        share = 1.0 if step / 20 >= until else start + (1 - start) * (step / 20) / until
        count = math.ceil(share * SIZE - 0.5 - 1e-9)
        assert sorted(SCORES[i] for i in ids) == list(range(count)), "the easiest, none left out"


def test_directions_are_each_others_reverse():
    easy, _ = steps(Curriculum(scores=SCORES, start=0.5))
    hard, _ = steps(Curriculum(scores=SCORES, start=0.5, direction="hard first"))
    assert {SCORES[i] for i in easy[0]} == set(range(20)) and {SCORES[i] for i in hard[0]} == set(range(20, 40))
    assert torch.allclose(
        order_from(torch.tensor(SCORES)) + order_from(torch.tensor(SCORES), "hard first"), torch.ones(40).double()
    )
    with pytest.raises(UnknownName, match="easy first"):
        order_from(torch.tensor(SCORES), "best first")


def test_order_is_a_permutation_of_places():
    scores = torch.tensor([3.0, nan, 1.0, nan, 2.0, 5.0])
    order = order_from(scores)
    assert order.dtype == torch.float64
    assert (order * 6 - 0.5).round().long().sort().values.tolist() == list(range(6))
    known = torch.tensor([2, 4, 0, 5])
    assert order[known].tolist() == [(p + 0.5) / 6 for p in (0, 1, 4, 5)], "what was never seen is in the middle"
    distinct = torch.tensor([3.0, 1.0, 2.0, 5.0])
    turn = torch.tensor([2, 0, 3, 1])
    assert torch.equal(order_from(distinct[turn]), order_from(distinct)[turn])


def test_candidates_and_the_rest():
    scores = torch.tensor([3.0, 1.0, nan, 2.0, 9.0])
    order = order_from(scores, among=torch.tensor([0, 1, 2]))
    assert order.tolist() == pytest.approx([5 / 6, 1 / 6, 0.5, 0.5, 0.5])
    with pytest.raises(InvalidValue, match=r"0 \.\. 4"):
        order_from(scores, among=torch.tensor([7]))
    with pytest.raises(InvalidValue, match="at least one example has a score"):
        order_from(torch.full((3,), nan))
    with pytest.raises(InvalidValue, match="one number an id"):
        order_from(torch.zeros(2, 2))


def test_equal_scores_join_in_random_order():
    orders = torch.stack([order_from(torch.zeros(10), seed=s) for s in range(400)])
    assert float((orders.mean(0) - 0.5).abs().max()) < 4 * math.sqrt(1 / 12 / 400)
    assert torch.equal(orders[0], order_from(torch.zeros(10), seed=0))


def test_grown_data_join_in_the_middle():
    found, _ = steps(Curriculum(scores=SCORES, start=0.5, until=1.0), total=4, size=SIZE + 10)
    new = set(range(SIZE, SIZE + 10))
    assert not new & set(found[0]) and new <= set(found[1]), "nobody announced them: all at 1/2"
    found, _ = steps(Curriculum(scores=SCORES, start=0.5, until=1.0), total=4, size=SIZE + 10, examples=SIZE + 10)
    assert len(found[0]) == 25 and len(new & set(found[0])) == 5, "announced, they take places of their own"


def test_the_share_counts_training_examples_only():
    training = {i for i in range(SIZE) if SCORES[i] >= 20}
    roles = torch.tensor([1 if i in training else 2 for i in range(SIZE)], dtype=torch.uint8)
    found, _ = steps(Curriculum(scores=SCORES, start=0.4), roles=lambda: roles, examples=SIZE)
    assert sorted(SCORES[i] for i in training & set(found[0])) == list(range(20, 28))


def test_kinds_are_tenths_of_the_share():
    _, kinds = steps(Curriculum(scores=SCORES, start=0.3, until=0.5), total=20)
    assert kinds == ["0.3", "0.3", "0.4", "0.5", "0.5", "0.6", "0.7", "0.7", "0.8", "0.9", *["all"] * 10]
    assert steps(Curriculum(scores=SCORES, start=1.0))[1] == ["all"] * 10


def test_a_batch_is_never_empty():
    class Loader(list):
        indexed, examples = True, SIZE

    ids = torch.arange(SIZE)
    loader = Loader((i, i.float().unsqueeze(1), torch.zeros(len(i)).long()) for i in ids.split(2))
    method, model = Curriculum(scores=SCORES, start=0.1, until=1.0), nn.Linear(1, 2)
    chain, sizes = Methods(method), []
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), duration="1ep", data=loader, seed=0):
        for x, y in chain.batches(loader):
            sizes.append(len(x))
            chain.loss(model(x), y).backward()
            chain.step()
    assert len(sizes) == 20 and set(sizes) == {1, 2}


def test_balanced_ranks_open_every_class_alike():
    labels = torch.arange(SIZE) % 2
    loss = torch.tensor([SCORES]) + 100.0 * labels
    records = types.SimpleNamespace(
        history=lambda table: loss.T, places=None, namespace="", fingerprint="", hashes=None, roles=None, labels=labels
    )
    run = types.SimpleNamespace(id="feedfeedfeedfeed", status="finished", records=lambda: records)
    unbalanced = steps(Curriculum(run, 0.5))[0][0]
    assert {i % 2 for i in unbalanced} == {0}
    balanced = steps(Curriculum(run, 0.5, balance=True))[0][0]
    assert len(balanced) == 20 and len([i for i in balanced if i % 2]) == 10
    assert Curriculum(run).reuses() == [("feedfeedfeedfeed", "data")]


def test_any_number_of_nodes_gives_the_same_weights():
    results = [ChainLoop(Setup().plain(), [Curriculum(**Curriculum.example)], nodes=n).run().result() for n in (1, 2)]
    assert differences(*results) == []
