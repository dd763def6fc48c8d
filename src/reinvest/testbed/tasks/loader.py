"""One epoch of a task in batches, from any batch on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...core.errors import InvalidValue
from ...core.streams import stream
from ...core.view import TaskView
from .sources import Source


def _whole(what: str, value: object, low: int, high: int | None, remedy: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        allowed = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise InvalidValue(f"{what} is a whole number {allowed}, got {value!r}; {remedy}")
    return value


def _views(views: object) -> tuple[int, int] | None:
    right = isinstance(views, tuple) and [type(v) for v in views] == [int, int] and views[1] >= 0
    if views is not None and not right:
        raise InvalidValue(
            f"views is (seed, epoch) of the draws to replay, got {views!r}; leave it out for the loader's own"
        )
    return views  # type: ignore[return-value]


class EpochLoader:
    """Batches (ids int64 [B], x [B, ...], y int64 [B]) of one split and one epoch; iterating again gives the same.

    Training batches come in the order that (seed, epoch) draws and all have `batch_size` rows: the rest is dropped. The
    random views of their rows are drawn from the same, or from `views`, another (seed, epoch), which replays that epoch.
    Other splits come in their fixed order, whole, whatever the seed. `len` counts the batches of the whole epoch, also
    when iteration starts at a later one.
    """

    indexed = True
    """Says that the first element of a batch is the ids."""

    def __init__(
        self,
        source: Source,
        ids: Tensor,
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        view: TaskView | None = None,
        views: tuple[int, int] | None = None,
    ) -> None:
        rows = len(ids)
        most = rows if training else None
        _whole("batch_size", batch_size, 1, most, f"choose a size that the {rows} examples of the split can fill")
        self._length = rows // batch_size if training else -(-rows // batch_size)
        self._start = _whole("start", start, 0, self._length, "start at a batch of this epoch")
        self._epoch = _whole("epoch", epoch, 0, None, "count epochs from 0")
        self._source, self._seed, self._training = source, seed, training
        self.views = _views(views) or (seed, epoch) if training else None
        """(seed, epoch) from which the views are drawn; None outside training, where nothing is."""
        self.examples = source.rows
        """Largest id of the task, over all splits, plus 1."""
        self.view = TaskView(examples=source.rows) if view is None else view
        """What the chain and a run's records may know of the task."""
        if training:
            ids = ids[stream(seed, "order", epoch).permutation(rows)][: self._length * batch_size]
        self._batches = torch.split(ids.to(source.device), batch_size)

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        return self._length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches from `start` on."""
        batches = self._batches[self._start :]
        seed, epoch = self.views or (self._seed, self._epoch)
        read = self._source.read(batches, seed=seed, epoch=epoch, training=self._training)
        for ids, (x, y) in zip(batches, read, strict=True):
            yield ids, x, y
