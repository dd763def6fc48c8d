"""Trial steps: what a step of a recipe costs, measured at places spread over its run, before any run begins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from .session import Session


def trial_seconds(session: Session, count: int, warmup: int = 0) -> list[float]:
    """Seconds of `count` steps spread evenly over the session's whole run, after `warmup` steps at its beginning.

    The session has the length of the real run, so that methods which act in a part of it find that part.
    """
    taken: list[float] = []
    with session.attached() as methods:
        context = methods.context
        source: Iterator[Any] = iter(())
        for trial in range(-warmup, count):
            context.step = max(0, trial) * session.total_steps // count
            batch = next(source, None)
            if batch is None:
                source = methods.batches(session.loader(*methods.next_batch))
                batch = next(source)
            begun = time.perf_counter()
            session.step(batch)
            if session.device.type == "cuda":
                # A step on a GPU is only queued when the call returns.
                torch.cuda.synchronize(session.device)
            if trial >= 0:
                taken.append(time.perf_counter() - begun)
    return taken
