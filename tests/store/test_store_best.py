"""The best run of a store: on validation, the smallest of a loss, and no guess where a name tells no direction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from reinvest.core.errors import InvalidValue, StoreError
from reinvest.store import Run, RunWriter, Store

Record = Callable[..., AbstractContextManager[RunWriter]]


def test_best_reads_validation_of_finished_runs_only(
    store: Store, record: Record, finished: Callable[..., Run]
) -> None:
    finished(seed=1, accuracy=0.9, split="test")
    low, high = finished(seed=2, accuracy=0.4), finished(seed=3, accuracy=0.6)
    with pytest.raises(ZeroDivisionError), record(seed=4) as writer:
        writer.log(split="validation", accuracy=0.99)
        raise ZeroDivisionError
    with record(seed=5, task="other") as writer:
        writer.log(split="validation", accuracy=0.99)
    assert store.best(task="digits", metric="accuracy") == high
    assert store.best(task="digits", metric="accuracy", higher_is_better=False) == low
    with record(seed=6) as big:
        big.log(split="validation", loss=2.0)
    with record(seed=7) as small:
        small.log(split="validation", loss=1.0)
    assert store.best(task="digits", metric="loss") == small.run
    with pytest.raises(StoreError, match=r"has 'f1' \(they have: accuracy, loss\)"):
        store.best(task="digits", metric="f1")
    with pytest.raises(StoreError, match="none of the 0 finished runs of task 'nothing'"):
        store.best(task="nothing", metric="accuracy")


@pytest.mark.parametrize("metric", ["val_loss", "Loss/validation", "errorRate", "perplexity"])
def test_of_a_loss_the_smallest_is_the_best_however_it_is_called(store: Store, record: Record, metric: str) -> None:
    runs = []
    for seed, value in enumerate((0.7, 0.2, 0.9)):
        with record(seed=seed) as writer:
            writer.log(split="validation", **{metric: value})
        runs.append(writer.run)
    assert store.best(task="digits", metric=metric) == runs[1]
    assert store.best(task="digits", metric=metric, higher_is_better=True) == runs[2]


def test_a_metric_whose_direction_nobody_told_is_refused(store: Store, record: Record) -> None:
    runs = []
    for seed, value in enumerate((12.0, 7.0)):
        with record(seed=seed) as writer:
            writer.log(split="validation", fid=value)
        runs.append(writer.run)
    with pytest.raises(InvalidValue, match=r"got 'fid'.*; pass higher_is_better=True or False") as refused:
        store.best(task="digits", metric="fid")
    assert "\n" not in str(refused.value)
    assert store.best(task="digits", metric="fid", higher_is_better=False) == runs[1]
    # A name that no run has is a slip of the pen, whatever its direction.
    with pytest.raises(StoreError, match=r"has 'fidd' \(they have: fid\)"):
        store.best(task="digits", metric="fidd")
