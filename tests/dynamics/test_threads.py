"""Work on threads: each computes alone, errors come back, and the number of threads is as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from reinvest.dynamics._threads import each


@pytest.fixture(autouse=True)
def threads_are_given_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_work_is_done_on_threads_that_compute_alone_and_errors_come_back() -> None:
    met: list[tuple[int, str]] = []

    def work(item: int) -> None:
        met.append((torch.get_num_threads(), threading.current_thread().name))
        if item == 9:
            raise ValueError("nine")

    torch.set_num_threads(2)
    with pytest.raises(ValueError, match="nine"):
        each(work, range(10))
    assert torch.get_num_threads() == 2
    assert {threads for threads, _ in met} == {1}
    assert threading.current_thread().name not in {name for _, name in met}


@pytest.mark.parametrize("threads", [1, 3])
def test_every_item_is_worked_on_and_counted_in_turn(threads: int) -> None:
    torch.set_num_threads(threads)
    met: set[int] = set()
    counts: list[int] = []
    each(met.add, range(20), counts.append)
    each(met.add, [], counts.append)
    assert met == set(range(20)) and counts == list(range(1, 21))
