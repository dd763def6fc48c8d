"""The nearest series of each series, by Euclidean distance or by dynamic time warping within a band.

Series are float [N, E], an example a row. Distances are roots of sums of squared differences. Answers are those of
comparing every pair, in bounded memory: pairs are handled in blocks, and bounds only leave out what cannot be nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InvalidValue, unknown
from .euclid import References

__all__ = ["Neighbours", "dtw", "envelope", "euclidean", "lower_bound", "nearest"]

METRICS = ("euclidean", "dtw")
BLOCK = 1 << 22
"""Pairs that are looked at together: 16 MiB of distances."""
CHECKED = 1 << 13
"""Series whose gaps are looked for together."""
BOUNDED = 1 << 14
"""Pairs whose lower bounds are taken together, which stay in the cache."""
WARPED = 1 << 13
"""Pairs that are warped together: what is kept of each stays in the cache, and calls cost little."""


@dataclass(frozen=True)
class Neighbours:
    """distance: float32 [N, k], ascending; index: int64 [N, k] into the references, the lower one first where equal."""

    distance: Tensor
    index: Tensor


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Distances of every row of `a` [A, E] to every row of `b` [B, E]: float32 [A, B], differences taken one by one.

    Raises InvalidValue for other shapes and for NaN.
    """
    a, b = _series(a, b)
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def dtw(a: Tensor, b: Tensor, band: int) -> Tensor:
    """Dynamic time warping of every row of `a` [A, E] with every row of `b` [B, E]: float32 [A, B].

    band: epochs by which matched places may differ (Sakoe and Chiba); 0 is the Euclidean distance, E - 1 no bound at
    all. Never above the Euclidean distance. Raises InvalidValue for other shapes, NaN, or a band outside [0, E).
    """
    a, b = _series(a, b)
    _check_band(band, a.shape[1])
    rows = torch.arange(len(a)).repeat_interleave(len(b))
    return _dtw(a, b, rows, torch.arange(len(b)).repeat(len(a)), band).view(len(a), len(b))


def _dtw(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor, band: int) -> Tensor:
    """Warped distances of the pairs (a[rows], b[columns]): float32 [P]."""
    a, b = a.T.contiguous(), b.T.contiguous()
    found = torch.empty(len(rows))

    # On one thread: operations are so short that threads would wait for each other longer than they take.
    for start in range(0, len(rows), WARPED):
        part = slice(start, start + WARPED)
        pairs = a.index_select(1, rows[part]), b.index_select(1, columns[part])
        found[part] = torch.from_numpy(_warp(pairs[0].numpy(), pairs[1].numpy(), band))
    return found


def _warp(a: Any, b: Any, band: int) -> Any:
    """One block of pairs, series as columns [E, P]: the table is filled row by row along a band of 2 x band + 1 places."""
    length, width = len(a), 2 * band + 1
    above = np.full((width + 1, a.shape[1]), np.inf, np.float32)
    row, best = above.copy(), np.empty((width, a.shape[1]), np.float32)
    above[band] = 0.0
    for i in range(length):
        low, high = max(0, i - band), min(length, i + band + 1)
        first, last = low - i + band, high - i + band
        cost = np.subtract(b[low:high], a[i], out=row[first:last])
        np.multiply(cost, cost, out=cost)
        # In the row above, the same place of the band is one column to the left.
        np.minimum(above[first:last], above[first + 1 : last + 1], out=best[first:last])
        row[first] += best[first]
        for place in range(first + 1, last):
            np.minimum(best[place], row[place - 1], out=best[place])
            np.add(row[place], best[place], out=row[place])
        above, row = row, above
    return np.sqrt(above[band])


def envelope(series: Tensor, band: int) -> tuple[Tensor, Tensor]:
    """(lowest, highest) value within `band` epochs of each place: float32 [N, E] both."""
    padded = series.unsqueeze(1)
    kernel = 2 * band + 1
    high = torch.nn.functional.max_pool1d(padded, kernel, 1, band).squeeze(1)
    low = -torch.nn.functional.max_pool1d(-padded, kernel, 1, band).squeeze(1)
    return low, high


