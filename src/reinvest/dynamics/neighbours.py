"""The nearest series of each series, by Euclidean distance or by dynamic time warping within a band.

Series are float [N, E], an example a row. Distances are roots of sums of squared differences. Answers are those of
comparing every pair, in bounded memory: pairs are handled in blocks, and bounds only leave out what cannot be nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InvalidValue, unknown

__all__ = ["Neighbours", "dtw", "envelope", "euclidean", "lower_bound", "nearest"]

METRICS = ("euclidean", "dtw")
BLOCK = 1 << 22
"""Pairs that are looked at together: 16 MiB of distances."""
SPARE = 8
"""Candidates beyond k that are looked at again: a matrix product rounds, and near ties may come out in another order."""


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
    rows = max(1, BLOCK // max(1, len(b)))
    return torch.cat([_dtw(part, b, band) for part in torch.split(a, rows)]) if len(a) else a.new_zeros(0, len(b))


def _dtw(a: Tensor, b: Tensor, band: int) -> Tensor:
    """One block: the table is filled along a band of 2 x band + 1 columns, all pairs at once."""
    length, width = a.shape[1], 2 * band + 1
    shape = (len(a), len(b))
    before = [a.new_full(shape, math.inf) for _ in range(width)]
    for i in range(length):
        row: list[Tensor] = []
        for offset in range(width):
            j = i + offset - band
            if not 0 <= j < length:
                row.append(a.new_full(shape, math.inf))
                continue
            cost = (a[:, i, None] - b[None, :, j]).square_()
            if i == 0 and j == 0:
                row.append(cost)
                continue
            # In the row above the same place of the band is one column to the left.
            best = before[offset]
            if offset + 1 < width:
                best = torch.minimum(best, before[offset + 1])
            if offset > 0:
                best = torch.minimum(best, row[offset - 1])
            row.append(cost.add_(best))
        before = row
    return before[band].sqrt()


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
    low, high = envelope(b, band)
    total = a.new_zeros(len(a), len(b))
    for e in range(a.shape[1]):
        x = a[:, e, None]
        total += (x - high[None, :, e]).clamp_(min=0).square_() + (low[None, :, e] - x).clamp_(min=0).square_()
    return total.sqrt_()


def nearest(
    series: Tensor, references: Tensor, k: int, metric: str = "euclidean", *, band: int = 0, among: int | None = None
) -> Neighbours:
    """The k references nearest to each series.

    series [N, E], references [M, E]; k: from 1 to M. metric: "euclidean", or "dtw" within `band` epochs. among: with
    dtw, only the so many references that are nearest by Euclidean distance are looked at (k to M): faster, and some
    neighbours are missed; None looks at all that the lower bound does not rule out, so that the answer is exact.
    Raises InvalidValue for other shapes, NaN and values outside these ranges, UnknownName for another metric.
    """
    series, references = _series(series, references)
    if metric not in METRICS:
        raise unknown("metric of series", metric, METRICS)
    count = len(references)
    _check_count("k", k, 1, count)
    if among is not None:
        _check_count("among", among, k, count)
    if metric == "dtw":
        _check_band(band, series.shape[1])
    rows = max(1, BLOCK // count)
    found = []
    for part in torch.split(series, rows):
        if metric == "euclidean":
            found.append(_nearest_euclidean(part, references, k))
        elif among is not None:
            found.append(_nearest_among(part, references, k, band, among))
        else:
            found.append(_nearest_dtw(part, references, k, band))
    empty = Neighbours(series.new_zeros(0, k), torch.zeros(0, k, dtype=torch.int64))
    found = found or [empty]
    return Neighbours(torch.cat([f.distance for f in found]), torch.cat([f.index for f in found]))


def _candidates(part: Tensor, references: Tensor, count: int) -> Tensor:
    """Indices [n, count] of the nearest references by a matrix product, whose rounding is up to 1e-3 of a distance."""
    # |x - r|^2 less the |x|^2 that all references of a row share.
    reduced = torch.addmm(references.square().sum(1), part, references.T, alpha=-2.0)
    return reduced.topk(count, dim=1, largest=False, sorted=False).indices


def _nearest_euclidean(part: Tensor, references: Tensor, k: int) -> Neighbours:
    index = _candidates(part, references, min(k + SPARE, len(references)))
    distance = (part.unsqueeze(1) - references[index]).square_().sum(2).sqrt_()
    return _first(distance, index, k)


def _nearest_among(part: Tensor, references: Tensor, k: int, band: int, among: int) -> Neighbours:
    index = _candidates(part, references, among)
    pairs = torch.stack([_dtw(row.unsqueeze(0), references[i], band)[0] for row, i in zip(part, index, strict=True)])
    return _first(pairs, index, k)


def _nearest_dtw(part: Tensor, references: Tensor, k: int, band: int) -> Neighbours:
    # The k nearest by Euclidean distance cannot be nearer by it than by warping: their largest is a bound on the k-th.
    seeds = _nearest_euclidean(part, references, k)
    bound = seeds.distance[:, -1:] * (1 + 1e-6)
    possible = lower_bound(part, references, band) <= bound
    distance = part.new_full(possible.shape, math.inf)
    # References that any series of the block may need are warped with the series that need them.
    for column in possible.any(0).nonzero()[:, 0].tolist():
        wanted = possible[:, column].nonzero()[:, 0]
        distance[wanted, column] = _dtw(part[wanted], references[column : column + 1], band)[:, 0]
    index = torch.arange(len(references)).expand_as(distance)
    return _first(distance, index, k)


def _first(distance: Tensor, index: Tensor, k: int) -> Neighbours:
    """The k smallest of each row, equal ones by index."""
    order = index.argsort(dim=1)
    distance, index = distance.gather(1, order), index.gather(1, order)
    order = distance.argsort(dim=1, stable=True)[:, :k]
    return Neighbours(distance.gather(1, order), index.gather(1, order))


def _series(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    for one in (a, b):
        if not isinstance(one, Tensor) or one.ndim != 2 or not one.shape[1] or one.shape[1] != b.shape[1]:
            got = [list(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in (a, b)]
            raise InvalidValue(
                f"series are tables [N, E] of equally many epochs, got {got[0]} and {got[1]}; use the epochs that both have"
            )
        if bool(one.isnan().any()):
            missing = int(one.isnan().any(1).sum())
            raise InvalidValue(
                f"series have a number for every epoch, got NaN in {missing} of {len(one)}; leave those examples out or "
                "fill the gaps"
            )
    return a.float(), b.float()


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
