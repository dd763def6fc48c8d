"""No re-use of a run, or of one that stands behind it, that saw the test examples: by content where ids were given anew."""

from __future__ import annotations

import warnings

import pytest
import torch

from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.methods.losses.distillation import Distill
from reinvest.methods.select.subset import Subset
from reinvest.methods.surgery.warm_start import WarmStart
from reinvest.reuse.fit import ReuseWarning
from reinvest.store import Store
from teaching import FACTS, Rows, columns, other, still
from toy_loops import net, own_loop

HASHES = torch.arange(45) * 1_000_003 + 17


def numbered(train, validation, test, *, hashed=True, unhashed=(), **more):
    """A loader of these rows that numbers them as `Task.from_datasets` does: training first, then validation, then test."""
    listed = [*train, *validation, *test]
    x, y = columns()
    roles = torch.tensor([1] * len(train) + [2] * len(validation) + [3] * len(test), dtype=torch.uint8)
    hashes = HASHES[listed].masked_fill(torch.isin(torch.tensor(listed), torch.tensor(list(unhashed))), 0)
    view = {"fingerprint": f"{listed}", "roles": lambda: roles, "hashes": (lambda: hashes) if hashed else None}
    return Rows(x[listed], y[listed], range(len(train)), **(view | more))


def past_run(store, loader, *methods, name="past", **more):
    """A finished run of an own loop with weights and records."""
    with store.record(name, task="toy", facts=FACTS, **more) as writer:
        model = other()
        own_loop(Methods(*methods), model, loader, epochs=2, optimizer=still(model))
        writer.save_weights(model.state_dict())
    return writer.run


def begin(method, loader):
    own_loop(Methods(method), net(), loader, epochs=1)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs") as opened:
        yield opened


def test_training_rows_that_became_test_rows_are_found_although_ids_moved(store):
    past = past_run(store, numbered(range(20), range(20, 25), range(40, 45)))
    with pytest.raises(InvalidValue, match=r"got 10 of them among the training or validation examples"):
        begin(WarmStart(past), numbered(range(20, 45), [], range(10)))


def test_fewer_training_rows_and_the_same_test_rows_are_no_leak(store):
    past = past_run(store, numbered(range(30), [], range(40, 45)))
    begin(WarmStart(past), numbered(range(15), [], range(40, 45)))


def test_rows_without_a_hash_are_no_match(store):
    past = past_run(store, numbered(range(20), [], range(40, 45), unhashed=range(5)))
    begin(WarmStart(past), numbered(range(10, 30), [], range(35, 45), unhashed=range(35, 40)))
    with pytest.raises(InvalidValue, match="got 2 of them"):
        begin(WarmStart(past), numbered(range(10, 30), [], [3, 4, 5, 6, 44], unhashed=range(5)))


@pytest.mark.parametrize("hashed", [True, False], ids=["equal hashes", "no hashes"])
def test_ids_that_mean_the_same_examples_are_compared(store, hashed):
    past = past_run(store, numbered(range(20), [], range(40, 45), hashed=hashed))
    roles = torch.tensor([3] * 4 + [1] * 16 + [3] * 5, dtype=torch.uint8)
    with pytest.raises(InvalidValue, match="got 4 of them"):
        begin(
            WarmStart(past), numbered(range(20), [], range(40, 45), hashed=hashed, roles=lambda: roles, fingerprint="2")
        )


@pytest.mark.parametrize("hashed", [(False, False), (True, False), (False, True)])
def test_ids_of_two_data_sets_are_not_compared_and_that_is_said(store, hashed):
    past = past_run(store, numbered(range(20), [], range(40, 45), hashed=hashed[0], namespace="birds"))
    with pytest.warns(ReuseWarning, match="cannot be checked") as caught:
        begin(WarmStart(past), numbered(range(10), [], range(15), hashed=hashed[1], namespace="flowers"))
    assert "birds" in str(caught[0].message) and "flowers" in str(caught[0].message)


def test_two_data_sets_are_compared_by_content(store):
    past = past_run(store, numbered(range(20), [], range(40, 45), namespace="birds"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begin(WarmStart(past), numbered(range(10), [], range(35, 45), namespace="flowers"))
    with pytest.raises(InvalidValue, match="got 3 of them"):
        begin(WarmStart(past), numbered(range(20, 30), [], range(17, 25), namespace="flowers"))


# ---- what stands behind a run ---------------------------------------------------------------------------------------


def split(test, fingerprint, unused=()):
    """All rows under their own numbers, with these for testing and some in no split."""
    x, y = columns()
    roles = torch.ones(45, dtype=torch.uint8)
    roles[list(test)], roles[list(unused)] = 3, 0
    train = [i for i in range(45) if i not in (*test, *unused)]
    return Rows(x, y, train, fingerprint=fingerprint, roles=lambda: roles, hashes=lambda: HASHES)


@pytest.fixture
def child(store):
    """A run that never had the last five rows, warm started from one that trained on them."""
    first = past_run(store, split(range(5), "first"), name="first")
    second = split(range(5), "second", unused=range(40, 45))
    second.views = (0, 0)  # whose draws its views are: what replaying them asks for
    return past_run(store, second, WarmStart(first), name="child", records={"views": 1})


@pytest.mark.parametrize(
    "method",
    [
        lambda run: Distill(run, source="views"),
        lambda run: Distill(run, source="records"),
        lambda run: Subset(run, 0.5),
        lambda run: WarmStart(run),
    ],
    ids=["views", "records", "scores", "warm start"],
)
def test_a_run_whose_origin_saw_the_test_examples_is_refused(store, child, method):
    with pytest.raises(InvalidValue, match="got 5 of them among the training or validation examples"):
        begin(method(child), split(range(40, 45), "third"))
