"""Training on a subset by an earlier run's losses."""

from __future__ import annotations

import math
import types

import pytest
import torch
from torch import nn

from reinvest._testing.compare import differences
from reinvest._testing.loops import ChainLoop, Setup
from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue, MissingIds, UnknownName
from reinvest.core.view import TaskView
from reinvest.methods.select.subset import Subset

SIZE = 60
SCORES = [float((37 * i) % SIZE) for i in range(SIZE)]
TOP = {i for i in range(SIZE) if SCORES[i] >= 45}
"""The quarter of the ids with the highest scores."""


class Ids:
    """A loader of these ids, with nothing to learn."""

    indexed = True

    def __init__(self, ids, batch=12, **view):
        self.ids, self.batch = torch.as_tensor(ids), batch
        self.examples = int(self.ids.max()) + 1
        self.view = TaskView(**view)

    def __len__(self):
        return math.ceil(len(self.ids) / self.batch)

    def __iter__(self):
        for ids in self.ids.split(self.batch):
            yield ids, ids.float().unsqueeze(1), torch.zeros(len(ids), dtype=torch.long)


def seen(method, loader=None, *, epochs=1, seed=0, nodes=None):
    """The ids of every step, [epochs][steps][rows], and the kinds of the steps."""
    loader = Ids(range(SIZE)) if loader is None else loader
    model, chain = nn.Linear(1, 2), Methods(method, virtual_nodes=nodes)
    found, kinds = [], []
    with chain.attach(
        model, torch.optim.SGD(model.parameters(), lr=0.0), duration=f"{epochs}ep", data=loader, seed=seed
    ):
        for _ in range(epochs):
            found.append([])
            for x, y in chain.batches(loader):
                assert len(x) == len(y) == len(chain._now.batch.ids)
                found[-1].append(chain._now.batch.ids.tolist())
                assert found[-1][-1] == x[:, 0].long().tolist()
                kinds.append(method.kind(chain.context))
                chain.loss(model(x), y).backward()
                chain.step()
    return found, kinds


def flat(steps):
    return [i for rows in steps for i in rows]


def test_an_epoch_sees_exactly_the_chosen_examples():
    (found,), kinds = seen(Subset(scores=SCORES, share=0.25, replay=0.0, cap=1.0))
    assert len(found) == 5 and kinds == ["subset"] * 5, "steps of an epoch stay"
    assert flat(found) == sorted(TOP), "each once, in the order of the loader"
    (found,), _ = seen(Subset(scores=SCORES, share=0.25, which="lowest", replay=0.0))
    assert {SCORES[i] for i in flat(found)} == set(range(15))
    (found,), _ = seen(Subset(scores=SCORES, share=0.25, replay=0.0, cap=0.75))
    assert {SCORES[i] for i in flat(found)} == set(range(30, 45)), "the highest quarter is left to chance"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("replay", [0.0, 0.25, 1.0])
def test_counts_and_parts_are_exact_in_every_epoch(share, replay):
    epochs, _ = seen(Subset(scores=SCORES, share=share, replay=replay, cap=1.0), Ids(range(SIZE), 30), epochs=3)
    count, at_random = int(share * SIZE), int(replay * int(share * SIZE) + 0.5)
    by_score = {i for i in range(SIZE) if SCORES[i] >= SIZE - (count - at_random)}
    for steps in epochs:
        ids = flat(steps)
        assert len(ids) == len(set(ids)) == count and by_score <= set(ids)
    replayed = [set(flat(steps)) - by_score for steps in epochs]
    if 2 * at_random <= SIZE - len(by_score):
        assert not replayed[0] & replayed[1], "others in each epoch, until all have had their turn"


def test_the_choice_does_not_depend_on_batches_order_or_nodes():
    method = Subset(scores=SCORES, share=0.5)
    wanted = set(flat(seen(method)[0][0]))
    shuffled = torch.randperm(SIZE, generator=torch.Generator().manual_seed(5)).tolist()
    for loader, nodes in ((Ids(shuffled, 12), None), (Ids(shuffled, 30), 3), (Ids(range(SIZE), 20), 2)):
        assert set(flat(seen(method, loader, nodes=nodes)[0][0])) == wanted
    assert set(flat(seen(method, seed=1)[0][0])) != wanted


def test_a_batch_is_never_empty():
    method = Subset(scores=SCORES, share=0.05, replay=0.0, cap=1.0)
    (found,), _ = seen(method, Ids(range(SIZE), 5))
    chosen = {i for i in range(SIZE) if SCORES[i] >= SIZE - 3}
    assert len(found) == 12
    for k, rows in enumerate(found):
        own = [i for i in range(5 * k, 5 * k + 5) if i in chosen]
        assert rows == own if own else len(rows) == 1
    # Which one it is belongs to the ids, not to their places.
    backward = [i for k in range(12) for i in range(5 * k + 4, 5 * k - 1, -1)]
    (again,), _ = seen(method, Ids(backward, 5))
    assert [sorted(rows) for rows in again] == [sorted(rows) for rows in found]


