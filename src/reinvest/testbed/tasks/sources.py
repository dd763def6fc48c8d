"""Where a task's rows come from: tensors in memory, or data sets that hand out one example at a time."""

from __future__ import annotations

import bisect
import copy
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...core.errors import DataError, InvalidValue
from ...core.probes import in_form_of
from ...core.streams import key
from . import content, views
from .held import Rows

Collate = Callable[[list[Any]], Any]
Batches = Iterator[tuple[Tensor, Tensor]]


class Source(Protocol):
    """Rows 0..rows-1 of a task, read in batches."""

    rows: int
    device: torch.device
    moves: bool
    """Whether training views may move pixels or tokens against the stored example (crop, flip, unknown transforms)."""
    augmentation: str
    """What is drawn for a training view, in words; other words mean other views."""
    in_memory: bool
    """Whether all rows can be read in a moment."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        ...

    def read(self, batches: Sequence[Tensor], *, seed: int, epoch: int, training: bool) -> Batches:
        """(x, y) of each batch of ids [B]; `training` turns random views on."""
        ...

    def hashes(self, ids: Tensor) -> Tensor:
        """64-bit hashes of the content and label of rows `ids` [B]: int64 [B]."""
        ...

    def to(self, device: torch.device) -> Source:
        """The same rows with what is in memory kept on `device`."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """A source whose examples have one label each, which another source of the same rows may have otherwise."""

    def labels(self) -> Tensor:
        """The label of every row: int64 [rows], on the host."""
        ...

    def relabelled(self, labels: Tensor) -> Source:
        """The same rows with these labels, int64 [rows] on the host; inputs in memory are shared."""
        ...


class TensorSource:
    """Rows in memory, in their own type; batches are gathered, cropped, flipped and normalised as a whole."""

    in_memory = True

    def __init__(self, held: Rows, *, shift: Tensor, factor: Tensor, augment: bool, pad: int) -> None:
        x, y = held.x, held.y
        self.rows, self.input_shape, self.device, self.moves = len(y), tuple(x.shape[1:]), x.device, augment
        self.augmentation = f"crop-flip, pad {pad}" if augment else "none"
        self._y, self._shift, self._factor, self._pad = y, shift, factor, pad
        # With augmentation the padded set takes the place of the plain one, whose rows are its middle crops.
        self._views = held.windows(pad) if augment else None
        self._x = x if self._views is None else self._views[:, pad, pad]

    def _plain(self, ids: Tensor) -> Tensor:
        if self._views is None:
            return self._x.index_select(0, ids)
        middle = torch.full_like(ids, self._pad)
        return views.crops(self._views, ids, middle, middle)

    def labels(self) -> Tensor:
        """The label of every row: int64 [rows]."""
        return self._y.cpu()

    def relabelled(self, labels: Tensor) -> TensorSource:
        """The same rows with labels int64 [rows]."""
        other = copy.copy(self)
        other._y = labels.to(self.device)
        return other

    def stored(self, ids: Tensor) -> Tensor:
        """Inputs of rows `ids` [B] as they are kept, before scaling: [B, ...]."""
        return self._plain(ids)

    def replaced(self, ids: Tensor, x: Tensor) -> TensorSource:
        """A copy in which rows `ids` [B] hold inputs x [B, ...], given as they are kept; this source stays as it is."""
        rows = self._x.clone(memory_format=torch.contiguous_format)
        rows[ids] = x
        other = copy.copy(self)
        other._views = None if self._views is None else views.windows(rows, self._pad)
        other._x = rows if other._views is None else other._views[:, self._pad, self._pad]
        return other

    def _normalised(self, x: Tensor) -> Tensor:
        return x.to(torch.float32).sub_(self._shift).mul_(self._factor)

    def read(self, batches: Sequence[Tensor], *, seed: int, epoch: int, training: bool) -> Batches:
        """(x float32 [B, ...], y int64 [B]) of each batch of ids."""
        if self._views is None or not training or not batches:
            for ids in batches:
                yield self._normalised(self._plain(ids)), self._y[ids]
            return
        down, right, flipped = views.draw_views(seed, epoch, torch.cat(list(batches)), self._pad)
        sizes = [len(ids) for ids in batches]
        drawn = zip(batches, *(torch.split(part, sizes) for part in (down, right, flipped)), strict=True)
        for ids, *view in drawn:
            yield self._normalised(views.crop_flip(self._views, ids, *view)), self._y[ids]

    def hashes(self, ids: Tensor) -> Tensor:
        """64-bit hashes of rows `ids` [B]: int64 [B]."""
        return content.row_hashes(self._plain(ids), self._y[ids])

    def to(self, device: torch.device) -> TensorSource:
        """The same rows on another device."""
        moved = TensorSource.__new__(TensorSource)
        moved.rows, moved.input_shape, moved.device, moved._pad = self.rows, self.input_shape, device, self._pad
        moved.moves, moved.augmentation = self.moves, self.augmentation
        moved._y, moved._shift, moved._factor = (t.to(device) for t in (self._y, self._shift, self._factor))
        if self._views is None:
            moved._views, moved._x = None, self._x.to(device)
        else:
            # A window view copied as it is would be written out crop by crop: pad again instead.
            moved._views = views.windows(self._x.to(device), self._pad)
            moved._x = moved._views[:, self._pad, self._pad]
        return moved


@contextmanager
def _generators_kept() -> Iterator[None]:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _seed_generators(value: int) -> None:
    # The default CPU generator only: torch.manual_seed would also reset the generators of the accelerators.
    torch.default_generator.manual_seed(value)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)


class _Items(Dataset[Any]):
    """Items of several data sets under one numbering, each read under generators seeded by (seed, epoch, id)."""

    def __init__(self, parts: Sequence[Any], seed: int, epoch: int, labels: Tensor | None = None) -> None:
        self._parts, self._seed, self._epoch, self._labels = parts, seed, epoch, labels
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def _item(self, row: int) -> tuple[Any, Any]:
        part = bisect.bisect_right(self._ends, row)
        item = self._parts[part][row - (self._ends[part - 1] if part else 0)]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InvalidValue(
                f"Task.from_datasets needs items (x, y), got {type(item).__name__} for row {row}; "
                "wrap the data set so that it returns two things"
            )
        return item[0], item[1] if self._labels is None else in_form_of(item[1], int(self._labels[row]))

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]) -> list[tuple[Any, Any]]:
        items = []
        with _generators_kept():
            for row in rows:
                _seed_generators(key(self._seed, "item", self._epoch, row))
                items.append(self._item(row))
        return items


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))


def _hashes_and_labels(items: list[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
    pairs = [(_tensor(x), _tensor(y)) for x, y in items]
    hashes = torch.tensor([content.row_hash(x, y) for x, y in pairs], dtype=torch.int64)
    return hashes, torch.stack([y.to(torch.int64) for _, y in pairs])


def _labels(items: list[tuple[Any, Any]]) -> Tensor:
    return torch.stack([_tensor(y).to(torch.int64) for _, y in items])


class DatasetSource:
    """Rows of map-style data sets, read through torch's DataLoader, training rows first."""

    moves = True
    augmentation = "whatever the data sets draw"
    in_memory = False

    def __init__(self, parts: Sequence[Any], *, workers: int, collate: Collate | None) -> None:
        self._parts, self._workers, self._collate = parts, workers, collate
        self._labels: Tensor | None = None
        self.rows, self.device = sum(len(part) for part in parts), torch.device("cpu")
        self.input_shape = tuple(_tensor(_Items(parts, 0, 0)[0][0]).shape)

    def _load(self, batches: Sequence[Tensor], seed: int, epoch: int, collate: Collate | None) -> Iterator[Any]:
        # Given a generator, DataLoader leaves the global one alone when it seeds its workers.
        own = torch.Generator().manual_seed(key(seed, "workers", epoch))
        return iter(
            DataLoader(
                _Items(self._parts, seed, epoch, self._labels),
                batch_sampler=[ids.tolist() for ids in batches],
                num_workers=min(self._workers, len(batches)),
                collate_fn=collate,
                generator=own,
            )
        )

    def read(self, batches: Sequence[Tensor], *, seed: int, epoch: int, training: bool) -> Batches:
        """(x, y int64 [B]) of each batch of ids; x as collated, floating point as float32."""
        draws = (seed, epoch) if training else (0, 0)
        for x, y in self._load(batches, *draws, self._collate):
            yield x.to(torch.float32) if x.is_floating_point() else x, y.to(torch.int64)

    def hashes(self, ids: Tensor) -> Tensor:
        """64-bit hashes of rows `ids` [B], with random transforms drawn for seed 0 and epoch 0: int64 [B]."""
        found = [h for h, _ in self._load(torch.split(ids, 256), 0, 0, _hashes_and_labels)]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)

    def checked_hashes(self, ids: Tensor, classes: int) -> Tensor:
        """`hashes(ids)`, looking at the labels too. Raises DataError for one outside 0..classes-1."""
        found = []
        for hashes, labels in self._load(torch.split(ids, 256), 0, 0, _hashes_and_labels):
            check_labels(labels, classes)
            found.append(hashes)
        return torch.cat(found)

    def labels(self) -> Tensor:
        """The label of every row (each is read): int64 [rows], or [rows, ...] where an example has more."""
        if self._labels is None:
            return torch.cat(list(self._load(torch.split(torch.arange(self.rows), 256), 0, 0, _labels)))
        return self._labels

    def relabelled(self, labels: Tensor) -> DatasetSource:
        """The same rows with labels int64 [rows]."""
        other = copy.copy(self)
        other._labels = labels
        return other

    def to(self, device: torch.device) -> DatasetSource:
        """Itself: the rows are made one by one on the host."""
        return self


def check_labels(labels: Tensor, classes: int) -> None:
    """Raises DataError if a label lies outside 0..classes-1."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"labels are whole numbers from 0 to classes - 1 = {classes - 1}, got {low}..{high}; "
            "renumber them or pass the right classes"
        )