def lower_bound(a: Tensor, b: Tensor, band: int) -> Tensor:
    """What `dtw(a, b, band)` is at least: the distance of `a`'s rows to the envelopes of `b`'s, float32 [A, B] (Keogh 2002).

    Raises as `dtw` does.
    """
    a, b = _series(a, b)
    _check_band(band, a.shape[1])
    low, high = (bound.T.contiguous() for bound in envelope(b, band))
    total = a.new_zeros(len(a), len(b))
    step = max(1, BOUNDED // max(1, len(b)))
    for start in range(0, len(a), step):
        part = total[start : start + step]
        for e in range(a.shape[1]):
            x = a[start : start + step, e, None]
            # At most one of the two is above 0.
            part += torch.maximum(x - high[e], low[e] - x).clamp_(min=0).square_()
    return total.sqrt_()


def nearest(
    series: Tensor, references: Tensor, k: int, metric: str = "euclidean", *, band: int = 0, among: int | None = None
) -> Neighbours:
    """The k references nearest to each series, found on the CPU: by Euclidean distance on as many threads as torch may use.

    series [N, E], of any float type and read in parts, so that a table on disk may be passed; references [M, E]. k: from
    1 to M. metric: "euclidean", or "dtw" within `band` epochs. among: with dtw, only the so many references that are
    nearest by Euclidean distance are looked at (k to M): faster, and some neighbours are missed (of 1,000 references over
    90 epochs 5 k found 92 %, 10 k found 99 %); None looks at all that the lower bound does not rule out, so that the
    answer is exact. Raises InvalidValue for other shapes, numbers that are not finite and values outside these ranges,
    UnknownName for another metric.
    """
    _check_series(series, references)
    references = references.float()
    if metric not in METRICS:
        raise unknown("metric of series", metric, METRICS)
    count = len(references)
    _check_count("k", k, 1, count)
    if among is not None:
        _check_count("among", among, k, count)
    if metric == "euclidean":
        return Neighbours(*References(references).nearest(series, k))
    _check_band(band, series.shape[1])
    near, step = References(references), max(1, BLOCK // (among or count))
    found = []
    for start in range(0, len(series), step):
        part = series[start : start + step].float()
        seeds = near.nearest(part, among or k)
        if among is None:
            found.append(_nearest_exactly(part, references, k, band, seeds[0][:, -1]))
        else:
            found.append(_nearest_among(part, references, k, band, seeds[1]))
    found = found or [Neighbours(torch.zeros(0, k), torch.zeros(0, k, dtype=torch.int64))]
    return Neighbours(torch.cat([f.distance for f in found]), torch.cat([f.index for f in found]))


def _nearest_among(part: Tensor, references: Tensor, k: int, band: int, index: Tensor) -> Neighbours:
    rows = torch.arange(len(part)).repeat_interleave(index.shape[1])
    return _first(_dtw(part, references, rows, index.flatten(), band).view_as(index), index, k)


def _nearest_exactly(part: Tensor, references: Tensor, k: int, band: int, bound: Tensor) -> Neighbours:
    # The k nearest by Euclidean distance cannot be nearer by it than by warping: their largest is a bound on the k-th.
    possible = lower_bound(part, references, band) <= bound.unsqueeze(1) * (1 + 1e-4)
    distance = part.new_full(possible.shape, math.inf)
    rows, columns = possible.nonzero(as_tuple=True)
    distance[possible] = _dtw(part, references, rows, columns, band)
    return _first(distance, torch.arange(len(references)).expand_as(distance), k)


def _first(distance: Tensor, index: Tensor, k: int) -> Neighbours:
    """The k smallest of each row, equal ones by index."""
    order = index.argsort(dim=1)
    distance, index = distance.gather(1, order), index.gather(1, order)
    order = distance.argsort(dim=1, stable=True)[:, :k]
    return Neighbours(distance.gather(1, order), index.gather(1, order))


def _series(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    _check_series(a, b)
    return a.float(), b.float()


def _check_series(a: Tensor, b: Tensor) -> None:
    for one in (a, b):
        if not isinstance(one, Tensor) or one.ndim != 2 or not one.shape[1] or one.shape[1] != b.shape[1]:
            got = [list(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in (a, b)]
            raise InvalidValue(
                f"series are tables [N, E] of equally many epochs, got {got[0]} and {got[1]}; use the epochs that both have"
            )
        missing = sum(int((~part.isfinite()).any(1).sum()) for part in torch.split(one, CHECKED) if not _finite(part))
        if missing:
            what = "NaN" if bool(one.isnan().any()) else "infinity"
            raise InvalidValue(
                f"series have a number for every epoch, got {what} in {missing} of {len(one)}; leave those examples out or "
                "fill the gaps"
            )


def _finite(part: Tensor) -> bool:
    """Whether all numbers are; the sum tells in most cases, and faster."""
    return math.isfinite(float(part.float().sum())) or bool(part.isfinite().all())


def _check_band(band: int, length: int) -> None:
    if not isinstance(band, int) or isinstance(band, bool) or not 0 <= band < length:
        raise InvalidValue(
            f"a band is a whole number of epochs from 0 to {length - 1}, got {band!r}; 2 to 5 % of the epochs are usual"
        )


def _check_count(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidValue(
            f"{name} is a whole number from {low} to {high} (the references), got {value!r}; use more references or a "
            "smaller number"
        )