def test_what_was_never_seen_is_always_trained_on():
    unseen = [None if i % 3 == 0 else s for i, s in enumerate(SCORES)]
    (found,), _ = seen(Subset(scores=unseen, share=0.25, replay=0.2), Ids(range(SIZE + 20), 20))
    ids = set(flat(found))
    assert set(range(0, SIZE, 3)) | set(range(SIZE, SIZE + 20)) <= ids, "holes, and data that have grown"
    assert len(ids & {i for i in range(SIZE) if i % 3}) == 10, "a quarter of the 40 with a score"


def test_the_share_counts_training_examples_only():
    """Ids of validation and test have scores too where the earlier run was split in another way."""
    roles = torch.tensor([1, 1, 1, 2] * 15, dtype=torch.uint8)
    training = [i for i in range(SIZE) if i % 4 != 3]
    loader = Ids(training, 9, roles=lambda: roles, examples=SIZE)
    (found,), _ = seen(Subset(scores=SCORES, share=0.4, replay=0.5), loader)
    assert len(flat(found)) == 18
    outside = [s if i % 4 == 3 else None for i, s in enumerate(SCORES)]
    with pytest.raises(InvalidValue, match="got 15 of other examples"):
        seen(Subset(scores=outside), loader)


def test_all_examples_are_used_after_the_end():
    epochs, kinds = seen(Subset(scores=SCORES, share=0.5, until=0.5), epochs=2)
    assert kinds == ["subset"] * 5 + ["all"] * 5
    assert len(flat(epochs[0])) == 30 and flat(epochs[1]) == list(range(SIZE))
    assert flat(seen(Subset(scores=SCORES, until=0.0))[0][0]) == list(range(SIZE))


def test_share_1_reads_nothing_and_touches_nothing():
    method = Subset("0123456789abcdef", share=1.0)
    model, loader = nn.Linear(1, 2), Ids(range(SIZE))
    chain = Methods(method)
    chain.reports = False
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.0), duration="1ep", data=loader, seed=0):
        batch = Batch(torch.zeros(3, 1), torch.zeros(3), torch.arange(3), ())
        assert method.select(batch, chain.context) is batch
    assert method.reuses() == [("0123456789abcdef", "data")]


def test_steps_of_two_kinds_are_timed_apart():
    loop = ChainLoop(Setup(), [Subset(**(Subset.example | {"until": 0.5}))])
    with loop.attached():
        loop.train()
        kinds = {row["kind"] for row in loop.chain.clock["strata"]}
    assert len(kinds) == 2, kinds


def test_one_run_or_several_by_object_and_id():
    loss = torch.tensor([SCORES])
    records = types.SimpleNamespace(
        history=lambda table: loss.T,
        places=None,
        namespace="toy",
        fingerprint="",
        hashes=None,
        roles=None,
        labels=torch.arange(SIZE) % 2,
    )
    run = types.SimpleNamespace(id="feedfeedfeedfeed", status="finished", records=lambda: records)
    given = flat(seen(Subset(scores=SCORES))[0][0])
    for reference in (run, [run], [run, run]):
        method = Subset(reference)
        assert flat(seen(method)[0][0]) == given
        assert method.reuses() == [("feedfeedfeedfeed", "data")]
    assert Subset(run).spec() == {"name": "Subset", "run": "feedfeedfeedfeed"}
    balanced = set(flat(seen(Subset(run, replay=0.0, balance=True))[0][0]))
    assert len(balanced) == 30 and len([i for i in balanced if i % 2]) == 15
    with pytest.raises(InvalidValue, match=r"'toy'.*'town'"):
        seen(Subset(run), Ids(range(SIZE), namespace="town"))


def test_what_it_cannot_use_is_refused():
    for bad, rule in (
        ({"scores": [1.0, math.nan]}, "scores are finite numbers"),
        ({"scores": [1.0, "a lot"]}, "scores are finite numbers"),
        ({"scores": [None, None]}, "at least one"),
        ({"scores": torch.ones(3)}, "write scores=tensor.tolist"),
        ({"run": object()}, "an earlier run is a Run or its id"),
        ({"run": ["", "x"]}, "an earlier run is a Run or its id"),
        ({}, "pass one of the two"),
    ):
        with pytest.raises(InvalidValue, match=rule):
            Subset(**bad)
    with pytest.raises(UnknownName, match="highest"):
        Subset(scores=[1.0], which="best")
    with pytest.raises(UnknownName, match="mean"):
        Subset(scores=[1.0], loss="median")
    model = nn.Linear(1, 2)
    plain = [(torch.zeros(2, 1), torch.zeros(2).long())]
    with (
        pytest.raises(MissingIds, match="Indexed"),
        Methods(Subset(scores=[1.0])).attach(
            model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=plain, seed=0
        ),
    ):
        pass


def test_any_number_of_nodes_gives_the_same_weights():
    """As long as none of them is left without an example, which is when a choice depends on the rest of the batch."""
    results = [ChainLoop(Setup().plain(), [Subset(**Subset.example)], nodes=n).run().result() for n in (1, 2)]
    assert differences(*results) == []
