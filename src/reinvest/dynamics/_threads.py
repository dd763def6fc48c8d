"""Work on many blocks of a table, a block on each thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

__all__ = ["each"]


def each(work: Callable[[Any], Any], items: Sequence[Any], done: Callable[[int], Any] | None = None) -> None:
    """`work` of each item, on as many threads as torch may use; each of them then computes alone.

    done: called with how many items are finished.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        for number, item in enumerate(items, 1):
            work(item)
            if done is not None:
                done(number)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for number, _ in enumerate(pool.map(work, items), 1):
                if done is not None:
                    done(number)
    finally:
        torch.set_num_threads(before)  # what a thread sets holds for those to come
