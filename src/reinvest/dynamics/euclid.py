"""Which references are nearest to each of very many series, by Euclidean distance: the answer of comparing every pair.

Series are taken a chunk at a time and put into leaves of similar ones. Of each series and reference three coordinates
along which the references differ most are known, and the length of what these leave out: points at such places are never
further apart than the series themselves. A leaf is compared by a matrix product only with the references whose place is
near enough, centred on the leaf, where float32 is fine enough to tell neighbours apart. An error bound of that product
says which neighbours could have come out in a wrong order; only these are compared again, in double precision.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._threads import each

__all__ = ["References"]

Array = np.ndarray[Any, Any]

CHUNK = 1 << 17
"""Series that are sorted into leaves together."""
LEAF = 2048
"""Series of a leaf, at most; few leaves cost less to form, small ones need fewer references."""
PART = 1024
"""Series of a leaf that are compared together at most, those with the nearest neighbours first; a quarter if need be."""
HOT = 1 << 20
"""Pairs that are compared together where that makes no less than a quarter of a part: 4 MiB, which stay in the cache."""
PRODUCTS = 1 << 23
"""Pairs that are compared together at most: 32 MiB."""
SEEDS = 64
"""References that a leaf is compared with first, beyond k: their k-th distance bounds that of all."""
AXES = 3
TOPS = 128
"""Groups of references whose minima are sorted to find a bound on the k-th distance."""
EVEN = 16
"""Numbers of references are multiples of it: a product is written 1.6 times as fast in rows that fill whole cache lines."""
UNIT = 2.0**-24
"""Half the distance from 1 to the next float32."""
COARSE = 1e-4
"""Squared distances that may be wrong by more than this share are taken again in double precision."""
NONE = np.int64(0x7F800000) << 32
"""The key of no reference: an infinite distance."""
PAIRS = 1 << 14
"""Pairs that are compared again together."""


class References:
    """References float32 [M, E], looked up by `nearest`."""

    def __init__(self, table: Tensor):
        self.table = table.contiguous()
        some = self.table[:: max(1, len(table) // CHUNK * 32)].double()
        mean = some.mean(0)
        axes = torch.linalg.eigh((some - mean).T @ (some - mean))[1][:, -AXES:].flip(1)
        self._mean, self._axes = mean.float(), axes.float().contiguous()
        self._kept = threading.local()
        self._rounding = 4 * (table.shape[1] + 8) * UNIT
        self._places = np.concatenate([self._placed(part) for part in torch.split(self.table, LEAF)], axis=1)
        self._low, self._high = self._bounds(self._places)

    def nearest(self, series: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(distance float32 [N, k] ascending, index int64 [N, k], the lower one first where equal).

        series: finite, [N, E] of any float type, read a chunk at a time. Distances are right to 5 parts in 100,000, and
        by far the most of them to 2 in a million.
        """
        distance = torch.empty(len(series), k)
        index = torch.empty(len(series), k, dtype=torch.int64)
        for start in range(0, len(series), CHUNK):
            chunk = series[start : start + CHUNK].contiguous()
            places = np.empty((len(self._places), len(chunk)), np.float32)

            def place(at: int, chunk: Tensor = chunk, places: Array = places) -> None:
                places[:, at : at + LEAF] = self._placed(chunk[at : at + LEAF].float())

            each(place, range(0, len(chunk), LEAF))
            leaves = _leaves(places, LEAF)
            room = _Found(leaves, k)

            def look(number: int, chunk: Tensor = chunk, places: Array = places, room: _Found = room) -> None:
                self._leaf(chunk, np.sort(room.leaves[number]), places, k, room.of(number))

            each(look, range(len(leaves)))
            room.put(distance[start : start + CHUNK], index[start : start + CHUNK])
        return distance, index

    # ---- places --------------------------------------------------------------------------------------------------

    def _placed(self, series: Tensor) -> Array:
        """Coordinates of each series, and last the square of its length: float32 [AXES + 1, n]."""
        centred = series - self._mean
        along = (centred @ self._axes).T
        return torch.cat([along, centred.square_().sum(1).unsqueeze(0)]).numpy()

    def _bounds(self, places: Array) -> tuple[Array, Array]:
        """Bounds on each place in spite of rounding: along the axes, and the length of what they leave out."""
        along, size = places[:-1], places[-1]
        rest = size - np.square(along).sum(0)
        error, blur = self._rounding * np.sqrt(size), self._rounding * size
        low = np.concatenate([along - error, np.sqrt(np.maximum(rest - blur, 0))[None]])
        high = np.concatenate([along + error, np.sqrt(np.maximum(rest + blur, 0))[None]])
        return low, high

    def _hull(self, places: Array) -> tuple[Array, Array]:
        """Bounds [AXES + 1, 1] on the places of all series of a leaf, as `_bounds` has them for each."""
        along, size = places[:-1], places[-1]
        rest, most = size - np.square(along).sum(0), float(size.max())
        error, blur = self._rounding * most**0.5, self._rounding * most
        low = np.append(along.min(1) - error, max(float(rest.min()) - blur, 0.0) ** 0.5)
        high = np.append(along.max(1) + error, max(float(rest.max()) + blur, 0.0) ** 0.5)
        return low.astype(np.float32)[:, None], high.astype(np.float32)[:, None]

    # ---- one leaf ------------------------------------------------------------------------------------------------

    def _leaf(self, chunk: Tensor, ids: Array, places: Array, k: int, found: tuple[Array, Array, Array]) -> None:
        """Neighbours of the series `ids` of a chunk, written to `found`: ids, distances and numbers of references."""
        here = places[:, ids]
        low, high = self._hull(here)
        apart = np.maximum(self._low - high, low - self._high)
        apart = np.square(np.maximum(apart, 0)).sum(0)
        series = chunk.index_select(0, torch.from_numpy(ids)).float()
        centre = series.mean(0)
        series -= centre
        size = series.square().sum(1).numpy()
        bound = self._bound(series, size, centre, here, k)
        order = np.argsort(bound)
        ids, size, bound = ids[order], size[order], bound[order]
        found[0][:] = ids
        series = series.index_select(0, torch.from_numpy(order))
        by = np.argsort(apart)
        apart = apart[by]
        # A margin for the rounding of the bounds themselves.
        needed = np.maximum(np.searchsorted(apart, bound * 1.00001, "right"), k)
        needed = (needed + EVEN - 1) // EVEN * EVEN
        by = np.pad(by, (0, EVEN))[: needed[-1]]
        table = self.table.index_select(0, torch.from_numpy(by))
        table -= centre
        sizes = table.square().sum(1)
        sizes[len(apart) :] = torch.inf
        step = max(1, min(PART, max(PART // 4, HOT // len(by)), PRODUCTS // len(by)))
        product, mask = self._room(step * len(by))
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            rows, count = torch.from_numpy(ids[part]), int(needed[part][-1])
            near = product[: len(rows) * count].view(len(rows), count)
            torch.addmm(sizes[:count], series[part], table[:count].T, alpha=-2.0, out=near)
            keys, error = _smallest(near.numpy(), mask, size[part], sizes.numpy(), by, k, series.shape[1])
            squares = _settle(keys, error, k, partial(_read, chunk, rows), self.table)
            np.sqrt(squares, out=found[1][part])
            found[2][part] = keys[:, :k] & 0xFFFFFFFF

    def _room(self, pairs: int) -> tuple[Tensor, Array]:
        """Room for products and marks of so many pairs, which a thread keeps: fresh memory costs more than filling it."""
        if len(getattr(self._kept, "mask", ())) < pairs:
            self._kept.product, self._kept.mask = torch.empty(pairs), np.empty(pairs, bool)
        return self._kept.product, self._kept.mask

    def _bound(self, series: Tensor, size: Array, centre: Tensor, places: Array, k: int) -> Array:
        """What the squared distance of the k-th neighbour is at most: float32 [n], from a few references."""
        middle = places[:-1].mean(1)[:, None]
        likely = np.square(self._places[:-1] - middle).sum(0) + np.square(self._low[-1])
        count = min(len(likely), (k + SEEDS + EVEN - 1) // EVEN * EVEN)
        seeds = np.argpartition(likely, count - 1)[:count]
        table = self.table.index_select(0, torch.from_numpy(seeds)) - centre
        near = torch.addmm(table.square().sum(1), series, table.T, alpha=-2.0).numpy()
        near.sort(axis=1)
        found = near[:, k - 1]
        bound: Array = np.maximum(found + size, 0) + _rounding(size, _reach(found, size), series.shape[1])
        return bound


class _Found:
    """Answers in the order of leaves: written there one after the other, they are put to their rows in one go."""

    def __init__(self, leaves: list[Array], k: int):
        self.leaves = leaves
        self._ends = np.cumsum([len(leaf) for leaf in leaves])
        count = int(self._ends[-1])
        self._ids = np.empty(count, np.int64)
        self._distance, self._number = np.empty((count, k), np.float32), np.empty((count, k), np.int32)

    def of(self, number: int) -> tuple[Array, Array, Array]:
        """Room for the answers of leaf `number`."""
        part = slice(self._ends[number] - len(self.leaves[number]), self._ends[number])
        return self._ids[part], self._distance[part], self._number[part]

    def put(self, distance: Tensor, index: Tensor) -> None:
        """Answers to the rows of their series."""
        order = np.empty_like(self._ids)
        order[self._ids] = np.arange(len(order))
        at = torch.from_numpy(order)
        torch.index_select(torch.from_numpy(self._distance), 0, at, out=distance)
        index.copy_(torch.from_numpy(self._number).index_select(0, at))


def _read(table: Tensor, rows: Tensor, some: Array) -> Tensor:
    return table.index_select(0, rows[torch.from_numpy(some)]).float()


def _leaves(places: Array, most: int) -> list[Array]:
    """Rows of places in halves along the coordinate that varies most, until no part has more than `most`."""
    keys = np.concatenate([places[:-1], np.sqrt(np.maximum(places[-1:] - np.square(places[:-1]).sum(0), 0))])
    todo, done = [np.arange(places.shape[1])], []
    while todo:
        part = todo.pop()
        if len(part) <= most:
            done.append(part)
            continue
        some = part[:: max(1, len(part) // 256)]
        axis = int(keys[:, some].std(1).argmax())
        half = len(part) // 2
        order = np.argpartition(keys[axis][part], half)
        todo += [part[order[:half]], part[order[half:]]]
    return done


# ---- the smallest of each row ------------------------------------------------------------------------------------------


def _rounding(size: Array, reach: Array, epochs: int) -> Array:
    """How far off a squared distance may be: size is |x|^2, reach what |r|^2 is at most.

    A dot product of E terms is off by E half-units of |x| |r| at most.
    """
    error: Array = (2 * (epochs + 4) * UNIT) * np.sqrt(size * reach) + (16 * UNIT) * (size + reach)
    return error


def _reach(near: Array, size: Array) -> Array:
    """What |r|^2 is at most of a reference that is `near` + `size` from x: the triangle inequality."""
    length: Array = np.sqrt(size) + np.sqrt(np.maximum(near + size, 0))
    return length * length


def _smallest(
    near: Array, mask: Array, size: Array, sizes: Array, by: Array, k: int, epochs: int
) -> tuple[Array, Array]:
    """Keys int64 [n, more than k], ascending, of all references that may be among the k nearest, and the error of each row.

    near: |r|^2 - 2 x r, float32 [n, m]; size: |x|^2; sizes: |r|^2. A key is the squared distance's bits (float32) above
    the reference's number in `by`.
    """
    count, width = near.shape
    group = max(1, width // max(TOPS, 2 * k))
    if group > 1:
        tops = torch.from_numpy(near)[:, : width // group * group].view(count, group, -1).amin(1).numpy()
    else:
        tops = near.copy()
    # The k-th of the groups' minima is not below the k-th of all.
    tops.sort(axis=1)
    bound = tops[:, k - 1]
    limit = bound + 2 * _rounding(size, _reach(bound, size), epochs)
    at = np.flatnonzero(np.less_equal(near, limit[:, None], out=mask[: near.size].reshape(near.shape)))
    rows = np.arange(count)
    start = np.searchsorted(at, np.arange(count + 1) * width)
    met = np.diff(start)
    squares = near.reshape(-1)[at] + np.repeat(size, met)
    keys = np.maximum(squares, 0).view(np.int32).astype(np.int64) << 32
    place = at - np.repeat(rows * width, met)
    keys |= by[place]
    columns = int(met.max()) + 1
    table = np.full((count, columns), NONE)
    table.reshape(-1)[np.arange(len(at)) + np.repeat(rows * columns - start[:-1], met)] = keys
    table.sort(axis=1)
    return table, _rounding(size, np.maximum.reduceat(sizes[place], start[:-1]), epochs)


def _settle(keys: Array, error: Array, k: int, rows: Callable[[Array], Tensor], references: Tensor) -> Array:
    """Squared distances of the k nearest, float32 [n, k]; keys whose order the error leaves open are put into order.

    Near neighbours that might change places and distances too small for the error are taken again in double precision.
    """
    first = _squares(keys[:, : k + 1])
    doubt = (first[:, 1:] <= first[:, :-1] + 2 * error[:, None]).any(1)
    doubt |= error > COARSE * first[:, 0]
    some = np.flatnonzero(doubt)
    if not len(some):
        return first[:, :k]
    table, margin = keys[some], error[some][:, None]
    squares = _squares(table)
    known = table < NONE
    again = known & (margin > COARSE * squares)
    close = (squares[:, 1:] <= squares[:, :-1] + 2 * margin) & known[:, 1:]
    again[:, 1:] |= close
    again[:, :-1] |= close
    where, column = np.nonzero(again)
    for start in range(0, len(where), PAIRS):
        row, place = where[start : start + PAIRS], column[start : start + PAIRS]
        number = table[row, place] & 0xFFFFFFFF
        apart = rows(some[row]).double()
        apart -= references.index_select(0, torch.from_numpy(number)).double()
        exact = apart.square_().sum(1).float().numpy()
        table[row, place] = (exact.view(np.int32).astype(np.int64) << 32) | number
    table.sort(axis=1)
    keys[some] = table
    first[some] = _squares(table[:, : k + 1])
    return first[:, :k]


def _squares(keys: Array) -> Array:
    return (keys >> 32).astype(np.int32).view(np.float32)
